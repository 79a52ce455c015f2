//! x86_64: a restartable sequence that takes long.

use core::arch::global_asm;
use user_rt::rseq::Area;

unsafe extern "C" {
    /// As `user_rt::rseq::Registration::increment`, with `turns` turns of a loop (at least 1) between
    /// the load and the store.
    ///
    /// # Safety
    /// `area` is registered for the calling thread, and `counters` has room for every CPU, 128 bytes
    /// each.
    pub fn slow_increment(area: *mut Area, counters: *const u64, turns: u64);

    /// A sequence that never ends by itself: adds 1 to `turns` for ever, and returns when it is
    /// started over.
    ///
    /// # Safety
    /// `area` is registered for the calling thread; `turns` is a word that nobody else writes.
    pub fn endless(area: *mut Area, turns: *mut u64);
}

// The area (rdi): cpu at 0, start at 8, length at 16, abort at 24. The arguments stay as they are
// for a restart.
global_asm!(
    ".pushsection .text.slow_increment, \"ax\", @progbits",
    ".global slow_increment",
    "slow_increment:",
    "lea rax, [rip + slow_increment]",
    "mov [rdi + 24], rax",
    "lea rax, [rip + 2f]",
    "lea rcx, [rip + 4f]",
    "sub rcx, rax",
    "mov [rdi + 16], rcx",
    "mov [rdi + 8], rax",
    "2:",
    "mov eax, [rdi]",
    "shl rax, 7",
    "mov r8, [rsi + rax]",
    "mov rcx, rdx",
    "3:",
    "dec rcx",
    "jnz 3b",
    "inc r8",
    // The commit.
    "mov [rsi + rax], r8",
    "4:",
    "mov qword ptr [rdi + 8], 0",
    "ret",
    ".popsection",
);

global_asm!(
    ".pushsection .text.endless, \"ax\", @progbits",
    ".global endless",
    "endless:",
    "lea rax, [rip + 4f]",
    "mov [rdi + 24], rax",
    "lea rax, [rip + 2f]",
    "lea rcx, [rip + 3f]",
    "sub rcx, rax",
    "mov [rdi + 16], rcx",
    "mov [rdi + 8], rax",
    "2:",
    "inc qword ptr [rsi]",
    "jmp 2b",
    "3:",
    "4:",
    "ret",
    ".popsection",
);
