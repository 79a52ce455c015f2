//! Other CPUs. Interrupts to them go through XICS.

use crate::cpu::Cpu;
use crate::{Ppc64le, xics};
use arch_contract::boot::HardwareCpu;
use arch_contract::clauses::Clause;
use arch_contract::irq::IrqsOff;
use arch_contract::smp::{Smp, StartError};
use arch_contract::NotImplemented;

impl Smp for Ppc64le {
    fn hardware_id(cpu: &Cpu) -> HardwareCpu {
        cpu.server
    }

    fn start_cpu(_cpu: &Cpu, _target: HardwareCpu, _irq: &IrqsOff) -> Result<(), StartError> {
        Err(StartError::NotImplemented(NotImplemented(Clause::Smp3)))
    }

    fn send_ipi(_cpu: &Cpu, target: HardwareCpu, _irq: &IrqsOff) -> Result<(), NotImplemented> {
        xics::send(target);
        Ok(())
    }

    fn relax(_cpu: &Cpu) {
        // SAFETY: lowers and restores this thread's priority (Book II §3.2): a hint.
        unsafe { core::arch::asm!("or 1, 1, 1", "or 2, 2, 2", options(nomem, nostack, preserves_flags)) };
    }
}
