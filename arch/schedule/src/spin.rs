//! A spin lock on such atomics; the interface is that of `spin::SpinMutex`.

use crate::atomic::{AtomicBool, Ordering};
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

pub struct SpinMutex<T: ?Sized> {
    is_held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: one holder at a time has the value, on whatever thread.
unsafe impl<T: Send + ?Sized> Sync for SpinMutex<T> {}

pub struct SpinMutexGuard<'a, T: ?Sized>(&'a SpinMutex<T>);

// SAFETY: through a shared guard there is only `&T`.
unsafe impl<T: Sync + ?Sized> Sync for SpinMutexGuard<'_, T> {}

impl<T> SpinMutex<T> {
    pub const fn new(value: T) -> Self {
        Self { is_held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> SpinMutex<T> {
    pub fn try_lock(&self) -> Option<SpinMutexGuard<'_, T>> {
        // Acquire: pairs with the release of the last holder's drop.
        let taken = self.is_held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        taken.ok().map(|_| SpinMutexGuard(self))
    }

    /// Spins; others go first.
    pub fn lock(&self) -> SpinMutexGuard<'_, T> {
        loop {
            match self.try_lock() {
                Some(guard) => return guard,
                None => crate::yield_now(),
            }
        }
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: ?Sized> Drop for SpinMutexGuard<'_, T> {
    fn drop(&mut self) {
        // Release: what was done under the lock comes before its next holder.
        self.0.is_held.store(false, Ordering::Release);
    }
}

impl<T: ?Sized> Deref for SpinMutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.0.value.get() }
    }
}

impl<T: ?Sized> DerefMut for SpinMutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock, and is borrowed mutably.
        unsafe { &mut *self.0.value.get() }
    }
}
