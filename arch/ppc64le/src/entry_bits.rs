//! Radix page-table entries as bits (Power ISA 3.0B Book III §5.7.10).
//!
//! Radix trees lie in memory big-endian whatever the mode of the processor, so every function here
//! speaks of an entry *as a little-endian load sees it*: byte-reversed. The shape is 13 bits at the
//! root, then 9, 9 and 9: 52 bits of effective address within a quadrant, which is the one shape
//! every radix implementation has.

use arch_contract::addr::PhysAddr;
use arch_contract::mutant::{self, Mutant};
use arch_contract::pte::{Entry, Leaf, Level, MemoryType, Protection, Usage};

/// The levels, root first.
pub const LEVELS: &[Level] = &[
    Level { index_bits: 13, shift: 39, leaf: Leaf::Never },
    Level { index_bits: 9, shift: 30, leaf: Leaf::Allowed },
    Level { index_bits: 9, shift: 21, leaf: Leaf::Allowed },
    Level { index_bits: 9, shift: 12, leaf: Leaf::Always },
];

/// Bytes of a root table.
pub const ROOT_BYTES: u64 = LEVELS[0].table_bytes();

const VALID: u64 = 1 << 63;
const LEAF: u64 = 1 << 62;
/// Real page number of a leaf.
const RPN: u64 = 0x01ff_ffff_ffff_f000;
/// Next-level base of a directory entry, and the log2 of the entries there.
const NLB: u64 = 0x01ff_ffff_ffff_ff00;
const NLS: u64 = 0x1f;
const REFERENCED: u64 = 0x100;
const CHANGED: u64 = 0x80;
/// Attributes: non-idempotent I/O.
const NON_IDEMPOTENT: u64 = 0x20;
/// Encoded access authority: privileged, read, read and write, execute.
const PRIVILEGED: u64 = 8;
const READ: u64 = 4;
const READ_WRITE: u64 = 2;
const EXECUTE: u64 = 1;

/// What the kernel may do with a page of its own. Nothing is writable and executable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KernelPage {
    Read,
    ReadWrite,
    ReadExecute,
    /// Device registers: accesses happen as written, in order, once each.
    Device,
}

/// A kernel leaf. Referenced and changed are set from the start: nobody asks for them.
pub const fn kernel_leaf(at: PhysAddr, page: KernelPage) -> u64 {
    let access = match page {
        KernelPage::Read => READ,
        KernelPage::ReadWrite => READ | READ_WRITE,
        KernelPage::ReadExecute => READ | EXECUTE,
        KernelPage::Device => READ | READ_WRITE | NON_IDEMPOTENT,
    };
    (VALID | LEAF | (at.0 & RPN) | REFERENCED | CHANGED | PRIVILEGED | access).to_be()
}

/// See [`arch_contract::pte::Paging::encode`].
///
/// Referenced is set from the start, and changed where the page may be written. A processor need not
/// record either: it may interrupt instead and leave the update to software, with an interrupt that
/// looks like a missing permission (Power ISA 3.0B Book III, Reference and Change Recording). QEMU does
/// in 10.0, and did not in 7.2.
pub fn encode(entry: Entry, level: usize) -> u64 {
    match entry {
        Entry::Absent => u64::from(mutant::is(Mutant::AbsentIsNotZero)),
        Entry::Table(at) => {
            debug_assert!(level + 1 < LEVELS.len());
            debug_assert!(at.is_aligned(LEVELS[level + 1].table_bytes()));
            (VALID | (at.0 & NLB) | LEVELS[level + 1].index_bits as u64).to_be()
        }
        Entry::Leaf { at, protection, memory, usage } => {
            debug_assert!(!matches!(LEVELS[level].leaf, Leaf::Never));
            debug_assert!(at.is_aligned(1 << LEVELS[level].shift));
            let access = match protection {
                Protection::Read if mutant::is(Mutant::ReadOnlyIsWritable) => READ | READ_WRITE,
                Protection::Read => READ,
                Protection::ReadWrite if mutant::is(Mutant::WritableIsExecutable) => {
                    READ | READ_WRITE | EXECUTE
                }
                Protection::ReadWrite => READ | READ_WRITE,
                Protection::ReadExecute => READ | EXECUTE,
            };
            let changed = usage.dirty || matches!(protection, Protection::ReadWrite);
            let used = REFERENCED | if changed { CHANGED } else { 0 };
            let attribute = if memory == MemoryType::Device { NON_IDEMPOTENT } else { 0 };
            (VALID | LEAF | (at.0 & RPN) | used | attribute | access).to_be()
        }
    }
}

