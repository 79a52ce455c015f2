//! `BAR`: membarrier. What it answers, whom it reaches, what it orders.

use crate::outcome::{Outcome, ensure, ensure_eq};
use crate::world::{Stop, World};
use crate::{Not, Os};
use abi::Error;
use abi::membarrier::{Command, FLAG_CPU};
use abi::testing::{Counter, Point};

/// Registrations and what they allow.
const REGISTRATIONS: [(Command, Command); 4] = [
    (Command::RegisterGlobalExpedited, Command::GlobalExpedited),
    (Command::RegisterPrivateExpedited, Command::PrivateExpedited),
    (Command::RegisterPrivateExpeditedSyncCore, Command::PrivateExpeditedSyncCore),
    (Command::RegisterPrivateExpeditedRseq, Command::PrivateExpeditedRseq),
];

/// What `membarrier` has to answer, by Linux's rules: flags, then the command, then registration.
/// `registered` is the set of registrations done.
fn by_linux(registered: u64, command: u64, flags: u64) -> Result<u64, Error> {
    let known = Command::from_number(command);
    let allowed_flags = if known == Some(Command::PrivateExpeditedRseq) { FLAG_CPU } else { 0 };
    if flags & !allowed_flags != 0 {
        return Err(Error::BadArgument);
    }
    let needs = |registration: Command| match registered & registration as u64 {
        0 => Err(Error::NotRegistered),
        _ => Ok(0),
    };
    match known.ok_or(Error::BadArgument)? {
        Command::Query => Ok(Command::ALL.iter().fold(0, |set, &command| set | command as u64)),
        Command::GetRegistrations => Ok(registered),
        Command::PrivateExpedited => needs(Command::RegisterPrivateExpedited),
        Command::PrivateExpeditedSyncCore => needs(Command::RegisterPrivateExpeditedSyncCore),
        Command::PrivateExpeditedRseq => needs(Command::RegisterPrivateExpeditedRseq),
        _ => Ok(0),
    }
}

/// Every command, every number beside one, sets of two, flags, and CPUs that are and are not, after
/// each registration; every answer twice. `BAR-2`
pub fn bar_2_errors_are_those_of_linux<O: Os>(world: &World<O>) -> Outcome {
    let flags = [0, FLAG_CPU, 2, 3, 1 << 31, u64::MAX];
    let cpus = [0, 63, 99_999, u64::MAX];
    let bits = (0..64).map(|bit| 1 << bit);
    let odd = [0, 3, 5, 24, 40, 96, 1023, (1 << 32) | 8, u64::MAX];
    let mut registered = 0;
    for step in 0..=REGISTRATIONS.len() {
        let commands = bits.clone().chain(odd);
        for command in commands.filter(|command| !is_registration(*command)) {
            for (flag, cpu) in flags.into_iter().flat_map(|flag| cpus.map(|cpu| (flag, cpu))) {
                for _ in 0..2 {
                    ensure_eq!(
                        world.membarrier(command, flag, cpu),
                        by_linux(registered, command, flag),
                        "membarrier({command:#x}, {flag:#x}, {cpu:#x}) after {registered:#x}"
                    );
                }
            }
        }
        for (registration, _) in REGISTRATIONS {
            let refused = world.membarrier(registration as u64, FLAG_CPU, 0);
            ensure_eq!(refused, Err(Error::BadArgument), "{registration:?} with a flag");
        }
        if let Some(&(registration, _)) = REGISTRATIONS.get(step) {
            for _ in 0..2 {
                world.barrier(registration)?;
            }
            registered |= registration as u64;
        }
    }
    Ok(())
}

fn is_registration(command: u64) -> bool {
    REGISTRATIONS.iter().any(|(registration, _)| *registration as u64 == command)
}

