//! What the unit tests of memory management share: a simulated machine with its memory, and the
//! refusal of the n-th allocation.

use super::NoMemory;
use crate::sync::{AtomicU64, Ordering};

/// Refuses one allocation, of frames or of the heap, and counts them. Part of
/// [`Memory`](super::memory::Memory) in test builds.
#[derive(Default)]
pub(crate) struct Refusal {
    /// Allocations asked for since [`refuse`](Self::refuse).
    asked: AtomicU64,
    /// The one to refuse, from 1; 0 for none.
    nth: AtomicU64,
}

impl Refusal {
    pub(crate) fn refuse(&self, nth: u64) {
        self.asked.store(0, Ordering::Relaxed);
        self.nth.store(nth, Ordering::Relaxed);
    }

    /// Whether the allocation to be refused was reached.
    pub(crate) fn came(&self) -> bool {
        self.asked.load(Ordering::Relaxed) >= self.nth.load(Ordering::Relaxed)
    }

    pub(crate) fn ask(&self) -> Result<(), NoMemory> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        if asked == self.nth.load(Ordering::Relaxed) { Err(NoMemory) } else { Ok(()) }
    }
}
