//! Scripts: what must be ordered when a CPU leaves the process or comes to it while another is in the
//! middle of a membarrier. Counts show that the barriers were executed on the way; the event trace,
//! where it is recorded, that each lies where it should.

use crate::outcome::{Outcome, ensure, ensure_eq};
use crate::ret::blocks_until_told;
use crate::world::{Loaded, Stop, Uses, World};
use crate::{Not, Os};
use abi::membarrier::Command;
use abi::testing::{Counter, Point};

/// How long a CPU that is asked for something is kept from answering, in nanoseconds.
const A_WHILE: u64 = 20_000_000;

/// Keeps `cpu`, which stands at a point, there for a while after flag 0 is 1; then says so in flag 1
/// and lets it go.
pub(super) fn releases<O: Os>(world: &World<O>, on: u32, cpu: u32) -> Result<O::Thread, Not> {
    world.spawn(1 << on, move |world| {
        world.wait_for(world.flag(0), 1);
        let slept = world.sleep(A_WHILE);
        world.store(world.flag(1), 1 + u64::from(slept.is_err()));
        // What the CPU waits for comes all the same.
        let _ = world.release(cpu);
    })
}

/// The full barriers that `cpu` executed during `edge`.
fn barriers<O: Os>(world: &World<O>, cpu: u32, edge: impl FnOnce() -> Outcome) -> Result<u64, Not> {
    let before = world.count(cpu, Counter::Barriers)?;
    edge()?;
    Ok(world.count(cpu, Counter::Barriers)? - before)
}

/// Every way on which a CPU gets or loses a user of the process: for idle, for a task, for another
/// process, and back. `BAR-4`, `BAR-5`
pub fn bar_4_bar_5_every_edge<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let [cpu, elsewhere] = world.two_others()?;
    let mine = world.context()?;
    let thread = blocks_until_told(world, cpu, elsewhere)?;
    // Idle → a task that uses the process → idle.
    let edges = barriers(world, cpu, || {
        world.arm(Point::TaskUsesMm, cpu, Stop::Serving)?;
        world.task(cpu, Uses::MyMm, 1)?;
        world.wait_stopped(cpu)?;
        world.release(cpu)?;
        world.wait_loaded(cpu, Loaded::Lazy(mine))
    })?;
    ensure!(edges >= 2, "{edges} full barriers from idle to a task that uses the process and back");
    // Idle → another process's thread, and it ends.
    let edges = barriers(world, cpu, || {
        let child = world.child("bar_4_bar_5_every_edge", cpu.into())?;
        ensure_eq!(world.wait(child)?.0, 0, "the exit report of the child");
        // The child reports before its CPU has left it.
        while !world.idles(cpu)? {
            world.yield_now();
        }
        Ok(())
    })?;
    ensure!(edges >= 2, "{edges} full barriers from idle to another process and back");
    // Idle → the thread.
    let edges = barriers(world, cpu, || {
        world.store(world.flag(0), 1);
        world.wait_until(|world| world.load(world.flag(2)) == 1);
        Ok(())
    })?;
    ensure!(edges >= 1, "no full barrier from idle to the thread");
    world.join(thread)?;
    // Thread → another process's thread → thread, at each yield of one of them.
    let before = world.count(cpu, Counter::Reloads)?;
    let edges = barriers(world, cpu, || {
        let yields = world.spawn(1 << cpu, |world| {
            world.wait_until(|world| world.load(world.flag(3)) == 1);
        })?;
        let child = world.child("bar_4_bar_5_every_edge", cpu.into())?;
        ensure_eq!(world.wait(child)?.0, 0, "the exit report of the second child");
        world.store(world.flag(3), 1);
        world.join(yields)
    })?;
    let switches = world.count(cpu, Counter::Reloads)? - before;
    ensure!(edges >= 2 * switches, "{edges} full barriers for {switches} switches");
    Ok(())
}

/// Goes to one CPU and gives it up some times.
pub fn visits<O: Os>(world: &World<O>, cpu: u64) -> u8 {
    if world.move_to(cpu as u32).is_err() {
        return 1;
    }
    for _ in 0..20 {
        world.yield_now();
    }
    0
}

/// A CPU leaves the process and comes back to it between membarrier's first barrier and its sample:
/// it is not interrupted, so what it did on the way must have ordered it. `BAR-4`, `BAR-5`
pub fn bar_4_bar_5_a_round_trip_between_sample_and_start<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    world.barrier(Command::RegisterPrivateExpedited)?;
    let [cpu, helper] = world.two_others()?;
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

