//! ppc64le has two ways into the kernel: `scv 0`, which the runtime uses, and `sc`.

use core::arch::asm;

/// Makes the system call with this number and no arguments, and gives the status.
pub const SECOND: Option<fn(u64) -> u64> = Some(sc);

fn sc(number: u64) -> u64 {
    let status;
    // SAFETY: the registers are those of the ABI; no call without arguments touches memory.
    unsafe {
        asm!(
            "sc",
            inlateout("r0") number => _,
            inlateout("r3") 0u64 => status,
            lateout("r4") _, lateout("r5") _, lateout("r6") _, lateout("r7") _, lateout("r8") _,
            lateout("r9") _, lateout("r10") _, lateout("r11") _, lateout("r12") _,
            lateout("lr") _, lateout("ctr") _, lateout("xer") _,
            lateout("cr0") _, lateout("cr1") _, lateout("cr5") _, lateout("cr6") _, lateout("cr7") _,
            options(nostack),
        );
    }
    status
}
