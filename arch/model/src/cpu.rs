//! One simulated CPU.

use crate::machine::Machine;
use crate::vector::VECTOR_WORDS;
use arch_contract::context::ContextId;
use arch_contract::time::Ticks;
use std::cell::{Cell, RefCell};

/// What the MMU holds. Written by the context hooks only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loaded {
    /// No user translations.
    Kernel,
    /// The tables of this address space, whether or not anything uses them.
    Mm(ContextId),
}

/// Whether kernel code may touch user pages now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum UserWindow {
    Open,
    Closed,
}

/// A CPU. What other CPUs may look at (its translation cache, what it holds, its pending
/// interrupts) is in the [`Machine`]; this is the CPU's own.
pub struct Cpu {
    pub(crate) machine: &'static Machine,
    pub(crate) number: u32,
    pub(crate) upper: Cell<*const ()>,
    pub(crate) deadline: Cell<Option<Ticks>>,
    pub(crate) window: Cell<UserWindow>,
    /// The context of the open lazy episode.
    pub(crate) lazy: Cell<Option<ContextId>>,
    /// The vector registers while the units are on.
    pub(crate) vectors: RefCell<Option<[u64; VECTOR_WORDS]>>,
    this: Cell<Option<&'static Cpu>>,
}

impl Cpu {
    /// Makes a CPU that lives as long as the process: upcalls want it so.
    pub(crate) fn leak(machine: &'static Machine, number: u32) -> &'static Self {
        let cpu: &'static Self = Box::leak(Box::new(Self {
            machine,
            number,
            upper: Cell::new(core::ptr::null()),
            deadline: Cell::new(None),
            window: Cell::new(UserWindow::Closed),
            lazy: Cell::new(None),
            vectors: RefCell::new(None),
            this: Cell::new(None),
        }));
        cpu.this.set(Some(cpu));
        cpu
    }

    /// This value, with the lifetime it has.
    pub(crate) fn forever(&self) -> &'static Cpu {
        self.this.get().expect("set when the CPU was made")
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
