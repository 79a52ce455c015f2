//! Page tables: their shape, and the laws of an entry.
//!
//! The generic kernel walks and builds user tables itself, through the physical map. The
//! architecture says how many levels there are and encodes entries. The laws `PTE-1` to `PTE-4`
//! are property-tested for every port on the host, since an encoding is portable arithmetic.

use crate::addr::{PhysAddr, VirtAddr};
use core::ptr::NonNull;

/// What user code may do with a page. There is no value for writable and executable (`PTE-3`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protection {
    Read,
    ReadWrite,
    ReadExecute,
}

/// What is behind a page, and so how accesses reach it (`PTE-6`). A page of one type is mapped as that
/// type everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryType {
    /// RAM: cached, and read ahead of time.
    Normal,
    /// Registers of a device: each access happens once, as wide as it was written, in order, and none
    /// that was not written (SDM vol. 3 §12.3 *UC*; Power ISA 3.0B Book III §5.7.10 *non-idempotent I/O*).
    Device,
}

/// One level of a radix tree, root first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Level {
    /// log2 of the entries in one table.
    pub index_bits: u32,
    /// log2 of the bytes one entry covers.
    pub shift: u32,
    /// Whether an entry may be a leaf here.
    pub leaf: Leaf,
}

/// Whether a level can hold leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leaf {
    Never,
    Allowed,
    /// The last level: an entry that is not absent is a leaf.
    Always,
}

impl Level {
    /// Bytes of one table, which is also its alignment.
    pub const fn table_bytes(&self) -> u64 {
        8 << self.index_bits
    }
    /// Index of `address` in a table of this level.
    pub const fn index(&self, address: VirtAddr) -> usize {
        ((address.0 >> self.shift) & ((1 << self.index_bits) - 1)) as usize
    }
}

/// Whether hardware or software has recorded an event in an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    pub accessed: bool,
    pub dirty: bool,
}

/// An entry, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Nothing here: a zeroed entry (`PTE-2`).
    Absent,
    /// The next table.
    Table(PhysAddr),
    /// A user page.
    Leaf { at: PhysAddr, protection: Protection, memory: MemoryType, usage: Usage },
}

/// The hooks.
pub trait Paging: crate::Base {
    /// The levels, root first, page last.
    const LEVELS: &'static [Level];

    /// User addresses are `USER_START..USER_END`, both page-aligned. Page 0 is never user's.
    const USER_START: VirtAddr;
    const USER_END: VirtAddr;

    /// Encodes `entry` for level `level` (an index into [`LEVELS`](Self::LEVELS)), as the bits
    /// lie in memory. A user leaf is accessible to user mode and to the kernel only inside a
    /// [user window](crate::user). Laws: `decode(encode(e, l), l) == e` for every `e` that the
    /// level allows and whose addresses are aligned (`PTE-1`; a machine that has hardware set
    /// accessed and dirty may pre-set them: they are compared after masking); `encode(Absent)
    /// == 0` (`PTE-2`).
    ///
    /// # Panics
    /// In debug builds, for a leaf where the level has none and for a misaligned address.
    fn encode(entry: Entry, level: usize) -> u64;

    /// The inverse. Any bits whatever decode to something; entries this kernel did not write
    /// (kernel mappings that share the root) decode as they stand.
    fn decode(bits: u64, level: usize) -> Entry;

    /// Stores `bits` into `slot`, so that a walker on any CPU that sees the entry also sees all
    /// this CPU wrote before, the contents of the page or table included (`PTE-4`). Replacing
    /// anything but an absent entry needs the flush hooks after it.
    ///
    /// # Safety
    /// 1. `slot` is an entry of a page table reached through the physical map and aligned.
    /// 2. Writers of the table are serialized by the caller.
    unsafe fn write_entry(slot: NonNull<u64>, bits: u64);

    /// Prepares a zeroed root table for use as a user address space: copies or links what the
    /// machine needs of the kernel's own mappings. Entries it makes are never touched by generic
    /// code, which only walks [`USER_START`](Self::USER_START)..[`USER_END`](Self::USER_END).
    ///
    /// # Safety
    /// `root` is a zeroed table of level 0 that nothing else uses yet.
    unsafe fn init_root(machine: &Self::Machine, root: PhysAddr);

    /// Fills RAM with zeroes.
    ///
    /// # Safety
    /// 1. `at` is the address in the physical map of `bytes` bytes of RAM, whole pages, on a page boundary.
    /// 2. They are the caller's alone.
    unsafe fn clear(_machine: &Self::Machine, at: NonNull<u8>, bytes: usize) {
        // SAFETY: 1. and 2.
        unsafe { at.write_bytes(0, bytes) };
    }

    /// Where `at` lies in the physical map. Valid for all RAM of [`BootInfo`](crate::boot::BootInfo);
    /// readable and writable, never executable. Reading needs no window.
    fn phys(machine: &Self::Machine, at: PhysAddr) -> NonNull<u8>;

    /// The inverse of [`phys`](Self::phys) for a pointer that it returned (or one into the same
    /// range).
    fn phys_of(machine: &Self::Machine, pointer: NonNull<u8>) -> PhysAddr;
}
