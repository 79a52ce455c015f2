//! Touching user memory: SMAP's window, and copies that survive a fault.
//!
//! A copy is one `rep movsb`. If it faults, the handler finds the instruction in a table that the
//! linker gathers and resumes behind it; what is left in `rcx` then says how far it came.

use crate::X86_64;
use crate::cpu::Cpu;
use arch_contract::addr::VirtAddr;
use arch_contract::user::{UserAccess, UserFault};
use core::arch::asm;

/// An instruction that may fault on a user address, and where to go on.
#[repr(C)]
struct Recovery {
    at: u64,
    resume: u64,
}

unsafe extern "C" {
    static __recovery_start: Recovery;
    static __recovery_end: Recovery;
}

/// Where to resume after a fault of the instruction at `pc`, if it may fault.
pub fn recovery(pc: u64) -> Option<u64> {
    let (start, end) = (&raw const __recovery_start, &raw const __recovery_end);
    let len = (end as usize - start as usize) / size_of::<Recovery>();
    // SAFETY: the linker script puts the two symbols around the table, which is aligned and is
    // nothing but such entries.
    let table = unsafe { core::slice::from_raw_parts(start, len) };
    table.iter().find(|entry| entry.at == pc).map(|entry| entry.resume)
}

fn has_smap(cpu: &Cpu) -> bool {
    cpu.try_machine().is_some_and(|machine| machine.features.smap)
}

/// Closes the window that a program may have left open with its own AC flag.
pub fn forbid_user_access(cpu: &Cpu) {
    if has_smap(cpu) {
        // SAFETY: the CPU has SMAP; clearing AC only forbids.
        unsafe { asm!("clac", options(nomem, nostack)) };
    }
}

/// Copies and returns the bytes that were not copied: 0, or where it faulted, counted from the end.
///
/// # Safety
/// One side is kernel memory valid for `len` bytes; the other lies in the user range and a window
/// is open.
#[inline(always)]
unsafe fn copy(to: u64, from: u64, len: usize) -> usize {
    let left;
    // SAFETY: the kernel's side is valid by the caller's obligation; a fault on the user's side
    // resumes at label 3 with the registers as they were. DF is clear in the kernel.
    unsafe {
        asm!(
            "2:",
            "rep movsb",
            "3:",
            ".pushsection .recovery, \"a\"",
            ".balign 8",
            ".quad 2b, 3b",
            ".popsection",
            inout("rcx") len => left,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags),
        );
    }
    left
}

impl UserAccess for X86_64 {
    fn open_window(cpu: &Cpu) {
        if has_smap(cpu) {
            // SAFETY: the CPU has SMAP; the window's maker vouches for what is touched.
            unsafe { asm!("stac", options(nostack)) };
        }
    }

    fn close_window(cpu: &Cpu) {
        if has_smap(cpu) {
            // SAFETY: as above.
            unsafe { asm!("clac", options(nostack)) };
        }
    }

    unsafe fn copy_in(_: &Cpu, to: *mut u8, from: VirtAddr, len: usize) -> Result<(), UserFault> {
        // SAFETY: the caller's obligations, one by one.
        match unsafe { copy(to as u64, from.0, len) } {
            0 => Ok(()),
            left => Err(UserFault { address: VirtAddr(from.0 + (len - left) as u64) }),
        }
    }

    unsafe fn copy_out(_: &Cpu, to: VirtAddr, from: *const u8, len: usize) -> Result<(), UserFault> {
        // SAFETY: the caller's obligations, one by one.
        match unsafe { copy(to.0, from as u64, len) } {
            0 => Ok(()),
            left => Err(UserFault { address: VirtAddr(to.0 + (len - left) as u64) }),
        }
    }
}
