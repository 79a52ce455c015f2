//! A machine as it stands, to go back to: what exhaustive exploration is made of.
//!
//! All that a kernel keeps lies in the machine's RAM, so RAM and the state of the simulated hardware
//! are all there is. Only pages that differ from those of a base are kept.

use crate::code::Fetched;
use crate::context::Live;
use crate::cpu::{Cpu, Fence, Loaded};
use crate::device::Pci;
use crate::machine::{Machine, RAM_BASE, lock};
use crate::tlb::{Tag, Translations};
use arch_contract::addr::{PAGE_SIZE, PhysAddr};
use arch_contract::context::ContextId;
use arch_contract::time::Ticks;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;

type Page = [u8; PAGE_SIZE as usize];

/// What a machine was.
pub struct Snapshot {
    base: Rc<[Page]>,
    /// By number.
    pages: HashMap<usize, Page>,
    clock: u64,
    live: Live,
    pci: Pci,
    cpus: Vec<Saved>,
}

/// The hardware of one CPU.
struct Saved {
    loaded: Loaded,
    translations: Translations,
    ipi: bool,
    deadline: Option<Ticks>,
    lazy: Option<ContextId>,
    fence: Fence,
    tag: Tag,
    fetched: Fetched,
}

impl Machine {
    /// What it is, for what is taken later to be compared with.
    pub fn base(&self) -> Snapshot {
        self.snapshot(self.pages().iter().copied().collect(), HashMap::new())
    }

    /// What it is, beside `other`.
    pub fn snapshot_beside(&self, other: &Snapshot) -> Snapshot {
        let pages = self.pages().iter().zip(other.base.iter()).enumerate();
        let differ = pages.filter(|(_, (now, base))| now != base).map(|(number, (now, _))| (number, *now));
        self.snapshot(other.base.clone(), differ.collect())
    }

    fn pages(&self) -> &[Page] {
        let count = self.config.ram / PAGE_SIZE;
        // SAFETY: RAM is whole pages of initialized bytes, and one host thread plays all CPUs, none
        // of which is in the kernel now.
        unsafe {
            core::slice::from_raw_parts(
                self.at(RAM_BASE, self.config.ram as usize).cast().as_ptr(),
                count as usize,
            )
        }
    }

    fn snapshot(&self, base: Rc<[Page]>, pages: HashMap<usize, Page>) -> Snapshot {
        let cpus = self.cpus().iter().map(Cpu::save).collect();
        let clock = self.clock.load(Ordering::SeqCst);
        Snapshot { base, pages, clock, live: lock(&self.live).clone(), pci: self.pci().clone(), cpus }
    }

    /// Makes it again what it was.
    ///
    /// # Safety
    /// 1. `snapshot` was taken of this machine.
    /// 2. No CPU is in the kernel, and no reference into RAM that came to be since is used again.
    pub unsafe fn go_back(&self, snapshot: &Snapshot) {
        self.events();
        for (number, (now, base)) in self.pages().iter().zip(snapshot.base.iter()).enumerate() {
            let was = snapshot.pages.get(&number).unwrap_or(base);
            if now != was {
                let at = PhysAddr(RAM_BASE.0 + number as u64 * PAGE_SIZE);
                let page = self.at(at, was.len());
                // SAFETY: a page of RAM, to which the caller keeps no reference.
                unsafe { page.as_ptr().copy_from_nonoverlapping(was.as_ptr(), was.len()) };
            }
        }
        self.clock.store(snapshot.clock, Ordering::SeqCst);
        *lock(&self.live) = snapshot.live.clone();
        *self.pci() = snapshot.pci.clone();
        for (cpu, saved) in self.cpus().iter().zip(&snapshot.cpus) {
            cpu.restore(saved);
        }
    }
}

impl Cpu {
    fn save(&self) -> Saved {
        let shared = self.machine.shared(self.number);
        Saved {
            loaded: self.loaded(),
            translations: self.translations().clone(),
            ipi: shared.ipi.load(Ordering::SeqCst),
            deadline: self.deadline.get(),
            lazy: self.lazy.get(),
            fence: self.fence.get(),
            tag: self.tag.get(),
            fetched: self.fetched.with(|fetched| fetched.clone()),
        }
    }

    fn restore(&self, saved: &Saved) {
        self.set_loaded(saved.loaded);
        *self.translations() = saved.translations.clone();
        self.machine.shared(self.number).ipi.store(saved.ipi, Ordering::SeqCst);
        self.deadline.set(saved.deadline);
        self.lazy.set(saved.lazy);
        self.fence.set(saved.fence);
        self.tag.set(saved.tag);
        self.fetched.set(saved.fetched.clone());
    }
}
