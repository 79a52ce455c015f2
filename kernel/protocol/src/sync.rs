//! The one facade through which atomics are named: the machine's, loom's, or those of
//! [`schedule`].
//!
//! loom's constructors are no `const fn`, which is why those of this crate are not either.

#[cfg(not(any(loom, spandrel_schedule)))]
pub use core::sync::atomic::{
    self, AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
#[cfg(loom)]
pub use loom::sync::atomic::{
    self, AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
#[cfg(spandrel_schedule)]
pub use schedule::atomic::{
    self, AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
