//! `sync` is the full barrier; `isync` forgets prefetched instructions and is no barrier.

use crate::covers::each_block;
use crate::cpu::Cpu;
use crate::{Ppc64le, spr};
use arch_contract::barrier::{Barriers, Site};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

impl Barriers for Ppc64le {
    #[inline(always)]
    fn full_barrier(_cpu: &Cpu, _site: Site) {
        if mutant::is(Mutant::M44) {
            // `compiler_fence` is a `sync` on this target.
            // SAFETY: no instruction.
            return unsafe { asm!("", options(nostack, preserves_flags)) };
        }
        if mutant::is(Mutant::M3) {
            return fence(Ordering::AcqRel);
        }
        // Heavyweight: `lwsync` lets loads pass stores.
        spr::sync();
    }

    #[inline(always)]
    fn complete_user_accesses(_cpu: &Cpu) {
        // The queue's lock and its release are `lwsync`: no order for caching-inhibited storage, and
        // none for `icbi`.
        spr::sync();
    }

    #[inline(always)]
    fn core_sync(_cpu: &Cpu, _irq: &IrqsOff) {
        if !mutant::is(Mutant::CoreSyncEmpty) {
            spr::isync();
        }
    }

    // Never inlined: the image has the sequence once and whole, as `instructions.toml` does.
    #[inline(never)]
    unsafe fn publish_code(_cpu: &Cpu, start: NonNull<u8>, len: usize) {
        if len == 0 {
            return;
        }
        let start = start.as_ptr() as usize;
        // Book II §4.4.1. `dcbst` needs no effect where the instruction cache is coherent, and then
        // costs little.
        each_block(start, len, |block| {
            // SAFETY: 1. the block holds bytes of the caller's range, mapped and readable.
            unsafe { asm!("dcbst 0, {}", in(reg) block, options(nostack, preserves_flags)) };
        });
        spr::sync();
        if mutant::is(Mutant::M41) {
            return;
        }
        let start = if mutant::is(Mutant::WrongBlockPublished) { start + 128 } else { start };
        each_block(start, len, |block| {
            // SAFETY: as above.
            unsafe { asm!("icbi 0, {}", in(reg) block, options(nostack, preserves_flags)) };
        });
        // The invalidations are complete on all CPUs before anything later here.
        spr::sync();
        spr::isync();
    }
}
