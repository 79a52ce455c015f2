//! Device registers that become known after boot, in the kernel's own tree.
//!
//! The hypervisor says where an interrupt source is managed when it hands the source out, which for a
//! device's messages is late. Such pages come in rows, so a leaf of 2 MiB serves sixteen sources, and the
//! tables that may be missing on the way are few: they were set aside. Nothing is ever taken out again.

use crate::entry_bits::{self, KernelPage, LEVELS};
use crate::guarded::Guarded;
use crate::radix::slot;
use crate::spr;
use arch_contract::addr::{PhysAddr, VirtAddr};
use arch_contract::pte::Entry;
use arrayvec::ArrayVec;

/// Bytes of each table below the root: they are alike.
pub const TABLE_BYTES: u64 = LEVELS[1].table_bytes();
const _: () = assert!(LEVELS[2].table_bytes() == TABLE_BYTES);

/// The level of the leaves that are made where nothing is yet: 2 MiB.
const LARGE: usize = LEVELS.len() - 2;

/// Tables that are set aside: sources lie in one place, which takes two.
const SPARE: usize = 4;

struct Late {
    /// The kernel's root; `None` before there is one.
    root: Option<PhysAddr>,
    /// Zeroed tables.
    spare: ArrayVec<PhysAddr, SPARE>,
}

static LATE: Guarded<Late> = Guarded::new(Late { root: None, spare: ArrayVec::new_const() });

/// No table is left for what is to be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoTable;

/// The tree to extend, and zeroed tables of [`TABLE_BYTES`] for it. Once, at boot.
pub(crate) fn begin(root: PhysAddr, spare: ArrayVec<PhysAddr, SPARE>) {
    LATE.with(|late| *late = Late { root: Some(root), spare });
}

/// Maps the page at `at`, device registers, in the physical map, if it is not mapped yet.
pub fn map_device_page(at: PhysAddr) -> Result<(), NoTable> {
    let mapped = LATE.with(|late| {
        let mut table = late.root.ok_or(NoTable)?;
        for (level, place) in LEVELS.iter().enumerate() {
            let slot = slot(table, place.index(VirtAddr(at.0)));
            // SAFETY: a slot of the kernel's tree, which only the holder of `LATE` writes.
            match entry_bits::decode(unsafe { slot.read_volatile() }, level) {
                Entry::Table(next) => table = next,
                Entry::Leaf { .. } => break,
                Entry::Absent if level < LARGE => {
                    table = late.spare.pop().ok_or(NoTable)?;
                    // SAFETY: as above.
                    unsafe { slot.write_volatile(entry_bits::encode(Entry::Table(table), level)) };
                }
                Entry::Absent => {
                    let start = PhysAddr(at.0 & !((1 << LEVELS[level].shift) - 1));
                    // SAFETY: as above; nothing was mapped there, so nothing has to be flushed.
                    unsafe { slot.write_volatile(entry_bits::kernel_leaf(start, KernelPage::Device)) };
                    break;
                }
            }
        }
        Ok(())
    });
    // The entries, for the accesses of this CPU; others learn of the page after this.
    spr::ptesync();
    mapped
}
