//! `RET`: what a CPU owes before user mode. Core serialization, on the ways on which it is forgotten.

use crate::outcome::{Outcome, ensure, ensure_eq};
use crate::world::{Loaded, Stop, Uses, World};
use crate::{Not, Os};
use abi::membarrier::Command;
use abi::testing::{Counter, Point};

/// A thread blocks, so that its CPU holds the process lazily; a sync-core request skips that CPU; a
/// kernel task adopts the process there; the thread runs again. Neither a switch nor the end of a
/// lazy episode lies on the last step, and still the core must serialize before the thread's next
/// instruction. `RET-2`, `CTX-8`
pub fn ret_2_an_adopted_mm_hides_no_request<O: Os>(world: &World<O>) -> Outcome {
    if world.os.returns_serialize() {
        return Err(Not::Skipped("every return to user mode serializes"));
    }
    world.flags()?;
    world.move_to(0)?;
    world.barrier(Command::RegisterPrivateExpeditedSyncCore)?;
    let mut others = world.others();
    let [Some(cpu), Some(elsewhere)] = [others.next(), others.next()] else {
        return Err(Not::Skipped("too few CPUs"));
    };
    let thread = blocks_until_told(world, cpu, elsewhere)?;
    let mine = world.context()?;
    world.wait_loaded(cpu, Loaded::Lazy(mine))?;
    let before = world.count(cpu, Counter::CoreSyncs)?;
    world.barrier(Command::PrivateExpeditedSyncCore)?;
    world.arm(Point::TaskUsesMm, cpu, Stop::Serving)?;
    world.task(cpu, Uses::MyMm, 1000)?;
    world.wait_stopped(cpu)?;
    ensure_eq!(world.loaded(cpu)?, Loaded::Active(mine), "what a task that adopted holds");
    // It is woken while the task has the process adopted.
    world.store(world.flag(0), 1);
    world.release(cpu)?;
    world.wait_until(|world| world.load(world.flag(2)) == 1);
    let after = world.count(cpu, Counter::CoreSyncs)?;
    ensure!(after > before, "the core did not serialize between the request and the thread's return");
    world.join(thread)
}

/// A thread on `cpu` that waits for another on `elsewhere`, until flag 0 is 1; then it sets flag 2.
pub(crate) fn blocks_until_told<O: Os>(world: &World<O>, cpu: u32, elsewhere: u32) -> Result<O::Thread, Not> {
    world.spawn(1 << cpu, move |world| {
        let told = world.spawn(1 << elsewhere, |world| world.wait_for(world.flag(0), 1));
        let joined = told.and_then(|told| world.join(told));
        world.store(world.flag(2), if joined.is_ok() { 1 } else { 2 });
    })
}

/// A CPU takes a request while it runs one thread of the process and goes on with another, which
/// had left it by a call. `RET-2`
pub fn ret_2_a_sibling_that_left_by_a_call<O: Os>(world: &World<O>) -> Outcome {
    if world.os.returns_serialize() {
        return Err(Not::Skipped("every return to user mode serializes"));
    }
    world.flags()?;
    world.move_to(0)?;
    world.barrier(Command::RegisterPrivateExpeditedSyncCore)?;
    let cpu = world.others().next().unwrap_or(0);
    let mut siblings = alloc::vec::Vec::new();
    for flag in [1, 2] {
        siblings.push(world.spawn(1 << cpu, move |world| {
            let mut turns = 0;
            world.wait_until(|world| {
                turns += 1;
                world.store(world.flag(flag), turns);
                world.load(world.flag(0)) == 1
            });
        })?);
    }
    let turns = |world: &World<O>| [1, 2].map(|flag| world.load(world.flag(flag)));
    world.wait_until(|world| turns(world).iter().all(|turns| *turns > 0));
    let rounds = if O::SIMULATED { 5 } else { 50 };
    for round in 0..rounds {
        let before = world.count(cpu, Counter::CoreSyncs)?;
        world.barrier(Command::PrivateExpeditedSyncCore)?;
        let then = turns(world);
        world.wait_until(|world| turns(world).iter().zip(then).all(|(now, then)| *now > then + 1));
        let after = world.count(cpu, Counter::CoreSyncs)?;
        ensure!(after > before, "round {round}: two threads went on and the core did not serialize");
    }
    world.store(world.flag(0), 1);
    siblings.into_iter().try_for_each(|sibling| world.join(sibling))
}

/// The caller's core serializes too, before the caller and before whoever runs there once the
/// caller is elsewhere. `RET-2`
pub fn ret_2_the_caller_too<O: Os>(world: &World<O>) -> Outcome {
    if world.os.returns_serialize() {
        return Err(Not::Skipped("every return to user mode serializes"));
    }
    world.barrier(Command::RegisterPrivateExpeditedSyncCore)?;
    let cpus = [0, world.others().next().unwrap_or(0)];
    for round in 0..10 {
        let (here, there) = (cpus[round % 2], cpus[(round + 1) % 2]);
        world.move_to(here)?;
        let before = world.count(here, Counter::CoreSyncs)?;
        world.barrier(Command::PrivateExpeditedSyncCore)?;
        world.move_to(there)?;
        let after = world.count(here, Counter::CoreSyncs)?;
        ensure!(after > before, "round {round}: CPU {here} did not serialize for its own request");
    }
    Ok(())
}
