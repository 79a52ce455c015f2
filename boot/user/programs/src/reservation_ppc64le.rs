//! ppc64le: a reservation that is held across a system call.

use core::arch::asm;

/// Loads the word at `at` and reserves it, makes the system call `call` without arguments, if there is
/// one, and stores what was loaded under the reservation. Whether it was stored.
///
/// # Safety
/// `at` is an aligned word; the call writes no memory that Rust believes unchanged.
pub unsafe fn held_across(call: Option<u64>, at: *mut u64) -> Option<bool> {
    let stored: u64;
    // `scv 0` as a number: not every assembler setting knows it. What a call overwrites is that of
    // the ABI; r14 and up it keeps.
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "ldarx 14, 0, 15",
            "cmpldi 16, 0",
            "beq 2f",
            "mr 0, 16",
            ".long 0x44000001",
            "2:",
            "stdcx. 14, 0, 15",
            "li 3, 0",
            "bne 3f",
            "li 3, 1",
            "3:",
            in("r15") at,
            in("r16") call.unwrap_or(0),
            out("r14") _,
            out("r0") _,
            out("r3") stored,
            out("r4") _,
            out("r5") _,
            out("r6") _,
            out("r7") _,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
            out("r12") _,
            out("lr") _,
            out("ctr") _,
            out("xer") _,
            out("cr0") _,
            out("cr1") _,
            out("cr5") _,
            out("cr6") _,
            out("cr7") _,
            options(nostack),
        );
    }
    Some(stored == 1)
}
