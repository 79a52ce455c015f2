//! Other CPUs: RTAS starts and stops them, the interrupt controller reaches them.

use crate::cpu::{Cpu, Machine};
use crate::hcall::Status;
use crate::{Ppc64le, secondary, spr, time};
use arch_contract::NotImplemented;
use arch_contract::boot::HardwareCpu;
use arch_contract::irq::IrqsOff;
use arch_contract::smp::{PowerState, Smp, StartError};
use core::sync::atomic::Ordering;

impl Smp for Ppc64le {
    fn hardware_id(cpu: &Cpu) -> HardwareCpu {
        cpu.server
    }

    fn cpu(machine: &'static Machine, index: usize) -> &'static Cpu {
        machine.cpus.get(index)
    }

    fn start_cpu(cpu: &Cpu, target: &'static Cpu, _irq: &IrqsOff) -> Result<(), StartError> {
        let Some(calls) = &cpu.machine.cpu_calls else {
            return Err(StartError::Refused(Status::FUNCTION.0));
        };
        // Before the call: the target may stop again before this CPU goes on.
        target.on.store(true, Ordering::Relaxed);
        // PAPR promises no order between what is written here and the first load there.
        spr::sync();
        let argument = core::ptr::from_ref(target) as u64 & !crate::cpu::PHYSICAL_MAP;
        calls.start(target.server, secondary::entry(), argument).map_err(|error| {
            target.on.store(false, Ordering::Relaxed);
            StartError::Refused(error.0.map_or(Status::FUNCTION.0, i64::from))
        })
    }

    fn stop_cpu(cpu: &Cpu, _irq: IrqsOff) -> ! {
        cpu.armed.set(false);
        time::disarm(cpu);
        cpu.machine.controller.close(cpu);
        // Everything of this life before the word that it ends. Pairs with the acquire of
        // `power_state`.
        cpu.on.store(false, Ordering::Release);
        if let Some(calls) = &cpu.machine.cpu_calls {
            calls.stop_self();
        }
        loop {
            spr::pause();
        }
    }

    fn power_state(cpu: &Cpu, target: &Cpu) -> PowerState {
        // A CPU that says that it is off may still be on its way: firmware knows.
        let off = || cpu.machine.cpu_calls.as_ref().is_none_or(|calls| calls.is_stopped(target.server));
        if !target.on.load(Ordering::Acquire) && off() { PowerState::Stopped } else { PowerState::Started }
    }

    fn send_ipi(cpu: &Cpu, target: &Cpu, _irq: &IrqsOff) -> Result<(), NotImplemented> {
        cpu.machine.controller.send(target);
        Ok(())
    }

    fn relax(_cpu: &Cpu) {
        // The host is not told: H_CONFER wants to know for whom this CPU waits, which no caller says.
        spr::pause();
    }
}
