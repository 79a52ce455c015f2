//! Locks; and atomics, by the names of [`protocol::sync`].
//!
//! Two kinds. A [`Lock`] is taken as `lock(cpu)`: try, else serve the requests addressed to this
//! CPU, else relax. Its holder may itself be waiting for another CPU, so whoever spins must keep
//! serving or two kernels with interrupts off deadlock. A [`Leaf`] is held only for a few
//! instructions by code that waits for nothing and takes no other lock but a leaf inside it (a
//! queue's, then a thread's), so spinning on it is bounded by its holders alone; allocators use it,
//! since an allocation can be dropped anywhere.
//!
//! Interrupts are off in the kernel, so neither needs to disable them.

pub use protocol::sync::*;

#[cfg(spandrel_schedule)]
use schedule::spin::{SpinMutex, SpinMutexGuard};
#[cfg(not(spandrel_schedule))]
use spin::mutex::{SpinMutex, SpinMutexGuard};

use crate::cpu::Cpu;
use arch_contract::mutant::{self, Mutant};
use arch_contract::smp::Smp;
use arch_current::Current;

/// This CPU uses what is at `at`, as others may at the same time. Runs under schedules ask whether a
/// barrier orders that after the last [`own`]; elsewhere it is nothing.
#[inline(always)]
pub(crate) fn touch<T>(kind: &'static str, at: *const T) {
    #[cfg(spandrel_schedule)]
    schedule::plain::touch(schedule::plain::Thing { kind, number: at.addr() });
    let _ = (kind, at);
}

/// This CPU alone has what is at `at`: as [`touch`], and after all that others did with it.
#[inline(always)]
pub(crate) fn own<T>(kind: &'static str, at: *const T) {
    #[cfg(spandrel_schedule)]
    schedule::plain::own(schedule::plain::Thing { kind, number: at.addr() });
    let _ = (kind, at);
}

/// A lock whose waiters serve.
pub struct Lock<T>(SpinMutex<T>);

/// Holding a [`Lock`] or a [`Leaf`].
pub type Guard<'a, T> = SpinMutexGuard<'a, T>;

impl<T> Lock<T> {
    pub const fn new(value: T) -> Self {
        Self(SpinMutex::new(value))
    }

    /// Waits until it is held. `TLB-5`: while it waits, this CPU serves.
    pub fn lock<'a>(&'a self, cpu: &Cpu) -> Guard<'a, T> {
        loop {
            if let Some(guard) = self.0.try_lock() {
                return guard;
            }
            if !mutant::is(Mutant::WaitersAreDeaf) {
                cpu.serve();
            }
            Current::relax(cpu.arch());
        }
    }
}

impl<T> Lock<T> {
    /// `None` if somebody holds it. For whoever would take it against the order of locks.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        self.0.try_lock()
    }

    /// What it guards, when nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

/// A lock for a few instructions that wait for nothing.
pub struct Leaf<T>(SpinMutex<T>);

impl<T> Leaf<T> {
    pub const fn new(value: T) -> Self {
        Self(SpinMutex::new(value))
    }
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        self.0.lock()
    }
    /// `None` if somebody holds it.
    #[inline]
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        self.0.try_lock()
    }
}
