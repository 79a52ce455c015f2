//! `crowd [N [BYTES]]`: N threads (10,000 if not said) that have used vector registers and wait, all at
//! once; that one costs the kernel no more than that (2048 if not said), beside its handle; and that all of it
//! comes back when they have ended.
#![no_std]
#![no_main]

use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use user_rt::abi::{Call, Handle, PAGE_BYTES, initial};
use user_rt::alloc::vec::Vec;
use user_rt::call::call;
use user_rt::ipc::{Deadline, Notification};
use user_rt::thread::{self, Thread};
use user_rt::{Args, Error, Mapping, SELF, println, yield_now};

user_rt::entry!(main);

const DEFAULT: u64 = 10_000;
/// Bytes of the kernel's that a thread may cost.
const LIMIT: u64 = 2048;

static ARRIVED: AtomicU64 = AtomicU64::new(0);

fn main(args: Args) -> u8 {
    let number = |index, default| args.get(index).map_or(Ok(default), |_| args.number(index));
    let (Ok(threads), Ok(limit)) = (number(1, DEFAULT), number(2, LIMIT)) else {
        println!("usage: crowd [N [BYTES]]");
        return 2;
    };
    match run(threads, limit) {
        Ok(status) => status,
        Err(error) => {
            println!("crowd: {error:?}");
            1
        }
    }
}

fn run(threads: u64, limit: u64) -> Result<u8, Error> {
    // The handle table and this program's heap are as large as they get after the first round.
    let first = round(threads)?;
    let before = SELF.info()?.memory;
    let second = round(threads)?;
    let after = SELF.info()?.memory;
    println!(
        "crowd: {threads} threads at once, {first} bytes of the kernel's each, {second} beside the handle"
    );
    if after != before {
        println!("crowd: {after} bytes are charged, {before} were before");
    }
    Ok(u8::from(after != before || second > limit))
}

/// Starts them, waits until all wait, and ends them. Returns what one costs.
fn round(threads: u64) -> Result<u64, Error> {
    let stacks = Mapping::new((threads * PAGE_BYTES) as usize)?;
    let gate = Notification::new()?;
    let mut started = Vec::with_capacity(threads as usize);
    ARRIVED.store(0, Ordering::Relaxed);
    let before = SELF.info()?.memory;
    let bottom = stacks.start().as_ptr() as u64;
    for number in 1..=threads {
        let top = bottom + number * PAGE_BYTES;
        let entry = wait_at as extern "C" fn(u64) -> ! as usize as u64;
        let process = initial::PROCESS.0.into();
        // SAFETY: the thread runs on a page of its own, which is there until all have ended.
        let handle = unsafe { call(Call::ThreadStart, [process, entry, top, gate.handle().0.into(), 0, 0]) }?;
        started.push(Thread::from_handle(Handle(handle as u32)));
    }
    while ARRIVED.load(Ordering::Relaxed) < threads {
        yield_now();
    }
    let cost = (SELF.info()?.memory - before) / threads;
    // Each wakes the next.
    gate.signal(1)?;
    for thread in &started {
        thread.wait()?;
    }
    drop(started);
    drop(gate);
    stacks.unmap()?;
    Ok(cost)
}

/// A thread of the crowd.
extern "C" fn wait_at(gate: u64) -> ! {
    // Its first vector instruction: from here on it has an area.
    black_box(black_box(gate as f64) * 1.5);
    ARRIVED.fetch_add(1, Ordering::Relaxed);
    let gate = core::mem::ManuallyDrop::new(Notification::from_handle(Handle(gate as u32)));
    while gate.wait(Deadline::Never).is_err() {}
    while gate.signal(1).is_err() {}
    thread::exit()
}
