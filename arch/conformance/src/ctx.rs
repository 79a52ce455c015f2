//! `CTX`: memory contexts, as far as a user and the counters can see them.

use crate::outcome::{Outcome, ensure, ensure_eq};
use crate::ret::blocks_until_told;
use crate::world::{Loaded, Stop, Uses, World};
use crate::{ARENA, Not, Os, Word};
use abi::testing::{Counter, Point};

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

/// Kernel tasks without an mm, one after the other, on a CPU that holds a process lazily: nothing is
/// done to its memory context, not as much as a barrier. `CTX-6`
pub fn ctx_6_kernel_tasks_in_a_row<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let [cpu, elsewhere] = two(world)?;
    let thread = blocks_until_told(world, cpu, elsewhere)?;
    let before = world.steps(cpu)?;
    run_tasks(world, cpu, Uses::Nothing, 3)?;
    let after = world.steps(cpu)?;
    world.store(world.flag(0), 1);
    world.join(thread)?;
    ensure_eq!(after, before, "the steps of a CPU that ran kernel tasks only");
    Ok(())
}

/// Runs kernel tasks on `cpu`, one after the other, each of two slices.
fn run_tasks<O: Os>(world: &World<O>, cpu: u32, uses: Uses, tasks: u64) -> Outcome {
    const SLICES: u64 = 2;
    let before = world.count(cpu, Counter::Slices)?;
    for _ in 0..tasks {
        world.task(cpu, uses, SLICES)?;
    }
    while world.count(cpu, Counter::Slices)? - before < tasks * SLICES || !world.idles(cpu)? {
        world.yield_now();
    }
    Ok(())
}

/// Appends `digits` hexadecimal digits to the steps of a CPU.
fn then(steps: u64, digits: u64) -> u64 {
    let count = 16 - digits.leading_zeros() / 4;
    steps << (4 * count) | digits
}

/// (e), and the end of the episode.
const BACK: u64 = 0xe2;
/// (e), the load, and the end of the episode.
const TO_ANOTHER: u64 = 0xe42;
/// (d), and a new episode.
const AWAY: u64 = 0xd1;

/// A script of lazy episodes, each of which ends as it should: by a task that adopts the process, by
/// another process, by the thread that was there first. The same steps in the same order on every
/// machine. `CTX-6`, `CTX-7`, `CTX-8`, `BAR-4`, `BAR-5`
pub fn ctx_7_the_same_steps_everywhere<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let [cpu, elsewhere] = two(world)?;
    let thread = blocks_until_told(world, cpu, elsewhere)?;
    let mine = world.context()?;
    let mut wanted = world.steps(cpu)?;
    let expect = |wanted: u64, what: &str| -> Outcome {
        let steps = world.steps(cpu)?;
        ensure!(steps == wanted, "after {what}: steps {steps:x}, should be {wanted:x}");
        Ok(())
    };
    run_tasks(world, cpu, Uses::MyMm, 1)?;
    wanted = then(then(wanted, BACK), AWAY);
    expect(wanted, "a task that adopts the process")?;

    let child = world.child("ctx_7_the_same_steps_everywhere", cpu.into())?;
    while !matches!(world.loaded(cpu)?, Loaded::Lazy(id) if id > mine) {
        world.yield_now();
    }
    wanted = then(then(wanted, TO_ANOTHER), AWAY);
    expect(wanted, "a visit of another process")?;

    run_tasks(world, cpu, Uses::MyMm, 1)?;
    wanted = then(then(wanted, TO_ANOTHER), AWAY);
    expect(wanted, "a task that adopts the process while another is loaded lazily")?;

    let last = world.spawn(1 << cpu, |world| world.wait_for(world.flag(3), 1))?;
    world.store(world.flag(0), 1);
    world.wait_until(|world| world.load(world.flag(2)) == 1);
    world.wait_loaded(cpu, Loaded::Active(mine))?;
    wanted = then(wanted, BACK);
    expect(wanted, "the return of the thread")?;
    world.store(world.flag(3), 1);
    world.join(last)?;
    world.join(thread)?;
    world.kill(child)?;
    world.wait(child).map(|_| ())
}