/// Threads share a registration, processes do not. `BAR-2`
pub fn bar_2_a_new_process_starts_unregistered<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    for (registration, _) in REGISTRATIONS {
        world.barrier(registration)?;
    }
    let sibling = world.spawn(world.cpus(), |world| {
        let answer = world.membarrier(Command::PrivateExpedited as u64, 0, 0);
        world.store(world.flag(0), 1 + u64::from(answer.is_ok()));
    })?;
    world.join(sibling)?;
    ensure_eq!(world.load(world.flag(0)), 2, "a thread of a registered process");
    let child = world.child("bar_2_a_new_process_starts_unregistered", 0)?;
    ensure_eq!(world.wait(child)?.status(), 0, "what the child found, as a set");
    Ok(())
}

/// Bit n of the status: the n-th check failed.
pub fn unregistered<O: Os>(world: &World<O>, _: u64) -> u8 {
    let answer = |command: Command| world.membarrier(command as u64, 0, 0);
    let checks = [
        answer(Command::GetRegistrations) == Ok(0),
        answer(Command::PrivateExpedited) == Err(Error::NotRegistered),
        answer(Command::PrivateExpeditedSyncCore) == Err(Error::NotRegistered),
        answer(Command::PrivateExpeditedRseq) == Err(Error::NotRegistered),
        answer(Command::GlobalExpedited) == Ok(0),
    ];
    checks.iter().enumerate().map(|(bit, held)| u8::from(!held) << bit).sum()
}

/// A process registers and uses the command at once, while another CPU goes back and forth between
/// it and another process. `BAR-2`
pub fn bar_2_registering_under_switches<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    let cpu = world.others().next().unwrap_or(0);
    let rival = world.spawn(1 << cpu, |world| {
        world.wait_until(|world| world.load(world.flag(0)) == 1);
    })?;
    let rounds = if O::SIMULATED { 3 } else { 20 };
    for round in 0..rounds {
        let child = world.child("bar_2_registering_under_switches", cpu.into())?;
        ensure_eq!(world.wait(child)?.0, 0, "the exit report of child {round}");
    }
    world.store(world.flag(0), 1);
    world.join(rival)
}

/// Has a thread on `cpu` that yields all the time; registers for each command and uses it.
pub fn registers<O: Os>(world: &World<O>, cpu: u64) -> u8 {
    let run = || -> Outcome {
        world.move_to(0)?;
        world.flags()?;
        let switcher = world.spawn(1 << cpu, |world| {
            world.store(world.flag(1), 1);
            world.wait_until(|world| world.load(world.flag(0)) == 1);
        })?;
        world.wait_for(world.flag(1), 1);
        for (registration, command) in REGISTRATIONS {
            world.barrier(registration)?;
            world.barrier(command)?;
        }
        world.store(world.flag(0), 1);
        world.join(switcher)
    };
    run().map_or_else(|not| not.status(), |()| 0)
}

/// Each command interrupts a CPU that runs the process, has a full barrier executed there and, for
/// sync-core, a core serialization; one of the same kind on itself. `BAR-3`, `BAR-6`, `RET-2`
pub fn bar_3_commands_reach_the_cpus_that_run_the_process<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let cpu = world.others().next().unwrap_or(0);
    let spinner = spinner(world, cpu)?;
    let all = REGISTRATIONS.iter().try_for_each(|&(registration, command)| {
        world.barrier(registration)?;
        let before = Counts::of(world, cpu)?;
        let own = world.count(0, Counter::CoreSyncs)?;
        world.barrier(command)?;
        let after = Counts::of(world, cpu)?;
        ensure!(after.interrupts > before.interrupts, "{command:?} did not interrupt CPU {cpu}");
        ensure!(after.barriers > before.barriers, "{command:?}: no full barrier on CPU {cpu}");
        if command == Command::PrivateExpeditedSyncCore && !world.os.returns_serialize() {
            world.wait_until(|world| world.load(world.flag(1)) == 1);
            let synced = Counts::of(world, cpu)?.core_syncs;
            ensure!(synced > before.core_syncs, "{command:?}: CPU {cpu} did not serialize");
            ensure!(world.count(0, Counter::CoreSyncs)? > own, "{command:?}: the caller's did not");
        }
        Ok(())
    });
    // Whatever came of it: the spinner waits for this.
    world.store(world.flag(0), 1);
    world.join(spinner)?;
    all
}

