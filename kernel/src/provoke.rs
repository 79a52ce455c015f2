//! Going wrong on purpose: the kernel option `provoke=`, by which the test suite sees that a panic,
//! a fault and a stack overflow of the kernel each end the run with a report (`TRAP-4`). And, as a call of
//! kernels built for testing, touching user memory outside a window, which must do the same (`USR-1`).

use abi::Error;
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

/// Touches what the caller has at `address`, in the way that [`Operation::Trespass`](abi::testing::Operation)
/// numbers, as the kernel never does.
pub fn trespass(how: u64, address: u64) -> Result<(), Error> {
    let at = core::ptr::with_exposed_provenance_mut::<u8>(address as usize);
    // SAFETY: not sound, on purpose: a machine that can forbid it traps, and the trap ends the run. Where
    // none does, what lies there is the caller's own, and a function that does nothing.
    unsafe {
        match how {
            0 => {
                black_box(at.read_volatile());
            }
            1 => at.write_volatile(0),
            2 => core::mem::transmute::<*mut u8, extern "C" fn()>(at)(),
            _ => return Err(Error::BadArgument),
        }
    }
    Ok(())
}

/// Uses a stack of any size up.
#[allow(unconditional_recursion, reason = "that is what it is for")]
#[inline(never)]
fn overflow(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    overflow(depth + 1) + black_box(frame[0])
}
