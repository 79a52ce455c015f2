//! The conformance suite: what the clauses promise, as user programs.
//!
//! A case is written once, over the small [`Os`] trait, and runs wherever that is implemented: as a
//! program on a machine, and on the simulated machine with every user thread and every CPU a host
//! thread. It sees what a user sees (values, faults, exit reports) and, in kernels built for
//! testing, what the CPUs count and where they stand; it brings a race about by stopping CPUs at
//! named points, and hopes for nothing.
//!
//! Cases touch memory through [`Os::load`] and [`Os::store`] only, at addresses of the
//! [`arena`](Word): on the simulated machine these go through its cached translations, which are
//! as stale as the contract allows.
//!
//! Each case runs in a process of its own, which starts without registrations. One file per family
//! of clauses; [`table`] lists them all.
#![no_std]

extern crate alloc;

mod bar;
mod boot;
mod cap;
pub mod catalogue;
mod code;
mod ctx;
mod fault;
mod fpu;
mod hv;
mod ipc;
mod mig;
mod outcome;
mod probe;
mod pte;
mod ret;
pub mod signature;
mod smp;
mod table;
mod time;
mod tlb;
mod trap;
mod usr;
mod world;

pub use outcome::{Not, Outcome, STATUS_FAILED, STATUS_INCONCLUSIVE, STATUS_SKIPPED};
pub use probe::{Addresses, Deed, Feature, File, Meanwhile, Probe, Touch};
pub use table::{Case, IDS, Machines, find, table};
pub use world::{World, main};

use abi::ipc::WORDS;
use core::fmt;

/// Where cases have their memory: 4 GiB that nothing else of a program uses.
pub const ARENA: u64 = 0x2000_0000_0000;
/// Its bytes.
pub const ARENA_BYTES: u64 = 1 << 32;

/// The address of eight aligned bytes of the arena, mapped or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word(u64);

impl Word {
    /// # Panics
    /// If it is not aligned, or not in the arena.
    pub const fn new(at: u64) -> Self {
        assert!(at.is_multiple_of(8) && at >= ARENA && at < ARENA + ARENA_BYTES);
        Self(at)
    }

    /// In bytes.
    pub const fn address(self) -> u64 {
        self.0
    }

    /// The word `bytes` after it.
    pub const fn plus(self, bytes: u64) -> Self {
        Self::new(self.0 + bytes)
    }
}

/// What an access of a user orders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Nothing: it stands in program order, and the machine makes of it what it likes. For the
    /// accesses that a case is about.
    Plain,
    /// A load acquires, a store releases: for what threads of a case tell each other on the side.
    Synchronizes,
}

/// What a program tells whoever watches from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Announcement {
    /// It is about to ask for core serialization in its process.
    AsksForCoreSync,
    /// It was told that this is done.
    WasToldOfCoreSync,
    /// It was refused.
    WasRefusedCoreSync,
    /// It is about to call membarrier, with a command that orders.
    AsksForBarrier,
    /// That was done.
    WasToldOfBarrier,
    /// It is about to unmap what other threads of its process use.
    AsksForUnmapping,
    /// That was done.
    WasToldOfUnmapping,
}

/// What a case stands on.
pub trait Os: Probe + Clone + Send + Sized + 'static {
    /// A thread that was started and is to be waited for.
    type Thread;

    /// Whether the machine is the simulated one: there, loops are shorter.
    const SIMULATED: bool;

    /// Whether CPUs may see each other's accesses out of order. What only that can show is left out
    /// elsewhere.
    const REORDERS: bool = !Self::SIMULATED;

    /// Whether every return to user mode serializes the core, so that the kernel has nothing to
    /// count there.
    fn returns_serialize(&self) -> bool;

    /// Whether an address space has one hardware id on all CPUs, so that ids run out.
    fn ids_are_global(&self) -> bool;

    /// Makes a system call: status and value.
    ///
    /// # Safety
    /// Every address among the arguments lies in the arena.
    unsafe fn call(&self, number: u64, args: [u64; 6]) -> (u64, u64);

    /// Makes a system call with a message, which touches no memory: the message registers go from `words`
    /// and come there. Status, value and badge.
    fn exchange(&self, number: u64, args: [u64; 3], words: &mut [u64; WORDS]) -> (u64, u64, u64);

    /// Loads a word. A page that is not mapped ends the process.
    fn load(&self, at: Word, order: Order) -> u64;

    /// Stores a word. As [`load`](Self::load).
    fn store(&self, at: Word, value: u64, order: Order);

    /// One turn of a wait loop. Interrupts may be taken here.
    fn pause(&self);

    /// Starts a thread of this process on the CPUs in the set `cpus`; it executes no instruction of
    /// `body` elsewhere.
    fn spawn(&self, cpus: u64, body: impl FnOnce(Self) + Send + 'static) -> Result<Self::Thread, abi::Error>;

    /// The name of a thread that was started, for calls.
    fn handle(thread: &Self::Thread) -> abi::Handle;

    /// Waits until it has ended.
    fn join(&self, thread: Self::Thread) -> Result<(), abi::Error>;

    /// Tells whoever watches the machine's instructions from outside what the program is about; nobody
    /// watching, it does nothing.
    fn announce(&self, _: Announcement) {}

    /// A word of code that returns this number, if user mode executes instructions of the machine: a
    /// function of its calling convention.
    fn code_returning(&self, _number: u16) -> Option<u64> {
        None
    }

    /// Calls the function at `at`.
    ///
    /// # Safety
    /// There is one of [`code_returning`](Self::code_returning) there, in memory for execution, or there
    /// was a moment ago.
    unsafe fn execute(&self, _at: Word) -> u64 {
        0
    }

    /// Adds 1 to `turns` for ever, in a restartable sequence of the registered `area`; returns when
    /// the kernel has started it over.
    fn endless_sequence(&self, area: Word, turns: Word);

    /// Loads and reserves the word `at`, makes the system call `call`, if there is one, and stores what
    /// was loaded under the reservation: whether it was stored. `None`: the machine has none.
    fn held_reservation(&self, _at: Word, _call: Option<u64>) -> Option<bool> {
        None
    }

    /// Prints a line.
    fn say(&self, line: fmt::Arguments<'_>);
}
