//! x86_64: restartable sequences.

use super::Area;
use core::arch::global_asm;

unsafe extern "C" {
    /// Adds 1 to the counter of this CPU, 128 bytes per CPU from `counters` on; returns the CPU.
    ///
    /// # Safety
    /// `area` is registered for the calling thread, and `counters` has room for every CPU.
    pub fn user_rt_rseq_increment(area: *mut Area, counters: *const u64) -> u32;
}

// The area (rdi): cpu at 0, start at 8, length at 16, abort at 24. A restart goes on at the
// function's entry, so the sequence changes neither argument (rdi, rsi).
global_asm!(
    ".pushsection .text.user_rt_rseq_increment, \"ax\", @progbits",
    ".global user_rt_rseq_increment",
    "user_rt_rseq_increment:",
    "lea rax, [rip + user_rt_rseq_increment]",
    "mov [rdi + 24], rax",
    "lea rax, [rip + 2f]",
    "lea rcx, [rip + 3f]",
    "sub rcx, rax",
    "mov [rdi + 16], rcx",
    "mov [rdi + 8], rax",
    "2:",
    "mov eax, [rdi]",
    "mov ecx, eax",
    "shl rcx, 7",
    "mov rdx, [rsi + rcx]",
    "inc rdx",
    // The commit.
    "mov [rsi + rcx], rdx",
    "3:",
    "mov qword ptr [rdi + 8], 0",
    "ret",
    ".popsection",
);
