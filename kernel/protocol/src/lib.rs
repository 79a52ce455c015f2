//! The words that CPUs share, and the steps that CPUs take on them.
//!
//! Everything that one CPU stores for another one to load without a lock is here, and nothing else:
//! each step is a few loads, stores and barriers in an order that another CPU relies on. The kernel
//! calls the steps with its real barriers. The tests in `tests/` compile the same lines against
//! loom's atomics (`--cfg loom`) and run two or three CPUs through every interleaving and every
//! value that the memory model of the language allows a load to return. So what is checked is what
//! runs: a step that carries a barrier takes the CPU that executes it as an argument ([`ThisCpu`]),
//! and neither side can put the barrier elsewhere.
//!
//! | file | what CPUs tell each other there |
//! | --- | --- |
//! | [`words`] | whose user code may run here, and what the MMU holds |
//! | [`shared`] | of an address space: who may hold it, what was changed, what was asked |
//! | [`flush`] | TLB generations, and what each was raised for |
//! | [`membarrier`] | the look at other CPUs between two full barriers; core serialization owed |
//! | [`inbox`] | requests, and that they are served |
//! | [`offline`] | that a CPU is off |
//! | [`cpuset`] | CPUs by number, and sets of them |
//! | [`sync`] | the one facade through which atomics are named |
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, loom))]
extern crate std;

pub mod cpuset;
pub mod flush;
pub mod inbox;
pub mod membarrier;
pub mod offline;
pub mod shared;
pub mod sync;
pub mod words;

use abi::trace::Kind;
use arch_contract::barrier::Site;
use arch_contract::mutant::{self, Mutant};
use cpuset::CpuId;
use sync::Ordering;

/// The CPU that takes the steps.
pub trait ThisCpu {
    fn number(&self) -> CpuId;

    /// A full barrier (`BAR-1`). Every one in a step goes through here.
    fn full_barrier(&self, site: Site);

    /// Records, in kernels built for testing, that it happened.
    fn event(&self, kind: Kind, a: u64, b: u64);
}

/// The order of an access: the one that is given, but for the selected mutant.
#[inline(always)]
pub(crate) fn unless(mutant: Mutant, order: Ordering) -> Ordering {
    if mutant::is(mutant) { Ordering::Relaxed } else { order }
}

/// What a barrier is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strength {
    Full,
    /// Of a mutant: everything but store before load.
    AcquireRelease,
    /// Of a mutant.
    None,
}

/// What the barriers of `site` are: full, but for the selected mutant.
#[inline(always)]
pub fn strength(site: Site) -> Strength {
    if mutant::is(Mutant::M3) && matches!(site, Site::MembarrierEnter | Site::EnterUserMm) {
        return Strength::AcquireRelease;
    }
    let left_out = mutant::is(match site {
        Site::LeaveUserMm => Mutant::M1,
        Site::EnterUserMm => Mutant::M2,
        Site::MembarrierEnter => Mutant::M4,
        Site::MembarrierExit => Mutant::M5,
        Site::IpiHandler => Mutant::M6,
        Site::FlushSample => Mutant::NoBarrierInFlush,
        Site::Register => Mutant::NoBarrierInRegistration,
        Site::Offline => Mutant::NoBarrierGoingOff,
    });
    if left_out { Strength::None } else { Strength::Full }
}

/// Selects the mutant that the environment names: for tests that make no machine.
#[cfg(all(test, not(loom)))]
fn select_mutant() {
    use arch_contract::mutant;
    if let Ok(id) = std::env::var(mutant::VARIABLE) {
        assert!(mutant::select(&id).is_some(), "{id}: no such mutant");
    }
}
