//! Run-time abstraction services: firmware calls by token (PAPR §7).
//!
//! QEMU and KVM take the argument block by a hypervisor call, so no firmware blob has to be
//! instantiated and kept in memory.

use crate::hcall::{self, Call};
use core::sync::atomic::{AtomicBool, Ordering};

/// Arguments and results of one call: token, counts, then the values. All big-endian.
const WORDS: usize = 3 + 8;

/// A call that did not work: RTAS's own status, or `None` if the hypervisor takes no such call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RtasError(pub Option<i32>);

#[repr(C, align(64))]
struct Block(core::cell::UnsafeCell<[u32; WORDS]>);

// SAFETY: `BUSY` admits one caller at a time.
unsafe impl Sync for Block {}

static BLOCK: Block = Block(core::cell::UnsafeCell::new([0; WORDS]));
static BUSY: AtomicBool = AtomicBool::new(false);

/// Calls `token` with up to 6 `arguments`; `results` says how many words come back, the status
/// first (at most 2). The block lies in the kernel image, below 4 GiB, as PAPR wants.
pub fn call(token: u32, arguments: &[u32], results: usize) -> Result<(), RtasError> {
    while BUSY.swap(true, Ordering::Acquire) {
        core::hint::spin_loop();
    }
    let block = BLOCK.0.get();
    // SAFETY: `BUSY` is ours: nobody else touches the block.
    let words = unsafe { &mut *block };
    words[0] = token.to_be();
    words[1] = (arguments.len() as u32).to_be();
    words[2] = (results as u32).to_be();
    for (slot, argument) in words[3..].iter_mut().zip(arguments) {
        *slot = argument.to_be();
    }
    let physical = block as u64 & !crate::cpu::PHYSICAL_MAP;
    // SAFETY: the block is valid and laid out as the call wants; what the service does is the
    // caller's intent.
    let (status, _) = unsafe { hcall::call(Call::Rtas, [physical, 0, 0, 0]) };
    // SAFETY: still ours; volatile, since firmware wrote it.
    let answer = unsafe { (&raw const (*block)[3 + arguments.len()]).read_volatile() };
    BUSY.store(false, Ordering::Release);
    match (status, i32::from_be_bytes(answer.to_ne_bytes())) {
        (hcall::Status::SUCCESS, 0) => Ok(()),
        (hcall::Status::SUCCESS, error) => Err(RtasError(Some(error))),
        _ => Err(RtasError(None)),
    }
}
