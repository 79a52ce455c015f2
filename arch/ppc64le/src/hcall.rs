//! Calls to the hypervisor (PAPR §14.5): `sc 1`, the call's number in r3, arguments from r4.
//!
//! They may be made in any translation mode. r0, r3–r12, CTR, XER and the volatile CR fields are
//! the hypervisor's to change.

use core::arch::asm;

/// Call numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Call {
    GetTermChar = 0x54,
    PutTermChar = 0x58,
    Eoi = 0x64,
    Cppr = 0x68,
    Ipi = 0x6c,
    Xirr = 0x74,
    Cede = 0xe0,
    VioSignal = 0x104,
    StuffTce = 0x138,
    PutTceIndirect = 0x13c,
    SetMode = 0x31c,
    RegisterProcessTable = 0x37c,
    IntGetSourceInfo = 0x3a8,
    IntSetSourceConfig = 0x3ac,
    IntSetQueueConfig = 0x3b8,
    IntEsb = 0x3c8,
    IntSync = 0x3cc,
    IntReset = 0x3d0,
    RptInvalidate = 0x448,
    /// RTAS without its firmware blob: QEMU and KVM take the argument block directly.
    Rtas = 0xf000,
}

/// How a call ended: 0 is success, positive values ask for patience, negative ones are errors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Status(pub i64);

impl Status {
    pub const SUCCESS: Self = Self(0);
    /// Try again.
    pub const BUSY: Self = Self(1);
    /// The hypervisor has no such call.
    pub const FUNCTION: Self = Self(-2);

    /// Whether the same call should be made again; the long-busy values (PAPR §14.5) hint at when.
    pub const fn is_busy(self) -> bool {
        self.0 == Self::BUSY.0 || (self.0 >= 9900 && self.0 <= 9905)
    }
}

/// Makes a call with up to 6 arguments. The four words are r4 to r7 on return.
///
/// # Safety
/// What the call does to memory and to this CPU is sound here.
#[inline]
pub unsafe fn call<const N: usize>(call: Call, arguments: [u64; N]) -> (Status, [u64; 4]) {
    const { assert!(N <= 6) };
    let argument = |index: usize| arguments.get(index).copied().unwrap_or(0);
    let (status, r4, r5, r6, r7): (i64, u64, u64, u64, u64);
    // SAFETY: the caller vouches for the call's effect; all that PAPR lets it change is declared.
    unsafe {
        asm!("sc 1",
            inlateout("r3") call as u64 => status,
            inlateout("r4") argument(0) => r4, inlateout("r5") argument(1) => r5,
            inlateout("r6") argument(2) => r6, inlateout("r7") argument(3) => r7,
            inlateout("r8") argument(4) => _, inlateout("r9") argument(5) => _,
            lateout("r0") _, lateout("r10") _, lateout("r11") _,
            lateout("r12") _, lateout("ctr") _, lateout("xer") _, lateout("cr0") _, lateout("cr1") _,
            lateout("cr5") _, lateout("cr6") _, lateout("cr7") _,
            options(nostack));
    }
    (Status(status), [r4, r5, r6, r7])
}
