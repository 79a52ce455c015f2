//! CPUs by number, and sets of them: a machine has at most 64, so a set is one word.

use crate::sync::{AtomicU64, Ordering};
use arch_contract::boot::MAX_CPUS;
use core::fmt;

const _: () = assert!(MAX_CPUS == 64, "a set of CPUs is one word");

/// The number of a CPU: its place in the list that the firmware gave. 0 is the boot CPU.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CpuId(u8);

impl CpuId {
    pub const BOOT: Self = Self(0);

    /// `None` beyond [`MAX_CPUS`].
    pub const fn new(number: u64) -> Option<Self> {
        if number < MAX_CPUS as u64 { Some(Self(number as u8)) } else { None }
    }
    pub const fn get(self) -> u8 {
        self.0
    }
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A set of CPUs. Bit n is CPU n.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuSet(pub u64);

impl CpuSet {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(u64::MAX);

    pub const fn of(cpu: CpuId) -> Self {
        Self(1 << cpu.0)
    }
    pub const fn has(self, cpu: CpuId) -> bool {
        self.0 & Self::of(cpu).0 != 0
    }
    pub const fn with(self, cpu: CpuId) -> Self {
        Self(self.0 | Self::of(cpu).0)
    }
    pub const fn without(self, cpu: CpuId) -> Self {
        Self(self.0 & !Self::of(cpu).0)
    }
    /// The CPUs that are in both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }
    /// The members, lowest first.
    pub fn iter(self) -> impl Iterator<Item = CpuId> + Clone {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let lowest = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            (lowest < 64).then_some(CpuId(lowest as u8))
        })
    }
}

/// A set that CPUs put themselves into. It orders nothing by itself: those who rely on who is in it
/// read it after a full barrier that pairs with one of the CPU's after it joined.
pub struct SharedSet(AtomicU64);

impl SharedSet {
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }
    #[inline]
    pub fn load(&self) -> CpuSet {
        CpuSet(self.0.load(Ordering::Relaxed))
    }
    /// Adds `cpu`; whether it was not in it. Writes only then.
    pub fn join(&self, cpu: CpuId) -> bool {
        // Relaxed: only the CPU itself joins and leaves, so its own bit is what it last wrote.
        if CpuSet(self.0.load(Ordering::Relaxed)).has(cpu) {
            return false;
        }
        self.0.fetch_or(CpuSet::of(cpu).0, Ordering::Relaxed);
        true
    }
    /// Release: what the CPU did as a member comes before.
    pub fn leave(&self, cpu: CpuId) {
        self.0.fetch_and(!CpuSet::of(cpu).0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_was_put_in() {
        let id = |n| CpuId::new(n).expect("small");
        let set = CpuSet::NONE.with(id(0)).with(id(63)).with(id(7));
        assert_eq!(set.iter().map(CpuId::get).collect::<std::vec::Vec<_>>(), [0, 7, 63]);
        assert_eq!(set.len(), 3);
        assert!(!set.without(id(7)).has(id(7)) && CpuId::new(64).is_none());
        assert_eq!(CpuSet::ALL.iter().count(), 64);
        let shared = SharedSet::new();
        assert!(shared.join(id(5)) && !shared.join(id(5)));
        shared.leave(id(5));
        assert!(shared.load().is_empty());
    }
}
