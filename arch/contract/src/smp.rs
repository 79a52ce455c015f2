//! Other CPUs: starting them, stopping them, poking them, waiting for them.

use crate::boot::HardwareCpu;
use crate::irq::IrqsOff;

/// Why a CPU did not start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// The machine refused, with its own code.
    Refused(i64),
    NotImplemented(crate::NotImplemented),
}

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Refused(code) => write!(f, "the machine refuses ({code})"),
            Self::NotImplemented(missing) => write!(f, "{} is not implemented", missing.0.id()),
        }
    }
}

/// What is known of another CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PowerState {
    /// It executes nothing and can be started: never started, or through with
    /// [`Smp::stop_cpu`].
    Stopped,
    /// It was started and has not stopped since.
    Started,
}

/// The hooks.
pub trait Smp: crate::Base {
    /// The hardware's name for this CPU.
    fn hardware_id(cpu: &Self::Cpu) -> HardwareCpu;

    /// The value of the `index`-th CPU of [`BootInfo::cpus`](crate::boot::BootInfo::cpus), stacks
    /// and all, whether or not it was started. The port has made them, in memory that it kept out
    /// of the free ranges. Index 0 is the boot CPU.
    ///
    /// # Panics
    /// If there is no such CPU.
    fn cpu(machine: &'static Self::Machine, index: usize) -> &'static Self::Cpu;

    /// Starts `target`, which is [`Stopped`](PowerState::Stopped) and bound
    /// ([`Base::bind`](crate::Base::bind)). It enters through
    /// [`Upcalls::boot_secondary`](crate::upcalls::Upcalls::boot_secondary) on its own stack, with
    /// the kernel's tables, clean translations (`SMP-3`), its timer disarmed, interrupts off. All
    /// this CPU wrote before is visible there. Returns when it has been asked, not when it runs.
    fn start_cpu(cpu: &Self::Cpu, target: &'static Self::Cpu, irq: &IrqsOff) -> Result<(), StartError>;

    /// Stops the calling CPU for good, until another starts it again, which enters anew. Its
    /// timer and its interrupts are off, and it is [`Stopped`](PowerState::Stopped) for others only
    /// when it touches no memory any more.
    ///
    /// The caller has left every mm: the kernel's tables are loaded (`SMP-3`).
    fn stop_cpu(cpu: &Self::Cpu, irq: IrqsOff) -> !;

    /// Whether `target` executes.
    fn power_state(cpu: &Self::Cpu, target: &Self::Cpu) -> PowerState;

    /// Interrupts `target` with [`Interrupt::Ipi`](crate::irq::Interrupt::Ipi). All this CPU wrote
    /// before is visible to the handler (`SMP-1`); requests to one target may merge, and none is
    /// lost (`SMP-2`). To itself is allowed.
    fn send_ipi(cpu: &Self::Cpu, target: &Self::Cpu, irq: &IrqsOff) -> Result<(), crate::NotImplemented>;

    /// Sends `target` a non-maskable interrupt that it has to survive, for tests of what that must
    /// leave alone (`TRAP-5`). `NotImplemented` where a machine's only one ends the run.
    fn send_non_maskable(
        _cpu: &Self::Cpu,
        _target: &Self::Cpu,
        _irq: &IrqsOff,
    ) -> Result<(), crate::NotImplemented> {
        Err(crate::NotImplemented(crate::Clause::Trap5))
    }

    /// In a wait loop: tells the core, and on a hypervisor the host, that this CPU waits.
    fn relax(cpu: &Self::Cpu);
}
