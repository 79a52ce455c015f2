//! Page tables: the encoding is `entry_bits.rs`; here is what touches the machine.

use crate::cpu::{Cpu, Machine, PHYSICAL_MAP};
use crate::{Ppc64le, entry_bits};
use arch_contract::addr::{PAGE_SIZE, PhysAddr, VirtAddr};
use arch_contract::mutant::{self, Mutant};
use arch_contract::pte::{Entry, Level, Paging};
use core::ptr::NonNull;

impl Paging for Ppc64le {
    const LEVELS: &'static [Level] = entry_bits::LEVELS;
    const USER_START: VirtAddr = VirtAddr(PAGE_SIZE);
    /// Quadrant 0 as far as the tree reaches.
    const USER_END: VirtAddr = VirtAddr(1 << 52);

    fn encode(entry: Entry, level: usize) -> u64 {
        entry_bits::encode(entry, level)
    }

    fn decode(bits: u64, level: usize) -> Entry {
        entry_bits::decode(bits, level)
    }

    unsafe fn write_entry(slot: NonNull<u64>, bits: u64) {
        // `lwsync`: what was written to the page or table before, for walkers on other CPUs that
        // see the entry (`PTE-4`; the walk's dependence on the entry orders their side). `ptesync`:
        // for later accesses of this CPU, which would otherwise fault once for nothing
        // (Power ISA 3.0B Book III §5.10.1.1).
        // SAFETY: 1. the caller's slot is a valid, aligned doubleword.
        unsafe {
            core::arch::asm!("lwsync", "std {}, 0({})", "ptesync", in(reg) bits, in(reg_nonzero) slot.as_ptr(),
                options(nostack, preserves_flags));
        }
    }

    unsafe fn init_root(_machine: &Machine, _root: PhysAddr) {
        // Nothing of the kernel is in a user's tree: quadrant 3 has a tree of its own.
    }

    // Never inlined: the image has the instruction once.
    #[inline(never)]
    unsafe fn clear(machine: &Machine, at: NonNull<u8>, bytes: usize) {
        let Some(block) = machine.cache_block else {
            // SAFETY: the caller's 1. and 2.
            return unsafe { at.write_bytes(0, bytes) };
        };
        let bytes = if mutant::is(Mutant::LastBlockNotCleared) { bytes - block.get() } else { bytes };
        let mut offset = 0;
        while offset < bytes {
            // Power ISA 3.0B Book II §4.3.2: the block that has the addressed byte. RAM is mapped as cached
            // memory, where it does not interrupt.
            // SAFETY: a block of the caller's bytes, since blocks divide pages.
            unsafe {
                core::arch::asm!("dcbz {}, {}", in(reg_nonzero) at.as_ptr(), in(reg) offset,
                    options(nostack, preserves_flags));
            }
            offset += block.get();
        }
    }

    #[inline(always)]
    fn phys(_machine: &Machine, at: PhysAddr) -> NonNull<u8> {
        let address = core::ptr::with_exposed_provenance_mut((at.0 | PHYSICAL_MAP) as usize);
        // SAFETY: with a bit of `PHYSICAL_MAP` set it is not null.
        unsafe { NonNull::new_unchecked(address) }
    }

    #[inline(always)]
    fn phys_of(_machine: &Machine, pointer: NonNull<u8>) -> PhysAddr {
        PhysAddr(pointer.as_ptr() as u64 & !PHYSICAL_MAP)
    }
}

const _: () = assert!(core::mem::size_of::<Cpu>() < PAGE_SIZE as usize);
