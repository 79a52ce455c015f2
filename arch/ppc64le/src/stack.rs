//! Kernel stacks: slots of one size, each with its lowest page left unmapped.
//!
//! One size for all makes the two questions that matter arithmetic: is this address on a stack (the
//! backtrace must not touch anything else), and is this page a guard (the kernel's tables leave it
//! out). The boot CPU needs its slots before memory is known, so the linker script lays them down;
//! those of the others are kept out of free memory.

use crate::boot_memory;
use arch_contract::addr::{PAGE_SIZE, PhysAddr};
use arch_contract::boot::{MAX_RANGES, PhysRange};
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a slot, its guard page included.
pub const SLOT_BYTES: u64 = 64 * 1024;
/// Zeroed bytes kept at the top of every stack: the caller's frame that the ABI lets a function
/// write its link register into, with a back chain of zero.
pub const TOP_FRAME: u64 = 64;

/// What a stack of a CPU is for. Slot by slot, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Use {
    /// Everything ordinary.
    Main = 0,
    /// What ends the run: faults of the kernel, when the ordinary stack may be what is broken, and
    /// machine check and system reset, which may come at any instruction. Nothing on it is ever
    /// returned to, so one may overwrite the other.
    Fault = 1,
}
const USES: u64 = 2;

unsafe extern "C" {
    static __stacks_start: u8;
    static __stacks_end: u8;
}

/// Where the stacks of CPU 1 and up lie: first address, and one past the last. Written once, at
/// boot, before there are others to read it.
static OTHERS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// First address and end of the boot CPU's slots, and of the others'.
fn areas() -> [(u64, u64); 2] {
    let others = (OTHERS[0].load(Ordering::Relaxed), OTHERS[1].load(Ordering::Relaxed));
    [(&raw const __stacks_start as u64, &raw const __stacks_end as u64), others]
}

/// Keeps the stacks of all CPUs but the first out of `free`. Returns where; of no length if there
/// is one CPU, `None` if there is no room.
///
/// # Safety
/// Translation is off, what is in `free` is used by nobody, and there is no other CPU yet.
pub unsafe fn place(free: &mut ArrayVec<PhysRange, MAX_RANGES>, cpus: usize) -> Option<PhysRange> {
    let bytes = (cpus as u64 - 1) * USES * SLOT_BYTES;
    if bytes == 0 {
        return Some(PhysRange { start: PhysAddr(0), len: 0 });
    }
    let area = boot_memory::keep(free, bytes, SLOT_BYTES)?;
    let start = area.start.0 | crate::cpu::PHYSICAL_MAP;
    OTHERS[0].store(start, Ordering::Relaxed);
    OTHERS[1].store(start + bytes, Ordering::Relaxed);
    for slot_end in (start..start + bytes).step_by(SLOT_BYTES as usize).map(|slot| slot + SLOT_BYTES) {
        // SAFETY: the end of a slot of an area that was free until now.
        unsafe { ((slot_end - TOP_FRAME) as *mut u8).write_bytes(0, TOP_FRAME as usize) };
    }
    Some(area)
}

/// The stack pointer that an empty stack of the `cpu`-th CPU starts with.
pub fn top(cpu: usize, which: Use) -> u64 {
    let [boot, others] = areas();
    let first = match cpu as u64 {
        0 => boot.0,
        other => others.0 + (other - 1) * USES * SLOT_BYTES,
    };
    first + (which as u64 + 1) * SLOT_BYTES - TOP_FRAME
}

/// Whether `address` lies in a guard page.
pub fn is_guard(address: u64) -> bool {
    areas().into_iter().any(|(start, end)| {
        (start..end).contains(&address) && (address - start) % SLOT_BYTES < PAGE_SIZE
    })
}

/// Whether the first three doublewords at `address` are readable as a stack frame.
pub fn holds_frame(address: u64) -> bool {
    let inside = |(start, end): (u64, u64)| (start..end).contains(&address) && end - address >= 24;
    address.is_multiple_of(16) && areas().into_iter().any(inside) && !is_guard(address)
}
