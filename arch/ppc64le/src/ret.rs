//! The way back to user mode.
//!
//! `rfid` and `rfscv` are context synchronizing (Power ISA 3.0B Book III §4.3.1), so every edge to
//! user mode already makes the core forget what it prefetched: `RET-2` costs no code here.

use crate::Ppc64le;
use crate::cpu::Cpu;
use crate::trap::Frame;
use arch_contract::irq::IrqsOff;
use arch_contract::ret::{Owed, Reload, Resume, Return};
use core::ptr::NonNull;

impl Return for Ppc64le {
    #[inline(always)]
    fn user_return_serializes(_cpu: &Cpu) -> bool {
        true
    }

    #[inline(always)]
    unsafe fn return_to_user(
        _cpu: &Cpu,
        frame: NonNull<Frame>,
        _owed: Owed,
        reload: Reload,
        _irq: &IrqsOff,
    ) -> Resume<Frame> {
        // SAFETY: the return instruction settles what can be owed; interrupts stay off until then,
        // since entry code clears EE (and `scv`'s saved MSR is not the live one).
        unsafe { Resume::settled(frame, reload) }
    }

    #[inline(always)]
    unsafe fn go(_cpu: &Cpu, resume: Resume<Frame>) -> Resume<Frame> {
        // SAFETY: it takes the frame of a `Resume` in r3, and never returns; nothing on the stack is
        // needed any more, by the caller's obligation.
        unsafe {
            core::arch::asm!("b spandrel_return_full", in("r3") resume.frame().as_ptr(), options(noreturn));
        }
    }
}
