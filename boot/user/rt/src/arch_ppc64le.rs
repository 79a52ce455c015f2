//! ppc64le: the first instruction, and the door into the kernel.

use abi::ipc::WORDS;
use core::arch::{asm, global_asm};

/// The general registers.
pub type Registers = abi::registers::Ppc64le;
/// Those of its vector units.
pub type Vectors = abi::registers::Ppc64leVectors;

/// As the user knows the machine.
pub const MACHINE_NAME: &str = "ppc64le";

// The kernel enters with the argument block in r3 and r4 and every other register but r1 zero,
// so r2 is set here from the link-time address of the table (ELF V2 ABI, §2.3.2.1: r2 points
// 0x8000 past its start). The frame made here ends a backtrace: its back chain is zero.
global_asm!(
    ".pushsection .text.start, \"ax\", @progbits",
    ".global _start",
    "_start:",
    "lis 2, .TOC.@ha",
    "addi 2, 2, .TOC.@l",
    "clrrdi 1, 1, 4",
    "li 0, 0",
    "stdu 0, -32(1)",
    "bl user_main",
    "nop",
    "trap",
    ".popsection",
);

/// Makes a system call by `scv 0`, which every CPU this system runs on has (ISA 3.0B).
///
/// # Safety
/// The call with these arguments writes no memory that Rust believes unchanged or owned by
/// someone else, and unmaps none that is in use.
#[inline]
pub unsafe fn call(number: u64, a: [u64; 6]) -> (u64, u64) {
    let (status, value);
    // `scv 0` as a number: not every assembler setting knows it.
    // SAFETY: the registers are those of the ABI; the caller answers for the effect on memory.
    unsafe {
        asm!(
            ".long 0x44000001",
            inlateout("r0") number => _,
            inlateout("r3") a[0] => status,
            inlateout("r4") a[1] => value,
            inlateout("r5") a[2] => _,
            inlateout("r6") a[3] => _,
            inlateout("r7") a[4] => _,
            inlateout("r8") a[5] => _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r11") _,
            lateout("r12") _,
            lateout("lr") _,
            lateout("ctr") _,
            lateout("xer") _,
            lateout("cr0") _,
            lateout("cr1") _,
            lateout("cr5") _,
            lateout("cr6") _,
            lateout("cr7") _,
            options(nostack),
        );
    }
    (status, value)
}

/// Makes a call with a message: its words go and come in `words`. Gives status, value and badge.
///
/// # Safety
/// As [`call`].
#[inline]
pub unsafe fn exchange(
    number: u64,
    handle: u64,
    deadline: u64,
    tag: u64,
    words: &mut [u64; WORDS],
) -> (u64, u64, u64) {
    let (status, value, badge);
    // SAFETY: the registers are those of the ABI; the caller answers for the effect on memory.
    unsafe {
        asm!(
            ".long 0x44000001",
            inlateout("r0") number => _,
            inlateout("r3") handle => status,
            inlateout("r4") deadline => value,
            inlateout("r5") tag => _,
            lateout("r14") badge,
            inlateout("r15") words[0],
            inlateout("r16") words[1],
            inlateout("r17") words[2],
            inlateout("r18") words[3],
            inlateout("r19") words[4],
            inlateout("r20") words[5],
            inlateout("r21") words[6],
            inlateout("r22") words[7],
            lateout("r6") _,
            lateout("r7") _,
            lateout("r8") _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r11") _,
            lateout("r12") _,
            lateout("lr") _,
            lateout("ctr") _,
            lateout("xer") _,
            lateout("cr0") _,
            lateout("cr1") _,
            lateout("cr5") _,
            lateout("cr6") _,
            lateout("cr7") _,
            options(nostack),
        );
    }
    (status, value, badge)
}
