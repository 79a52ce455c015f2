//! Page tables: four levels of nine bits, in an encoding of the model's own.
//!
//! | bits | meaning |
//! | --- | --- |
//! | 0 | present |
//! | 1 | the next table, else a page |
//! | 2, 3 | writable, executable |
//! | 4, 5 | accessed, dirty |
//! | 6 | a device's registers, not RAM |
//! | 12–51 | the address |

use crate::host::atomic::{AtomicU64, Ordering};
use crate::{Machine, Model};
use arch_contract::addr::{PhysAddr, VirtAddr};
use arch_contract::mutant::{self, Mutant};
use arch_contract::pte::{Entry, Leaf, Level, MemoryType, Paging, Protection, Usage};
use core::ptr::NonNull;

const PRESENT: u64 = 1;
const TABLE: u64 = 1 << 1;
const WRITE: u64 = 1 << 2;
const EXECUTE: u64 = 1 << 3;
const ACCESSED: u64 = 1 << 4;
const DIRTY: u64 = 1 << 5;
const DEVICE: u64 = 1 << 6;
const ADDRESS: u64 = ((1 << 52) - 1) & !0xfff;

/// What [`Paging::init_root`] puts into the last slot of a root: the kernel's own mappings. A
/// generic walker that touches it is wrong, and tests compare it.
pub const KERNEL_ENTRY: u64 = PRESENT | TABLE | ADDRESS;

impl Paging for Model {
    const LEVELS: &'static [Level] = &[
        Level { index_bits: 9, shift: 39, leaf: Leaf::Never },
        Level { index_bits: 9, shift: 30, leaf: Leaf::Allowed },
        Level { index_bits: 9, shift: 21, leaf: Leaf::Allowed },
        Level { index_bits: 9, shift: 12, leaf: Leaf::Always },
    ];

    const USER_START: VirtAddr = VirtAddr(0x1_0000);
    const USER_END: VirtAddr = VirtAddr(0x7fff_ffff_f000);

    fn encode(entry: Entry, level: usize) -> u64 {
        let Level { shift, leaf, .. } = Self::LEVELS[level];
        match entry {
            Entry::Absent => 0,
            Entry::Table(at) => {
                debug_assert!(leaf != Leaf::Always && at.is_aligned(4096) && at.0 & !ADDRESS == 0);
                PRESENT | TABLE | at.0
            }
            Entry::Leaf { at, protection, memory, usage } => {
                debug_assert!(leaf != Leaf::Never && at.is_aligned(1 << shift) && at.0 & !ADDRESS == 0);
                let allows = match protection {
                    Protection::Read if mutant::is(Mutant::ReadOnlyIsWritable) => WRITE,
                    Protection::Read => 0,
                    Protection::ReadWrite => WRITE,
                    Protection::ReadExecute => EXECUTE,
                };
                let accessed = if usage.accessed { ACCESSED } else { 0 };
                let dirty = if usage.dirty { DIRTY } else { 0 };
                let device = if memory == MemoryType::Device { DEVICE } else { 0 };
                PRESENT | allows | accessed | dirty | device | at.0
            }
        }
    }

    fn decode(bits: u64, level: usize) -> Entry {
        if bits & PRESENT == 0 {
            return Entry::Absent;
        }
        let at = PhysAddr(bits & ADDRESS);
        if bits & TABLE != 0 && Self::LEVELS[level].leaf != Leaf::Always {
            return Entry::Table(at);
        }
        let protection = match (bits & WRITE != 0, bits & EXECUTE != 0) {
            (true, _) => Protection::ReadWrite,
            (false, true) => Protection::ReadExecute,
            (false, false) => Protection::Read,
        };
        let usage = Usage { accessed: bits & ACCESSED != 0, dirty: bits & DIRTY != 0 };
        let memory = if bits & DEVICE != 0 { MemoryType::Device } else { MemoryType::Normal };
        Entry::Leaf { at, protection, memory, usage }
    }

    unsafe fn write_entry(slot: NonNull<u64>, bits: u64) {
        // SAFETY: the caller's obligation: an aligned entry of a live table.
        let slot = unsafe { AtomicU64::from_ptr(slot.as_ptr()) };
        // Release: contents of the page or table first. `PTE-4`
        slot.store(bits, Ordering::Release);
    }

    unsafe fn init_root(machine: &Machine, root: PhysAddr) {
        let table = machine.at(root, 4096).cast::<u64>();
        // SAFETY: the caller's obligation: a zeroed root table that nothing else uses yet; slot
        // 511 is in it.
        unsafe { table.add(511).write(KERNEL_ENTRY) };
    }

    fn phys(machine: &Machine, at: PhysAddr) -> NonNull<u8> {
        machine.at(at, 1)
    }

    fn phys_of(machine: &Machine, pointer: NonNull<u8>) -> PhysAddr {
        machine.phys_of(pointer)
    }
}
