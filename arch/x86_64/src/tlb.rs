//! Invalidation on this CPU.
//!
//! Without PCIDs a CPU caches user translations of the loaded address space only, so a flush of
//! any other has nothing to do.

use crate::context::Mm;
use crate::cpu::Cpu;
use crate::machine::Machine;
use crate::{X86_64, paging};
use arch_contract::addr::{PAGE_SIZE, VirtAddr};
use arch_contract::context::Cached;
use arch_contract::irq::IrqsOff;
use arch_contract::tlb::{Freed, Tlb};

impl Tlb for X86_64 {
    /// About where single invalidations cost more than refilling the TLB.
    const FLUSH_CEILING: u64 = 32;

    fn flush_local(
        cpu: &Cpu,
        target: Cached<'_, Mm>,
        start: VirtAddr,
        pages: u64,
        freed: Freed,
        irq: &IrqsOff,
    ) {
        if pages > Self::FLUSH_CEILING {
            return Self::flush_local_mm(cpu, target, irq);
        }
        if !target.mm.is_loaded() {
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

    fn flush_local_mm(_: &Cpu, target: Cached<'_, Mm>, _: &IrqsOff) {
        if target.mm.is_loaded() {
            // SAFETY: the root that is loaded already.
            unsafe { paging::load(paging::loaded()) };
        }
    }

    fn flush_local_all(_: &Cpu, _: &IrqsOff) {
        // SAFETY: the root that is loaded already; without tags a load forgets all users'.
        unsafe { paging::load(paging::loaded()) };
    }

    fn broadcast_from(_: &Machine) -> Option<u32> {
        None
    }

    fn broadcast(_: &Cpu, _: &Mm, _: VirtAddr, _: u64, _: Freed, _: &IrqsOff) {
        unreachable!("`broadcast_from` says that there is none")
    }
}