/// A thread on `cpu` that stays in user mode until flag 0 is 1; it runs when this returns.
fn spinner<O: Os>(world: &World<O>, cpu: u32) -> Result<O::Thread, Not> {
    let thread = world.spawn(1 << cpu, |world| {
        world.store(world.flag(1), 1);
        world.wait_for(world.flag(0), 1);
    })?;
    world.wait_for(world.flag(1), 1);
    Ok(thread)
}

struct Counts {
    interrupts: u64,
    barriers: u64,
    core_syncs: u64,
}

impl Counts {
    fn of<O: Os>(world: &World<O>, cpu: u32) -> Result<Self, Not> {
        Ok(Self {
            interrupts: world.count(cpu, Counter::Interrupts)?,
            barriers: world.count(cpu, Counter::Barriers)?,
            core_syncs: world.count(cpu, Counter::CoreSyncs)?,
        })
    }
}

/// Global expedited reaches a CPU that runs another process, if that has registered; the caller
/// need not. `BAR-3`
pub fn bar_3_global_expedited_reaches_the_registered<O: Os>(world: &World<O>) -> Outcome {
    world.move_to(0)?;
    let cpu = world.others().next().unwrap_or(0);
    const CALLS: u64 = 20;
    for registers in [0, 1] {
        let role = u64::from(cpu) << 1 | registers;
        let child = world.child("bar_3_global_expedited_reaches_the_registered", role)?;
        let mine = world.context()?;
        // It stays where it is once it is there; until then it may have been anywhere.
        let steady = |world: &World<O>| -> Result<bool, Not> {
            let loaded = world.loaded(cpu)?;
            Ok(matches!(loaded, crate::world::Loaded::Active(id) if id != mine))
        };
        while !steady(world)? {
            world.yield_now();
        }
        world.sleep(20_000_000)?;
        let before = world.count(cpu, Counter::Barriers)?;
        for _ in 0..CALLS {
            world.barrier(Command::GlobalExpedited)?;
        }
        let barriers = world.count(cpu, Counter::Barriers)? - before;
        world.kill(child)?;
        world.wait(child)?;
        match registers {
            0 => ensure_eq!(barriers, 0, "barriers on the CPU of a process that did not register"),
            _ => ensure!(barriers >= CALLS, "{barriers} barriers for {CALLS} calls"),
        }
    }
    Ok(())
}

/// Stays in user mode on one CPU.
pub fn receiver<O: Os>(world: &World<O>, role: u64) -> u8 {
    if role & 1 == 1 && world.barrier(Command::RegisterGlobalExpedited).is_err() {
        return 1;
    }
    if world.move_to((role >> 1) as u32).is_err() {
        return 2;
    }
    loop {
        world.os.pause();
    }
}

/// Store buffering with membarrier on one side and only program order on the other: both loads
/// cannot miss both stores. Without the membarrier they do, which is the control. `BAR-1`, `BAR-3`
pub fn bar_3_store_buffering<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    world.barrier(Command::RegisterPrivateExpedited)?;
    let cpu = world.others().next().unwrap_or(0);
    let control = store_buffering(world, cpu, Fence::None)?;
    let missed = store_buffering(world, cpu, Fence::Membarrier)?;
    ensure_eq!(missed, 0, "rounds in which both loads missed both stores");
    match control {
        0 => Err(Not::Inconclusive("without membarrier it did not happen either")),
        _ => Ok(()),
    }
}

/// What this side has between its store and its load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fence {
    None,
    Membarrier,
}

