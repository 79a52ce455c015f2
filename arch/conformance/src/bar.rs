//! `BAR`: membarrier. What it answers, whom it reaches, what it orders.

mod litmus;
mod scripts;

pub use litmus::*;
pub use scripts::*;

use crate::outcome::{OrFail, Outcome, ensure, ensure_eq};
use crate::world::World;
use crate::{Not, Os};
use abi::Error;
use abi::membarrier::{Command, FLAG_CPU};
use abi::testing::Counter;

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

/// Each bit of the answer to QUERY is a command that works, and each other bit is refused; before
/// and after all registrations. Sync-core is there on every machine. `BAR-2`
pub fn bar_2_the_query_mask_is_the_truth<O: Os>(world: &World<O>) -> Outcome {
    let query = || world.membarrier(Command::Query as u64, 0, 0).or_fail("query");
    for registers in [false, true] {
        if registers {
            REGISTRATIONS.iter().try_for_each(|(registration, _)| world.barrier(*registration))?;
        }
        let mask = query()?;
        for bit in 0..64 {
            let answer = world.membarrier(1 << bit, 0, 0);
            let known = answer != Err(Error::BadArgument);
            ensure_eq!(known, mask >> bit & 1 == 1, "whether command {:#x} is known", 1u64 << bit);
            ensure!(!(registers && known && answer.is_err()), "command {:#x}: {answer:?}", 1u64 << bit);
        }
        ensure_eq!(query()?, mask, "the second answer to QUERY");
        ensure!(mask & Command::PrivateExpeditedSyncCore as u64 != 0, "there is no sync-core");
    }
    Ok(())
}

/// A registration allows its own command and no other, and the kernel tells of no other: in that,
/// unlike Linux, sync-core says nothing of plain private expedited. `BAR-2`
pub fn bar_2_each_registration_allows_one_command<O: Os>(world: &World<O>) -> Outcome {
    for (number, (registration, _)) in (0..).zip(REGISTRATIONS) {
        let child = world.child("bar_2_each_registration_allows_one_command", number)?;
        ensure_eq!(world.wait(child)?.0, 0, "what the child found wrong after {registration:?}, as a set");
    }
    Ok(())
}

/// Bit n of the status: the n-th check failed.
pub fn registers_one<O: Os>(world: &World<O>, number: u64) -> u8 {
    let (registration, _) = REGISTRATIONS[number as usize];
    let registered = world.barrier(registration).is_ok();
    let commands = REGISTRATIONS.map(|(_, command)| command);
    let asked = [Command::GetRegistrations].into_iter().chain(commands).map(|command| command as u64);
    let right =
        asked.map(|command| world.membarrier(command, 0, 0) == by_linux(registration as u64, command, 0));
    right.chain([registered]).enumerate().map(|(bit, held)| u8::from(!held) << bit).sum()
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
            // It serializes on its way back, so when it is there it has.
            world.store(world.flag(1), 0);
            world.wait_for(world.flag(1), 1);
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

/// A thread on `cpu` that stays in user mode until flag 0 is 1, and stores 1 to flag 1 all the time;
/// it runs when this returns.
fn spinner<O: Os>(world: &World<O>, cpu: u32) -> Result<O::Thread, Not> {
    let thread = world.spawn(1 << cpu, |world| {
        while world.load(world.flag(0)) != 1 {
            world.store(world.flag(1), 1);
            world.os.pause();
        }
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
    for registers in [Registers::Not, Registers::BeforeItMoves, Registers::WhereItRuns] {
        let role = u64::from(cpu) << 2 | registers as u64;
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
            Registers::Not => {
                ensure_eq!(barriers, 0, "barriers on the CPU of a process that did not register")
            }
            _ => ensure!(barriers >= CALLS, "{registers:?}: {barriers} barriers for {CALLS} calls"),
        }
    }
    Ok(())
}

/// Whether and when a receiver registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Registers {
    Not = 0,
    BeforeItMoves = 1,
    /// The CPU that it stays on must hear of it.
    WhereItRuns = 2,
}

/// Stays in user mode on one CPU.
pub fn receiver<O: Os>(world: &World<O>, role: u64) -> u8 {
    let at = |when: Registers| match role & 3 == when as u64 {
        true => world.barrier(Command::RegisterGlobalExpedited),
        false => Ok(()),
    };
    let begins = at(Registers::BeforeItMoves)
        .and_then(|()| world.move_to((role >> 2) as u32))
        .and_then(|()| at(Registers::WhereItRuns));
    if begins.is_err() {
        return 1;
    }
    loop {
        world.os.pause();
    }
}

/// The restart command with a CPU reaches that CPU if it runs the process, and no other; a CPU that
/// runs another process, is off or does not exist is no error. `BAR-2`, `BAR-3`
pub fn bar_3_one_cpu_and_no_other<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    world.barrier(Command::RegisterPrivateExpeditedRseq)?;
    let [cpu, foreign] = world.two_others()?;
    let spinner = spinner(world, cpu)?;
    let child = world.child("bar_3_one_cpu_and_no_other", u64::from(foreign) << 2)?;
    let mine = world.context()?;
    while !matches!(world.loaded(foreign)?, crate::world::Loaded::Active(id) if id != mine) {
        world.yield_now();
    }
    // Each stays where it is from now on.
    world.sleep(20_000_000)?;
    const CALLS: u64 = 10;
    let asked = |target: u64, flags: u64| -> Result<[u64; 2], Not> {
        let count = || -> Result<[u64; 2], Not> {
            Ok([world.count(cpu, Counter::Barriers)?, world.count(foreign, Counter::Barriers)?])
        };
        let before = count()?;
        for _ in 0..CALLS {
            world.membarrier(Command::PrivateExpeditedRseq as u64, flags, target).or_fail("membarrier")?;
        }
        let after = count()?;
        Ok([after[0] - before[0], after[1] - before[1]])
    };
    let run = || -> Outcome {
        for (flags, target) in [(FLAG_CPU, cpu), (0, foreign)] {
            let [there, abroad] = asked(target.into(), flags)?;
            ensure!(there >= CALLS, "flags {flags}: {there} barriers for {CALLS} calls");
            ensure_eq!(abroad, 0, "flags {flags}: barriers on a CPU that runs another process");
        }
        for target in [0, foreign.into(), 63, 64, 99_999, u64::MAX] {
            ensure_eq!(asked(target, FLAG_CPU)?, [0, 0], "barriers when CPU {target} was named");
        }
        Ok(())
    };
    let outcome = run();
    world.store(world.flag(0), 1);
    world.kill(child)?;
    world.wait(child)?;
    world.join(spinner)?;
    outcome
}
