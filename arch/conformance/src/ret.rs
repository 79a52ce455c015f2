//! `RET`: what a CPU owes before user mode. Core serialization, on the ways on which it is forgotten.

use crate::outcome::{Outcome, ensure, ensure_eq};
use crate::world::{Loaded, Stop, Uses, World};
use crate::{ARENA, Not, Os, Word};
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
/// When this returns, `cpu` idles with the process loaded lazily. Flag 6 is its own.
pub(crate) fn blocks_until_told<O: Os>(world: &World<O>, cpu: u32, elsewhere: u32) -> Result<O::Thread, Not> {
    let thread = world.spawn(1 << cpu, move |world| {
        let told = world.spawn(1 << elsewhere, |world| {
            world.store(world.flag(6), 1);
            world.wait_for(world.flag(0), 1);
        });
        let joined = told.and_then(|told| world.join(told));
        world.store(world.flag(2), if joined.is_ok() { 1 } else { 2 });
    })?;
    // Before it says so, the other may have begun on `cpu`.
    world.wait_until(|world| world.load(world.flag(6)) == 1);
    world.wait_loaded(cpu, Loaded::Lazy(world.context()?))?;
    while !world.idles(cpu)? {
        world.yield_now();
    }
    Ok(thread)
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

/// What the scripts below begin with: the process is registered, the calling thread on CPU 0. Two
/// other CPUs.
fn registered<O: Os>(world: &World<O>) -> Result<[u32; 2], Not> {
    if world.os.returns_serialize() {
        return Err(Not::Skipped("every return to user mode serializes"));
    }
    world.flags()?;
    world.move_to(0)?;
    world.barrier(Command::RegisterPrivateExpeditedSyncCore)?;
    world.two_others()
}

/// A request reaches a CPU together with what makes it choose a more urgent thread of the process,
/// which had left by a call: that one is on the first edge to user mode. `RET-2`
pub fn ret_2_a_sibling_that_goes_before<O: Os>(world: &World<O>) -> Outcome {
    let [cpu, elsewhere] = registered(world)?;
    let mine = world.context()?;
    let urgent = world.spawn(1 << cpu, move |world| {
        let told = world.spawn(1 << elsewhere, |world| world.wait_for(world.flag(0), 1));
        let joined = told.and_then(|told| world.join(told));
        world.store(world.flag(2), 1 + u64::from(joined.is_err()));
        world.wait_for(world.flag(3), 1);
    })?;
    world.wait_loaded(cpu, Loaded::Lazy(mine))?;
    let releases = world.spawn(1 << elsewhere, move |world| {
        world.wait_until(|world| world.load(world.flag(4)) == 1);
        let _ = world.sleep(20_000_000);
        let _ = world.release(cpu);
    })?;
    // The last one: a new thread may take a flush, for which a CPU that stands still is waited for.
    let less = world.spawn(1 << cpu, |world| {
        // Stays in the kernel while both requests come.
        let _ = world.priority(50).and_then(|()| world.stick());
        world.wait_for(world.flag(3), 1);
    })?;
    world.wait_stopped(cpu)?;
    let before = world.count(cpu, Counter::CoreSyncs)?;
    // Wakes the urgent one, whose CPU does not notice yet.
    world.store(world.flag(0), 1);
    world.sleep(20_000_000)?;
    world.store(world.flag(4), 1);
    world.barrier(Command::PrivateExpeditedSyncCore)?;
    world.wait_until(|world| world.load(world.flag(2)) != 0);
    let after = world.count(cpu, Counter::CoreSyncs)?;
    world.store(world.flag(3), 1);
    [urgent, less, releases].into_iter().try_for_each(|thread| world.join(thread))?;
    ensure!(after > before, "the urgent thread ran, and its core had not serialized");
    Ok(())
}

/// A CPU is about to enter the process, and nothing says so yet, when a request samples it: it is not
/// asked, and finds by comparing that it must serialize. `RET-2`
pub fn ret_2_a_request_before_the_store<O: Os>(world: &World<O>) -> Outcome {
    let [cpu, elsewhere] = registered(world)?;
    let thread = blocks_until_told(world, cpu, elsewhere)?;
    world.arm(Point::Entering, cpu, Stop::Deaf)?;
    world.store(world.flag(0), 1);
    world.wait_stopped(cpu)?;
    let before = world.count(cpu, Counter::CoreSyncs)?;
    world.barrier(Command::PrivateExpeditedSyncCore)?;
    world.release(cpu)?;
    world.wait_until(|world| world.load(world.flag(2)) == 1);
    let after = world.count(cpu, Counter::CoreSyncs)?;
    world.join(thread)?;
    ensure!(after > before, "the thread ran, and its core had not serialized since the request");
    Ok(())
}

/// A CPU enters the process after a request has sampled it and before the request returns. `RET-2`
pub fn ret_2_entered_after_the_sample<O: Os>(world: &World<O>) -> Outcome {
    let [cpu, elsewhere] = registered(world)?;
    let thread = blocks_until_told(world, cpu, elsewhere)?;
    let script = world.spawn(1 << elsewhere, move |world| {
        let run = || -> Result<u64, Not> {
            world.wait_stopped(0)?;
            let before = world.count(cpu, Counter::CoreSyncs)?;
            world.store(world.flag(0), 1);
            world.wait_until(|world| world.load(world.flag(2)) == 1);
            let synced = world.count(cpu, Counter::CoreSyncs)? - before;
            world.release(0)?;
            Ok(synced)
        };
        world.store(world.flag(3), run().map_or(u64::MAX, |synced| synced));
    })?;
    world.arm(Point::MembarrierSampled, 0, Stop::Serving)?;
    world.barrier(Command::PrivateExpeditedSyncCore)?;
    world.join(script)?;
    world.join(thread)?;
    let synced = world.load(world.flag(3));
    ensure!(synced != u64::MAX, "the script failed");
    ensure!(synced > 0, "the thread ran after the sample, and its core had not serialized");
    Ok(())
}

/// A caller that waits for a busy CPU is moved meanwhile: the CPU it called on serializes all the
/// same, for the siblings that go on there. `RET-2`
pub fn ret_2_a_caller_that_is_moved<O: Os>(world: &World<O>) -> Outcome {
    let [cpu, busy] = registered(world)?;
    let turns = |world: &World<O>| world.load(world.flag(1));
    let sibling = world.spawn(1 << cpu, |world| {
        world.wait_until(|world| {
            world.store(world.flag(1), world.load(world.flag(1)) + 1);
            world.load(world.flag(0)) == 1
        });
    })?;
    let caller = world.spawn(1 << cpu, |world| {
        world.wait_until(|world| world.load(world.flag(3)) == 1);
        world.store(world.flag(2), 1);
        let done = world.barrier(Command::PrivateExpeditedSyncCore);
        world.store(world.flag(2), if done.is_ok() { 2 } else { 3 });
    })?;
    let sticks = world.spawn(1 << busy, |world| {
        let _ = world.stick();
    })?;
    world.wait_stopped(busy)?;
    let before = world.count(cpu, Counter::CoreSyncs)?;
    world.store(world.flag(3), 1);
    world.wait_until(|world| world.load(world.flag(2)) == 1);
    // The sibling goes on: the caller is in its call.
    let then = turns(world);
    world.wait_until(|world| turns(world) > then + 10);
    let in_the_call = world.load(world.flag(2));
    world.let_run(&caller, 1)?;
    world.release(busy)?;
    world.join(caller)?;
    let then = turns(world);
    world.wait_until(|world| turns(world) > then + 1);
    let after = world.count(cpu, Counter::CoreSyncs)?;
    world.store(world.flag(0), 1);
    world.join(sibling)?;
    world.join(sticks)?;
    ensure_eq!(in_the_call, 1, "where the caller was (2: through, though a CPU was busy)");
    ensure_eq!(world.load(world.flag(2)), 2, "what came of the call");
    ensure!(after > before, "CPU {cpu} did not serialize for the request that was made on it");
    Ok(())
}

/// A thread writes code on one CPU, publishes it, goes to another and asks there: every CPU that runs
/// the process serializes, the one that it left included. `RET-2`
pub fn ret_2_a_writer_that_moves<O: Os>(world: &World<O>) -> Outcome {
    /// What is written. Nobody executes it: that a core serialized is what is looked at.
    const CODE: Word = Word::new(ARENA + (24 << 20));
    let [cpu, elsewhere] = registered(world)?;
    world.map(CODE, 1)?;
    let mut siblings = alloc::vec::Vec::new();
    let places = [(0, 1), (cpu, 2), (elsewhere, 3)];
    for (place, flag) in places {
        siblings.push(world.spawn(1 << place, move |world| {
            world.wait_until(|world| {
                world.store(world.flag(flag), world.load(world.flag(flag)) + 1);
                world.load(world.flag(0)) == 1
            });
        })?);
    }
    let turns = |world: &World<O>| places.map(|(_, flag)| world.load(world.flag(flag)));
    let count = |world: &World<O>| -> Result<[u64; 3], Not> {
        let [a, b, c] = places.map(|(place, _)| world.count(place, Counter::CoreSyncs));
        Ok([a?, b?, c?])
    };
    world.wait_until(|world| turns(world).iter().all(|turns| *turns > 0));
    for word in 0..8 {
        world.store(CODE.plus(8 * word), word);
    }
    world.publish_code(CODE, 64)?;
    let before = count(world)?;
    world.move_to(elsewhere)?;
    world.barrier(Command::PrivateExpeditedSyncCore)?;
    let then = turns(world);
    world.wait_until(|world| turns(world).iter().zip(then).all(|(now, then)| *now > then + 1));
    let after = count(world)?;
    world.store(world.flag(0), 1);
    siblings.into_iter().try_for_each(|sibling| world.join(sibling))?;
    for ((place, _), (after, before)) in places.into_iter().zip(after.into_iter().zip(before)) {
        ensure!(after > before, "CPU {place} did not serialize");
    }
    Ok(())
}
