//! Memory contexts: a load of CR3, under a PCID per slot where the processor has them.
//!
//! Numbers are per CPU and given out by generic code, so there is no hardware id to run out of and
//! [`Mm`] is only its root. Without PCIDs there is one slot, and a load forgets what was there.

use crate::cpu::Cpu;
use crate::machine::Machine;
use crate::pcid::{Cr3, Slots};
use crate::{X86_64, paging};
use arch_contract::Base;
use arch_contract::addr::PhysAddr;
use arch_contract::barrier::CoreSync;
use arch_contract::context::{
    Cached, ContextId, Contexts, Did, HardwareId, LeftLazy, Loadable, NowUser, Previously, Stale, Switched,
    Tags,
};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};

/// The port's part of an address space.
pub struct Mm {
    root: PhysAddr,
}

impl Mm {
    /// What loads it under its slot, with everything there forgotten.
    pub(crate) fn flushing(cpu: &Cpu, cached: &Cached<'_, Self>) -> Cr3 {
        Cr3::user(X86_64::machine(cpu).pcids, cached.mm.root, cached.slot, Stale::Everything)
    }
}

impl Contexts for X86_64 {
    type Mm = Mm;

    #[inline]
    fn tags(machine: &Machine) -> Tags {
        machine.pcids.tags()
    }

    fn new_mm(_: &Machine, root: PhysAddr, _: ContextId, _: HardwareId) -> Mm {
        Mm { root }
    }

    unsafe fn retire_mm(_: &Machine, mm: &Mm) {
        // Nothing leads to the root but CR3, and no CPU has it there (CTX-9). What stays cached
        // under a slot is forgotten when the slot is given to another.
        debug_assert!(paging::loaded().root() != mm.root);
    }

    #[inline(always)]
    unsafe fn switch_mm(cpu: &Cpu, from: Previously, to: &Loadable<'_, Mm>, _: &IrqsOff) -> Switched {
        let slots = cpu.stale_slots.get();
        let mut stale = to.stale();
        if slots != Slots::NONE && slots.has(to.slot()) {
            stale = Stale::Everything;
            cpu.stale_slots.set(slots.without(to.slot()));
        }
        let value = Cr3::user(cpu.pcids.get(), to.mm().root, to.slot(), stale);
        if mutant::is(Mutant::SameNumberSameMm)
            && from != Previously::Kernel
            && paging::loaded().bits() & !paging::loaded().root().0 == value.bits() & !value.root().0
        {
            return Switched::NOTHING;
        }
        if mutant::is(Mutant::SameTablesSameMm) && paging::loaded().root() == value.root() {
            return Switched::NOTHING;
        }
        // Always a write, even of the same root: a root page may have been freed and be another
        // mm's now, and equal addresses prove nothing about what is cached (CTX-2).
        // SAFETY: `to` is loadable: its root is complete and stays so while it is loaded, and what
        // is kept is its own.
        unsafe { paging::load(value) };
        // MOV to CR3 serializes, whatever it keeps (SDM vol. 3 §9.3).
        let flushed = if value.flushes() { Did::Yes } else { Did::No };
        Switched { core_serialized: Did::Yes, reloaded: Did::Yes, flushed }
    }

    fn enter_lazy_tlb(_: &Cpu, _: ContextId, _: &IrqsOff) {}

    fn exit_lazy_tlb(_: &Cpu, _: LeftLazy, _: NowUser<'_, Mm>, switched: Switched, _: &IrqsOff) -> CoreSync {
        match switched.core_serialized {
            Did::Yes => CoreSync::Done,
            Did::No => CoreSync::NotDone,
        }
    }

    fn drop_lazy(_: &Cpu, _: LeftLazy, _: &IrqsOff) {
        // SAFETY: the kernel's root is complete since boot, for good.
        unsafe { paging::load(paging::kernel()) };
    }
}
