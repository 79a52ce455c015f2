//! `SMP`: other CPUs come, go and are woken.

use crate::outcome::{OrFail, Outcome, ensure, ensure_eq};
use crate::world::{Uses, World};
use crate::{ARENA, Os, Word};
use abi::Error;
use abi::membarrier::Command;
use abi::testing::Counter;

/// Threads are started on every CPU and waited for, from every CPU: each start and each end wakes
/// another CPU, and none is lost. `SMP-1`, `SMP-2`
pub fn smp_2_wake_ups<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    let rounds = if O::SIMULATED { 3 } else { 100 };
    let mut wakes = 0;
    for from in (0..64).filter(|cpu| world.cpus() & 1 << cpu != 0) {
        world.move_to(from)?;
        for to in (0..64).filter(|cpu| world.cpus() & 1 << cpu != 0) {
            for _ in 0..rounds {
                let woken = world.spawn(1 << to, |world| {
                    let count = world.load(world.flag(0));
                    world.store(world.flag(0), count + 1);
                })?;
                world.join(woken)?;
                wakes += 1;
            }
        }
    }
    ensure_eq!(world.load(world.flag(0)), wakes, "threads that ran");
    Ok(())
}

/// Requests to a CPU that serves nobody become one interrupt, and none of them is lost. `SMP-2`
pub fn smp_2_requests_merge<O: Os>(world: &World<O>) -> Outcome {
    const TASKS: u64 = 5;
    world.flags()?;
    world.move_to(0)?;
    let cpu = world.others().next().unwrap_or(0);
    let stuck = world.spawn(1 << cpu, |world| {
        world.store(world.flag(0), 1);
        // Below the tasks: each of them is worth an interrupt.
        let stuck = world.priority(abi::DEFAULT_PRIORITY - 1).and_then(|()| world.stick());
        world.store(world.flag(0), 2 + u64::from(stuck.is_err()));
    })?;
    world.wait_for(world.flag(0), 1);
    // Whatever it was asked until it stood is served, or is the request that the next merge with.
    world.wait_stopped(cpu)?;
    let sent = world.count(0, Counter::InterruptsSent)?;
    let slices = world.count(cpu, Counter::Slices)?;
    for _ in 0..TASKS {
        world.task(cpu, Uses::Nothing, 1)?;
    }
    let sent = world.count(0, Counter::InterruptsSent)? - sent;
    world.release(cpu)?;
    world.join(stuck)?;
    while world.count(cpu, Counter::Slices)? - slices < TASKS {
        world.yield_now();
    }
    ensure_eq!(world.load(world.flag(0)), 2, "the CPU that stood");
    ensure!(sent <= 1, "{sent} interrupts for {TASKS} requests to a CPU that served none of them");
    Ok(())
}

/// One CPU is on: nobody is interrupted, whatever is unmapped or fenced, and what is owed to the own
/// core is done. `SMP-2`, `RET-2`
pub fn smp_2_alone_nobody_is_interrupted<O: Os>(world: &World<O>) -> Outcome {
    world.move_to(0)?;
    for cpu in world.others() {
        ensure_eq!(world.cpu_power(cpu, 0), Ok(0), "turning CPU {cpu} off");
    }
    let alone = alone(world);
    for cpu in world.others() {
        ensure_eq!(world.cpu_power(cpu, 1), Ok(0), "turning CPU {cpu} on");
    }
    alone
}

fn alone<O: Os>(world: &World<O>) -> Outcome {
    let sent = world.count(0, Counter::InterruptsSent)?;
    for (register, command) in [
        (Command::RegisterPrivateExpedited, Command::PrivateExpedited),
        (Command::RegisterPrivateExpeditedSyncCore, Command::PrivateExpeditedSyncCore),
        (Command::RegisterGlobalExpedited, Command::GlobalExpedited),
    ] {
        world.barrier(register)?;
        let synced = world.count(0, Counter::CoreSyncs)?;
        world.barrier(command)?;
        let synced = world.count(0, Counter::CoreSyncs)? - synced;
        let owed = command == Command::PrivateExpeditedSyncCore && !world.os.returns_serialize();
        ensure!(!owed || synced > 0, "the core did not serialize for its own request");
    }
    let page = Word::new(ARENA + (16 << 20));
    for _ in 0..3 {
        world.map(page, 1)?;
        world.store(page, 1);
        world.unmap(page, 1)?;
    }
    ensure_eq!(world.count(0, Counter::InterruptsSent)? - sent, 0, "interrupts that were sent");
    Ok(())
}

