//! `CTX`: memory contexts, as far as a user and the counters can see them.

use crate::outcome::{Outcome, ensure, ensure_eq};
use crate::ret::blocks_until_told;
use crate::world::{Loaded, Uses, World};
use crate::{ARENA, Not, Os, Word};
use abi::testing::Counter;

/// The page that every process has at the same address.
const PAGE: Word = Word::new(ARENA + (32 << 20));

/// More processes than hardware ids, in turn on the same CPUs: each sees its own page, though ids
/// change hands. `CTX-4`, `CTX-12`
pub fn ctx_4_ids_are_reused<O: Os>(world: &World<O>) -> Outcome {
    // Ids are for all processes that live, slots of a CPU for those that it remembers.
    let ids = if world.os.ids_are_global() { 8 } else { 2 };
    let (generations, each) = if O::SIMULATED { (4, 3) } else { (8, 3) };
    world.limit_ids(ids)?;
    let before = world.count(0, Counter::Rollovers)?;
    for generation in 0..generations {
        let mut children = alloc::vec::Vec::new();
        for child in 0..each {
            let number = 1 + generation * each + child;
            children.push(world.child("ctx_4_ids_are_reused", number)?);
        }
        for child in children {
            ensure_eq!(world.wait(child)?.0, 0, "the exit report of a child");
        }
        world.quiesce()?;
    }
    let rollovers = world.count(0, Counter::Rollovers)? - before;
    ensure!(rollovers > 0 || !world.os.ids_are_global(), "no id was used twice");
    Ok(())
}

pub fn page_of_its_own<O: Os>(world: &World<O>, number: u64) -> u8 {
    if world.map(PAGE, 1).is_err() {
        return 2;
    }
    world.store(PAGE, number);
    let turns = if O::SIMULATED { 20 } else { 200 };
    for _ in 0..turns {
        world.yield_now();
        if world.load(PAGE) != number {
            return 1;
        }
    }
    0
}

/// A lazy episode of one process ends in a user of another: once, and the first process works on.
/// `CTX-7`
pub fn ctx_7_an_episode_ends_in_another_process<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let cpu = world.others().next().unwrap_or(0);
    world.map(PAGE, 1)?;
    let sleeper = world.spawn(1 << cpu, |world| {
        world.store(PAGE, 1);
        let slept = world.sleep(200_000_000);
        world.store(world.flag(0), world.load(PAGE) + 10 * u64::from(slept.is_err()));
    })?;
    let mine = world.context()?;
    world.wait_loaded(cpu, Loaded::Lazy(mine))?;
    let before = world.count(cpu, Counter::LazyExits)?;
    let child = world.child("ctx_7_an_episode_ends_in_another_process", cpu.into())?;
    ensure_eq!(world.wait(child)?.0, 0, "the exit report of the child");
    let between = world.count(cpu, Counter::LazyExits)?;
    ensure!(between > before, "no lazy episode ended when the child came");
    world.join(sleeper)?;
    ensure_eq!(world.load(world.flag(0)), 1, "what the sleeper found");
    Ok(())
}

/// Goes to one CPU and ends there.
pub fn short<O: Os>(world: &World<O>, cpu: u64) -> u8 {
    match world.move_to(cpu as u32) {
        Ok(()) if world.map(PAGE, 1).is_ok() => world.load(PAGE) as u8,
        _ => 1,
    }
}

/// User, kernel tasks one after the other, the same user: one episode, no table is loaded, two full
/// barriers. `CTX-6`, `CTX-7`
pub fn ctx_7_kernel_tasks_reload_nothing<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let mut others = world.others();
    let [Some(cpu), Some(elsewhere)] = [others.next(), others.next()] else {
        return Err(Not::Skipped("too few CPUs"));
    };
    let thread = blocks_until_told(world, cpu, elsewhere)?;
    let mine = world.context()?;
    world.wait_loaded(cpu, Loaded::Lazy(mine))?;
    let count = |counter| world.count(cpu, counter);
    let before = [count(Counter::Reloads)?, count(Counter::LazyExits)?, count(Counter::Barriers)?];
    for _ in 0..3 {
        world.task(cpu, Uses::Nothing, 3)?;
    }
    while !world.idles(cpu)? {
        world.os.pause();
    }
    ensure_eq!(world.loaded(cpu)?, Loaded::Lazy(mine), "what the CPU holds after the tasks");
    world.store(world.flag(0), 1);
    world.wait_until(|world| world.load(world.flag(2)) == 1);
    let after = [count(Counter::Reloads)?, count(Counter::LazyExits)?, count(Counter::Barriers)?];
    ensure_eq!(after[0] - before[0], 0, "loads of tables on the way back");
    ensure_eq!(after[1] - before[1], 1, "ends of lazy episodes");
    world.join(thread)
}

