//! `switches WHAT [N]`: one process with a thread on every CPU, and each CPU switches N times, in
//! window 0, for whoever watches which memory the kernel touches meanwhile. The threads wait for each
//! other before and after, in user mode, so that nothing but the switches lies in the window.
//!
//! | WHAT | on each CPU |
//! | --- | --- |
//! | `idle` | the thread sleeps, the CPU idles, its own timer wakes the thread |
//! | `budget` | the same without a call: the thread's budget runs out, and comes back |
//! | `task` | the thread yields to a kernel task of its priority, which lets it go on; test kernels only |
//! | `move` | the thread moves to the next CPU: what the kernel cannot do without sharing memory |
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use user_programs::watch::Window;
use user_rt::alloc::vec::Vec;
use user_rt::testing::{Operation, test};
use user_rt::thread::{Builder, CURRENT};
use user_rt::{Args, CpuSet, Error, MACHINE, TIMER, println, yield_now};

user_rt::entry!(main);

/// Long enough for a CPU to be idle before it is over.
const NAP: Duration = Duration::from_micros(200);
/// A tenth of the time: the thread is stopped often, by its own CPU's timer.
const BUDGET: Duration = Duration::from_micros(100);
const PERIOD: Duration = Duration::from_millis(1);
/// More slices of a kernel task than N switches take.
const SLICES: u64 = 100_000;

#[derive(Clone, Copy)]
enum What {
    Idle,
    Budget,
    Task,
    Move,
}

fn main(args: Args) -> u8 {
    let what = match args.get(1) {
        Some("idle") => What::Idle,
        Some("budget") => What::Budget,
        Some("task") => What::Task,
        Some("move") => What::Move,
        _ => return usage(),
    };
    let count = if args.get(2).is_none() { Ok(50) } else { args.number(2) };
    let Ok(count) = count else { return usage() };
    match on_every_cpu(what, count) {
        Ok(cpus) => {
            println!("switches: {count} on each of {cpus} CPUs");
            0
        }
        Err(error) => {
            println!("switches: {error:?}");
            1
        }
    }
}

fn usage() -> u8 {
    println!("usage: switches idle|budget|task|move [N]");
    2
}

fn on_every_cpu(what: What, count: u64) -> Result<u32, Error> {
    let all = MACHINE.turn_all_on()?;
    let mut others = Vec::new();
    for cpu in all.iter().skip(1) {
        let body = move || switches(what, count, cpu, all);
        others.push(Builder::new().cpus(CpuSet::only(cpu)).spawn(body)?);
    }
    if let Some(first) = all.iter().next() {
        CURRENT.set_affinity(CpuSet::only(first))?;
        switches(what, count, first, all)?;
    }
    for other in others {
        other.join()??;
    }
    Ok(all.count())
}

/// What the thread on `cpu` does.
fn switches(what: What, count: u64, cpu: u32, all: CpuSet) -> Result<(), Error> {
    // Once outside the window: what is touched the first time, and what the start left behind.
    match what {
        What::Idle | What::Move => naps(2)?,
        What::Budget => {
            CURRENT.set_budget(BUDGET, PERIOD)?;
            burn(2);
        }
        What::Task => {
            test(Operation::Task, [cpu.into(), 0, SLICES])?;
            yields(2);
        }
    }
    meet(&BEFORE, all);
    Window::<0>::begin();
    match what {
        What::Idle => naps(count)?,
        What::Budget => burn(count),
        What::Task => yields(count),
        What::Move => moves(count, cpu, all)?,
    }
    Window::<0>::end();
    meet(&AFTER, all);
    Ok(())
}

fn naps(count: u64) -> Result<(), Error> {
    for _ in 0..count {
        TIMER.sleep(NAP)?;
    }
    Ok(())
}

/// Uses up `count` budgets: each is over long before this many turns are.
fn burn(count: u64) {
    const TURNS: u64 = 100_000;
    for turn in 0..count * TURNS {
        core::hint::black_box(turn);
    }
}

fn yields(count: u64) {
    for _ in 0..count {
        yield_now();
    }
}

/// Round all CPUs and back to the first, so that the window ends where it began.
fn moves(count: u64, cpu: u32, all: CpuSet) -> Result<(), Error> {
    for _ in 0..count {
        let round = all.iter().cycle().skip_while(|&at| at != cpu).skip(1).take(all.count() as usize);
        for to in round {
            CURRENT.set_affinity(CpuSet::only(to))?;
        }
    }
    Ok(())
}

static BEFORE: AtomicU32 = AtomicU32::new(0);
static AFTER: AtomicU32 = AtomicU32::new(0);

/// Waits, in user mode, until the threads of all CPUs have come.
fn meet(arrived: &AtomicU32, all: CpuSet) {
    arrived.fetch_add(1, Ordering::AcqRel);
    while arrived.load(Ordering::Acquire) < all.count() {
        core::hint::spin_loop();
    }
}
