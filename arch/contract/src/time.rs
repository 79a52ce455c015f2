//! One clock, monotonic across CPUs, and one one-shot deadline per CPU. Nothing ticks.

/// A reading of the machine's clock, in its own unit: TSC or timebase ticks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticks(pub u64);

/// Nanoseconds since boot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Nanos(pub u64);

/// The hooks.
pub trait Time: crate::Base {
    /// The clock now. Monotonic on one CPU and between CPUs that synchronize (`TIME-1`).
    fn now(cpu: &Self::Cpu) -> Ticks;

    /// Ticks per second, constant after boot, never 0. Calibrated against a clock of known rate
    /// where the machine does not state it.
    fn ticks_per_second(machine: &Self::Machine) -> u64;

    /// Arms this CPU's one-shot timer, replacing what was armed; `None` disarms. It fires as
    /// [`Interrupt::Timer`](crate::irq::Interrupt::Timer) at or after `at`, never before by this
    /// clock (`TIME-2`), and fires at once if `at` has passed (`TIME-3`). A deadline farther
    /// than the hardware can count may fire early as a spurious [`Timer`](crate::irq::Interrupt::Timer):
    /// generic code compares with [`now`](Self::now) and arms again.
    fn set_deadline(cpu: &Self::Cpu, at: Option<Ticks>, irq: &crate::irq::IrqsOff);
}