/// See [`arch_contract::pte::Paging::decode`].
pub fn decode(bits: u64, level: usize) -> Entry {
    let bits = u64::from_be(bits);
    if bits & VALID == 0 {
        return Entry::Absent;
    }
    if bits & LEAF == 0 && level + 1 < LEVELS.len() {
        return Entry::Table(PhysAddr(bits & NLB));
    }
    let protection = if bits & READ_WRITE != 0 {
        Protection::ReadWrite
    } else if bits & EXECUTE != 0 {
        Protection::ReadExecute
    } else {
        Protection::Read
    };
    let usage = Usage {
        accessed: bits & REFERENCED != 0,
        dirty: bits & CHANGED != 0 && !mutant::is(Mutant::DirtyLost),
    };
    let memory = if bits & NON_IDEMPOTENT != 0 { MemoryType::Device } else { MemoryType::Normal };
    Entry::Leaf { at: PhysAddr(bits & RPN), protection, memory, usage }
}

/// First doubleword of a process-table entry for the tree at `root` (§5.7.6.2): size of the tree
/// in bits − 31 (split in two fields), its base, log2 of the root's entries. As lies in memory.
pub const fn process_entry(root: PhysAddr) -> u64 {
    let tree_bits: u64 = 52 - 31;
    let rts = (tree_bits >> 3) << 61 | (tree_bits & 7) << 5;
    (rts | (root.0 & 0x0fff_ffff_ffff_ff00) | (LEVELS[0].index_bits as u64 & NLS)).to_be()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `PTE-1`, `PTE-2`: every entry a level allows comes back as it was, but that it may have been
    /// used meanwhile.
    #[test]
    fn pte_1_round_trip() {
        for (level, shape) in LEVELS.iter().enumerate() {
            assert_eq!(encode(Entry::Absent, level), 0);
            assert_eq!(decode(0, level), Entry::Absent);
            if level + 1 < LEVELS.len() {
                let entry = Entry::Table(PhysAddr(0x12_3450_0000));
                assert_eq!(decode(encode(entry, level), level), entry);
            }
            if shape.leaf == Leaf::Never {
                continue;
            }
            let at = PhysAddr(5 << shape.shift);
            for protection in [Protection::Read, Protection::ReadWrite, Protection::ReadExecute] {
                for memory in [MemoryType::Normal, MemoryType::Device] {
                    for (accessed, dirty) in [(false, false), (true, false), (true, true)] {
                        let leaf = |usage| Entry::Leaf { at, protection, memory, usage };
                        let entry = leaf(Usage { accessed, dirty });
                        // No use of the page may be left for the processor to record.
                        let dirty = dirty || protection == Protection::ReadWrite;
                        let found = leaf(Usage { accessed: true, dirty });
                        assert_eq!(decode(encode(entry, level), level), found);
                    }
                }
            }
        }
    }

    /// `PTE-3`: no encoding is writable and executable, nor open to user mode if it is the kernel's.
    #[test]
    fn pte_3_write_xor_execute() {
        for page in [KernelPage::Read, KernelPage::ReadWrite, KernelPage::ReadExecute] {
            let bits = u64::from_be(kernel_leaf(PhysAddr(0x1000), page));
            assert!(bits & (READ_WRITE | EXECUTE) != READ_WRITE | EXECUTE);
            assert!(bits & PRIVILEGED != 0);
        }
    }

    /// A 52-bit tree is `RTS` 0b10101, its high part at bits 1:2 and its low part at bits 56:58.
    #[test]
    fn process_entry_of_a_52_bit_tree() {
        assert_eq!(u64::from_be(process_entry(PhysAddr(0x10000))), 0x4000_0000_0001_00ad);
    }
}
