//! User memory, through the current context: key 0 of the authority masks opens and closes it.
//!
//! In radix mode AMR and IAMR act on privileged accesses to user pages only (Power ISA 3.0B
//! Book III §5.7.12): AMR is the window, IAMR forbids execution for good. User mode cannot write
//! AMR, since UAMOR is 0.

use crate::Ppc64le;
use crate::cpu::{Cpu, UserPages};
use crate::spr::{self, number};
use arch_contract::addr::VirtAddr;
use arch_contract::mutant::{self, Mutant};
use arch_contract::user::{UserAccess, UserFault};
use core::arch::global_asm;

/// AMR with key 0 closed for reading and writing.
const CLOSED: u64 = 3 << 62;
/// IAMR with key 0 closed for execution.
const NO_EXECUTE: u64 = 1 << 62;

// Copies r5 bytes from r4 to r3 and returns 0 in r3. A data fault in it lands behind its end with
// the address in DAR (`trap_entry.rs`), and returns 1 in r3 and the address in r4: the pair that
// ELF V2 returns a two-doubleword structure in. Doublewords, then bytes: r4 or r3 may be unaligned.
global_asm!(
    ".pushsection .text.copy_user, \"ax\", @progbits",
    ".balign 16",
    ".globl spandrel_copy_user",
    "spandrel_copy_user:",
    "srdi. 6, 5, 3",
    "beq 2f",
    "mtctr 6",
    "1: ld 7, 0(4)",
    "std 7, 0(3)",
    "addi 4, 4, 8",
    "addi 3, 3, 8",
    "bdnz 1b",
    "2: andi. 6, 5, 7",
    "beq 4f",
    "mtctr 6",
    "3: lbz 7, 0(4)",
    "stb 7, 0(3)",
    "addi 4, 4, 1",
    "addi 3, 3, 1",
    "bdnz 3b",
    "4: li 3, 0",
    "blr",
    ".globl spandrel_copy_user_end",
    "spandrel_copy_user_end:",
    "mfspr 4, 19",
    "li 3, 1",
    "blr",
    ".popsection",
);

/// How a copy ended.
#[repr(C)]
struct Copied {
    faulted: u64,
    address: u64,
}

unsafe extern "C" {
    fn spandrel_copy_user(to: *mut u8, from: *const u8, len: usize) -> Copied;
}

/// Closes user pages to the kernel, and says whether this CPU heeds it. Once per CPU, at boot.
pub(crate) fn close() -> UserPages {
    // SAFETY: takes the right to write the AMR away from user mode.
    unsafe { spr::write::<{ number::UAMOR }>(0) };
    // `isync` on both sides, as in `set`.
    spr::isync();
    // SAFETY: takes rights away from kernel accesses to user pages, which none are under way.
    unsafe {
        spr::write::<{ number::AMR }>(if mutant::is(Mutant::UserPagesOpen) { 0 } else { CLOSED });
        spr::write::<{ number::IAMR }>(if mutant::is(Mutant::UserCodeIsKernels) { 0 } else { NO_EXECUTE });
    }
    spr::isync();
    let heeded = spr::read::<{ number::AMR }>() & CLOSED == CLOSED;
    if heeded { UserPages::Guarded } else { UserPages::Open }
}

#[inline(always)]
fn set(cpu: &Cpu, amr: u64) {
    if cpu.machine.user_pages == UserPages::Guarded {
        // `isync` on both sides: accesses before are under the old mask, those after under the new.
        spr::isync();
        // SAFETY: the window's maker vouches for the context that it opens.
        unsafe { spr::write::<{ number::AMR }>(amr) };
        spr::isync();
    }
}

impl UserAccess for Ppc64le {
    fn open_window(cpu: &Cpu) {
        set(cpu, 0);
    }

    fn close_window(cpu: &Cpu) {
        set(cpu, CLOSED);
    }

    unsafe fn copy_in(_cpu: &Cpu, to: *mut u8, from: VirtAddr, len: usize) -> Result<(), UserFault> {
        // SAFETY: 1. the window is open; 2. `from` lies in the user range, where a fault is caught;
        // 3. `to` is valid for `len` bytes.
        let copied = unsafe { spandrel_copy_user(to, from.0 as *const u8, len) };
        outcome(copied)
    }

    unsafe fn copy_out(_cpu: &Cpu, to: VirtAddr, from: *const u8, len: usize) -> Result<(), UserFault> {
        // SAFETY: as in `copy_in`, with the sides changed.
        let copied = unsafe { spandrel_copy_user(to.0 as *mut u8, from, len) };
        outcome(copied)
    }
}

fn outcome(copied: Copied) -> Result<(), UserFault> {
    match copied.faulted {
        0 => Ok(()),
        _ => Err(UserFault { address: VirtAddr(copied.address) }),
    }
}