/// Every CPU asks all others at the same time, again and again, while it is asked itself: for
/// barriers, and to forget what was unmapped. All of them come through. `TLB-5`, `SMP-2`
pub fn smp_2_everyone_asks_everyone<O: Os>(world: &World<O>) -> Outcome {
    let rounds = if O::SIMULATED { 5 } else { 50 };
    world.flags()?;
    world.barrier(Command::RegisterPrivateExpedited)?;
    let mut askers = alloc::vec::Vec::new();
    for cpu in (0..64u64).filter(|cpu| world.cpus() & 1 << cpu != 0) {
        askers.push(world.spawn(1 << cpu, move |world| {
            let page = Word::new(ARENA + (16 << 20) + cpu * abi::PAGE_BYTES);
            let round = || -> Outcome {
                world.map(page, 1)?;
                world.store(page, 1);
                world.barrier(Command::PrivateExpedited)?;
                world.unmap(page, 1)
            };
            let failed = (0..rounds).find_map(|_| round().err());
            world.store(world.flag(cpu), 1 + u64::from(failed.is_some()));
        })?);
    }
    askers.into_iter().try_for_each(|asker| world.join(asker))?;
    for cpu in (0..64u64).filter(|cpu| world.cpus() & 1 << cpu != 0) {
        ensure_eq!(world.load(world.flag(cpu)), 1, "the asker on CPU {cpu} (2: a call failed)");
    }
    Ok(())
}

/// Hardware ids are reused while a CPU is off that has run processes; when it is back, a process
/// finds its own pages there. `SMP-3`, `CTX-12`
pub fn smp_3_ids_are_reused_while_a_cpu_is_off<O: Os>(world: &World<O>) -> Outcome {
    const CASE: &str = "smp_3_ids_are_reused_while_a_cpu_is_off";
    const IDS: u64 = 8;
    world.move_to(0)?;
    world.limit_ids(IDS)?;
    let cpu = world.others().last().unwrap_or(0);
    let visit = |cpu: u32, value: u64| -> Outcome {
        let child = world.child(CASE, u64::from(cpu) | value << 8)?;
        ensure_eq!(world.wait(child)?.0, 0, "the exit report of a process on CPU {cpu}");
        world.quiesce()
    };
    let before = world.count(0, Counter::Rollovers)?;
    for value in 1..=IDS {
        visit(cpu, value)?;
    }
    while world.cpu_power(cpu, 0).is_err() {
        world.yield_now();
    }
    for value in 1..=2 * IDS {
        visit(0, value)?;
    }
    ensure_eq!(world.cpu_power(cpu, 1), Ok(0), "turning CPU {cpu} on");
    for value in 1..=IDS {
        visit(cpu, 100 + value)?;
    }
    let rollovers = world.count(0, Counter::Rollovers)? - before;
    ensure!(rollovers > 0 || !world.os.ids_are_global(), "no id was used twice");
    Ok(())
}

/// Goes to a CPU, the low byte of `role`; writes a page there, and reads it.
pub fn visits<O: Os>(world: &World<O>, role: u64) -> u8 {
    let page = Word::new(ARENA + (16 << 20));
    if world.move_to((role & 0xff) as u32).is_err() || world.map(page, 1).is_err() {
        return 1;
    }
    let clean = world.load(page) == 0;
    world.store(page, role);
    world.yield_now();
    if clean && world.load(page) == role { 0 } else { 2 }
}

/// CPUs go off and come back; threads run where they should, and what cannot be is refused.
/// `SMP-3`
pub fn smp_3_off_and_on<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    ensure_eq!(world.cpu_power(0, 0), Err(Error::BadArgument), "turning CPU 0 off");
    ensure_eq!(world.cpu_power(64, 1), Err(Error::BadArgument), "turning CPU 64 on");
    for cpu in world.others() {
        for _ in 0..2 {
            ensure_eq!(world.cpu_power(cpu, 0), Ok(0), "turning CPU {cpu} off");
            let on = world.cpus_on().or_fail("cpus")?;
            ensure_eq!(on, world.cpus() & !(1 << cpu), "the CPUs that are on");
            let there = world.affinity(1 << cpu);
            ensure_eq!(there, Err(Error::BadArgument), "going to a CPU that is off");
            ensure_eq!(world.cpu_power(cpu, 1), Ok(0), "turning CPU {cpu} on");
            ensure_eq!(world.cpus_on().or_fail("cpus")?, world.cpus(), "the CPUs that are on");
            let before = world.load(world.flag(0));
            let thread = world.spawn(1 << cpu, |world| {
                let count = world.load(world.flag(0));
                world.store(world.flag(0), count + 1);
            })?;
            world.join(thread)?;
            ensure!(world.load(world.flag(0)) == before + 1, "nothing ran on CPU {cpu}");
        }
    }
    Ok(())
}
