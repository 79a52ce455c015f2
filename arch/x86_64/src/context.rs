//! Memory contexts without process-context identifiers: loading a root forgets the last one.
//!
//! PCIDs are off, so there is no hardware id to run out of, none to reuse, and after a switch
//! nothing of the address space that was left can be cached. [`Mm`] is only its root.

use crate::cpu::Cpu;
use crate::machine::Machine;
use crate::{X86_64, paging};
use arch_contract::addr::PhysAddr;
use arch_contract::barrier::CoreSync;
use arch_contract::context::{
    ContextId, Contexts, Did, HardwareId, LeftLazy, Loadable, NowUser, Previously, Switched, Tags,
};
use arch_contract::irq::IrqsOff;

/// The port's part of an address space.
pub struct Mm {
    root: PhysAddr,
}

impl Mm {
    /// Whether this CPU's MMU holds it.
    pub(crate) fn is_loaded(&self) -> bool {
        paging::loaded() == self.root
    }
}

impl Contexts for X86_64 {
    type Mm = Mm;

    fn tags(_: &Machine) -> Tags {
        Tags::PerCpu { slots: 1 }
    }

    fn new_mm(_: &Machine, root: PhysAddr, _: ContextId, _: HardwareId) -> Mm {
        Mm { root }
    }

    unsafe fn retire_mm(_: &Machine, mm: &Mm) {
        // Every CPU that held it has loaded another root since (CTX-9), and that flushed it.
        debug_assert!(!mm.is_loaded());
    }

    unsafe fn switch_mm(_: &Cpu, _: Previously, to: &Loadable<'_, Mm>, _: &IrqsOff) -> Switched {
        // Always a write, even of the same root: a root page may have been freed and be another
        // mm's now, and equal addresses prove nothing about what is cached (CTX-2).
        // SAFETY: `to` is loadable: its root is complete and stays so while it is loaded.
        unsafe { paging::load(to.mm().root) };
        // MOV to CR3 serializes (SDM vol. 3 §9.3), which drains the store buffer and so is a full
        // barrier, and flushes everything that is not global (§4.10.4.1).
        Switched { core_serialized: Did::Yes, reloaded: Did::Yes, flushed: Did::Yes }
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
        unsafe { paging::load(paging::kernel_root()) };
    }
}