/// A process ends while every CPU but one holds it lazily: afterwards nobody holds it, and no CPU
/// was interrupted more than once for that. `CTX-9`
pub fn ctx_9_teardown_while_lazy_everywhere<O: Os>(world: &World<O>) -> Outcome {
    // Where it is in nobody's way.
    world.move_to(0)?;
    let before = world.count(0, Counter::TeardownInterrupts)?;
    let child = world.child("ctx_9_teardown_while_lazy_everywhere", 0)?;
    ensure_eq!(world.wait(child)?.0, 0, "the exit report of the child");
    world.quiesce()?;
    let mine = world.context()?;
    for cpu in world.others() {
        let loaded = world.loaded(cpu)?;
        let held = matches!(loaded, Loaded::Lazy(id) | Loaded::Active(id) if id > mine);
        ensure!(!held, "CPU {cpu} holds {loaded:?} after the process was taken apart");
    }
    let sent = world.count(0, Counter::TeardownInterrupts)? - before;
    let cpus = u64::from(world.cpus().count_ones());
    ensure!(sent <= cpus, "{sent} interrupts for one teardown on {cpus} CPUs");
    Ok(())
}

/// Ends when every other CPU holds it lazily.
pub fn lazy_everywhere<O: Os>(world: &World<O>, _: u64) -> u8 {
    let run = || -> Outcome {
        world.move_to(0)?;
        let mine = world.context()?;
        for cpu in world.others() {
            world.spawn_unwatched(1 << cpu, |world| world.sleep_for_ever())?;
        }
        for cpu in world.others() {
            world.wait_loaded(cpu, Loaded::Lazy(mine))?;
        }
        Ok(())
    };
    run().map_or_else(|not| not.status(), |()| 0)
}

/// A CPU that holds a process lazily goes off, the process ends, the CPU comes back and runs others.
/// `CTX-9`, `SMP-3`
pub fn ctx_9_a_cpu_goes_off_while_lazy<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let cpu = world.others().last().unwrap_or(0);
    let child = world.child("ctx_9_a_cpu_goes_off_while_lazy", cpu.into())?;
    let mine = world.context()?;
    while !matches!(world.loaded(cpu)?, Loaded::Lazy(id) if id > mine) || !world.idles(cpu)? {
        world.yield_now();
    }
    // The child lets its thread run elsewhere then; until it has, the CPU stays on.
    while world.cpu_power(cpu, 0).is_err() {
        world.yield_now();
    }
    world.kill(child)?;
    world.wait(child)?;
    world.quiesce()?;
    ensure_eq!(world.cpu_power(cpu, 1), Ok(0), "turning CPU {cpu} on");
    world.map(PAGE, 1)?;
    world.store(PAGE, 7);
    let thread = world.spawn(1 << cpu, |world| world.store(world.flag(0), world.load(PAGE)))?;
    world.join(thread)?;
    ensure_eq!(world.load(world.flag(0)), 7, "what a thread on CPU {cpu} read");
    Ok(())
}

/// Makes one CPU hold it lazily, and then lets its thread run anywhere.
pub fn lazy_on_the_last<O: Os>(world: &World<O>, cpu: u64) -> u8 {
    let run = || -> Outcome {
        world.move_to(0)?;
        let mine = world.context()?;
        let thread = world.spawn(1 << cpu, |world| world.sleep_for_ever())?;
        world.wait_loaded(cpu as u32, Loaded::Lazy(mine))?;
        world.let_run(&thread, u64::MAX)?;
        world.sleep_for_ever();
        Ok(())
    };
    run().map_or_else(|not| not.status(), |()| 0)
}
