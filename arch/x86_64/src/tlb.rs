//! Invalidation on this CPU.
//!
//! Without PCIDs a CPU caches user translations of the loaded address space only, so a flush of
//! any other has nothing to do.

use crate::context::Mm;
use crate::cpu::Cpu;
use crate::{X86_64, paging};
use arch_contract::addr::{PAGE_SIZE, VirtAddr};
use arch_contract::irq::IrqsOff;
use arch_contract::tlb::{Freed, Tlb};

impl Tlb for X86_64 {
    /// About where single invalidations cost more than refilling the TLB.
    const FLUSH_CEILING: u64 = 32;

    fn flush_local(cpu: &Cpu, mm: &Mm, start: VirtAddr, pages: u64, freed: Freed, irq: &IrqsOff) {
        if pages > Self::FLUSH_CEILING {
            return Self::flush_local_mm(cpu, mm, irq);
        }
        if !mm.is_loaded() {
            return;
        }
        // INVLPG also forgets every cached paging structure, for all addresses (SDM vol. 3
        // §4.10.4.1), so freed tables need nothing more, as long as there is one of them.
        let pages = match freed {
            Freed::PagesOnly => pages,
            Freed::Tables => pages.max(1),
        };
        for page in 0..pages {
            // SAFETY: ring 0; forgetting a translation is always sound.
            unsafe { x86::tlb::flush(start.0.wrapping_add(page * PAGE_SIZE) as usize) };
        }
    }

    fn flush_local_mm(_: &Cpu, mm: &Mm, _: &IrqsOff) {
        if mm.is_loaded() {
            // SAFETY: the root that is loaded already.
            unsafe { paging::load(paging::loaded()) };
        }
    }
}