/// What T1 did before it went is there when the caller, which was at its sample meanwhile, goes on.
/// `goes` has `cpu` lose its user after flag 0 is 1; `y` is what T1 stores before.
fn gone_by_the_sample<O: Os>(world: &World<O>, cpu: u32, helper: u32) -> Outcome {
    let mine = world.context()?;
    let script = world.spawn(1 << helper, move |world| {
        let run = || -> Outcome {
            world.wait_stopped(0)?;
            let before = world.count(cpu, Counter::Barriers)?;
            world.store(world.flag(0), 1);
            // Whatever it holds then, it is nobody's.
            while world.loaded(cpu)? == Loaded::Active(mine) {
                world.os.pause();
            }
            world.store(world.flag(2), world.count(cpu, Counter::Barriers)? - before);
            world.release(0)
        };
        world.store(world.flag(3), u64::from(run().is_ok()));
    })?;
    world.arm(Point::MembarrierBeforeSample, 0, Stop::Serving)?;
    world.barrier(Command::PrivateExpedited)?;
    world.join(script)?;
    ensure_eq!(world.load(world.flag(3)), 1, "the script");
    let barriers = world.load(world.flag(2));
    ensure!(barriers >= 1, "no full barrier (d) when the CPU lost its user");
    Ok(())
}

/// A thread ends between membarrier's first barrier and its sample. `BAR-4`
pub fn bar_4_a_thread_ends_before_the_sample<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    world.barrier(Command::RegisterPrivateExpedited)?;
    let [cpu, helper] = world.two_others()?;
    let y = world.flag(16);
    let ends = world.spawn(1 << cpu, move |world| {
        world.store(world.flag(1), 1);
        world.wait_for(world.flag(0), 1);
        world.store(y, 1);
    })?;
    world.wait_for(world.flag(1), 1);
    gone_by_the_sample(world, cpu, helper)?;
    ensure_eq!(world.load(y), 1, "what it stored before it ended");
    world.join(ends)
}

/// A kernel task that uses the process is through between membarrier's first barrier and its sample.
/// `BAR-4`
pub fn bar_4_a_task_is_through_before_the_sample<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    world.barrier(Command::RegisterPrivateExpedited)?;
    let [cpu, helper] = world.two_others()?;
    let thread = blocks_until_told(world, cpu, helper)?;
    let mine = world.context()?;
    world.arm(Point::TaskUsesMm, cpu, Stop::Serving)?;
    world.task(cpu, Uses::MyMm, 1)?;
    world.wait_stopped(cpu)?;
    let script = world.spawn(1 << helper, move |world| {
        let run = || -> Outcome {
            world.wait_stopped(0)?;
            let before = world.count(cpu, Counter::Barriers)?;
            world.release(cpu)?;
            world.wait_loaded(cpu, Loaded::Lazy(mine))?;
            world.store(world.flag(4), world.count(cpu, Counter::Barriers)? - before);
            world.release(0)
        };
        world.store(world.flag(3), u64::from(run().is_ok()));
    })?;
    world.arm(Point::MembarrierBeforeSample, 0, Stop::Serving)?;
    world.barrier(Command::PrivateExpedited)?;
    world.join(script)?;
    ensure_eq!(world.load(world.flag(3)), 1, "the script");
    ensure!(world.load(world.flag(4)) >= 1, "no full barrier (d) when the task was through");
    world.store(world.flag(0), 1);
    world.join(thread)
}

/// A CPU on which a kernel task uses the process, and no thread runs, is asked like any other.
/// `BAR-3`, `CTX-8`
pub fn bar_3_a_task_that_adopted_is_asked<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    world.barrier(Command::RegisterPrivateExpedited)?;
    let [cpu, elsewhere] = world.two_others()?;
    let thread = blocks_until_told(world, cpu, elsewhere)?;
    let mine = world.context()?;
    world.arm(Point::TaskUsesMm, cpu, Stop::Serving)?;
    world.task(cpu, Uses::MyMm, 10)?;
    world.wait_stopped(cpu)?;
    let holds = world.loaded(cpu)?;
    let asked = barriers(world, cpu, || world.barrier(Command::PrivateExpedited));
    world.release(cpu)?;
    world.store(world.flag(0), 1);
    world.join(thread)?;
    ensure_eq!(holds, Loaded::Active(mine), "what the CPU of a task that adopted holds");
    ensure!(asked? >= 1, "the CPU of a task that uses the process executed no barrier");
    Ok(())
}

