//! Other CPUs. All of them exist from the start; the test decides which one acts.

use crate::{Cpu, Event, Model};
use arch_contract::NotImplemented;
use arch_contract::boot::HardwareCpu;
use arch_contract::clauses::Clause;
use arch_contract::irq::IrqsOff;
use arch_contract::smp::{Smp, StartError};
use std::sync::atomic::Ordering;

impl Smp for Model {
    fn hardware_id(cpu: &Cpu) -> HardwareCpu {
        HardwareCpu(cpu.number)
    }

    /// Not there yet: a run has one kernel CPU.
    fn start_cpu(_cpu: &Cpu, _target: HardwareCpu, _irq: &IrqsOff) -> Result<(), StartError> {
        Err(StartError::NotImplemented(NotImplemented(Clause::Smp3)))
    }

    /// # Panics
    /// If the machine has no such CPU.
    fn send_ipi(cpu: &Cpu, target: HardwareCpu, _irq: &IrqsOff) -> Result<(), NotImplemented> {
        cpu.machine.log(Some(cpu), Event::SendIpi { target: target.0 });
        let shared = cpu.machine.shared.get(target.0 as usize);
        let shared = shared.unwrap_or_else(|| panic!("an IPI to {target:?}, which does not exist"));
        shared.ipi.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn relax(_cpu: &Cpu) {
        core::hint::spin_loop();
    }
}
