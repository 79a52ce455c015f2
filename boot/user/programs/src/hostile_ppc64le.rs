//! What a program of ppc64le can do to hurt itself.

use core::arch::asm;

/// Where user memory can be, in bytes.
pub const USER: core::ops::Range<u64> = 0x1000..1 << 52;
/// Inside the kernel's quadrant.
pub const KERNEL_ADDRESS: u64 = 0xc000_0000_0040_0000;
/// Not an address at all: in the first quadrant, but outside what radix translation covers.
pub const IMPOSSIBLE_ADDRESS: u64 = 0x0010_0000_0000_0000;
/// In a quadrant that no radix table of this machine covers.
const OTHER_QUADRANT: u64 = 0x4000_0000_0000_0000;

/// Reads a word at `address`, as one instruction that Rust knows nothing about.
pub fn read(address: u64) -> u64 {
    let value;
    // SAFETY: reading changes nothing; it is meant to fault.
    unsafe { asm!("ld {}, 0({})", out(reg) value, in(reg_nonzero) address, options(nostack, readonly)) };
    value
}

/// Writes a word at `address`.
///
/// # Safety
/// The write faults, or goes to memory that Rust knows nothing about.
pub unsafe fn write(address: u64) {
    // SAFETY: the caller's promise: nothing is written.
    unsafe { asm!("std {0}, 0({0})", in(reg_nonzero) address, options(nostack)) };
}

/// Goes on at `address`.
///
/// # Safety
/// The instruction there faults, or the ones that follow do.
pub unsafe fn jump(address: u64) -> ! {
    // SAFETY: the caller's promise: this ends the process.
    unsafe { asm!("mtctr {}", "bctr", in(reg) address, options(noreturn)) }
}

/// Opens the program's pages to a kernel that lets its callers write the authority mask: AMR, by the number
/// that user mode has for it, under UAMOR (Power ISA Book III §5.9.2).
pub fn open_pages() {
    // SAFETY: the kernel's accesses are all that this can change.
    unsafe { asm!("mtspr 13, {}", in(reg) 0u64, options(nomem, nostack)) };
}

/// One of [`CASES`]: instructions of which one must raise an exception.
macro_rules! hostile {
    ($name:literal, $($asm:tt)*) => {
        // SAFETY: whatever the instructions change belongs to this process, which ends here:
        // one of them raises an exception at user privilege.
        ($name, || unsafe { asm!($($asm)*) })
    };
}

/// What only some of these machines forbid: nothing.
pub fn where_forbidden() -> &'static [(&'static str, fn())] {
    &[]
}

/// Things only this machine has: names and code that must fault.
pub const CASES: &[(&str, fn())] = &[
    hostile!("undefined-instruction", ".long 0"),
    hostile!("privileged-mfmsr", "mfmsr 3", out("r3") _),
    hostile!("privileged-mtmsrd", "mtmsrd {}", in(reg) 0u64),
    hostile!("privileged-rfid", "rfid"),
    hostile!("privileged-sprg", "mfspr 3, 272", out("r3") _),
    hostile!("privileged-pid", "mtspr 48, {}", in(reg) 0u64),
    // `tlbiel`, whose operands assemblers do not agree about.
    hostile!("privileged-tlbiel", ".long 0x7c811a24", in("r3") 0u64, in("r4") 0u64),
    hostile!("breakpoint", "trap"),
    hostile!("return-outside-radix", "mtlr {}", "blr", in(reg) IMPOSSIBLE_ADDRESS, out("lr") _),
    hostile!("return-other-quadrant", "mtlr {}", "blr", in(reg) OTHER_QUADRANT, out("lr") _),
    hostile!("read-other-quadrant", "ld {0}, 0({0})", inout(reg_nonzero) OTHER_QUADRANT => _),
    hostile!("stack-null-then-fault", "li 1, 0", ".long 0"),
    // The kernel must not touch the program's stack: the call works, the store faults.
    hostile!(
        "stack-kernel-then-call",
        "mr 1, {}", "li 0, 0", ".long 0x44000001", "std 0, 0(1)",
        in(reg) KERNEL_ADDRESS
    ),
    // Registers of facilities that no thread has: nobody saves them (FSCR: Book III §6.2.11).
    hostile!("facility-tar", "mtspr 815, {}", in(reg) 0u64),
    hostile!("facility-event-branch", "mfspr {}, 806", out(reg) _),
    // Each level of `scv` has a vector of its own; only level 0 is a system call.
    hostile!("scv-level-1", "li 0, 0", ".long 0x44000021"),
    hostile!("scv-level-127", "li 0, 0", ".long 0x44000fe1"),
];
