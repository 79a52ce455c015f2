//! Atomics whose past loads may find; the interface is that of `core::sync::atomic`.
//!
//! The newest value is in the word itself, the past in the run's [`memory`](crate::memory). So a
//! word costs nothing where no run is on, is as large as its namesake, and may lie anywhere.

use crate::memory::Clock;
use crate::relaxed;
use crate::run::{self, memory};
use core::panic::Location;
use core::sync::atomic as core_atomic;

pub use core_atomic::Ordering;

/// A fence of the calling actor.
#[track_caller]
pub fn fence(order: Ordering) {
    run::point();
    let order = relaxed::order(order, Location::caller());
    if order == Ordering::Relaxed {
        return;
    }
    if memory(|memory, actor, _| memory.fence(order, actor)).is_none() {
        core_atomic::fence(order);
    }
}

macro_rules! atomic {
    ($name:ident $(<$generic:ident>)?, $inner:ty, $value:ty, $to:expr, $from:expr) => {
        #[repr(transparent)]
        #[derive(Debug, Default)]
        pub struct $name $(<$generic>)? ($inner);

        impl $(<$generic>)? $name $(<$generic>)? {
            pub const fn new(value: $value) -> Self {
                Self(<$inner>::new(value))
            }

            /// # Safety
            /// As that of the namesake.
            pub const unsafe fn from_ptr<'a>(at: *mut $value) -> &'a Self {
                // SAFETY: transparent, and the caller's obligation.
                unsafe { &*at.cast::<Self>() }
            }

            pub fn get_mut(&mut self) -> &mut $value {
                self.0.get_mut()
            }

            pub fn into_inner(self) -> $value {
                self.0.into_inner()
            }

            fn at(&self) -> (usize, usize) {
                (core::ptr::from_ref(self).addr(), size_of::<Self>())
            }

            fn newest(&self) -> $value {
                self.0.load(Ordering::Relaxed)
            }

            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                run::point();
                let order = relaxed::order(order, Location::caller());
                let found = memory(|memory, actor, below| {
                    memory.load(self.at(), $to(self.newest()), order, actor, below)
                });
                found.map_or_else(|| self.0.load(order), $from)
            }

            /// A load of the machine's own, which teaches the actor nothing: what was found, and
            /// what whoever acquires it learns.
            pub fn peek(&self) -> ($value, Clock) {
                run::point();
                let found = memory(|memory, actor, below| {
                    memory.peek(self.at(), $to(self.newest()), actor, below)
                });
                match found {
                    Some((value, clock)) => ($from(value), clock),
                    None => (self.0.load(Ordering::Acquire), Clock::default()),
                }
            }

            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                run::point();
                let order = relaxed::order(order, Location::caller());
                let stored = memory(|memory, actor, _| {
                    memory.store(self.at(), $to(self.newest()), $to(value), order, actor);
                    self.0.store(value, Ordering::Relaxed);
                });
                stored.unwrap_or_else(|| self.0.store(value, order));
            }

            /// The one read-modify-write: stores what `change` says, if it says anything.
            #[track_caller]
            fn modify(
                &self,
                done: Ordering,
                not: Ordering,
                mut change: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                run::point();
                let place = Location::caller();
                let [done, not] = [done, not].map(|order| relaxed::order(order, place));
                memory(|memory, actor, below| {
                    let old = self.newest();
                    // One that fails is a load, and may have found what is not the newest.
                    let (found, _) = memory.peek(self.at(), $to(old), actor, below);
                    if found != $to(old) && change($from(found)).is_none() {
                        memory.fail(self.at(), $to(old), found, not, actor);
                        return Err($from(found));
                    }
                    let new = change(old);
                    let order = if new.is_some() { done } else { not };
                    memory.modify(self.at(), $to(old), new.map($to), order, actor);
                    match new {
                        Some(new) => {
                            self.0.store(new, Ordering::Relaxed);
                            Ok(old)
                        }
                        None => Err(old),
                    }
                })
                .unwrap_or_else(|| self.0.fetch_update(done, not, change))
            }

            #[track_caller]
            fn always(&self, order: Ordering, change: impl Fn($value) -> $value) -> $value {
                match self.modify(order, Ordering::Relaxed, |old| Some(change(old))) {
                    Ok(old) | Err(old) => old,
                }
            }

            #[track_caller]
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                self.always(order, |_| value)
            }

            #[track_caller]
            pub fn compare_exchange(
                &self,
                expected: $value,
                new: $value,
                done: Ordering,
                not: Ordering,
            ) -> Result<$value, $value> {
                self.modify(done, not, |old| (old == expected).then_some(new))
            }

            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                expected: $value,
                new: $value,
                done: Ordering,
                not: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(expected, new, done, not)
            }

            #[track_caller]
            pub fn fetch_update(
                &self,
                done: Ordering,
                not: Ordering,
                change: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                self.modify(done, not, change)
            }
        }
    };
}

macro_rules! integer {
    ($name:ident, $value:ident) => {
        atomic!($name, core_atomic::$name, $value, |value: $value| value as u64, |word: u64| word as $value);

        impl $name {
            #[track_caller]
            pub fn fetch_add(&self, by: $value, order: Ordering) -> $value {
                self.always(order, |old| old.wrapping_add(by))
            }
            #[track_caller]
            pub fn fetch_sub(&self, by: $value, order: Ordering) -> $value {
                self.always(order, |old| old.wrapping_sub(by))
            }
            #[track_caller]
            pub fn fetch_or(&self, bits: $value, order: Ordering) -> $value {
                self.always(order, |old| old | bits)
            }
            #[track_caller]
            pub fn fetch_and(&self, bits: $value, order: Ordering) -> $value {
                self.always(order, |old| old & bits)
            }
            #[track_caller]
            pub fn fetch_max(&self, other: $value, order: Ordering) -> $value {
                self.always(order, |old| old.max(other))
            }
            #[track_caller]
            pub fn fetch_min(&self, other: $value, order: Ordering) -> $value {
                self.always(order, |old| old.min(other))
            }
        }
    };
}

integer!(AtomicU8, u8);
integer!(AtomicU16, u16);
integer!(AtomicU32, u32);
integer!(AtomicU64, u64);
integer!(AtomicUsize, usize);

atomic!(AtomicBool, core_atomic::AtomicBool, bool, u64::from, |word: u64| word != 0);
atomic!(
    AtomicPtr<T>,
    core_atomic::AtomicPtr<T>,
    *mut T,
    |at: *mut T| at.expose_provenance() as u64,
    |word: u64| core::ptr::with_exposed_provenance_mut(word as usize)
);
