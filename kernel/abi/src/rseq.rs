//! Restartable sequences: a few instructions on per-CPU data that either run to their end on one CPU
//! without interruption or start over, with no atomic instruction.
//!
//! A thread registers one [`Area`] in its memory. The kernel keeps [`Area::cpu`] up to date. To enter
//! a sequence, the thread stores [`abort`](Area::abort) and [`length`](Area::length), then
//! [`start`](Area::start); the sequence reads `cpu` and ends in one committing store, the last
//! instruction of the range. If the thread is taken off its CPU, or another thread's membarrier asks
//! for a restart, while its program counter is in `start..start + length`, it goes on at `abort`
//! instead, and `start` is 0. Unlike Linux's, the descriptor lies in the area itself: the kernel
//! never follows a pointer of the user's here, so nothing can fault.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The registered memory, aligned to its size. It stays in place until the registration or the
/// thread ends, even if the page is unmapped.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(32))]
pub struct Area {
    /// The CPU this thread runs on. Written by the kernel.
    pub cpu: u32,
    /// How often a sequence of this thread was restarted. Written by the kernel.
    pub restarts: u32,
    /// The first instruction of the sequence that is under way; 0 for none.
    pub start: u64,
    /// Bytes up to, and with, the committing store.
    pub length: u64,
    /// Where to go on after a restart. Outside the sequence.
    pub abort: u64,
}
