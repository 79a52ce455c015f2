//! Page-table entries: four levels of 512, the bits of SDM vol. 3 §4.5.
//!
//! Encoding is plain arithmetic and tested on the host. A leaf above the last level carries PS;
//! a table entry allows everything, so that its leaves alone decide.

use arch_contract::addr::{PAGE_SIZE, PhysAddr, VirtAddr};
use arch_contract::mutant::{self, Mutant};
use arch_contract::pte::{Entry, Leaf, Level, MemoryType, Protection, Usage};

bitflags::bitflags! {
    /// Bits of an entry (SDM vol. 3 tables 4-15 to 4-20).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Bits: u64 {
        const PRESENT = 1 << 0;
        const WRITE = 1 << 1;
        const USER = 1 << 2;
        const WRITE_THROUGH = 1 << 3;
        const CACHE_DISABLE = 1 << 4;
        const ACCESSED = 1 << 5;
        const DIRTY = 1 << 6;
        /// A leaf where the level also has tables. In a last-level entry the bit is PAT.
        const LARGE = 1 << 7;
        const GLOBAL = 1 << 8;
        const NO_EXECUTE = 1 << 63;
    }
}

/// Bits 51:12: the physical address, for every page size once the low bits are known to be zero.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Entry 3 of the PAT: strong uncacheable, as it is after reset and as nobody changes it (SDM vol. 3
/// table 12-12).
const UNCACHED: Bits = Bits::WRITE_THROUGH.union(Bits::CACHE_DISABLE);

/// Root first.
pub const LEVELS: &[Level] = &[
    Level { index_bits: 9, shift: 39, leaf: Leaf::Never },
    Level { index_bits: 9, shift: 30, leaf: Leaf::Allowed },
    Level { index_bits: 9, shift: 21, leaf: Leaf::Allowed },
    Level { index_bits: 9, shift: 12, leaf: Leaf::Always },
];

/// The lowest user address. The 64 KiB below are never mapped, so a null pointer with a small
/// offset faults.
pub const USER_START: VirtAddr = VirtAddr(0x1_0000);

/// One past the highest user address. The last page of the lower canonical half is left out, so
/// that no `syscall` instruction can lie at its end and leave a return address that is not
/// canonical (SDM vol. 2 SYSRET).
pub const USER_END: VirtAddr = VirtAddr(0x0000_7fff_ffff_f000);

/// See [`Paging::encode`](arch_contract::pte::Paging::encode).
///
/// 1 GiB leaves decode on every CPU; whether a CPU has them is for whoever builds tables to ask.
pub fn encode(entry: Entry, level: usize) -> u64 {
    let (at, bits) = match entry {
        Entry::Absent => return if mutant::is(Mutant::AbsentIsNotZero) { 1 << 9 } else { 0 },
        Entry::Table(at) => {
            debug_assert!(at.is_aligned(PAGE_SIZE) && level + 1 < LEVELS.len());
            (at, Bits::PRESENT | Bits::WRITE | Bits::USER)
        }
        Entry::Leaf { at, protection, memory, usage } => {
            debug_assert!(LEVELS[level].leaf != Leaf::Never && at.is_aligned(1 << LEVELS[level].shift));
            let mut bits = Bits::PRESENT | Bits::USER;
            bits |= match protection {
                Protection::Read if mutant::is(Mutant::ReadOnlyIsWritable) => Bits::NO_EXECUTE | Bits::WRITE,
                Protection::Read => Bits::NO_EXECUTE,
                Protection::ReadWrite if mutant::is(Mutant::WritableIsExecutable) => Bits::WRITE,
                Protection::ReadWrite => Bits::NO_EXECUTE | Bits::WRITE,
                Protection::ReadExecute => Bits::empty(),
            };
            bits.set(Bits::ACCESSED, usage.accessed);
            bits.set(Bits::DIRTY, usage.dirty);
            bits.set(Bits::LARGE, LEVELS[level].leaf == Leaf::Allowed);
            bits.set(UNCACHED, memory == MemoryType::Device);
            (at, bits)
        }
    };
    debug_assert!(at.0 & !ADDRESS == 0);
    at.0 | bits.bits()
}

/// See [`Paging::decode`](arch_contract::pte::Paging::decode).
///
/// A foreign entry that is both writable and executable decodes as [`Protection::ReadWrite`]:
/// this kernel makes none (`PTE-3`).
pub fn decode(entry: u64, level: usize) -> Entry {
    let bits = Bits::from_bits_truncate(entry);
    if !bits.contains(Bits::PRESENT) {
        return Entry::Absent;
    }
    let leaf = match LEVELS[level].leaf {
        Leaf::Never => false,
        Leaf::Allowed => bits.contains(Bits::LARGE),
        Leaf::Always => true,
    };
    if !leaf {
        return Entry::Table(PhysAddr(entry & ADDRESS));
    }
    let at = PhysAddr(entry & ADDRESS & !((1 << LEVELS[level].shift) - 1));
    let protection = if bits.contains(Bits::WRITE) {
        Protection::ReadWrite
    } else if bits.contains(Bits::NO_EXECUTE) {
        Protection::Read
    } else {
        Protection::ReadExecute
    };
    let usage = Usage {
        accessed: bits.contains(Bits::ACCESSED),
        dirty: bits.contains(Bits::DIRTY) && !mutant::is(Mutant::DirtyLost),
    };
    let memory = if bits.contains(UNCACHED) { MemoryType::Device } else { MemoryType::Normal };
    Entry::Leaf { at, protection, memory, usage }
}