/// A CPU stands between the store that says it has the process and the load of its tables: it is
/// asked, since its user comes after its barrier (e) without another. `BAR-3`
pub fn bar_3_a_cpu_in_a_switch_is_asked<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    world.barrier(Command::RegisterPrivateExpedited)?;
    let [cpu, helper] = world.two_others_without_us()?;
    let script = releases(world, helper, cpu)?;
    world.arm(Point::Switching, cpu, Stop::Deaf)?;
    let comes = world.spawn(1 << cpu, |_| {})?;
    world.wait_stopped(cpu)?;
    world.store(world.flag(0), 1);
    world.barrier(Command::PrivateExpedited)?;
    let released = world.load(world.flag(1));
    world.join(script)?;
    world.join(comes)?;
    ensure_eq!(released, 1, "whether the CPU in the switch had gone on when membarrier returned");
    Ok(())
}

/// Registering for global expedited returns when every CPU that runs the process knows of it: one
/// that is busy is waited for. `BAR-2`
pub fn bar_2_a_registration_waits_for_every_cpu<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let [cpu, helper] = world.two_others()?;
    let script = releases(world, helper, cpu)?;
    let busy = world.spawn(1 << cpu, |world| {
        let _ = world.stick();
    })?;
    world.wait_stopped(cpu)?;
    world.store(world.flag(0), 1);
    world.barrier(Command::RegisterGlobalExpedited)?;
    let released = world.load(world.flag(1));
    world.join(script)?;
    world.join(busy)?;
    ensure_eq!(released, 1, "whether the busy CPU had gone on when the registration returned");
    Ok(())
}

/// Threads and whole processes end on other CPUs while one samples without a pause. `BAR-3`
pub fn bar_3_sampling_while_threads_end<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    for registration in [Command::RegisterPrivateExpedited, Command::RegisterGlobalExpedited] {
        world.barrier(registration)?;
    }
    let [threads, processes] = world.two_others()?;
    let rounds = if O::SIMULATED { 3 } else { 30 };
    let starts_threads = world.spawn(1 << threads, move |world| {
        let run = || -> Outcome {
            for _ in 0..4 * rounds {
                let ends = world.spawn(1 << threads, |_| {})?;
                world.join(ends)?;
            }
            Ok(())
        };
        world.store(world.flag(1), if run().is_ok() { 1 } else { 2 });
    })?;
    let starts_processes = world.spawn(1 << processes, move |world| {
        let run = || -> Outcome {
            for _ in 0..rounds {
                let child = world.child("bar_3_sampling_while_threads_end", processes.into())?;
                ensure_eq!(world.wait(child)?.0, 0, "the exit report of a child");
            }
            Ok(())
        };
        world.store(world.flag(2), if run().is_ok() { 1 } else { 2 });
    })?;
    let ended = |world: &World<O>| [1, 2].map(|flag| world.load(world.flag(flag)));
    while ended(world).contains(&0) {
        world.barrier(Command::PrivateExpedited)?;
        world.barrier(Command::GlobalExpedited)?;
        world.os.pause();
    }
    world.join(starts_threads)?;
    world.join(starts_processes)?;
    ensure_eq!(ended(world), [1, 1], "how those who started them ended");
    Ok(())
}

/// A thread is in a restartable sequence when another publishes something and gives the restart
/// command: the sequence is not gone on with after that, and what follows it sees what was published.
/// `BAR-3`
pub fn bar_3_a_sequence_is_started_over<O: Os>(world: &World<O>) -> Outcome {
    /// Nanoseconds, after which it will not be started over any more.
    const PATIENCE: u64 = 3_000_000_000;
    world.flags()?;
    world.move_to(0)?;
    world.barrier(Command::RegisterPrivateExpeditedRseq)?;
    let cpu = world.others().next().unwrap_or(0);
    let [turns, published, found] = [16, 32, 48].map(|flag| world.flag(flag));
    let area = world.flag(64);
    let thread = world.spawn(1 << cpu, move |world| {
        let registered = world.register_area(area).is_ok();
        // Whatever else takes its CPU from a thread starts the sequence over, too.
        while registered && world.load(published) == 0 {
            world.os.endless_sequence(area, turns);
        }
        world.store(found, if registered { 1 } else { 2 });
    })?;
    world.wait_until(|world| world.load(turns) > 0 || world.load(found) != 0);
    world.store(published, 1);
    world.barrier(Command::PrivateExpeditedRseq)?;
    let then = world.load(turns);
    let last = world.now()? + PATIENCE;
    while world.load(found) == 0 && world.now()? < last {
        world.os.pause();
    }
    ensure!(world.load(found) != 0, "the sequence was not started over");
    world.join(thread)?;
    ensure_eq!(world.load(turns), then, "how far the sequence went after the command had returned");
    ensure_eq!(world.load(found), 1, "how the thread fared (2: it could not register its area)");
    Ok(())
}
