//! A lock of the port's own.
//!
//! Generic locks serve other CPUs' requests while they wait. This one need not: whoever holds it waits
//! for nothing but the hypervisor, for a few calls, and at most for RTAS, which is the last to be taken.
//! Interrupts are off throughout the kernel, so no handler asks for it on the CPU that has it.

use crate::spr;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// A `T` that one CPU at a time has.
pub struct Guarded<T> {
    busy: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `busy` admits one caller at a time, who may send the value about.
unsafe impl<T: Send> Sync for Guarded<T> {}

impl<T> Guarded<T> {
    pub const fn new(value: T) -> Self {
        Self { busy: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Runs `holding` on the value; it does not come by here again.
    pub fn with<R>(&self, holding: impl FnOnce(&mut T) -> R) -> R {
        // Pairs with the release below: what the last holder did is done.
        while self.busy.swap(true, Ordering::Acquire) {
            spr::pause();
        }
        // SAFETY: `busy` is ours: nobody else refers to the value.
        let result = holding(unsafe { &mut *self.value.get() });
        self.busy.store(false, Ordering::Release);
        result
    }
}
