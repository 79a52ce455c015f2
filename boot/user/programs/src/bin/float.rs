//! `float [ROUNDS [SEED]]`: keeps values in every vector register while other programs run.
//!
//! Each round loads a fresh pattern into all of them, control registers included, then gives
//! the kernel an opportunity to mix them up: a busy stretch long enough to be preempted, a
//! yield, or a sleep. Then it compares. Several copies at once hold different patterns.
#![no_std]
#![no_main]

use core::hint::black_box;
use core::time::Duration;
use user_programs::vectors::Registers;
use user_rt::abi::{Call, initial};
use user_rt::{Args, TIMER, println};

user_rt::entry!(main);

/// Some milliseconds of spinning on an emulator.
const BUSY_TURNS: u64 = 3_000_000;
const SLEEP: Duration = Duration::from_millis(1);

fn main(args: Args) -> u8 {
    let number = |index, default| args.get(index).map_or(Ok(default), |_| args.number(index));
    let now = TIMER.now().map_or(1, |now| now.as_nanos() as u64);
    let (rounds, seed) = match (number(1, 20), number(2, now)) {
        (Ok(rounds), Ok(seed)) => (rounds, seed),
        (Err(error), _) | (_, Err(error)) => {
            println!("float: {error}");
            return 2;
        }
    };
    let mut random = Random(seed ^ 0x9e37_79b9_7f4a_7c15);
    for round in 0..rounds {
        let pattern = Registers::fill(|| random.next());
        let seen = match round % 3 {
            0 => pattern.hold(BUSY_TURNS, None),
            1 => pattern.hold(1, Some([Call::Yield as u64, 0, 0])),
            _ => {
                let deadline = TIMER.now().unwrap_or_default() + SLEEP;
                let timer = initial::TIMER.0.into();
                pattern.hold(1, Some([Call::SleepUntil as u64, timer, deadline.as_nanos() as u64]))
            }
        };
        if seen != pattern {
            println!("float: round {round}: vector registers changed\nwere {pattern:x?}\nare  {seen:x?}");
            return 1;
        }
        if inverse_squares() != SUM {
            println!("float: round {round}: wrong sum");
            return 1;
        }
    }
    println!("float: {rounds} rounds, ok");
    0
}

/// The sum of 1/k² for k from 1 to 100000, in this order of double-precision operations.
const SUM: f64 = f64::from_bits(SUM_BITS);
const SUM_BITS: u64 = 0x3ffa519be5fbb345;

fn inverse_squares() -> f64 {
    (1..=black_box(100_000)).map(|k| 1.0 / (f64::from(k) * f64::from(k))).fold(0.0, |sum, term| sum + term)
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
