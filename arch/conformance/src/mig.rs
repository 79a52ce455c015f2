//! `MIG`: a thread that goes elsewhere finds all it had, and needs nothing of where it was.

use crate::outcome::{Outcome, ensure, ensure_eq};
use crate::world::World;
use crate::{ARENA, Not, Os, Word};
use abi::Call;

/// The migrating thread's memory.
const PATTERN: Word = Word::new(ARENA + (16 << 20));

/// A thread goes back and forth between CPUs; after each step it is where it should be and finds
/// what it wrote, in memory and in registers. `MIG-1`
pub fn mig_1_forced_migrations<O: Os>(world: &World<O>) -> Outcome {
    const WORDS: u64 = 8;
    let steps: u64 = if O::SIMULATED { 300 } else { 100_000 };
    let other = world.others().next().unwrap_or(0);
    world.map(PATTERN, 2)?;
    let area = PATTERN.plus(abi::PAGE_BYTES);
    world.register_area(area)?;
    let mut sum = 0u64;
    for step in 0..steps {
        let cpu = if step % 2 == 0 { other } else { 0 };
        world.move_to(cpu)?;
        let there = world.cpu_of(area);
        ensure!(there == cpu, "step {step}: on CPU {there} instead of {cpu}");
        for word in 0..WORDS {
            let at = PATTERN.plus(8 * word);
            let wanted = if step == 0 { 0 } else { (step - 1) * WORDS + word };
            ensure_eq!(world.load(at), wanted, "step {step}, word {word}");
            world.store(at, step * WORDS + word);
        }
        sum = sum.wrapping_add(step);
    }
    ensure_eq!(sum, steps * (steps - 1) / 2, "the sum in registers");
    Ok(())
}

/// A CPU is stuck in the kernel with interrupts off; a thread that waits in its queue is taken by
/// another, which needs nothing of the stuck one. `MIG-2`
pub fn mig_2_a_stuck_cpu<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let mut others = world.others();
    let [Some(stuck), Some(free)] = [others.next(), others.next()] else {
        return Err(Not::Skipped("too few CPUs"));
    };
    // Shares the CPU with the one that will hold it, and is in its queue by then.
    let waiting = world.spawn(1 << stuck, |world| {
        world.wait_until(|world| {
            let turns = world.load(world.flag(1));
            world.store(world.flag(1), turns + 1);
            world.load(world.flag(0)) == 1
        });
    })?;
    let sticks = world.spawn(1 << stuck, |world| {
        world.store(world.flag(2), 1);
        let stuck = world.stick();
        world.store(world.flag(2), if stuck.is_ok() { 3 } else { 4 });
    })?;
    world.wait_until(|world| world.load(world.flag(2)) != 0);
    // Stuck once its turns stand still.
    let mut turns = world.load(world.flag(1));
    loop {
        world.sleep(50_000_000)?;
        let now = world.load(world.flag(1));
        if now == turns {
            break;
        }
        turns = now;
    }
    world.let_run(&waiting, 1 << free)?;
    let moved = world.load(world.flag(1));
    world.wait_until(|world| world.load(world.flag(1)) > moved + 10);
    ensure_eq!(world.load(world.flag(2)), 1, "the stuck CPU's thread (3: it went on by itself)");
    world.release(stuck)?;
    world.store(world.flag(0), 1);
    world.join(waiting)?;
    world.join(sticks)
}

/// A thread waits in the queue of a CPU that is stuck; another CPU, which runs out of work, takes it
/// and needs nothing of the stuck one. `MIG-2`
pub fn mig_2_an_idle_cpu_takes_from_a_stuck_one<O: Os>(world: &World<O>) -> Outcome {
    /// Nanoseconds, after which it will not be taken any more.
    const PATIENCE: u64 = 3_000_000_000;
    world.flags()?;
    world.move_to(0)?;
    let [stuck, free] = world.two_others()?;
    let busy = world.spawn(1 << free, |world| {
        world.store(world.flag(1), 1);
        world.wait_for(world.flag(2), 1);
    })?;
    world.wait_for(world.flag(1), 1);
    let turns = |world: &World<O>| world.load(world.flag(3));
    let waiting = world.spawn(1 << stuck, move |world| {
        world.wait_until(|world| {
            world.store(world.flag(3), turns(world) + 1);
            world.load(world.flag(0)) == 1
        });
    })?;
    // In the queue, since another thread of its CPU is in the kernel and stays there.
    let sticks = world.spawn(1 << stuck, |world| {
        let _ = world.stick();
    })?;
    world.wait_stopped(stuck)?;
    let then = turns(world);
    // The other CPU is busy: it stays where it is.
    world.let_run(&waiting, 1 << stuck | 1 << free)?;
    let queued = turns(world) == then;
    // Waits without a call that would let this CPU look for work itself.
    world.store(world.flag(2), 1);
    let last = world.now()? + PATIENCE;
    while turns(world) == then && world.now()? < last {
        world.os.pause();
    }
    let taken = turns(world) > then;
    world.release(stuck)?;
    world.store(world.flag(0), 1);
    [busy, sticks, waiting].into_iter().try_for_each(|thread| world.join(thread))?;
    ensure!(queued, "the thread ran though both its CPUs were busy");
    ensure!(taken, "the thread was not taken from the stuck CPU");
    Ok(())
}

/// A thread reserves a word and gives its CPU to another, which changes the word and changes it back:
/// the first thread's store under its reservation fails. Without that it does not, which is the
/// control. `MIG-3`
pub fn mig_3_a_reservation_does_not_outlive_a_switch<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let [word, turns] = [16, 32].map(|flag| world.flag(flag));
    let held = |call: Option<Call>| world.os.held_reservation(word, call.map(|call| call as u64));
    if held(None).is_none() {
        return Err(Not::Skipped("this machine has no reservations"));
    }
    // One may be lost at any time.
    if !(0..100).any(|_| held(None) == Some(true)) {
        return Err(Not::Inconclusive("a reservation that nothing disturbs does not last either"));
    }
    let rival = world.spawn(1, move |world| {
        world.wait_until(|world| {
            let value = world.load(word);
            world.store(word, value + 1);
            world.store(word, value);
            world.store(turns, world.load(turns) + 1);
            world.load(world.flag(0)) == 1
        });
    })?;
    let (mut switched, mut stored) = (0, 0);
    for _ in 0..200 {
        let before = world.load(turns);
        let store = held(Some(Call::Yield)) == Some(true);
        if world.load(turns) != before {
            switched += 1;
            stored += u64::from(store);
        }
    }
    world.store(world.flag(0), 1);
    world.join(rival)?;
    ensure!(switched > 0, "the other thread never ran");
    ensure_eq!(stored, 0, "stores under a reservation of before a switch, of {switched}");
    Ok(())
}
