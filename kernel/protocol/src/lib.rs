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
use cpuset::CpuId;

/// The CPU that takes the steps.
pub trait ThisCpu {
    fn number(&self) -> CpuId;

    /// A full barrier (`BAR-1`). Every one in a step goes through here.
    fn full_barrier(&self, site: Site);

    /// Records, in kernels built for testing, that it happened.
    fn event(&self, kind: Kind, a: u64, b: u64);
}
