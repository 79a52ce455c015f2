//! `migrate [MOVES]`: a thread that is moved from CPU to CPU (100,000 times if not said) keeps its
//! registers, vector registers included, and its memory. `MIG-1`
//!
//! Half of the moves are its own. The other half another thread makes while this one computes, so
//! they come between any two instructions.
#![no_std]
#![no_main]

use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use user_programs::vectors::Registers;
use user_rt::abi::{Call, Handle};
use user_rt::thread::{Builder, CURRENT, wait_until};
use user_rt::{Args, CpuSet, Error, MACHINE, println};

user_rt::entry!(main);

/// Bytes of the stack of the thread that is moved.
const STACK: usize = 64 * 1024;

fn main(args: Args) -> u8 {
    let moves = args.get(1).map_or(Ok(100_000), |_| args.number(1));
    let Ok(moves) = moves else {
        println!("usage: migrate [MOVES]");
        return 2;
    };
    match run(moves) {
        Ok((cpus, 0)) => {
            println!("migrate: {moves} moves among {cpus} CPUs, nothing lost");
            0
        }
        Ok((_, lost)) => {
            println!("migrate: {lost} times something was lost");
            1
        }
        Err(error) => {
            println!("migrate: {error:?}");
            1
        }
    }
}

/// The number of CPUs, and how often something was lost.
fn run(moves: u64) -> Result<(u32, u64), Error> {
    let cpus = MACHINE.turn_all_on()?;
    let own = Builder::new().stack(STACK).spawn(move || moving(cpus, moves / 2))?;
    let lost = own.join()?;
    Ok((cpus.count(), lost + moved(cpus, moves - moves / 2)?))
}

/// Moves itself, by a call that is made while every vector register holds a value.
fn moving(cpus: CpuSet, moves: u64) -> u64 {
    let mut memory = [0; 64];
    let mut random = Random(1);
    let mut lost = 0;
    for (turn, cpu) in (0..moves).zip(cpus.iter().cycle()) {
        let pattern = Registers::fill(|| random.next());
        memory[turn as usize % 64] += turn;
        let call = [Call::ThreadAffinity as u64, Handle::NONE.0.into(), CpuSet::only(cpu).0];
        lost += u64::from(pattern.hold(1, Some(call)) != pattern);
        lost += u64::from(CURRENT.affinity() != Ok(CpuSet::only(cpu)));
    }
    let sum: u64 = black_box(&memory).iter().sum();
    lost + u64::from(sum != (0..moves).sum())
}

/// Computes while it is moved: what it computes says whether a register was lost.
fn moved(cpus: CpuSet, moves: u64) -> Result<u64, Error> {
    static STOP: AtomicBool = AtomicBool::new(false);
    static ROUNDS: AtomicU64 = AtomicU64::new(0);
    let computing = Builder::new().stack(STACK).spawn(|| {
        let wanted = black_box(compute(black_box(7)));
        let mut random = Random(2);
        let mut lost = 0;
        while !STOP.load(Ordering::Relaxed) {
            let pattern = Registers::fill(|| random.next());
            lost += u64::from(compute(black_box(7)) != wanted);
            lost += u64::from(pattern.hold(1000, None) != pattern);
            ROUNDS.fetch_add(1, Ordering::Relaxed);
        }
        lost
    })?;
    wait_until(|| ROUNDS.load(Ordering::Relaxed) > 0);
    for (_, cpu) in (0..moves).zip(cpus.iter().cycle()) {
        computing.thread().set_affinity(CpuSet::only(cpu))?;
    }
    // It has run since it was last moved.
    let rounds = ROUNDS.load(Ordering::Relaxed);
    wait_until(|| ROUNDS.load(Ordering::Relaxed) > rounds + 1);
    STOP.store(true, Ordering::Relaxed);
    computing.join()
}

/// Enough values at once that the compiler keeps some in every register.
#[inline(never)]
fn compute(seed: u64) -> [u64; 12] {
    let mut words = [seed; 12];
    for turn in 0..200u64 {
        for (index, word) in (0u64..).zip(&mut words) {
            *word = word.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (turn + index);
        }
    }
    words
}

/// xorshift64: distinct words, not secrets.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
