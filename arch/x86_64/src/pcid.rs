//! What CR3 holds: a root, and under which process-context identifier the processor caches what it
//! walks from there (SDM vol. 3 §4.5, §4.10.1).
//!
//! PCID 0 is the kernel's own tables'; slot n of a CPU is PCID n + 1. Where the processor has no
//! PCIDs the field stays 0, and every load forgets everything that is not global.

use arch_contract::addr::PhysAddr;
use arch_contract::context::{Slot, Stale, Tags};

/// As many slots as a word has bits, so that a CPU remembers in one word which of them to flush.
const SLOTS: u16 = 64;

const ROOT: u64 = 0x000f_ffff_ffff_f000;
const PCID: u64 = 0xfff;
/// In a load only: nothing is forgotten (SDM vol. 3 §4.10.4.1).
const KEEP: u64 = 1 << 63;

/// Whether the processor tags what it caches with a PCID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pcids {
    // First, so that a CPU's value is all zero before boot, and takes no room in the image.
    Missing,
    Available,
}

impl Pcids {
    #[inline]
    pub const fn tags(self) -> Tags {
        match self {
            Self::Available => Tags::PerCpu { slots: SLOTS },
            Self::Missing => Tags::PerCpu { slots: 1 },
        }
    }
}

/// A value of CR3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cr3(u64);

impl Cr3 {
    /// The kernel's own tables. A load forgets what is cached under PCID 0: nothing that is not
    /// global, from the first such load on.
    pub const fn kernel(root: PhysAddr) -> Self {
        Self(root.0)
    }

    /// A user's tables, cached under `slot`; a load of it forgets what is [`Stale`] there.
    pub fn user(pcids: Pcids, root: PhysAddr, slot: Slot, stale: Stale) -> Self {
        debug_assert!(root.0 & !ROOT == 0 && slot.0 < SLOTS);
        match (pcids, stale) {
            (Pcids::Missing, _) => Self(root.0),
            (Pcids::Available, Stale::Everything) => Self(root.0 | u64::from(slot.0 + 1)),
            (Pcids::Available, Stale::Nothing) => Self(root.0 | u64::from(slot.0 + 1) | KEEP),
        }
    }

    /// What was read from the register: never with the bit that keeps, so a load of it forgets.
    pub const fn from_register(bits: u64) -> Self {
        Self(bits & (ROOT | PCID))
    }

    pub const fn bits(self) -> u64 {
        self.0
    }

    pub const fn root(self) -> PhysAddr {
        PhysAddr(self.0 & ROOT)
    }

    /// Whether a load of it forgets what was cached under its PCID.
    pub const fn flushes(self) -> bool {
        self.0 & KEEP == 0
    }
}

/// Slots of one CPU, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slots(u64);

impl Slots {
    pub const NONE: Self = Self(0);

    pub const fn with(self, slot: Slot) -> Self {
        Self(self.0 | 1 << slot.0)
    }
    pub const fn without(self, slot: Slot) -> Self {
        Self(self.0 & !(1 << slot.0))
    }
    pub const fn has(self, slot: Slot) -> bool {
        self.0 & 1 << slot.0 != 0
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::BTreeSet;

    const A: PhysAddr = PhysAddr(0x7_f000);

    /// `CTX-4`: each slot has a PCID of its own, and none has the kernel's.
    #[test]
    fn ctx_4_slots_have_pcids_of_their_own() {
        let Tags::PerCpu { slots } = Pcids::Available.tags() else { panic!("numbers per CPU") };
        let pcid = |slot| Cr3::user(Pcids::Available, A, Slot(slot), Stale::Everything).bits() & PCID;
        let pcids: BTreeSet<u64> = (0..slots).map(pcid).chain([Cr3::kernel(A).bits() & PCID]).collect();
        assert_eq!(pcids.len(), usize::from(slots) + 1);
    }

    /// `CTX-4`, `TLB-4`: a load keeps only what is known to be right.
    #[test]
    fn ctx_4_a_load_keeps_only_what_is_right() {
        let user = |pcids, stale| Cr3::user(pcids, A, Slot(3), stale);
        assert!(user(Pcids::Available, Stale::Everything).flushes());
        assert!(!user(Pcids::Available, Stale::Nothing).flushes());
        assert_eq!(user(Pcids::Available, Stale::Nothing).bits(), A.0 | 4 | 1 << 63);
        assert_eq!(user(Pcids::Available, Stale::Nothing).root(), A);
        let again = Cr3::from_register(user(Pcids::Available, Stale::Nothing).bits());
        assert_eq!(again, user(Pcids::Available, Stale::Everything));
    }

    /// `HV-1`: without PCIDs neither the field nor the bit is ever set, which would fault.
    #[test]
    fn hv_1_without_pcids_only_the_root() {
        assert_eq!(Pcids::Missing.tags(), Tags::PerCpu { slots: 1 });
        for stale in [Stale::Nothing, Stale::Everything] {
            let value = Cr3::user(Pcids::Missing, A, Slot(0), stale);
            assert!(value.bits() == A.0 && value.flushes());
        }
    }

    /// `TLB-2`: what is to be forgotten of one slot says nothing of another.
    #[test]
    fn tlb_2_slots_are_remembered_one_by_one() {
        let both = Slots::NONE.with(Slot(0)).with(Slot(63));
        assert!(both.has(Slot(0)) && both.has(Slot(63)) && !both.has(Slot(1)));
        assert_eq!(both.without(Slot(0)), Slots::NONE.with(Slot(63)));
    }
}
