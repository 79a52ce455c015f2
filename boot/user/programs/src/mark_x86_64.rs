//! A mark is a long no-op whose offset says which.

use core::arch::asm;

/// Executes the mark of this edge of this window: 0 begin, 1 end, plus 2 for all CPUs.
#[inline(always)]
pub fn mark<const WINDOW: u32, const EDGE: u32>() {
    // SAFETY: `nop dword ptr [rax + offset]` does nothing (SDM vol. 2, NOP). Memory accesses stay
    // on their side of it.
    unsafe {
        asm!(".byte 0x0f, 0x1f, 0x80", ".long {}", const 0x5350_0000 + WINDOW * 4 + EDGE, options(nostack))
    };
}
