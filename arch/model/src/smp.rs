//! Other CPUs. All of them exist from the start; who plays their users runs them once started.

use crate::cpu::{Fence, Loaded};
use crate::halt::Halted;
use crate::host::knowledge;
use crate::machine::lock;
use crate::{Cpu, Event, Machine, Model};
use arch_contract::NotImplemented;
use arch_contract::boot::HardwareCpu;
use arch_contract::irq::IrqsOff;
use arch_contract::smp::{PowerState, Smp, StartError};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;

/// What [`Smp::stop_cpu`] unwinds with.
struct CpuOff;

impl Machine {
    fn power(&self, number: u32) -> PowerState {
        *lock(&self.shared(number).power)
    }

    pub(crate) fn set_power(&self, number: u32, state: PowerState) {
        *lock(&self.shared(number).power) = state;
    }
}

impl Cpu {
    /// Whether it was started and has not stopped since.
    pub fn is_started(&self) -> bool {
        self.machine.power(self.number) == PowerState::Started
    }

    /// Makes an upcall on this CPU. `None`: the kernel stopped the CPU instead of answering, and it
    /// counts as stopped from here on; or, in a script of many CPUs, halted it.
    pub fn upcall<R>(&self, upcall: impl FnOnce() -> R) -> Option<R> {
        self.spins.set(0);
        match catch_unwind(AssertUnwindSafe(upcall)) {
            Ok(answer) => Some(answer),
            Err(payload) if payload.is::<CpuOff>() => {
                self.machine.set_power(self.number, PowerState::Stopped);
                // It may have been the last that was not halted.
                self.machine.nudge();
                None
            }
            Err(payload) if payload.is::<Halted>() => None,
            Err(payload) => resume_unwind(payload),
        }
    }
}

impl Smp for Model {
    fn hardware_id(cpu: &Cpu) -> HardwareCpu {
        HardwareCpu(cpu.number)
    }

    fn cpu(machine: &'static Machine, index: usize) -> &'static Cpu {
        &machine.cpus()[index]
    }

    /// As a reset leaves a CPU: nothing armed, nothing pending. What it had cached may still be there:
    /// it is the kernel's to forget it (`SMP-3`).
    fn start_cpu(cpu: &Cpu, target: &'static Cpu, _irq: &IrqsOff) -> Result<(), StartError> {
        let machine = cpu.machine;
        machine.log(Some(cpu), Event::StartCpu { target: target.number });
        assert!(!target.is_started(), "CPU {} is started twice", target.number);
        assert!(!target.upper().is_null(), "CPU {} is started unbound", target.number);
        target.deadline.set(None);
        target.fence.set(Fence::None);
        let shared = machine.shared(target.number);
        shared.ipi.store(false, Ordering::SeqCst);
        // It sees what this CPU wrote.
        *lock(&shared.carried) = knowledge();
        machine.set_power(target.number, PowerState::Started);
        machine.nudge();
        Ok(())
    }

    /// Unwinds to [`Cpu::upcall`].
    fn stop_cpu(cpu: &Cpu, _irq: IrqsOff) -> ! {
        cpu.machine.log(Some(cpu), Event::StopCpu);
        assert_eq!(cpu.loaded(), Loaded::Kernel, "SMP-3: CPU {} stops with an mm", cpu.number);
        cpu.deadline.set(None);
        cpu.lazy.set(None);
        resume_unwind(Box::new(CpuOff))
    }

    fn power_state(cpu: &Cpu, target: &Cpu) -> PowerState {
        cpu.machine.power(target.number)
    }

    /// A request to a stopped CPU goes nowhere.
    fn send_ipi(cpu: &Cpu, target: &Cpu, _irq: &IrqsOff) -> Result<(), NotImplemented> {
        cpu.machine.log(Some(cpu), Event::SendIpi { target: target.number });
        if target.is_started() {
            let shared = cpu.machine.shared(target.number);
            let mut carried = lock(&shared.carried);
            *carried = carried.and(&knowledge());
            drop(carried);
            shared.ipi.store(true, Ordering::SeqCst);
            cpu.machine.nudge();
        }
        Ok(())
    }

    fn relax(cpu: &Cpu) {
        cpu.machine.show(cpu, Event::Relax);
        cpu.wander();
        cpu.spin();
    }
}
