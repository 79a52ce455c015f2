//! `TIME`: one clock for all CPUs, and deadlines that fire, never early.

use crate::outcome::{OrFail, Outcome, ensure, ensure_eq};
use crate::world::{Stop, World};
use crate::{Not, Os};
use abi::testing::Point;
use abi::{Call, initial};
use alloc::vec::Vec;

const MILLISECOND: u64 = 1_000_000;

fn each_cpu<O: Os>(world: &World<O>) -> impl Iterator<Item = u32> + use<O> {
    let cpus = world.cpus();
    (0..64).filter(move |cpu| cpus & 1 << cpu != 0)
}

/// On each CPU no reading is before the last. `TIME-1`
pub fn time_1_the_clock_does_not_go_back<O: Os>(world: &World<O>) -> Outcome {
    let readings = if O::SIMULATED { 100 } else { 5_000 };
    for cpu in each_cpu(world) {
        world.move_to(cpu)?;
        let mut last = 0;
        for _ in 0..readings {
            let now = world.now()?;
            ensure!(now >= last, "CPU {cpu}: {now} ns after {last} ns");
            last = now;
            world.os.pause();
        }
    }
    Ok(())
}

/// Two CPUs hand each other what they read: no answer is before its question. `TIME-1`
pub fn time_1_ping_pong<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    let turns = if O::SIMULATED { 20 } else { 1_000 };
    let here = 0;
    world.move_to(here)?;
    for there in world.others() {
        // Flag 0 is what was last read; flag 1 whose turn it is, odd for the other; flag 2 what it
        // found to be before.
        for flag in 0..3 {
            world.store(world.flag(flag), 0);
        }
        let side = move |world: &World<O>, parity: u64| {
            for turn in (0..2 * turns).filter(|turn| turn % 2 == parity) {
                world.wait_for(world.flag(1), turn);
                let before = world.load(world.flag(0));
                // The words of the flags have no order but that of their values: a turn is taken by
                // both sides with a full barrier, the call.
                let now = world.now().unwrap_or(0);
                if now < before {
                    world.store(world.flag(2), before - now);
                }
                world.store(world.flag(0), now);
                world.yield_now();
                world.store(world.flag(1), turn + 1);
            }
        };
        let other = world.spawn(1 << there, move |world| side(&world, 1))?;
        side(world, 0);
        world.join(other)?;
        let early = world.load(world.flag(2));
        ensure_eq!(early, 0, "nanoseconds by which CPU {here} and CPU {there} differ");
    }
    Ok(())
}

/// A thread that moves takes the time with it. `TIME-1`
pub fn time_1_over_migration<O: Os>(world: &World<O>) -> Outcome {
    let rounds = if O::SIMULATED { 3 } else { 30 };
    let mut last = (0, 0);
    for cpu in (0..rounds).flat_map(|_| each_cpu(world)) {
        world.move_to(cpu)?;
        let now = world.now()?;
        ensure!(now >= last.0, "{now} ns on CPU {cpu} after {} ns on CPU {}", last.0, last.1);
        last = (now, cpu);
    }
    Ok(())
}

/// A CPU that was off has the same clock as the others when it comes back. `TIME-1`
pub fn time_1_over_off_and_on<O: Os>(world: &World<O>) -> Outcome {
    world.move_to(0)?;
    for cpu in world.others() {
        let before = world.now()?;
        ensure_eq!(world.cpu_power(cpu, 0), Ok(0), "turning CPU {cpu} off");
        ensure_eq!(world.cpu_power(cpu, 1), Ok(0), "turning CPU {cpu} on");
        world.move_to(cpu)?;
        let there = world.now()?;
        world.move_to(0)?;
        let after = world.now()?;
        ensure!(before <= there && there <= after, "CPU {cpu} reads {there} ns between {before} and {after}");
    }
    Ok(())
}

/// No sleep is short by the clock of who sleeps, on any CPU, however long. `TIME-2`
pub fn time_2_no_sleep_is_short<O: Os>(world: &World<O>) -> Outcome {
    for cpu in each_cpu(world) {
        world.move_to(cpu)?;
        for length in [1, 999, 10_000, 123_457, MILLISECOND, 3 * MILLISECOND + 1] {
            let due = world.now()? + length;
            world.sleep_until(due)?;
            let now = world.now()?;
            ensure!(now >= due, "CPU {cpu}: {} ns early of {length}", due - now);
        }
    }
    Ok(())
}

/// Many sleep on one CPU: each wakes at its time, not before, and none is forgotten for another that
/// is due earlier or later. `TIME-2`, `TIME-3`
pub fn time_2_many_sleepers<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let cpu = world.others().next().unwrap_or(0);
    let base = world.now()? + 5 * MILLISECOND;
    // Deadlines out of order, two of them the same.
    let offsets = [7, 3, 9, 3, 0, 5, 1, 8];
    let mut sleepers = Vec::new();
    for (number, offset) in (0..).zip(offsets) {
        let due = base + offset * MILLISECOND / 2;
        sleepers.push(world.spawn(1 << cpu, move |world| {
            let slept = world.sleep_until(due);
            let now = world.now().unwrap_or(0);
            world.store(world.flag(number), if slept.is_ok() && now >= due { now } else { 1 });
        })?);
    }
    for number in 0..sleepers.len() as u64 {
        world.in_time(number, "a sleeper does not wake")?;
        let woke = world.load(world.flag(number));
        ensure!(woke >= base, "sleeper {number} was early, or could not sleep");
    }
    sleepers.into_iter().try_for_each(|sleeper| world.join(sleeper))
}

