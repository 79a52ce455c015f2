//! `SMP`: other CPUs come, go and are woken.

use crate::Os;
use crate::outcome::{OrFail, Outcome, ensure, ensure_eq};
use crate::world::World;
use abi::Error;

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