#[cfg(target_os = "none")]
mod hooks {
    use super::*;
    use crate::{X86_64, machine::Machine, paging};
    use arch_contract::pte::Paging;
    use core::ptr::NonNull;
    use core::sync::atomic::{AtomicU64, Ordering};

    impl Paging for X86_64 {
        const LEVELS: &'static [Level] = LEVELS;
        const USER_START: VirtAddr = USER_START;
        const USER_END: VirtAddr = USER_END;

        fn encode(entry: Entry, level: usize) -> u64 {
            encode(entry, level)
        }

        fn decode(bits: u64, level: usize) -> Entry {
            decode(bits, level)
        }

        unsafe fn write_entry(slot: NonNull<u64>, bits: u64) {
            // SAFETY: 1. the caller's obligation 1: aligned and mapped; walkers and other CPUs
            // only read it atomically.
            let slot = unsafe { AtomicU64::from_ptr(slot.as_ptr()) };
            // x86 stores become visible in program order (SDM vol. 3 §9.2.2), walkers included,
            // so release is all that PTE-4 needs: a plain store the compiler may not move up.
            slot.store(bits, Ordering::Release);
        }

        unsafe fn init_root(machine: &Machine, root: PhysAddr) {
            // SAFETY: the caller's obligation: a zeroed root table that nothing else uses.
            unsafe { paging::share_kernel_half(Self::phys(machine, root).cast()) };
        }

        fn phys(_: &Machine, at: PhysAddr) -> NonNull<u8> {
            paging::phys(at)
        }

        fn phys_of(_: &Machine, pointer: NonNull<u8>) -> PhysAddr {
            paging::phys_of(pointer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(level: usize) -> impl Iterator<Item = Entry> {
        let page = 1u64 << LEVELS[level].shift;
        let leaves = [Protection::Read, Protection::ReadWrite, Protection::ReadExecute]
            .into_iter()
            .flat_map(move |protection| {
                [0, page, 0x000f_ffff_ffff_f000 & !(page - 1)].into_iter().flat_map(move |at| {
                    (0..8).map(move |n| Entry::Leaf {
                        at: PhysAddr(at),
                        protection,
                        memory: if n & 4 != 0 { MemoryType::Device } else { MemoryType::Normal },
                        usage: Usage { accessed: n & 1 != 0, dirty: n & 2 != 0 },
                    })
                })
            })
            .filter(move |_| LEVELS[level].leaf != Leaf::Never);
        let tables = [0x1000, ADDRESS].into_iter().map(|at| Entry::Table(PhysAddr(at)));
        let tables = tables.filter(move |_| LEVELS[level].leaf != Leaf::Always);
        leaves.chain(tables).chain([Entry::Absent])
    }

    /// `PTE-1`: what goes in comes out, at every level.
    #[test]
    fn pte_1_round_trip() {
        for level in 0..LEVELS.len() {
            for entry in entries(level) {
                assert_eq!(decode(encode(entry, level), level), entry, "level {level}");
            }
        }
    }

    /// `PTE-2`: zero is absent, and only absent is zero.
    #[test]
    fn pte_2_zero_is_absent() {
        for level in 0..LEVELS.len() {
            assert_eq!(decode(0, level), Entry::Absent);
            for entry in entries(level) {
                assert_eq!(encode(entry, level) == 0, entry == Entry::Absent);
            }
        }
    }

    /// `PTE-3`: no encoding is writable and executable.
    #[test]
    fn pte_3_write_xor_execute() {
        for level in 1..LEVELS.len() {
            for entry in entries(level).filter(|entry| matches!(entry, Entry::Leaf { .. })) {
                let bits = Bits::from_bits_truncate(encode(entry, level));
                assert!(!bits.contains(Bits::WRITE) || bits.contains(Bits::NO_EXECUTE), "{entry:?}");
            }
        }
    }

    /// `PTE-5`: accessed and dirty survive a change of protection through decode and encode.
    #[test]
    fn pte_5_usage_survives() {
        let usage = Usage { accessed: true, dirty: true };
        let (at, memory) = (PhysAddr(0x5000), MemoryType::Normal);
        let bits = encode(Entry::Leaf { at, protection: Protection::ReadWrite, memory, usage }, 3);
        let Entry::Leaf { at, usage, .. } = decode(bits, 3) else { panic!("not a leaf") };
        let bits = encode(Entry::Leaf { at, protection: Protection::Read, memory, usage }, 3);
        assert!(Bits::from_bits_truncate(bits).contains(Bits::ACCESSED | Bits::DIRTY));
    }
}
