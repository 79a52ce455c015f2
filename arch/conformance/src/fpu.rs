//! `FPU`: each thread has vector registers of its own, and finds nobody else's.

use crate::Not;
use crate::Os;
use crate::outcome::{Outcome, ensure_eq};
use crate::probe::{File, Meanwhile};
use crate::trap::{over_calls, over_migration, over_preemption};
use crate::world::World;
use abi::{Call, Ending};

/// Over calls that let others run. `FPU-1`
pub fn fpu_1_vectors_over_calls<O: Os>(world: &World<O>) -> Outcome {
    over_calls(world, File::Vector)
}

/// Over the end of a slice. `FPU-1`
pub fn fpu_1_vectors_over_preemption<O: Os>(world: &World<O>) -> Outcome {
    over_preemption(world, File::Vector)
}

/// From CPU to CPU. `FPU-1`, `MIG-1`
pub fn fpu_1_vectors_over_migration<O: Os>(world: &World<O>) -> Outcome {
    over_migration(world, File::Vector)
}

/// While a CPU goes off under the thread, and comes back. `FPU-1`, `SMP-3`
pub fn fpu_1_vectors_over_a_cpu_that_goes_off<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let cpu = world.others().next().unwrap_or(0);
    // It runs there as long as it can.
    let holder = world.spawn(world.cpus(), |world| {
        let mut seed = 0;
        while world.load(world.flag(0)) == 0 {
            seed += 1;
            let held =
                world.os.hold(File::Vector, seed, Meanwhile::Turns(if O::SIMULATED { 20 } else { 200_000 }));
            if let Err(why) = held {
                world.say(format_args!("conformance: round {seed}: {why}"));
                world.store(world.flag(1), 1);
            }
        }
    })?;
    for _ in 0..3 {
        world.let_run(&holder, 1 << cpu)?;
        world.let_run(&holder, world.cpus())?;
        ensure_eq!(world.cpu_power(cpu, 0), Ok(0), "turning CPU {cpu} off");
        ensure_eq!(world.cpu_power(cpu, 1), Ok(0), "turning CPU {cpu} on");
    }
    world.store(world.flag(0), 1);
    world.join(holder)?;
    ensure_eq!(world.load(world.flag(1)), 0, "whether vector registers changed");
    Ok(())
}

/// A new thread starts clean on a CPU where another has just ended, and where another is in the
/// middle of its work. `FPU-2`
pub fn fpu_2_a_new_thread_finds_nobodys_vectors<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    let cpu = world.others().next().unwrap_or(0);
    world.move_to(cpu)?;
    let rounds = if O::SIMULATED { 3 } else { 20 };
    for seed in 1..=rounds {
        let dying = world.spawn(1 << cpu, move |world| {
            world.store(world.flag(1), seed);
            let _ = world.os.hold(File::Vector, seed, Meanwhile::Call(Call::Yield as u64, [0; 2]));
        })?;
        // It yields in the middle. The new thread is queued behind it, and runs when it has ended.
        world.wait_until(|world| world.load(world.flag(1)) == seed);
        world.os.newborn().map_err(Not::Failed)?;
        world.join(dying)?;
        // This one may be given the memory where the other's were kept.
        world.os.newborn().map_err(Not::Failed)?;
    }
    let busy = world.spawn(1 << cpu, |world| {
        let mut seed = 0;
        world.wait_until(|world| {
            seed += 1;
            let _ = world.os.hold(File::Vector, seed, Meanwhile::Call(Call::Yield as u64, [0; 2]));
            world.load(world.flag(0)) == 1
        });
    })?;
    let found = (0..rounds).try_for_each(|_| world.os.newborn().map_err(Not::Failed));
    world.store(world.flag(0), 1);
    world.join(busy)?;
    found
}

/// Nor those of another process: one that exits, one that faults, one that is killed. `FPU-2`
pub fn fpu_2_nothing_of_a_dead_process<O: Os>(world: &World<O>) -> Outcome {
    for (role, ending) in [(0, Ending::Exited), (1, Ending::Fault), (2, Ending::Killed)] {
        let child = world.child("fpu_2_nothing_of_a_dead_process", role)?;
        if ending == Ending::Killed {
            world.sleep(2_000_000)?;
            world.kill(child)?;
        }
        ensure_eq!(world.wait(child)?.ending(), Some(ending), "how a process ended");
        world.os.newborn().map_err(Not::Failed)?;
    }
    Ok(())
}

pub fn dies_with_vectors<O: Os>(world: &World<O>, role: u64) -> u8 {
    let mut seed = role;
    loop {
        let _ = world.os.hold(File::Vector, seed, Meanwhile::Turns(1));
        match role {
            0 => return 0,
            // SAFETY: nothing is there: it faults.
            1 => unsafe { world.os.touch(0, crate::Touch::Read) },
            _ => world.os.pause(),
        }
        seed += 1;
    }
}
