//! Going wrong on purpose: the kernel option `provoke=`, by which the test suite sees that a panic,
//! a fault and a stack overflow of the kernel each end the run with a report (`TRAP-4`).

use boot_image::command_line::Provoke;
use core::hint::black_box;

/// Goes wrong.
pub fn now(how: Provoke) {
    match how {
        Provoke::Panic => panic!("provoked by the command line"),
        Provoke::Fault => {
            let nowhere = core::ptr::without_provenance::<u64>(0x18);
            // SAFETY: not sound, on purpose: the kernel maps nothing there, so this traps, and the
            // trap ends the run.
            black_box(unsafe { nowhere.read_volatile() });
        }
        Provoke::Overflow => {
            overflow(0);
        }
    }
}

/// Uses a stack of any size up.
#[allow(unconditional_recursion, reason = "that is what it is for")]
#[inline(never)]
fn overflow(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    overflow(depth + 1) + black_box(frame[0])
}
