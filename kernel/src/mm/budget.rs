//! A tree of limits: what a process may use is carved from what its maker may use.
//!
//! A charge counts at the budget and at every one above it, or at none: so a limit holds for all
//! that was ever made below it, and nothing is set aside until it is used. The root's limit is the
//! memory of the machine.

use super::NoMemory;
use super::memory::Memory;
use crate::object::Ref;
use crate::sync::{AtomicU64, Ordering};

/// Budgets on a path from the root, at most. Bounds the time of a charge, and the stack that
/// dropping the last reference to the lowest one takes.
const MAX_DEPTH: u32 = 32;

/// A limit, and how much of it is used. In bytes.
pub struct Budget {
    parent: Option<Ref<Budget>>,
    depth: u32,
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    /// The root: all memory that is free now. The one object that nothing is charged for.
    pub fn root(memory: &'static Memory) -> Result<Ref<Self>, NoMemory> {
        let limit = memory.free_bytes();
        let root = Self { parent: None, depth: 0, limit, used: AtomicU64::new(0) };
        Ref::try_new(memory, None, root)
    }

    /// A budget below `parent`, which is charged for the object. `u64::MAX` is no limit of its own.
    pub fn child(memory: &'static Memory, parent: &Ref<Self>, limit: u64) -> Result<Ref<Self>, NoMemory> {
        let depth = parent.depth + 1;
        if depth >= MAX_DEPTH {
            return Err(NoMemory);
        }
        let child = Self { parent: Some(parent.clone()), depth, limit, used: AtomicU64::new(0) };
        Ref::try_new(memory, Some(parent), child)
    }

    /// Uses up `bytes`, here and in every budget above, or nowhere.
    pub fn charge(&self, bytes: u64) -> Result<(), NoMemory> {
        let mut at = self;
        loop {
            if !at.add(bytes) {
                // Back down to where it failed: what is above was not charged.
                let mut charged = self;
                while !core::ptr::eq(charged, at) {
                    charged.subtract(bytes);
                    match &charged.parent {
                        Some(parent) => charged = parent,
                        None => break,
                    }
                }
                return Err(NoMemory);
            }
            match &at.parent {
                Some(parent) => at = parent,
                None => return Ok(()),
            }
        }
    }

    /// Undoes a [`charge`](Self::charge), or part of one.
    pub fn refund(&self, bytes: u64) {
        let mut at = Some(self);
        while let Some(budget) = at {
            budget.subtract(bytes);
            at = budget.parent.as_deref();
        }
    }

    /// The count guards no other memory, so no ordering is needed.
    fn add(&self, bytes: u64) -> bool {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.limit)
            })
            .is_ok()
    }

    fn subtract(&self, bytes: u64) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "a refund of what was not charged");
    }

    /// Bytes charged now, here and below.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that may be charged, as far as this budget goes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes that a charge could have now, all budgets above considered.
    pub fn headroom(&self) -> u64 {
        let here = self.limit.saturating_sub(self.used());
        self.parent.as_deref().map_or(here, |parent| here.min(parent.headroom()))
    }
}
