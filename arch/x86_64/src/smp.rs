//! Other CPUs. Starting them (INIT, SIPI) is not there yet and says so.

use crate::X86_64;
use crate::apic::vector;
use crate::cpu::Cpu;
use crate::machine::Machine;
use arch_contract::boot::HardwareCpu;
use arch_contract::irq::IrqsOff;
use arch_contract::smp::{PowerState, Smp, StartError};
use arch_contract::{Base, Clause, NotImplemented};

impl Smp for X86_64 {
    fn hardware_id(cpu: &Cpu) -> HardwareCpu {
        HardwareCpu(cpu.apic_id.get())
    }

    fn cpu(_: &'static Machine, index: usize) -> &'static Cpu {
        assert!(index == 0, "only the boot CPU has a value");
        crate::cpu::current().expect("set up first thing")
    }

    fn start_cpu(_: &Cpu, _: &'static Cpu, _: &IrqsOff) -> Result<(), StartError> {
        Err(StartError::NotImplemented(NotImplemented(Clause::Smp3)))
    }

    fn stop_cpu(_: &Cpu, _: IrqsOff) -> ! {
        unreachable!("the boot CPU is never stopped, and no other is started")
    }

    fn power_state(_: &Cpu, _: &Cpu) -> PowerState {
        PowerState::Started
    }

    fn send_ipi(cpu: &Cpu, target: &Cpu, _: &IrqsOff) -> Result<(), NotImplemented> {
        // The target's request register is one bit per vector: requests merge, and one that comes
        // while the last is in service is kept for after it (SMP-2; SDM vol. 3 §11.8.4).
        Self::machine(cpu).local_apic.send(target.apic_id.get(), vector::IPI);
        Ok(())
    }

    #[inline(always)]
    fn relax(_: &Cpu) {
        core::hint::spin_loop();
    }
}