/// Who waits for what is past does not wait. `TIME-3`
pub fn time_3_the_past_does_not_wait<O: Os>(world: &World<O>) -> Outcome {
    let begin = world.now()?;
    for _ in 0..100 {
        for due in [0, 1, begin / 2, begin] {
            world.sleep_until(due)?;
        }
    }
    let took = world.now()? - begin;
    ensure!(took < World::<O>::PATIENCE, "deadlines in the past took {took} ns");
    Ok(())
}

/// Deadlines so near that they pass while the kernel still arms the timer for them fire all the same.
/// `TIME-3`
pub fn time_3_deadlines_that_pass_while_they_are_armed<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let cpu = world.others().next().unwrap_or(0);
    let step = if O::SIMULATED { 1_000 } else { 100 };
    let sleeper = world.spawn(1 << cpu, move |world| {
        // From a nanosecond ahead to some microseconds: past before the call looks, past before the
        // timer is armed, past after.
        let slept = (0..200).try_for_each(|turn| world.sleep_until(world.now()? + 1 + turn * step));
        world.store(world.flag(0), if slept.is_ok() { 1 } else { 2 });
    })?;
    world.in_time(0, "a deadline that is almost past does not fire")?;
    ensure_eq!(world.load(world.flag(0)), 1, "whether all sleeps worked");
    world.join(sleeper)
}

/// A CPU that has found nothing to do, and stands before its halt. Whoever goes there meanwhile wakes
/// it.
fn before_the_halt<O: Os>(world: &World<O>, cpu: u32) -> Outcome {
    let [there, goes] = [world.flag(1), world.flag(2)];
    world.store(there, 0);
    world.store(goes, 0);
    let last = world.spawn(1 << cpu, move |world| {
        world.store(there, 1);
        world.wait_for(goes, 1);
    })?;
    world.wait_until(|world| world.load(there) == 1);
    world.arm(Point::BeforeHalt, cpu, Stop::Deaf)?;
    world.store(goes, 1);
    world.wait_stopped(cpu)?;
    world.join(last)
}

/// A thread becomes ready on a CPU between its last look at the queue and its halt: it runs. `TIME-4`
pub fn time_4_a_wake_up_before_the_halt<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let cpu = world.others().next().unwrap_or(0);
    for round in 0..3 {
        world.store(world.flag(0), 0);
        before_the_halt(world, cpu)?;
        let woken = world.spawn(1 << cpu, |world| world.store(world.flag(0), 1))?;
        world.release(cpu)?;
        world
            .in_time(0, "a wake-up between the last look and the halt is lost")
            .map_err(|not| Not::Failed(alloc::format!("round {round}: {not}")))?;
        world.join(woken)?;
    }
    Ok(())
}

/// A deadline passes between a CPU's last look and its halt: the sleeper wakes. `TIME-4`, `TIME-3`
pub fn time_4_a_deadline_before_the_halt<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let cpu = world.others().next().unwrap_or(0);
    for round in 0..3 {
        world.store(world.flag(0), 0);
        world.arm(Point::BeforeHalt, cpu, Stop::Deaf)?;
        let sleeper = world.spawn(1 << cpu, |world| {
            let slept = world.sleep(2 * MILLISECOND);
            world.store(world.flag(0), if slept.is_ok() { 1 } else { 2 });
        })?;
        world.wait_stopped(cpu)?;
        // It passes while the CPU stands there.
        let then = world.now()? + 3 * MILLISECOND;
        while world.now()? < then {
            world.os.pause();
        }
        world.release(cpu)?;
        world
            .in_time(0, "a deadline between the last look and the halt is lost")
            .map_err(|not| Not::Failed(alloc::format!("round {round}: {not}")))?;
        ensure_eq!(world.load(world.flag(0)), 1, "whether it slept");
        world.join(sleeper)?;
    }
    Ok(())
}

/// A CPU that is off has no deadlines: those of its sleepers fire elsewhere. `TIME-3`, `SMP-3`
pub fn time_3_sleepers_of_a_cpu_that_goes_off<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let cpu = world.others().next().unwrap_or(0);
    let sleeper = world.spawn(world.cpus(), move |world| {
        let there = world.move_to(cpu).and_then(|()| {
            world.affinity(world.cpus()).or_fail("thread_affinity")?;
            world.store(world.flag(1), 1);
            world
                .call(Call::SleepUntil, [initial::TIMER.0.into(), world.now()? + 5 * MILLISECOND])
                .or_fail("sleep")
        });
        world.store(world.flag(0), if there.is_ok() { 1 } else { 2 });
    })?;
    world.wait_for(world.flag(1), 1);
    ensure_eq!(world.cpu_power(cpu, 0), Ok(0), "turning CPU {cpu} off");
    let woke = world.in_time(0, "the sleeper of a CPU that is off does not wake");
    ensure_eq!(world.cpu_power(cpu, 1), Ok(0), "turning CPU {cpu} on");
    woke?;
    ensure_eq!(world.load(world.flag(0)), 1, "whether it slept");
    world.join(sleeper)
}
