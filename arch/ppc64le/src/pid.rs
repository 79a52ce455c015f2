//! Process identifiers: what tags translations of an address space, and indexes its entry in the
//! process table.
//!
//! PID 0 is the kernel's: quadrant 3 is always translated through its entry. PID 1 names an empty
//! tree and is what a CPU holds that runs no user, so that the low quadrant never reaches the
//! kernel's own tables. Address spaces get the rest.

use core::sync::atomic::{AtomicU64, Ordering};

/// log2 of the process table's entries. A table of 64 KiB.
pub const TABLE_BITS: u32 = 12;
const WORDS: usize = (1 << TABLE_BITS) / 64;

/// An index into the process table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pid(u16);

impl Pid {
    /// The kernel's own, quadrant 3.
    pub const KERNEL: Self = Self(0);
    /// No user address space at all.
    pub const EMPTY: Self = Self(1);

    pub const fn get(self) -> u64 {
        self.0 as u64
    }
}

/// Which are taken. A set bit is taken.
pub struct Pids([AtomicU64; WORDS]);

impl Pids {
    pub const fn new() -> Self {
        let words = [const { AtomicU64::new(0) }; WORDS];
        let mut pids = Self(words);
        pids.0[0] = AtomicU64::new(0b11);
        pids
    }

    /// Takes one. Acquire: what its last user did to the process table is before.
    pub fn allocate(&self) -> Option<Pid> {
        for (index, word) in self.0.iter().enumerate() {
            let taken = word.fetch_update(Ordering::Acquire, Ordering::Relaxed, |bits| {
                (bits != u64::MAX).then_some(bits | (bits + 1))
            });
            if let Ok(before) = taken {
                return Some(Pid((index * 64) as u16 + before.trailing_ones() as u16));
            }
        }
        None
    }

    /// Gives one back, flushed everywhere (`CTX-12`). Release: pairs with the acquire above.
    pub fn free(&self, pid: Pid) {
        self.0[pid.0 as usize / 64].fetch_and(!(1 << (pid.0 % 64)), Ordering::Release);
    }
}

impl Pid {
    /// What this CPU has loaded.
    #[cfg(spandrel_arch = "ppc64le")]
    pub fn held() -> Self {
        Self(crate::spr::read::<{ crate::spr::number::PIDR }>() as u16)
    }
}
