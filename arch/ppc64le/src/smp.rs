//! Other CPUs. Interrupts to them go through XICS.

use crate::cpu::{Cpu, Machine};
use crate::{Ppc64le, xics};
use arch_contract::boot::HardwareCpu;
use arch_contract::clauses::Clause;
use arch_contract::irq::IrqsOff;
use arch_contract::smp::{PowerState, Smp, StartError};
use arch_contract::NotImplemented;

impl Smp for Ppc64le {
    fn hardware_id(cpu: &Cpu) -> HardwareCpu {
        cpu.server
    }

    fn cpu(_machine: &'static Machine, index: usize) -> &'static Cpu {
        unreachable!("CPU {index}: no other is started")
    }

    fn start_cpu(_cpu: &Cpu, _target: &'static Cpu, _irq: &IrqsOff) -> Result<(), StartError> {
        Err(StartError::NotImplemented(NotImplemented(Clause::Smp3)))
    }

    fn stop_cpu(_cpu: &Cpu, _irq: IrqsOff) -> ! {
        unreachable!("the boot CPU is never stopped, and no other is started")
    }

    fn power_state(_cpu: &Cpu, _target: &Cpu) -> PowerState {
        PowerState::Started
    }

    fn send_ipi(_cpu: &Cpu, target: &Cpu, _irq: &IrqsOff) -> Result<(), NotImplemented> {
        xics::send(target.server);
        Ok(())
    }

    fn relax(_cpu: &Cpu) {
        // SAFETY: lowers and restores this thread's priority (Book II §3.2): a hint.
        unsafe { core::arch::asm!("or 1, 1, 1", "or 2, 2, 2", options(nomem, nostack, preserves_flags)) };
    }
}
