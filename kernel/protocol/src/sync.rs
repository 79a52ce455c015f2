//! The one facade through which atomics are named: the machine's, or loom's.
//!
//! loom's constructors are no `const fn`, which is why those of this crate are not either.

#[cfg(not(loom))]
pub use core::sync::atomic::{
    self, AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
#[cfg(loom)]
pub use loom::sync::atomic::{
    self, AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};
