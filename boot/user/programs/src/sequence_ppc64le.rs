//! ppc64le: a restartable sequence that takes long.

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

// The area (r3): cpu at 0, start at 8, length at 16, abort at 24. The arguments stay as they are for
// a restart.
global_asm!(
    ".pushsection .text.slow_increment, \"ax\", @progbits",
    ".global slow_increment",
    "slow_increment:",
    "lis 6, slow_increment@ha",
    "addi 6, 6, slow_increment@l",
    "std 6, 24(3)",
    "li 7, 4f - 2f",
    "std 7, 16(3)",
    "addi 6, 6, 2f - slow_increment",
    "std 6, 8(3)",
    "2:",
    "lwz 6, 0(3)",
    "sldi 6, 6, 7",
    "ldx 7, 4, 6",
    "mtctr 5",
    "3:",
    "bdnz 3b",
    "addi 7, 7, 1",
    // The commit.
    "stdx 7, 4, 6",
    "4:",
    "li 7, 0",
    "std 7, 8(3)",
    "blr",
    ".popsection",
);

global_asm!(
    ".pushsection .text.endless, \"ax\", @progbits",
    ".global endless",
    "endless:",
    "lis 6, endless@ha",
    "addi 6, 6, endless@l",
    "addi 7, 6, 4f - endless",
    "std 7, 24(3)",
    "li 7, 3f - 2f",
    "std 7, 16(3)",
    "addi 6, 6, 2f - endless",
    "std 6, 8(3)",
    "2:",
    "ld 7, 0(4)",
    "addi 7, 7, 1",
    "std 7, 0(4)",
    "b 2b",
    "3:",
    "4:",
    "blr",
    ".popsection",
);