/// The rounds in which both loads missed both stores.
fn store_buffering<O: Os>(world: &World<O>, cpu: u32, fence: Fence) -> Result<u64, Not> {
    const ROUNDS: u64 = 20_000;
    /// Nanoseconds, after which those that were made are enough.
    const TIME: u64 = 8_000_000_000;
    /// So often is enough to know that it happens.
    const ENOUGH: u64 = 10;
    const OVER: u64 = u64::MAX;
    // Each on a cache line of its own.
    let [x, y, round_at, loaded, done] = [16, 32, 48, 64, 80].map(|flag| world.flag(flag));
    // A pause may give the host's CPU up: the two would never meet.
    fn wait_for<O: Os>(world: &World<O>, at: crate::Word, is: impl Fn(u64) -> bool) -> u64 {
        loop {
            let value = world.load(at);
            if is(value) {
                return value;
            }
        }
    }
    world.store(round_at, 0);
    world.store(done, 0);
    let other = world.spawn(1 << cpu, move |world| {
        let mut last = 0;
        loop {
            last = wait_for(&world, round_at, |round| round != last);
            if last == OVER {
                return;
            }
            world.store_plain(y, 1);
            let x = world.load_plain(x);
            world.store(loaded, x);
            world.store(done, last);
        }
    })?;
    let end = world.now()? + TIME;
    let mut missed = 0;
    for round in 1..=ROUNDS {
        world.store(x, 0);
        world.store(y, 0);
        world.store(round_at, round);
        // The other CPU needs some moment until it has seen the round.
        for _ in 0..round % 256 {
            world.load(x);
        }
        world.store_plain(x, 1);
        if fence == Fence::Membarrier {
            world.barrier(Command::PrivateExpedited)?;
        }
        let y = world.load_plain(y);
        wait_for(world, done, |done| done == round);
        missed += u64::from(y == 0 && world.load(loaded) == 0);
        if missed == ENOUGH || round % 64 == 0 && world.now()? > end {
            break;
        }
    }
    world.store(round_at, OVER);
    world.join(other)?;
    Ok(missed)
}

/// A CPU leaves the process and comes back to it between membarrier's first barrier and its sample:
/// it is not interrupted, so what it did on the way must have ordered it. `BAR-4`, `BAR-5`
pub fn bar_4_bar_5_a_round_trip_between_sample_and_start<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    world.barrier(Command::RegisterPrivateExpedited)?;
    let mut others = world.others();
    let [Some(cpu), Some(helper)] = [others.next(), others.next()] else {
        return Err(Not::Skipped("too few CPUs"));
    };
    let [x, y, saw_x] = [8, 16, 24].map(|flag| world.flag(flag));
    let traveller = world.spawn(1 << cpu, move |world| {
        world.store(world.flag(1), 1);
        world.wait_for(world.flag(0), 1);
        world.store_plain(y, 1);
        // To idle and back, whatever the clock makes of a short sleep.
        let exits = || world.count(cpu, Counter::LazyExits);
        let away = || -> Outcome {
            let before = exits()?;
            while exits()? == before {
                world.sleep(1_000_000)?;
            }
            Ok(())
        };
        let failed = u64::from(away().is_err());
        world.store(saw_x, 1 + world.load_plain(x) + 10 * failed);
    })?;
    world.wait_for(world.flag(1), 1);
    let script = world.spawn(1 << helper, move |world| {
        let run = || -> Outcome {
            world.wait_stopped(0)?;
            let before = world.count(cpu, Counter::Barriers)?;
            world.store(world.flag(0), 1);
            world.wait_until(|world| world.load(saw_x) != 0);
            let barriers = world.count(cpu, Counter::Barriers)? - before;
            world.store(world.flag(2), barriers);
            world.release(0)
        };
        world.store(world.flag(3), u64::from(run().is_ok()));
    })?;
    world.arm(Point::MembarrierBeforeSample, 0, Stop::Serving)?;
    world.store_plain(x, 1);
    world.barrier(Command::PrivateExpedited)?;
    let y = world.load_plain(y);
    world.join(script)?;
    world.join(traveller)?;
    ensure_eq!(world.load(world.flag(3)), 1, "the script");
    ensure_eq!((y, world.load(saw_x)), (1, 2), "y here, and x (plus 1) there");
    let barriers = world.load(world.flag(2));
    ensure!(barriers >= 2, "{barriers} full barriers on a way out and back, not both (d) and (e)");
    Ok(())
}
