//! Invalidation on this CPU.
//!
//! What is cached of an address space that is not loaded is used by nothing until it is loaded
//! again. So a flush of it is a note to forget the slot then, and INVPCID is not needed.

use crate::context::Mm;
use crate::cpu::Cpu;
use crate::machine::Machine;
use crate::pcid::Slots;
use crate::{X86_64, paging};
use arch_contract::addr::{PAGE_SIZE, VirtAddr};
use arch_contract::context::Cached;
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::tlb::{Freed, Tlb};
use x86::controlregs::{Cr4, cr4, cr4_write};

/// CR4.PGE: whether there are global translations.
const GLOBAL: Cr4 = Cr4::CR4_ENABLE_GLOBAL_PAGES;

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
        if pages > Self::FLUSH_CEILING || paging::loaded() != Mm::flushing(cpu, &target) {
            return Self::flush_local_mm(cpu, target, irq);
        }
        if mutant::is(Mutant::LocalFlushDoesNothing) {
            return;
        }
        // INVLPG also forgets every cached paging structure of the loaded PCID, for all addresses
        // (SDM vol. 3 §4.10.4.1), so freed tables need nothing more, as long as there is one of them.
        let pages = match freed {
            Freed::PagesOnly => pages,
            Freed::Tables => pages.max(1),
        };
        for page in u64::from(mutant::is(Mutant::LocalFlushOnePageFewer))..pages {
            // SAFETY: ring 0; forgetting a translation is always sound.
            unsafe { x86::tlb::flush(start.0.wrapping_add(page * PAGE_SIZE) as usize) };
        }
    }

    fn flush_local_mm(cpu: &Cpu, target: Cached<'_, Mm>, _: &IrqsOff) {
        let value = Mm::flushing(cpu, &target);
        if paging::loaded() == value {
            // SAFETY: the root that is loaded already.
            unsafe { paging::load(value) };
        } else {
            cpu.stale_slots.set(cpu.stale_slots.get().with(target.slot));
        }
    }

    fn flush_local_all(cpu: &Cpu, _: &IrqsOff) {
        // A change of CR4.PGE forgets all translations, global ones too, and all cached paging
        // structures, of every PCID (SDM vol. 3 §4.10.4.1).
        // SAFETY: ring 0; each mapping is as right without the global bit.
        unsafe {
            let control = cr4();
            cr4_write(control - GLOBAL);
            cr4_write(control);
        }
        cpu.stale_slots.set(Slots::NONE);
    }

    fn broadcast_from(_: &Machine) -> Option<u32> {
        None
    }

    fn broadcast(_: &Cpu, _: &Mm, _: VirtAddr, _: u64, _: Freed, _: &IrqsOff) {
        unreachable!("`broadcast_from` says that there is none")
    }
}
