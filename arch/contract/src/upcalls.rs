//! The only way up: what architecture code calls in the generic kernel.
//!
//! Each `boot/<arch>` instantiates the port's entry code once with the kernel's implementation,
//! so that trap assembly names its target by `sym`; the model takes it as a parameter.
//! Interrupts are off in every upcall.

use crate::boot::BootInfo;
use crate::irq::Interrupt;
use crate::ret::Resume;
use crate::trap::{Trap, Traps};
use crate::{Arch, Base};
use core::ptr::NonNull;

/// A system call of the current user thread, whose registers are saved in the frame: that of the last
/// [`Resume`] of this CPU.
pub type Way<A> =
    fn(cpu: &'static <A as Base>::Cpu, frame: NonNull<<A as Traps>::Frame>) -> Resume<<A as Traps>::Frame>;

/// Ways of system calls.
pub const WAYS: usize = 64;

/// The table from which entry code takes a way: a port's function, `$way::<$upcalls, NUMBER>`, for each, by
/// which what is called has the calling convention that the port wants.
#[macro_export]
macro_rules! ways {
    ($way:ident, $upcalls:ty) => {
        $crate::ways!($way, $upcalls, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27
            28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60
            61 62 63)
    };
    ($way:ident, $upcalls:ty, $($number:literal)*) => {
        [$($way::<$upcalls, $number>),*]
    };
}

/// Implemented by the generic kernel.
pub trait Upcalls<A: Arch>: 'static {
    /// Called once, on the boot CPU, when traps, the console, the clock and the kernel's own
    /// mappings work. Runs on the CPU's kernel stack. Returns when the first user thread is
    /// ready to run.
    fn boot(info: BootInfo, machine: &'static A::Machine, cpu: &'static A::Cpu) -> Resume<A::Frame>;

    /// Called on another CPU each time [`start_cpu`](crate::smp::Smp::start_cpu) has started it, on
    /// its kernel stack, bound, with the kernel's tables loaded.
    fn boot_secondary(cpu: &'static A::Cpu) -> Resume<A::Frame>;

    /// The ways of system calls, by their numbers, so that entry code takes the right one at once. The
    /// last is also that of every number above.
    const WAYS: &'static [Way<A>; WAYS];

    /// A system call, for who has not found its way: as [`Way`].
    fn syscall(cpu: &'static A::Cpu, frame: NonNull<A::Frame>) -> Resume<A::Frame> {
        // SAFETY: it is the current thread's frame, which this CPU alone has.
        let number = A::syscall(unsafe { frame.as_ref() }).number;
        Self::WAYS[number.min(WAYS as u64 - 1) as usize](cpu, frame)
    }

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
