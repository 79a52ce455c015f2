//! What only real memory shows: that loads and stores of two CPUs are ordered.
//!
//! Each test is played twice. Without the barrier, as the control, the forbidden outcome has to come
//! up, or nothing could have been seen; with it, never.

use crate::outcome::{Outcome, ensure_eq};
use crate::world::{Fence, World};
use crate::{ARENA, Not, Os, Word};
use abi::membarrier::Command;

/// What two CPUs store to in the kernel, and what one of them found.
const KERNELS: Word = Word::new(ARENA + (8 << 20));

/// Two CPUs, in the kernel with interrupts off, each store and then load what the other stores, with
/// the port's full barrier between. `BAR-1`
pub fn bar_1_store_buffering_in_the_kernel<O: Os>(world: &World<O>) -> Outcome {
    // Skips the case before any CPU waits for another.
    world.context()?;
    world.move_to(0)?;
    let cpu = world.others().next().unwrap_or(0);
    with_and_without(20, |fence| in_the_kernel(world, cpu, fence))
}

/// Plays the control until the forbidden outcome comes up, `tries` times at most: on a busy host two
/// CPUs seldom run at the same time. Then as often as it took with the barrier.
fn with_and_without(tries: u32, play: impl Fn(Fence) -> Result<u64, Not>) -> Outcome {
    for taken in 1..=tries {
        if play(Fence::None)? == 0 {
            continue;
        }
        for _ in 0..taken {
            ensure_eq!(play(Fence::Full)?, 0, "rounds with the forbidden outcome");
        }
        return Ok(());
    }
    Err(Not::Inconclusive("without the barrier it did not happen either"))
}

fn in_the_kernel<O: Os>(world: &World<O>, cpu: u32, fence: Fence) -> Result<u64, Not> {
    // Of 64 rounds each.
    let calls = if O::SIMULATED { 1 } else { 400 };
    /// Nanoseconds, after which those that were made are enough: on a busy host the two CPUs wait for
    /// each other.
    const TIME: u64 = 1_000_000_000;
    world.map(KERNELS, 2)?;
    // The last call that is made, once that is known. It is stored before this side makes it, so the
    // other side finds it when it is through with it.
    let last = KERNELS.plus(abi::PAGE_BYTES);
    let log = |call: u64| KERNELS.plus(abi::PAGE_BYTES + 8 * call);
    world.store(last, calls);
    let other = world.spawn(1 << cpu, move |world| {
        let mut call = 1;
        while call <= world.load(last) {
            // It cannot fail: the same call works on the other side.
            let missed = world.store_buffering(KERNELS, 1, fence).unwrap_or(0);
            world.store(log(call), missed);
            call += 1;
        }
    })?;
    let end = world.now()? + TIME;
    let mut own = alloc::vec::Vec::new();
    for call in 1..=calls {
        if world.now()? > end {
            world.store(last, call);
        }
        own.push(world.store_buffering(KERNELS, 0, fence)?);
        if world.load(last) == call {
            break;
        }
    }
    world.join(other)?;
    let both = (1..).zip(own).map(|(call, own)| u64::from((own & world.load(log(call))).count_ones()));
    let both = both.sum();
    world.unmap(KERNELS, 2)?;
    Ok(both)
}

/// Store buffering with membarrier on one side and only program order on the other: both loads
/// cannot miss both stores. `BAR-3`
pub fn bar_3_store_buffering<O: Os>(world: &World<O>) -> Outcome {
    with_membarrier(world, Shape::StoreBuffering)
}

/// Message passing with membarrier on the reader's side: who sees the flag sees the message. A host
/// that keeps stores in order shows none of it, not even in the control. `BAR-3`
pub fn bar_3_message_passing<O: Os>(world: &World<O>) -> Outcome {
    with_membarrier(world, Shape::MessagePassing)
}

/// What the two sides do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    /// `x = 1; membarrier; r0 = y` here, `y = 1; r1 = x` there. Not both 0.
    StoreBuffering,
    /// `r0 = y; membarrier; r1 = x` here, `x = 1; y = 1` there. Not 1 and 0.
    MessagePassing,
}

fn with_membarrier<O: Os>(world: &World<O>, shape: Shape) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    world.barrier(Command::RegisterPrivateExpedited)?;
    let cpu = world.others().next().unwrap_or(0);
    let tries = match shape {
        Shape::StoreBuffering => 15,
        // It comes up soon or never.
        Shape::MessagePassing => 1,
    };
    with_and_without(tries, |fence| play(world, cpu, shape, fence))
}

/// The rounds with the forbidden outcome.
fn play<O: Os>(world: &World<O>, cpu: u32, shape: Shape, fence: Fence) -> Result<u64, Not> {
    let rounds = if O::SIMULATED { 20 } else { 20_000 };
    /// Nanoseconds, after which those that were made are enough.
    const TIME: u64 = 1_000_000_000;
    /// So often is enough to know that it happens.
    const ENOUGH: u64 = 10;
    const OVER: u64 = u64::MAX;
    // Each on a cache line of its own.
    let [x, y, round_at, loaded, done] = [16, 32, 48, 64, 80].map(|flag| world.flag(flag));
    // A pause may give the host's CPU up: the two would never meet.
    fn wait_for<O: Os>(world: &World<O>, at: Word, is: impl Fn(u64) -> bool) -> u64 {
        loop {
            let value = world.load(at);
            if is(value) {
                return value;
            }
        }
    }
    world.store(round_at, 0);
    world.store(done, 0);
    let other = world.spawn(1 << cpu, move |world| {
        let mut last = 0;
        loop {
            last = wait_for(&world, round_at, |round| round != last);
            match (last, shape) {
                (OVER, _) => return,
                (_, Shape::StoreBuffering) => {
                    world.store_plain(y, 1);
                    let x = world.load_plain(x);
                    world.store(loaded, x);
                }
                (_, Shape::MessagePassing) => {
                    world.store_plain(x, 1);
                    world.store_plain(y, 1);
                }
            }
            world.store(done, last);
        }
    })?;
    let barrier = || if fence == Fence::Full { world.barrier(Command::PrivateExpedited) } else { Ok(()) };
    let end = world.now()? + TIME;
    let mut forbidden = 0;
    for round in 1..=rounds {
        world.store(x, 0);
        world.store(y, 0);
        world.store(round_at, round);
        // The other CPU needs some moment until it has seen the round.
        for _ in 0..round % 256 {
            world.load_plain(round_at);
        }
        let came = match shape {
            Shape::StoreBuffering => {
                world.store_plain(x, 1);
                barrier()?;
                let y = world.load_plain(y);
                wait_for(world, done, |done| done == round);
                y == 0 && world.load(loaded) == 0
            }
            Shape::MessagePassing => {
                let y = world.load_plain(y);
                barrier()?;
                let x = world.load_plain(x);
                wait_for(world, done, |done| done == round);
                y == 1 && x == 0
            }
        };
        forbidden += u64::from(came);
        if forbidden == ENOUGH || round % 64 == 0 && world.now()? > end {
            break;
        }
    }
    world.store(round_at, OVER);
    world.join(other)?;
    Ok(forbidden)
}
