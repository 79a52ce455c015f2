//! Other CPUs: starting them, poking them, waiting for them.

use crate::boot::HardwareCpu;
use crate::irq::IrqsOff;

/// Why a CPU did not start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// The machine refused, with its own code.
    Refused(i64),
    NotImplemented(crate::NotImplemented),
}

/// The hooks.
pub trait Smp: crate::Base {
    /// The hardware's name for this CPU.
    fn hardware_id(cpu: &Self::Cpu) -> HardwareCpu;

    /// Starts `target`, which enters through
    /// [`Upcalls::boot_secondary`](crate::upcalls::Upcalls::boot_secondary) with clean
    /// translations (`SMP-3`). All this CPU wrote before is visible there.
    fn start_cpu(cpu: &Self::Cpu, target: HardwareCpu, irq: &IrqsOff) -> Result<(), StartError>;

    /// Interrupts `target` with [`Interrupt::Ipi`](crate::irq::Interrupt::Ipi). All this CPU wrote
    /// before is visible to the handler (`SMP-1`); requests to one target may merge, and none is
    /// lost (`SMP-2`). To itself is allowed.
    fn send_ipi(cpu: &Self::Cpu, target: HardwareCpu, irq: &IrqsOff) -> Result<(), crate::NotImplemented>;

    /// In a wait loop: tells the core, and on a hypervisor the host, that this CPU waits.
    fn relax(cpu: &Self::Cpu);
}
