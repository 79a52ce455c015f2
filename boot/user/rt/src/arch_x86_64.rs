//! x86_64: the first instruction, and the door into the kernel.

use abi::ipc::WORDS;
use core::arch::{asm, global_asm};

/// The general registers.
pub type Registers = abi::registers::X86_64;
/// Those of its vector units.
pub type Vectors = abi::registers::X86_64Vectors;

/// As the user knows the machine.
pub const MACHINE_NAME: &str = "x86_64";

// The kernel enters as a C function is entered (System V ABI AMD64, §3.2): rdi and rsi are the
// argument block, rsp is 8 below a multiple of 16. The zero pushed there ends a backtrace, as a
// return address and as a frame pointer.
global_asm!(
    ".pushsection .text.start, \"ax\", @progbits",
    ".global _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call user_main",
    "ud2",
    ".popsection",
);

/// Makes a system call.
///
/// # Safety
/// The call with these arguments writes no memory that Rust believes unchanged or owned by
/// someone else, and unmaps none that is in use.
#[inline]
pub unsafe fn call(number: u64, a: [u64; 6]) -> (u64, u64) {
    let (status, value);
    // SAFETY: the registers are those of the ABI; the caller answers for the effect on memory.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => status,
            inlateout("rdx") a[2] => value,
            in("rdi") a[0],
            in("rsi") a[1],
            in("r10") a[3],
            in("r8") a[4],
            in("r9") a[5],
            lateout("rcx") _,
            lateout("r11") _,
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
    // The compiler keeps rbx for itself, and all others are taken: the last word goes through memory,
    // whose address waits on the stack.
    // SAFETY: the registers are those of the ABI; the caller answers for the effect on memory.
    unsafe {
        asm!(
            "push rbx",
            "push rcx",
            "mov rbx, [rcx + 56]",
            "syscall",
            "pop rcx",
            "mov [rcx + 56], rbx",
            "pop rbx",
            inlateout("rax") number => status,
            inlateout("rdx") tag => value,
            in("rdi") handle,
            inlateout("rsi") deadline => badge,
            inout("r10") words[0],
            inout("r8") words[1],
            inout("r9") words[2],
            inout("r12") words[3],
            inout("r13") words[4],
            inout("r14") words[5],
            inout("r15") words[6],
            inout("rcx") words.as_mut_ptr() => _,
            lateout("r11") _,
        );
    }
    (status, value, badge)
}