/// Kernel tasks with and without the process, visits of other processes and flushes, in an order that
/// a generator of numbers chose: each does to the CPU's memory contexts what it should, after
/// whatever came before it. `CTX-6`, `CTX-7`
pub fn ctx_7_random_steps_keep_the_grammar<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let [cpu, elsewhere] = two(world)?;
    let thread = blocks_until_told(world, cpu, elsewhere)?;
    let mine = world.context()?;
    let mut children = alloc::vec::Vec::new();
    let mut wanted = world.steps(cpu)?;
    let mut number = 0x5eed_u64;
    let rounds = if O::SIMULATED { 12 } else { 40 };
    let mut holds = Loaded::Lazy(mine);
    for round in 0..rounds {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let what = number >> 62;
        let before = holds;
        let comes_back = if before == Loaded::Lazy(mine) { BACK } else { TO_ANOTHER };
        match what {
            0 => run_tasks(world, cpu, Uses::Nothing, 1)?,
            1 => {
                run_tasks(world, cpu, Uses::MyMm, 1)?;
                wanted = then(then(wanted, comes_back), AWAY);
                holds = Loaded::Lazy(mine);
            }
            2 => {
                children.push(world.child("ctx_7_random_steps_keep_the_grammar", cpu.into())?);
                let came = |loaded| matches!(loaded, Loaded::Lazy(id) if id > mine) && loaded != before;
                while !came(holds) {
                    world.yield_now();
                    holds = world.loaded(cpu)?;
                }
                wanted = then(then(wanted, TO_ANOTHER), AWAY);
            }
            _ => {
                world.map(PAGE, 1)?;
                world.unmap(PAGE, 1)?;
            }
        }
        let steps = world.steps(cpu)?;
        ensure!(steps == wanted, "round {round}, {what} while {before:?}: steps {steps:x}, not {wanted:x}");
        // The last step shows before what it leads to.
        world.wait_loaded(cpu, holds)?;
    }
    for child in children {
        world.kill(child)?;
        world.wait(child)?;
    }
    world.store(world.flag(0), 1);
    world.join(thread)
}

/// Goes to one CPU and stays there, asleep.
pub fn sleeps_there<O: Os>(world: &World<O>, cpu: u64) -> u8 {
    if world.move_to(cpu as u32).is_err() {
        return 1;
    }
    world.sleep_for_ever();
    0
}

/// Two CPUs that are not 0.
pub(crate) fn two<O: Os>(world: &World<O>) -> Result<[u32; 2], Not> {
    let mut others = world.others();
    match [others.next(), others.next()] {
        [Some(first), Some(second)] => Ok([first, second]),
        _ => Err(Not::Skipped("too few CPUs")),
    }
}

/// Starts a process that ends up asleep on `cpu`, which then holds it lazily.
fn lazy_child<O: Os>(world: &World<O>, case: &str, cpu: u32) -> Result<abi::Handle, Not> {
    let mine = world.context()?;
    let child = world.child(case, cpu.into())?;
    while !matches!(world.loaded(cpu)?, Loaded::Lazy(id) if id > mine) || !world.idles(cpu)? {
        world.yield_now();
    }
    Ok(child)
}

/// A CPU stands in the middle of a switch from a process that has ended; it is not taken apart
/// before the switch is over. `CTX-5`, `CTX-9`
pub fn ctx_5_a_switch_holds_what_it_leaves<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let [cpu, helper] = two(world)?;
    let child = lazy_child(world, "ctx_5_a_switch_holds_what_it_leaves", cpu)?;
    // Before the CPU stands: to start a thread may take a flush, which would wait for it.
    let script = world.spawn(1 << helper, move |world| {
        world.wait_until(|world| world.load(world.flag(0)) == 1);
        // Time for the teardown to go wrong.
        let slept = world.sleep(20_000_000);
        world.store(world.flag(2), world.load(world.flag(1)) + 10);
        let released = slept.and_then(|()| world.release(cpu));
        world.store(world.flag(3), 1 + u64::from(released.is_err()));
    })?;
    world.arm(Point::SwitchSampled, cpu, Stop::Deaf)?;
    let thread = world.spawn(1 << cpu, |_| {})?;
    world.wait_stopped(cpu)?;
    world.kill(child)?;
    world.wait(child)?;
    world.store(world.flag(0), 1);
    world.quiesce()?;
    world.store(world.flag(1), 1);
    world.join(script)?;
    world.join(thread)?;
    ensure_eq!(world.load(world.flag(3)), 1, "the script");
    ensure_eq!(world.load(world.flag(2)), 10, "processes taken apart that a CPU held, plus 10");
    Ok(())
}

