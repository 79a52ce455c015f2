//! Other CPUs: INIT and start-up interrupts to start one, fixed interrupts to poke it.

use crate::apic::vector;
use crate::cpu::{self, Cpu, offset, power};
use crate::machine::Machine;
use crate::{X86_64, trampoline};
use arch_contract::boot::HardwareCpu;
use arch_contract::irq::IrqsOff;
use arch_contract::smp::{PowerState, Smp, StartError};
use arch_contract::time::{Ticks, Time};
use arch_contract::{Base, Clause, NotImplemented};
use core::arch::asm;
use core::ptr;
use core::sync::atomic::Ordering;

/// How long a CPU may take from INIT to where it hears a start-up interrupt, in parts of a second
/// (SDM vol. 3 §9.4.4.1).
const START_UP_PATIENCE: u64 = 5000;

impl Smp for X86_64 {
    fn hardware_id(cpu: &Cpu) -> HardwareCpu {
        HardwareCpu(cpu.apic_id.get())
    }

    fn cpu(_: &'static Machine, index: usize) -> &'static Cpu {
        cpu::nth(index).expect("a CPU of the list")
    }

    fn start_cpu(cpu: &Cpu, target: &'static Cpu, _: &IrqsOff) -> Result<(), StartError> {
        if ptr::eq(target, cpu::boot()) {
            // An INIT sends the boot CPU to the firmware instead (SDM vol. 3 §9.4.1).
            return Err(StartError::NotImplemented(NotImplemented(Clause::Smp3)));
        }
        let Machine { local_apic, rates, .. } = Self::machine(cpu);
        let id = target.apic_id.get();
        // Acquire: pairs with the store in `stop_cpu`; what the CPU did before it stopped is over.
        debug_assert!(target.power.load(Ordering::Acquire) == power::STOPPED);
        target.power.store(power::ASKED, Ordering::Relaxed);
        local_apic.send_init(id);
        local_apic.send_start_up(id, trampoline::VECTOR);
        // Hypervisors keep both. A processor may be on its way to where it waits for the second and
        // miss it, so it gets another, unless it is seen to have come.
        let Ticks(asked) = Self::now(cpu);
        let patience = rates.tsc_hz() / START_UP_PATIENCE;
        while target.power.load(Ordering::Relaxed) != power::ARRIVED {
            if Self::now(cpu).0 - asked > patience {
                local_apic.send_start_up(id, trampoline::VECTOR);
                break;
            }
            Self::relax(cpu);
        }
        Ok(())
    }

    fn stop_cpu(cpu: &Cpu, irq: IrqsOff) -> ! {
        Self::set_deadline(cpu, None, &irq);
        Self::machine(cpu).local_apic.disable();
        // SAFETY: the store is to this CPU's own value and is the last access: x86 makes stores
        // visible in program order, so whoever sees it sees all before it (SDM vol. 3 §9.2.2). Behind
        // it nothing but a machine check, which ends the run, gets past the halt.
        unsafe {
            asm!(
                "mov dword ptr [{cpu} + {power}], {stopped}",
                "2:",
                "cli",
                "hlt",
                "jmp 2b",
                cpu = in(reg) cpu,
                power = const offset::POWER,
                stopped = const power::STOPPED,
                options(noreturn),
            )
        }
    }

    fn power_state(_: &Cpu, target: &Cpu) -> PowerState {
        // Acquire: pairs with the store in `stop_cpu`.
        match target.power.load(Ordering::Acquire) {
            power::STOPPED => PowerState::Stopped,
            _ => PowerState::Started,
        }
    }

    fn send_ipi(cpu: &Cpu, target: &Cpu, _: &IrqsOff) -> Result<(), NotImplemented> {
        // The target's request register is one bit per vector: requests merge, and one that comes
        // while the last is in service is kept for after it (SMP-2; SDM vol. 3 §11.8.4).
        Self::machine(cpu).local_apic.send(target.apic_id.get(), vector::IPI);
        Ok(())
    }

    fn send_non_maskable(cpu: &Cpu, target: &Cpu, _: &IrqsOff) -> Result<(), NotImplemented> {
        Self::machine(cpu).local_apic.send_non_maskable(target.apic_id.get());
        Ok(())
    }

    #[inline(always)]
    fn relax(_: &Cpu) {
        core::hint::spin_loop();
    }
}
