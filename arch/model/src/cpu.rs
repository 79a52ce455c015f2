//! One simulated CPU.
//!
//! What other CPUs may look at (its translation cache, what it holds, its pending interrupts) is
//! in the [`Machine`]; this is the CPU's own. It is behind atomics and locks all the same: a CPU
//! may be a host thread of its own, and `Smp::cpu` gives the value of any CPU to every other.

use crate::code::Fetched;
use crate::host::Clock;
use crate::machine::{Machine, lock};
use crate::tlb::Tag;
use crate::vector::VECTOR_WORDS;
use arch_contract::context::ContextId;
use arch_contract::time::Ticks;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering};

/// What the MMU holds. Written by the context hooks only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loaded {
    /// No user translations.
    Kernel,
    /// The tables of this address space, whether or not anything uses them.
    Mm(ContextId),
}

/// Whether kernel code may touch user pages now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum UserWindow {
    Open,
    #[default]
    Closed,
}

/// Where this CPU stands between the last thing it had a user of and the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Fence {
    /// No full barrier (e) yet.
    #[default]
    None,
    /// It was executed.
    Entered,
    /// It was executed, then something was loaded: the next load needs its own.
    UsedBySwitch,
}

/// A cell that may be looked at from everywhere.
#[derive(Default)]
pub(crate) struct Own<T>(Mutex<T>);

impl<T> Own<T> {
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut lock(&self.0))
    }
    pub(crate) fn replace(&self, value: T) -> T {
        self.with(|held| core::mem::replace(held, value))
    }
    pub(crate) fn set(&self, value: T) {
        self.replace(value);
    }
}

impl<T: Copy> Own<T> {
    pub(crate) fn get(&self) -> T {
        self.with(|held| *held)
    }
}

impl<T: Default> Own<T> {
    pub(crate) fn take(&self) -> T {
        self.replace(T::default())
    }
}

/// A CPU.
pub struct Cpu {
    pub(crate) machine: &'static Machine,
    pub(crate) number: u32,
    pub(crate) upper: AtomicPtr<()>,
    pub(crate) deadline: Own<Option<Ticks>>,
    pub(crate) window: Own<UserWindow>,
    /// The context of the open lazy episode.
    pub(crate) lazy: Own<Option<ContextId>>,
    pub(crate) fence: Own<Fence>,
    /// Turns of wait loops in this upcall.
    pub(crate) spins: Own<u32>,
    /// Under which the translations of what is loaded are found.
    pub(crate) tag: Own<Tag>,
    /// What its page-table walker knows besides: it was told by broadcast invalidations.
    pub(crate) walker: Own<Clock>,
    /// What the core has fetched.
    pub(crate) fetched: Own<Fetched>,
    /// The vector registers while the units are on.
    pub(crate) vectors: Own<Option<[u64; VECTOR_WORDS]>>,
}

impl Cpu {
    pub(crate) fn new(machine: &'static Machine, number: u32) -> Self {
        Self {
            machine,
            number,
            upper: AtomicPtr::default(),
            deadline: Own::default(),
            window: Own::default(),
            lazy: Own::default(),
            fence: Own::default(),
            spins: Own::default(),
            tag: Own::default(),
            walker: Own::default(),
            fetched: Own::default(),
            vectors: Own::default(),
        }
    }

    /// This value, with the lifetime it has: upcalls want it so.
    pub(crate) fn forever(&self) -> &'static Cpu {
        &self.machine.cpus()[self.number as usize]
    }

    pub(crate) fn upper(&self) -> *const () {
        // Acquire: pairs with the release of `bind`, which another CPU may have called.
        self.upper.load(Ordering::Acquire)
    }

    /// Its machine.
    pub fn machine(&self) -> &'static Machine {
        self.machine
    }

    /// 0 is the boot CPU.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// What its MMU holds.
    pub fn loaded(&self) -> Loaded {
        self.machine.loaded(self.number)
    }

    /// What its one-shot timer is armed for.
    pub fn deadline(&self) -> Option<Ticks> {
        self.deadline.get()
    }
}
