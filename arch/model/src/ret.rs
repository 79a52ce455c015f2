//! The way back to user mode: settles a debt of core serialization where no return instruction of
//! this profile does.

use crate::cpu::Fence;
use crate::{Cpu, Event, Frame, Model};
use arch_contract::barrier::Barriers;
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::ret::{CoreSyncOwed, Owed, Reload, Resume, Return};
use core::ptr::NonNull;

impl Return for Model {
    fn user_return_serializes(cpu: &Cpu) -> bool {
        cpu.machine.config.profile.user_return_serializes() || mutant::is(Mutant::ReturnsTrusted)
    }

    unsafe fn return_to_user(
        cpu: &Cpu,
        frame: NonNull<Frame>,
        owed: Owed,
        reload: Reload,
        irq: &IrqsOff,
    ) -> Resume<Frame> {
        assert_eq!(cpu.lazy.get(), None, "CTX-7: user mode is entered inside a lazy episode");
        cpu.fence.set(Fence::None);
        if owed.core_sync == CoreSyncOwed::Yes && !Self::user_return_serializes(cpu) {
            Self::core_sync(cpu, irq);
        }
        if cpu.machine.config.profile.user_return_serializes() {
            cpu.serialized();
        }
        cpu.machine.log(Some(cpu), Event::ReturnToUser { owed, reload });
        // SAFETY: the debt was settled above, or the return of this profile settles it; a model
        // CPU has no interrupts outside windows.
        unsafe { Resume::settled(frame, reload) }
    }
}
