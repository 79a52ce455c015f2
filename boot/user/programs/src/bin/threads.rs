//! `threads [N [TURNS]]`: N threads (100 if not said), spread over all CPUs, count together and each
//! for itself; all of them end, none counts twice, and the memory of their stacks comes back.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering};
use user_rt::alloc::vec::Vec;
use user_rt::thread::{Builder, JoinHandle, wait_until};
use user_rt::{Args, CpuSet, Error, MACHINE, SELF, println, yield_now};

user_rt::entry!(main);

/// Threads that live at once: each has a handle.
const AT_ONCE: u64 = 100;
/// Turns between two that let others run.
const STRIDE: u64 = 64;
/// What may stay charged: the heap grows by this much at a time.
const SLACK: u64 = 256 * 1024;

static STARTED: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);

fn main(args: Args) -> u8 {
    let number = |index: usize, default: u64| match args.get(index) {
        None => Ok(default),
        Some(_) => args.number(index),
    };
    match (number(1, AT_ONCE), number(2, 1000)) {
        (Ok(threads), Ok(turns)) => match run(threads, turns) {
            Ok(status) => status,
            Err(error) => {
                println!("threads: {error:?}");
                1
            }
        },
        _ => {
            println!("usage: threads [N [TURNS]]");
            2
        }
    }
}

fn run(threads: u64, turns: u64) -> Result<u8, Error> {
    let cpus = MACHINE.turn_all_on()?;
    // What the heap and the handle table grow by comes first.
    crowd(cpus, AT_ONCE.min(threads), 1)?;
    COUNT.store(0, Ordering::Relaxed);
    let before = SELF.info()?.memory;
    let (mut left, mut sum) = (threads, 0);
    while left > 0 {
        let some = AT_ONCE.min(left);
        sum += crowd(cpus, some, turns)?;
        left -= some;
    }
    let count = COUNT.load(Ordering::Relaxed);
    let after = SELF.info()?.memory;
    println!("threads: {threads} on {} CPUs counted to {count}", cpus.count());
    if count != threads * turns || sum != count {
        println!("threads: wrong, it is {}; each for itself: {sum}", threads * turns);
        return Ok(1);
    }
    if after > before + SLACK {
        println!("threads: {after} bytes are charged, {before} were before");
        return Ok(1);
    }
    Ok(0)
}

/// Starts `threads`, lets none count before all are there, and sums up what they say.
fn crowd(cpus: CpuSet, threads: u64, turns: u64) -> Result<u64, Error> {
    STARTED.store(0, Ordering::Relaxed);
    let handles: Result<Vec<JoinHandle<u64>>, Error> = cpus
        .iter()
        .cycle()
        .zip(0..threads)
        .map(|(cpu, _)| Builder::new().cpus(CpuSet::only(cpu)).spawn(move || count(threads, turns)))
        .collect();
    handles?.into_iter().map(JoinHandle::join).sum()
}

fn count(threads: u64, turns: u64) -> u64 {
    STARTED.fetch_add(1, Ordering::Relaxed);
    wait_until(|| STARTED.load(Ordering::Relaxed) == threads);
    let mut own = 0;
    for turn in 0..turns {
        COUNT.fetch_add(1, Ordering::Relaxed);
        own += 1;
        if turn % STRIDE == 0 {
            yield_now();
        }
    }
    own
}
