//! `trespass read|write|execute|trap`: has the kernel touch this program's memory outside any window, on CPU 1
//! (`USR-1`): in a call, or after a trap. Needs a kernel built for testing, which does not survive it where the machine can forbid it.
#![no_std]
#![no_main]

use core::hint::{black_box, spin_loop};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use user_programs::hostile;
use user_rt::abi::testing::Operation;
use user_rt::testing::test;
use user_rt::thread::{Builder, CURRENT};
use user_rt::{Args, CpuSet, Error, MACHINE, TIMER, println};

user_rt::entry!(main);

extern "C" fn nothing() {}

fn main(args: Args) -> u8 {
    let mut variable = 0u8;
    let (how, at) = match args.get(1) {
        Some("read") => (0, &raw mut variable as u64),
        Some("write") => (1, &raw mut variable as u64),
        Some("execute") => (2, black_box(nothing as extern "C" fn()) as usize as u64),
        Some("trap") => (3, &raw mut variable as u64),
        _ => {
            println!("trespass: usage: trespass read|write|execute|trap");
            return 1;
        }
    };
    // The other CPU comes when it comes.
    while CURRENT.set_affinity(CpuSet::only(1)).is_err() || MACHINE.cpus().is_err() {
        if TIMER.sleep(Duration::from_millis(5)).is_err() {
            return 1;
        }
    }
    if how == 3 {
        println!("trespass: {:?}", after_a_trap(at));
        return 0;
    }
    // What a program may do of itself to its own pages must not matter.
    hostile::open_pages();
    println!("trespass: {:?}", test(Operation::Trespass, [how, at]));
    0
}

/// While a thread runs on CPU 1 that has done what it may to its pages, and makes no call, a kernel task that
/// uses this process runs there, and reads at `at`: an interrupt of the thread is how it gets to it.
fn after_a_trap(at: u64) -> Result<(), Error> {
    static RUNS: AtomicBool = AtomicBool::new(false);
    let runs = || {
        hostile::open_pages();
        RUNS.store(true, Ordering::Relaxed);
        loop {
            spin_loop();
        }
    };
    CURRENT.set_affinity(CpuSet::only(0))?;
    let spins = Builder::new().cpus(CpuSet::only(1)).spawn(runs)?;
    while !RUNS.load(Ordering::Relaxed) {
        TIMER.sleep(Duration::from_millis(5))?;
    }
    test(Operation::Task, [1, 2, 1, at])?;
    let slept = TIMER.sleep(Duration::from_secs(1));
    // Nobody waits for it: it ends with its process.
    core::mem::forget(spins);
    slept
}
