//! Memory: whose it is, where it comes from, and what an address space is made of.
//!
//! Everything the kernel allocates is charged to a [`Budget`](budget::Budget) before it exists,
//! and everything can be refused. From the bottom up:
//!
//! | file | what is there |
//! | --- | --- |
//! | [`frames`] | blocks of physical frames: a buddy allocator whose every step is bounded |
//! | [`heap`] | objects smaller than a frame, in blocks that go back when they are empty |
//! | [`stash`] | those of them that were freed a moment ago |
//! | [`list`] | an array that grows or says no |
//! | [`memory`] | frames and heap behind their locks: what the rest of the kernel holds |
//! | [`budget`] | a tree of limits |
//! | [`page_table`] | walking and changing user page tables, behind the laws of `PTE` |
//! | [`object`] | memory that several address spaces map |
//! | [`paged`] | memory whose pages a user program supplies |
//! | [`remains`] | what is left of large ones that have ended |
//! | [`refusal`] | that of the n-th allocation, for tests |
//! | [`burial`] | who buries them when nobody waits for it |
//! | [`ids`] | the machine's numbers for address spaces, and their reuse |
//! | [`pins`] | frames that outlive their mapping |
//! | [`tree`] | what is kept in order, and can be as long as a user wants |
//! | [`space`] | one user address space: regions, pages and tables; its TLB shootdown |
//!
//! Work on an address space is proportional to its size, so it comes in slices: each function that
//! could take long takes a number of pages and says whether there is more.

pub mod budget;
pub mod burial;
pub mod frames;
pub mod heap;
pub mod ids;
pub mod list;
pub mod memory;
pub mod object;
pub mod page_table;
pub mod paged;
pub mod pins;
pub mod refusal;
pub mod remains;
pub mod space;
mod stash;
pub mod tree;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

/// The architecture's machine.
pub type Machine = <arch_current::Current as arch_contract::Base>::Machine;

/// The budget, or the machine, has no memory left for it. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemory;