/// The process that a lazy episode held is gone when the episode ends in another: nobody looks for
/// it. `CTX-10`
pub fn ctx_10_what_was_left_may_be_gone<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let [cpu, helper] = two(world)?;
    let child = lazy_child(world, "ctx_10_what_was_left_may_be_gone", cpu)?;
    // Before the CPU stands: to start a thread may take a flush, which would wait for it.
    let script = world.spawn(1 << helper, move |world| {
        world.wait_until(|world| world.load(world.flag(0)) == 1);
        let quiet = world.quiesce();
        world.store(world.flag(1), 1 + u64::from(quiet.is_err()));
    })?;
    world.arm(Point::EpisodeEnds, cpu, Stop::Deaf)?;
    let thread = world.spawn(1 << cpu, |_| {})?;
    world.wait_stopped(cpu)?;
    world.kill(child)?;
    world.wait(child)?;
    world.store(world.flag(0), 1);
    // Under the policy that counts episodes it is kept until this one is over.
    for _ in 0..20 {
        if world.load(world.flag(1)) == 1 {
            break;
        }
        world.sleep(5_000_000)?;
    }
    world.release(cpu)?;
    world.join(thread)?;
    world.join(script)?;
    ensure_eq!(world.load(world.flag(1)), 1, "the wait for the teardown");
    Ok(())
}

/// Several processes end at once, each held lazily by a CPU: each CPU is interrupted at most once,
/// and none holds any of them afterwards. `CTX-9`
pub fn ctx_9_several_end_at_once<O: Os>(world: &World<O>) -> Outcome {
    world.move_to(0)?;
    let mut children = alloc::vec::Vec::new();
    for cpu in world.others() {
        children.push(lazy_child(world, "ctx_9_several_end_at_once", cpu)?);
    }
    let before = world.count(0, Counter::TeardownInterrupts)?;
    for child in &children {
        world.kill(*child)?;
    }
    let held = children.len() as u64;
    for child in children {
        world.wait(child)?;
    }
    world.quiesce()?;
    let mine = world.context()?;
    for cpu in world.others() {
        let loaded = world.loaded(cpu)?;
        let holds = matches!(loaded, Loaded::Lazy(id) | Loaded::Active(id) if id > mine);
        ensure!(!holds, "CPU {cpu} holds {loaded:?} after all were taken apart");
    }
    let sent = world.count(0, Counter::TeardownInterrupts)? - before;
    ensure!(sent <= held, "{sent} interrupts for {held} processes, each held by one CPU");
    Ok(())
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

/// A switch to what is loaded already, of which everything is stale, forgets it all the same: neither the number
/// nor the tables that are loaded say what is cached. `CTX-2`, `CTX-4`
pub fn ctx_2_a_switch_to_the_same<O: Os>(world: &World<O>) -> Outcome {
    world.map(PAGE, 1)?;
    for cpu in [0].into_iter().chain(world.others()) {
        world.move_to(cpu)?;
        world.store(PAGE, 3);
        for _ in 0..3 {
            let did = world.switch_again()?;
            ensure!(did & 4 != 0, "CPU {cpu}: what is stale was not forgotten: {did:#b}");
        }
        ensure_eq!(world.load(PAGE), 3, "what was stored");
    }
    Ok(())
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
    ensure_eq!(world.loaded(cpu)?, Loaded::Kernel, "what a CPU holds that is off");
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
