//! Invalidation on this CPU. Which CPUs must do it is generic; how, is here.

use crate::addr::VirtAddr;
use crate::context::Cached;
use crate::irq::IrqsOff;

/// What changed in the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freed {
    /// Leaves only: cached paging structures stay valid.
    PagesOnly,
    /// Page-table pages are about to be freed too: cached paging structures must go as well.
    Tables,
}

/// What the machine's owner says of [`Tlb::broadcast`], over the port's own judgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broadcasts {
    /// Use it if the machine has it at all.
    Use,
    Avoid,
}

/// The hooks.
pub trait Tlb: crate::context::Contexts {
    /// Forgets translations of `mm` for `pages` pages from `start` on this CPU; a port may forget
    /// more. On return no access or walk by this CPU uses them (`TLB-2`). Entries are already
    /// changed. Valid whether or not `mm` is the one loaded.
    fn flush_local(
        cpu: &Self::Cpu,
        target: Cached<'_, Self::Mm>,
        start: VirtAddr,
        pages: u64,
        freed: Freed,
        irq: &IrqsOff,
    );

    /// Forgets everything this CPU holds for `mm`, paging structures and cached process-table
    /// entries included.
    fn flush_local_mm(cpu: &Self::Cpu, target: Cached<'_, Self::Mm>, irq: &IrqsOff);

    /// Forgets everything this CPU holds for any address space, at all levels. What lies between
    /// the retirement of a hardware id and its next use (`CTX-12`), and what a CPU does first when
    /// it comes up (`SMP-3`).
    fn flush_local_all(cpu: &Self::Cpu, irq: &IrqsOff);

    /// Pages above which [`flush_local_mm`](Self::flush_local_mm) is the cheaper call.
    const FLUSH_CEILING: u64;

    /// Overrides the port's judgement whether [`broadcast`](Self::broadcast) can be relied on. Called
    /// at most once, at boot, before another CPU runs. Nothing to do where there is none.
    fn set_broadcasts(_machine: &Self::Machine, _broadcasts: Broadcasts) {}

    /// How many *other* CPUs must be concerned for [`broadcast`](Self::broadcast) to cost less than
    /// interrupting each. `None`: this machine has no broadcast, or it cannot be relied on.
    fn broadcast_from(machine: &Self::Machine) -> Option<u32>;

    /// As [`flush_local`](Self::flush_local), on every CPU of the machine at once, without their
    /// help: on return none uses the old translations (`TLB-3`). Called only where
    /// [`broadcast_from`](Self::broadcast_from) is not `None`; more pages than the ceiling mean
    /// everything of `mm`.
    fn broadcast(cpu: &Self::Cpu, mm: &Self::Mm, start: VirtAddr, pages: u64, freed: Freed, irq: &IrqsOff);
}
