//! Kernel stacks: slots of one size, each with its lowest page left unmapped.
//!
//! One size for all makes the two questions that matter arithmetic: is this address on a stack (the
//! backtrace must not touch anything else), and is this page a guard (the kernel's tables leave it
//! out). The slots are laid down by the linker script.

use arch_contract::addr::PAGE_SIZE;

/// Bytes of a slot, its guard page included.
pub const SLOT_BYTES: u64 = 64 * 1024;
/// Zeroed bytes kept at the top of every stack: the caller's frame that the ABI lets a function
/// write its link register into, with a back chain of zero.
pub const TOP_FRAME: u64 = 64;

/// What a stack of the boot CPU is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Use {
    /// Everything ordinary.
    Main = 0,
    /// Faults of the kernel itself: the ordinary stack may be what is broken.
    Fault = 1,
    /// Machine check and system reset, which may come at any instruction.
    NonMaskable = 2,
}

unsafe extern "C" {
    static __stacks_start: u8;
    static __stacks_end: u8;
}

/// First and last address of all slots.
fn bounds() -> (u64, u64) {
    (&raw const __stacks_start as u64, &raw const __stacks_end as u64)
}

/// The stack pointer that an empty stack starts with.
pub fn top(which: Use) -> u64 {
    bounds().0 + (which as u64 + 1) * SLOT_BYTES - TOP_FRAME
}

/// Whether `address` lies in a guard page.
pub fn is_guard(address: u64) -> bool {
    let (start, end) = bounds();
    (start..end).contains(&address) && (address - start) % SLOT_BYTES < PAGE_SIZE
}

/// Whether the first three doublewords at `address` are readable as a stack frame.
pub fn holds_frame(address: u64) -> bool {
    let (start, end) = bounds();
    address.is_multiple_of(16) && (start..end - 24).contains(&address) && !is_guard(address)
}
