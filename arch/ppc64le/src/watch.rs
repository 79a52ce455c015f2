//! Marks: registers changed by nothing, in a way that no compiler writes (`tools/stream`).

use crate::Ppc64le;
use crate::cpu::Cpu;
use arch_contract::mutant;
use arch_contract::watch::Watch;
use core::arch::asm;

/// The mark that says: an entry of the process table was stored. In kernels with mutants only.
#[inline(always)]
pub(crate) fn stored_process_entry() {
    if mutant::ENABLED {
        // SAFETY: `oris` of a register to itself with 0 does nothing (Power ISA Book I §3.3.13).
        unsafe { asm!("oris 30, 30, 0", options(nostack, preserves_flags)) };
    }
}

impl Watch for Ppc64le {
    #[inline(always)]
    fn enters_mm(_: &Cpu) {
        // SAFETY: `xori` of a register to itself with 0 does nothing (Power ISA Book I §3.3.13).
        unsafe { asm!("xori 30, 30, 0", options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn leaves_mm(_: &Cpu) {
        // SAFETY: as above, for `xoris`.
        unsafe { asm!("xoris 30, 30, 0", options(nostack, preserves_flags)) };
    }
}
