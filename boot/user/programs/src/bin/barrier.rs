//! `barrier [TURNS]`: the asymmetric Dekker protocol. One side stores, executes no barrier, and
//! loads; the other stores, asks for a barrier on all CPUs, and loads. Both must not read the old
//! values. `BAR-3`
//!
//! The positive control is the same without the membarrier: where it never fails, this machine (an
//! emulator on one host thread, or one that stores and loads in order) cannot show anything, and the
//! result says so.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering, compiler_fence};
use user_rt::membarrier::{Command, membarrier};
use user_rt::thread::{Builder, wait_until};
use user_rt::{Args, CpuSet, Error, MACHINE, println};

user_rt::entry!(main);

/// A word on cache lines of its own.
#[repr(align(256))]
struct Word(AtomicU64);

impl Word {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// What the two sides store: the number of the turn.
static FAST: Word = Word::new();
static SLOW: Word = Word::new();
/// What the fast side read.
static READ: Word = Word::new();
/// The turn that may begin, and the one that the fast side is through with.
static GO: Word = Word::new();
static THROUGH: Word = Word::new();

fn main(args: Args) -> u8 {
    let Ok(turns) = args.get(1).map_or(Ok(20_000), |_| args.number(1)) else {
        println!("usage: barrier [TURNS]");
        return 2;
    };
    match run(turns) {
        Ok(0) => 0,
        Ok(_) => 1,
        Err(error) => {
            println!("barrier: {error:?}");
            1
        }
    }
}

/// How often both sides read old values though one asked for a barrier.
fn run(turns: u64) -> Result<u64, Error> {
    let cpus = MACHINE.cpus()?;
    let Some(other) = cpus.iter().nth(1) else {
        println!("barrier: inconclusive, there is one CPU");
        return Ok(0);
    };
    membarrier(Command::RegisterPrivateExpedited)?;
    let control = play(other, 1, turns, || Ok(()))?;
    let broken = play(other, turns + 1, turns, || membarrier(Command::PrivateExpedited).map(|_| ()))?;
    let verdict = match (control, broken) {
        (_, 1..) => "wrong",
        (0, _) => "inconclusive: the control never failed",
        _ => "ok",
    };
    println!("barrier: {broken} of {turns} failed, {control} without membarrier: {verdict}");
    Ok(broken)
}

/// Plays the turns from `first` on, with `barrier` on the slow side.
fn play(other: u32, first: u64, turns: u64, barrier: impl Fn() -> Result<(), Error>) -> Result<u64, Error> {
    GO.set(first - 1);
    let fast = Builder::new().cpus(CpuSet::only(other)).spawn(move || {
        for turn in first..first + turns {
            wait_until(|| GO.get() >= turn);
            FAST.set(turn);
            // All that the fast side pays.
            compiler_fence(Ordering::SeqCst);
            READ.set(SLOW.get());
            THROUGH.0.store(turn, Ordering::Release);
        }
    })?;
    let mut both = 0;
    for turn in first..first + turns {
        GO.0.store(turn, Ordering::Release);
        // So that the two meet now earlier, now later.
        for _ in 0..turn % 64 {
            core::hint::spin_loop();
        }
        SLOW.set(turn);
        compiler_fence(Ordering::SeqCst);
        barrier()?;
        compiler_fence(Ordering::SeqCst);
        let read = FAST.get();
        wait_until(|| THROUGH.0.load(Ordering::Acquire) == turn);
        both += u64::from(read < turn && READ.get() < turn);
    }
    fast.join()?;
    Ok(both)
}
