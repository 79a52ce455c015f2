//! The refusal of the n-th allocation, for sweeps: a script is run again and again, each time with the next
//! allocation refused, until none is.
//!
//! Frames and heap memory count alike, whoever asks. In an ordinary kernel all of it compiles to nothing.

use super::NoMemory;
use crate::sync::{AtomicU64, Ordering};
use crate::trace;

/// Refuses one allocation, and counts them.
pub struct Refusal([Counts; if trace::ENABLED { 1 } else { 0 }]);

struct Counts {
    /// Allocations asked for since one is to be refused.
    asked: AtomicU64,
    /// The one to refuse, from 1; 0 for none.
    nth: AtomicU64,
}

impl Refusal {
    pub(super) const fn new() -> Self {
        Self(
            [const { Counts { asked: AtomicU64::new(0), nth: AtomicU64::new(0) } }; if trace::ENABLED {
                1
            } else {
                0
            }],
        )
    }

    /// Refuses the `nth` allocation from now on, once; none if that is 0.
    pub fn refuse(&self, nth: u64) {
        if let Some(counts) = self.0.first() {
            // Another CPU that asks in between must not compare the old count with the new number.
            counts.nth.store(0, Ordering::Relaxed);
            counts.asked.store(0, Ordering::Relaxed);
            // Pairs with the acquire in `ask`: who sees the number counts from zero.
            counts.nth.store(nth, Ordering::Release);
        }
    }

    /// Whether the allocation to be refused was reached.
    pub fn came(&self) -> bool {
        let reached = |counts: &Counts| {
            let nth = counts.nth.load(Ordering::Relaxed);
            nth != 0 && counts.asked.load(Ordering::Relaxed) >= nth
        };
        self.0.first().is_some_and(reached)
    }

    /// An allocation is asked for.
    #[inline(always)]
    pub(super) fn ask(&self) -> Result<(), NoMemory> {
        let Some(counts) = self.0.first() else { return Ok(()) };
        // Pairs with the release in `refuse`.
        let nth = counts.nth.load(Ordering::Acquire);
        let is_refused = nth != 0 && counts.asked.fetch_add(1, Ordering::Relaxed) + 1 == nth;
        if is_refused { Err(NoMemory) } else { Ok(()) }
    }
}
