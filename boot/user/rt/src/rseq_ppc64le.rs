//! ppc64le: restartable sequences.

use super::Area;
use core::arch::global_asm;

unsafe extern "C" {
    /// Adds 1 to the counter of this CPU, 128 bytes per CPU from `counters` on; returns the CPU.
    ///
    /// # Safety
    /// `area` is registered for the calling thread, and `counters` has room for every CPU.
    pub fn user_rt_rseq_increment(area: *mut Area, counters: *const u64) -> u32;
}

// The area (r3): cpu at 0, start at 8, length at 16, abort at 24. A restart goes on at the
// function's entry, so the sequence changes neither argument (r3, r4). A leaf that needs no table of
// addresses: one entry point (ELF V2 ABI, §2.3.2.1).
global_asm!(
    ".pushsection .text.user_rt_rseq_increment, \"ax\", @progbits",
    ".global user_rt_rseq_increment",
    "user_rt_rseq_increment:",
    "lis 5, user_rt_rseq_increment@ha",
    "addi 5, 5, user_rt_rseq_increment@l",
    "std 5, 24(3)",
    "li 6, 3f - 2f",
    "std 6, 16(3)",
    "addi 5, 5, 2f - user_rt_rseq_increment",
    "std 5, 8(3)",
    "2:",
    "lwz 5, 0(3)",
    "sldi 6, 5, 7",
    "ldx 7, 4, 6",
    "addi 7, 7, 1",
    // The commit.
    "stdx 7, 4, 6",
    "3:",
    "li 7, 0",
    "std 7, 8(3)",
    "mr 3, 5",
    "blr",
    ".popsection",
);
