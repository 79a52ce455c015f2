//! `trespass read|write|execute`: has the kernel touch this program's memory outside any window, on CPU 1
//! (`USR-1`). Needs a kernel built for testing, which does not survive it where the machine can forbid it.
#![no_std]
#![no_main]

use core::hint::black_box;
use user_programs::hostile;
use user_rt::abi::testing::Operation;
use user_rt::testing::test;
use user_rt::thread::CURRENT;
use user_rt::{Args, CpuSet, MACHINE, TIMER, println};

user_rt::entry!(main);

extern "C" fn nothing() {}

fn main(args: Args) -> u8 {
    let mut variable = 0u8;
    let (how, at) = match args.get(1) {
        Some("read") => (0, &raw mut variable as u64),
        Some("write") => (1, &raw mut variable as u64),
        Some("execute") => (2, black_box(nothing as extern "C" fn()) as usize as u64),
        _ => {
            println!("trespass: usage: trespass read|write|execute");
            return 1;
        }
    };
    // The other CPU comes when it comes.
    while CURRENT.set_affinity(CpuSet::only(1)).is_err() || MACHINE.cpus().is_err() {
        if TIMER.sleep(core::time::Duration::from_millis(5)).is_err() {
            return 1;
        }
    }
    // What a program may do of itself to its own pages must not matter.
    hostile::open_pages();
    println!("trespass: {:?}", test(Operation::Trespass, [how, at]));
    0
}
