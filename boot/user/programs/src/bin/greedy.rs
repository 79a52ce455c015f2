//! `greedy`: takes all the CPU time it gets, by three threads and a fourth that looks how much that was: it ends
//! well when that is a fifth of one CPU or less. `supervisor budget` gives it a tenth.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use user_rt::{Args, Error, TIMER, println, thread};

user_rt::entry!(main);

/// How often it looks, and how long it waits before: what it got too much of is made up for by then.
const LOOKS: u32 = 25;
const PAUSE: Duration = Duration::from_millis(200);

fn main(_: Args) -> u8 {
    match look() {
        Ok(true) => 0,
        Ok(false) => {
            println!("greedy: got more than a fifth of a CPU, {LOOKS} times");
            1
        }
        Err(why) => {
            println!("greedy: {why:?}");
            1
        }
    }
}

/// Nanoseconds that the threads had a CPU.
static GOT: AtomicU64 = AtomicU64::new(0);

/// Looks at the clock all the time: if it goes on by more than this in between, somebody else had the CPU.
const GAP: Duration = Duration::from_millis(1);

fn take() {
    let mut last = Duration::MAX;
    while let Ok(now) = TIMER.now() {
        let gap = now.saturating_sub(last);
        if gap < GAP {
            GOT.fetch_add(gap.as_nanos() as u64, Ordering::Relaxed);
        }
        last = now;
    }
}

fn look() -> Result<bool, Error> {
    for _ in 0..3 {
        // It never ends by itself.
        core::mem::forget(thread::spawn(take)?);
    }
    let began = TIMER.now()?;
    for _ in 0..LOOKS {
        TIMER.sleep(PAUSE)?;
        let elapsed = TIMER.now()? - began;
        let got = Duration::from_nanos(GOT.load(Ordering::Relaxed));
        if got * 5 <= elapsed {
            println!("greedy: a fifth of a CPU or less");
            return Ok(true);
        }
    }
    Ok(false)
}
