//! A mark changes a register by nothing, in a way that no compiler writes.

use core::arch::asm;

/// Executes the mark of this edge of this window: 0 begin, 1 end, plus 2 for all CPUs.
#[inline(always)]
pub fn mark<const WINDOW: u32, const EDGE: u32>() {
    // SAFETY: `xori`, `xoris`, `oris` or `addis` of a register to itself with 0 does nothing (Power
    // ISA Book I §3.3.13). Memory accesses stay on their side of it.
    unsafe { asm!(".long {}", const word(WINDOW, EDGE), options(nostack)) };
}

const fn word(window: u32, edge: u32) -> u32 {
    let opcode = [26, 27, 25, 15][edge as usize];
    let register = 16 + window;
    opcode << 26 | register << 21 | register << 16
}
