//! Invalidation on this CPU. Which CPUs must do it is generic; how, is here.

use crate::addr::VirtAddr;
use crate::irq::IrqsOff;

/// What changed in the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freed {
    /// Leaves only: cached paging structures stay valid.
    PagesOnly,
    /// Page-table pages are about to be freed too: cached paging structures must go as well.
    Tables,
}

/// The hooks.
pub trait Tlb: crate::context::Contexts {
    /// Forgets translations of `mm` for `pages` pages from `start` on this CPU; a port may forget
    /// more. On return no access or walk by this CPU uses them (`TLB-2`). Entries are already
    /// changed. Valid whether or not `mm` is the one loaded.
    fn flush_local(cpu: &Self::Cpu, mm: &Self::Mm, start: VirtAddr, pages: u64, freed: Freed, irq: &IrqsOff);

    /// Forgets everything this CPU holds for `mm`, paging structures and cached process-table
    /// entries included.
    fn flush_local_mm(cpu: &Self::Cpu, mm: &Self::Mm, irq: &IrqsOff);

    /// Pages above which [`flush_local_mm`](Self::flush_local_mm) is the cheaper call.
    const FLUSH_CEILING: u64;
}
