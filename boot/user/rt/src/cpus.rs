//! Sets of CPUs.

/// Bit n is CPU n.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuSet(pub u64);

impl CpuSet {
    /// Every CPU there can be.
    pub const ALL: Self = Self(u64::MAX);

    /// One CPU, 0–63.
    pub const fn only(cpu: u32) -> Self {
        Self(1 << cpu)
    }

    pub const fn has(self, cpu: u32) -> bool {
        cpu < 64 && self.0 & 1 << cpu != 0
    }

    /// How many.
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Their numbers, from the lowest.
    pub fn iter(self) -> impl Iterator<Item = u32> + Clone {
        (0..64).filter(move |&cpu| self.has(cpu))
    }
}
