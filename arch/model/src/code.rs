//! Instructions that a core has fetched, and executes until something serializes it (`RET-2`,
//! `CODE-1`).
//!
//! Of the code of an address space only its version matters. A user writes the next one
//! ([`Cpu::write_code`]) and makes a sync-core command; once that has returned
//! ([`Machine::promise_code`]) nobody may execute an older one, which each user instruction asks.
//!
//! A core is at its worst: it fetches as early as it can, which is when it has just serialized and,
//! under schedules, whenever it has the tables, and keeps what it has through everything but what the
//! profile says serializes. What it fetches it finds as a load of its CPU would: who serializes before it
//! knows of the request that asked for that may find the old version again.

use crate::host::atomic::{AtomicU64, Ordering};
use crate::host::walk;
use crate::machine::lock;
use crate::{Cpu, Machine};
use arch_contract::context::ContextId;
use hashbrown::HashMap;
use std::sync::{Arc, Mutex};

/// The code of one address space.
#[derive(Default)]
pub(crate) struct Code {
    written: AtomicU64,
    /// No older one is executed anywhere.
    promised: std::sync::atomic::AtomicU64,
}

/// By address space, since it first mattered.
pub(crate) type Codes = Mutex<HashMap<ContextId, Arc<Code>>>;

/// The version that a core has of each.
pub(crate) type Fetched = HashMap<ContextId, u64>;

/// A version, and whose code it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Version {
    id: ContextId,
    number: u64,
}

impl Machine {
    fn code(&self, id: ContextId) -> Arc<Code> {
        lock(&self.codes).entry(id).or_default().clone()
    }

    /// The sync-core command that followed the write of `version` has returned.
    pub fn promise_code(&self, version: Version) {
        self.code(version.id).promised.fetch_max(version.number, Ordering::SeqCst);
    }
}

impl Cpu {
    /// The user that runs here writes the next version of its code.
    ///
    /// # Panics
    /// If none runs here.
    pub fn write_code(&self) -> Version {
        let (id, ..) = self.walk_from().expect("a user runs here");
        let before = self.machine.code(id).written.fetch_add(1, Ordering::Relaxed);
        Version { id, number: before + 1 }
    }

    /// The version of what is loaded that this core executes now: what it has, or what it finds.
    pub(crate) fn fetch(&self) -> Option<Version> {
        let (id, ..) = self.walk_from()?;
        if let Some(number) = self.fetched.with(|fetched| fetched.get(&id).copied()) {
            return Some(Version { id, number });
        }
        let (number, _) = walk(&self.machine.code(id).written);
        self.fetched.with(|fetched| fetched.insert(id, number));
        Some(Version { id, number })
    }

    /// The core has serialized.
    pub(crate) fn serialized(&self) {
        self.fetched.take();
        self.fetch();
    }

    /// A user instruction is executed here.
    ///
    /// # Panics
    /// If it is an old one.
    pub(crate) fn execute(&self) {
        let Some(Version { id, number }) = self.fetch() else { return };
        let promised = self.machine.code(id).promised.load(Ordering::SeqCst);
        assert!(
            number >= promised || std::thread::panicking(),
            "RET-2: CPU {} executes version {number} of the code of {id:?}, and {promised} is promised",
            self.number
        );
    }
}
