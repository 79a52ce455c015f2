//! The last hook before user mode.

use crate::X86_64;
use crate::cpu::{Cpu, offset};
use crate::trap::Frame;
use arch_contract::barrier::Barriers;
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::ret::{CoreSyncOwed, Owed, Reload, Resume, Return};
use core::ptr::NonNull;

impl Return for X86_64 {
    /// `iretq` serializes, `sysretq` does not (SDM vol. 3 §9.3), and which of them it will be is
    /// the frame's business.
    #[inline(always)]
    fn user_return_serializes(_: &Cpu) -> bool {
        mutant::is(Mutant::ReturnsTrusted)
    }

    #[inline(always)]
    unsafe fn return_to_user(
        cpu: &Cpu,
        frame: NonNull<Frame>,
        owed: Owed,
        reload: Reload,
        irq: &IrqsOff,
    ) -> Resume<Frame> {
        if owed.core_sync == CoreSyncOwed::Yes {
            Self::core_sync(cpu, irq);
        }
        // SAFETY: what was owed is settled above; interrupts are off (`irq`) and the trap code
        // leaves them off until the return instruction. The rest is the caller's obligation.
        unsafe { Resume::settled(frame, reload) }
    }

    #[inline(always)]
    unsafe fn go(_: &Cpu, resume: Resume<Frame>) -> Resume<Frame> {
        // SAFETY: that is where `enter_user` is, which takes the frame of a `Resume` in `rax` and never
        // returns; nothing on the stack is needed any more, by the caller's obligation.
        unsafe {
            core::arch::asm!(
                "jmp qword ptr gs:[{}]",
                const offset::ENTER_USER,
                in("rax") resume.frame().as_ptr(),
                options(noreturn)
            );
        }
    }
}
