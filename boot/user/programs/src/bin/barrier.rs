//! `barrier [TURNS]`: the asymmetric Dekker protocol. One side stores, executes no barrier, and
//! loads; the other stores, asks for a barrier on all CPUs, and loads. Both must not read what was
//! there before. `BAR-3`
//!
//! The fast side runs through its turns without waiting for anyone, and keeps what it read in each.
//! The slow side stores its own turn, and reads which turn the fast side has stored: the turn after
//! that was not visible yet, so in it the fast side must have read what the slow side had stored.
//!
//! The positive control is the same without the membarrier: where it never fails, this machine (an
//! emulator on one host thread, or with one free core) shows nothing, and the result says so.
#![no_std]
#![no_main]

use core::slice;
use core::sync::atomic::{AtomicU64, Ordering};
use user_rt::membarrier::{Command, membarrier};
use user_rt::thread::{Builder, CURRENT, wait_until};
use user_rt::{Args, CpuSet, Error, MACHINE, Mapping, compiler_barrier, println};

user_rt::entry!(main);

/// A word on cache lines of its own.
#[repr(align(256))]
struct Word(AtomicU64);

/// The turn that each side has stored.
static FAST: Word = Word(AtomicU64::new(0));
static SLOW: Word = Word(AtomicU64::new(0));
static STOP: Word = Word(AtomicU64::new(0));

/// Turns of the fast side that the log holds.
const KEPT: usize = 1 << 20;
/// Turns without membarrier for each with it: they cost less.
const CONTROLS: u64 = 10;

fn main(args: Args) -> u8 {
    let Ok(turns) = args.get(1).map_or(Ok(2000), |_| args.number(1)) else {
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

/// How often both sides read what was there before though one asked for a barrier.
fn run(turns: u64) -> Result<u64, Error> {
    let cpus = MACHINE.turn_all_on()?;
    let mut cpus = cpus.iter().map(CpuSet::only);
    let (Some(here), Some(there)) = (cpus.next(), cpus.next()) else {
        println!("barrier: inconclusive, there is one CPU");
        return Ok(0);
    };
    CURRENT.set_affinity(here)?;
    let log = Mapping::new(KEPT * size_of::<u64>())?.forever();
    // SAFETY: zeroed memory that stays, reached through this slice only.
    let log = unsafe { slice::from_raw_parts(log.as_ptr().cast::<AtomicU64>(), KEPT) };
    let fast = Builder::new().cpus(there).spawn(move || fast_side(log))?;

    membarrier(Command::RegisterPrivateExpedited)?;
    let (control, controls) = play(log, 1, turns * CONTROLS, || Ok(()))?;
    let barrier = || membarrier(Command::PrivateExpedited).map(|_| ());
    let (broken, checked) = play(log, turns * CONTROLS + 1, turns, barrier)?;
    STOP.0.store(1, Ordering::Relaxed);
    fast.join()?;

    let verdict = match (control, broken) {
        (_, 1..) => "wrong",
        (0, _) => "inconclusive, the control never failed",
        _ if checked == 0 => "inconclusive, the fast side was too fast",
        _ => "ok",
    };
    println!("barrier: {broken} of {checked} failed; without membarrier {control} of {controls}: {verdict}");
    Ok(broken)
}

/// A turn of the fast side and what it read, 32 bits each, in one word: who sees one sees the other.
fn entry(turn: u64, read: u64) -> u64 {
    turn << 32 | (read & 0xffff_ffff)
}

/// How many turns the one in `entry` lies after `turn`.
fn ahead(entry: u64, turn: u64) -> i32 {
    ((entry >> 32) as u32).wrapping_sub(turn as u32).cast_signed()
}

fn fast_side(log: &[AtomicU64]) {
    let mut turn = 0;
    while STOP.0.load(Ordering::Relaxed) == 0 {
        turn += 1;
        FAST.0.store(turn, Ordering::Relaxed);
        // All that the fast side pays.
        compiler_barrier();
        let read = SLOW.0.load(Ordering::Relaxed);
        log[turn as usize % KEPT].store(entry(turn, read), Ordering::Relaxed);
    }
}

/// The turns of the slow side from `first` on: how often both read what was there before, and of how
/// many turns that is known.
fn play(
    log: &[AtomicU64],
    first: u64,
    turns: u64,
    barrier: impl Fn() -> Result<(), Error>,
) -> Result<(u64, u64), Error> {
    let (mut both, mut known) = (0, 0);
    for turn in first..first + turns {
        SLOW.0.store(turn, Ordering::Relaxed);
        compiler_barrier();
        barrier()?;
        compiler_barrier();
        let next = FAST.0.load(Ordering::Relaxed) + 1;
        let logged = || log[next as usize % KEPT].load(Ordering::Relaxed);
        wait_until(|| ahead(logged(), next) >= 0);
        let logged = logged();
        // One that is overwritten already says nothing.
        if ahead(logged, next) == 0 {
            known += 1;
            both += u64::from(logged & 0xffff_ffff < turn);
        }
    }
    Ok((both, known))
}
