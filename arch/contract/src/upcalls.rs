//! The only way up: what architecture code calls in the generic kernel.
//!
//! Each `boot/<arch>` instantiates the port's entry code once with the kernel's implementation,
//! so that trap assembly names its target by `sym`; the model takes it as a parameter.
//! Interrupts are off in every upcall.

use crate::Arch;
use crate::boot::BootInfo;
use crate::irq::Interrupt;
use crate::ret::Resume;
use crate::trap::Trap;
use core::ptr::NonNull;

/// Implemented by the generic kernel.
pub trait Upcalls<A: Arch>: 'static {
    /// Called once, on the boot CPU, when traps, the console, the clock and the kernel's own
    /// mappings work. Runs on the CPU's kernel stack. Returns when the first user thread is
    /// ready to run.
    fn boot(info: BootInfo, machine: &'static A::Machine, cpu: &'static A::Cpu) -> Resume<A::Frame>;

    /// Called on another CPU each time [`start_cpu`](crate::smp::Smp::start_cpu) has started it, on
    /// its kernel stack, bound, with the kernel's tables loaded.
    fn boot_secondary(cpu: &'static A::Cpu) -> Resume<A::Frame>;

    /// A system call of the current user thread, whose registers are saved in `frame`: the fast
    /// path. `frame` is the one of the last [`Resume`] of this CPU.
    fn syscall(cpu: &'static A::Cpu, frame: NonNull<A::Frame>) -> Resume<A::Frame>;

    /// Anything else that stopped the current user thread. Interrupts are acknowledged at their
    /// controller (end of interrupt) by the architecture, before the upcall where the source is
    /// an edge.
    fn trap(cpu: &'static A::Cpu, frame: NonNull<A::Frame>, trap: Trap) -> Resume<A::Frame>;

    /// An interrupt in a kernel window ([`Interrupts::window`](crate::irq::Interrupts::window) or
    /// `wait`). Takes no lock, never schedules: it notes what happened and returns.
    fn interrupt(cpu: &'static A::Cpu, interrupt: Interrupt);

    /// The kernel itself faulted at `pc`, in a way no recovery table covers. `describe` prints
    /// the cause and the registers. Prints a backtrace and ends the run (`TRAP-4`).
    fn kernel_fault(
        cpu: Option<&A::Cpu>,
        describe: &dyn Fn(&mut dyn core::fmt::Write) -> core::fmt::Result,
    ) -> !;

    /// Boot input is unusable: prints why and what to do, and ends the run (`BOOT-5`).
    fn boot_failure(why: core::fmt::Arguments<'_>) -> !;
}
