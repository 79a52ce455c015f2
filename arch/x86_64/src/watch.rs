//! Marks: long no-ops whose offset says which (`tools/stream`).

use crate::X86_64;
use crate::cpu::Cpu;
use arch_contract::watch::Watch;
use core::arch::asm;

impl Watch for X86_64 {
    #[inline(always)]
    fn enters_mm(_: &Cpu) {
        // SAFETY: `nop dword ptr [rax + offset]` does nothing (SDM vol. 2, NOP).
        unsafe { asm!(".byte 0x0f, 0x1f, 0x80", ".long 0x53500038", options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn leaves_mm(_: &Cpu) {
        // SAFETY: as above.
        unsafe { asm!(".byte 0x0f, 0x1f, 0x80", ".long 0x53500039", options(nostack, preserves_flags)) };
    }
}
