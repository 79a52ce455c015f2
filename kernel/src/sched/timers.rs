//! What is to become ready at a time, CPU by CPU: a heap ordered by nanoseconds since boot.

use crate::sched::heap::Heap;
use crate::sched::ready::Runnable;
use crate::sync::{AtomicU64, Guard, Leaf, Ordering};
use core::ops::{Deref, DerefMut};

/// What becomes ready later, the next first.
pub type Timers = Heap<Runnable>;

/// The timers of a CPU. It alone puts things in and takes what is due; others take out what they end,
/// and give it theirs when they go off.
pub struct Timed {
    heap: Leaf<Timers>,
    /// When the first is due; `u64::MAX` for never. Written under the lock. Its CPU reads it without:
    /// what others change is an interrupt for nothing, or they interrupt it after.
    first_due: AtomicU64,
}

impl Timed {
    pub const fn new() -> Self {
        Self { heap: Leaf::new(Timers::new()), first_due: AtomicU64::new(u64::MAX) }
    }

    pub fn lock(&self) -> TimedGuard<'_> {
        TimedGuard { heap: self.heap.lock(), first_due: &self.first_due }
    }

    /// When the first is due, in nanoseconds since boot; `u64::MAX` for never.
    #[inline]
    pub fn first_due(&self) -> u64 {
        self.first_due.load(Ordering::Relaxed)
    }
}

/// Timers that are held. When the first is due is published when they are let go.
pub struct TimedGuard<'a> {
    heap: Guard<'a, Timers>,
    first_due: &'a AtomicU64,
}

impl Deref for TimedGuard<'_> {
    type Target = Timers;
    fn deref(&self) -> &Timers {
        &self.heap
    }
}

impl DerefMut for TimedGuard<'_> {
    fn deref_mut(&mut self) -> &mut Timers {
        &mut self.heap
    }
}

impl Drop for TimedGuard<'_> {
    fn drop(&mut self) {
        self.first_due.store(self.heap.first_key().unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
