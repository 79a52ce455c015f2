//! The last hook before user mode.

use crate::X86_64;
use crate::cpu::Cpu;
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
}
