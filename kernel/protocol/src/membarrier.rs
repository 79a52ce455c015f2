//! The look at other CPUs between two full barriers, and what a core owes that was not looked at.
//!
//! Why this is enough is shown, scenario by scenario, in the kernel's `membarrier.rs`; the tests of
//! this crate run the scenarios.

use crate::ThisCpu;
use crate::cpuset::{CpuId, CpuSet};
use crate::shared::Shared;
use crate::words::{CurrentMm, Loaded, Words};
use abi::membarrier::Command;
use abi::trace::Kind;
use arch_contract::barrier::Site;
use arch_contract::context::ContextId;
use arch_contract::mutant::{self, Mutant};
use arch_contract::ret::CoreSyncOwed;
use core::cell::Cell;

/// Up to (a), for a caller in the address space `id`, which `shared` is of. `owe` makes the
/// caller's own CPU serialize before its next user instruction.
#[inline(always)]
pub fn begin(cpu: &impl ThisCpu, shared: &Shared, id: ContextId, command: Command, owe: impl FnOnce()) {
    cpu.event(Kind::MembarrierEnter, command as u64, id.get());
    if command == Command::PrivateExpeditedSyncCore {
        if !mutant::is(Mutant::M17) {
            // Before (a), so that whoever is not sampled compares with it. Scenario H.
            let generation = shared.raise_sync_generation();
            cpu.event(Kind::SyncGeneration, id.get(), generation);
        }
        // The caller's own CPU. Scenario J.
        owe();
    }
    // (a): what the caller did before, before the set and the words of other CPUs are read. Pairs
    // with (e). `BAR-3`
    cpu.full_barrier(Site::MembarrierEnter);
}

/// Which of `among` run user code of an mm that `concerned` wants. Between two barriers.
#[inline(always)]
pub fn sample<'a>(
    among: impl Iterator<Item = (CpuId, &'a Words)>,
    concerned: impl Fn(CurrentMm) -> bool,
) -> CpuSet {
    let runs = |(_, words): &(CpuId, &Words)| {
        let hidden = mutant::is(Mutant::M18) && matches!(words.loaded(), Loaded::Switching { .. });
        !hidden && words.current_mm().is_some_and(&concerned)
    };
    among.filter(runs).fold(CpuSet::NONE, |set, (number, _)| set.with(number))
}

/// (c), and the end.
#[inline(always)]
pub fn finish(cpu: &impl ThisCpu, command: Command, id: ContextId) {
    // (c): the sample and the acknowledgements, before what the caller does next. Pairs with (d)
    // and with the handler's. `BAR-3`
    cpu.full_barrier(Site::MembarrierExit);
    cpu.event(Kind::MembarrierExit, command as u64, id.get());
}

/// The address space and its sync generation for which a core last serialized, or owes to.
#[derive(Debug)]
pub struct Synced(Cell<(u64, u64)>);

impl Synced {
    pub fn new() -> Self {
        Self(Cell::new((0, 0)))
    }

    /// For a core that begins anew.
    pub fn forget(&self) {
        self.0.set((0, 0));
    }

    /// The core has serialized after `generation` of `id` was read.
    #[inline(always)]
    pub fn settle(&self, id: ContextId, generation: u64) {
        self.0.set((id.get(), generation));
    }

    /// Whether a request was made that this core has not serialized for since; from now on it owes
    /// it. After (e): pairs with (a). `RET-2`
    #[inline(always)]
    pub fn compare(&self, id: ContextId, shared: &Shared) -> CoreSyncOwed {
        let generation = shared.sync_generation();
        let wanted = (id.get(), generation);
        if generation == 0 || self.0.get() == wanted {
            return CoreSyncOwed::No;
        }
        self.0.set(wanted);
        CoreSyncOwed::Yes
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// `RET-2`: what this CPU serialized for is one generation of one address space. Another may well
    /// have the same.
    #[test]
    fn ret_2_a_generation_is_that_of_one_space() {
        let id = |n| ContextId::new(n).expect("not 0");
        let (synced, shared) = (Synced::new(), Shared::new());
        assert_eq!(synced.compare(id(1), &shared), CoreSyncOwed::No, "nobody asked");
        let generation = shared.raise_sync_generation();
        synced.settle(id(1), generation);
        assert_eq!(synced.compare(id(1), &shared), CoreSyncOwed::No);
        assert_eq!(synced.compare(id(2), &shared), CoreSyncOwed::Yes);
        assert_eq!(synced.compare(id(2), &shared), CoreSyncOwed::No, "it is armed");
        shared.raise_sync_generation();
        assert_eq!(synced.compare(id(2), &shared), CoreSyncOwed::Yes);
    }
}
