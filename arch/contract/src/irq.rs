//! Interrupts: off while the kernel runs, open only in windows that generic code asks for.
//!
//! The kernel runs to completion with interrupts disabled. They are delivered in user mode, and in
//! two kernel places: a window between slices of a kernel task, and idle. Both need an exclusive
//! borrow of the token, so nothing that assumes "interrupts are off" can be held across them.

use core::marker::PhantomData;

/// Proof that interrupts are off on this CPU. Neither `Send` nor `Clone`: each entry into the
/// kernel has one, and lends it.
pub struct IrqsOff(PhantomData<*mut ()>);

impl IrqsOff {
    /// # Safety
    /// 1. Interrupts are disabled on this CPU and stay so while the token lives, but for
    ///    [`Interrupts::window`] and [`Interrupts::wait`].
    /// 2. No other token of this CPU is used to open a window while this one lives.
    pub unsafe fn assume() -> Self {
        Self(PhantomData)
    }
}

/// What interrupted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interrupt {
    /// The one-shot deadline of [`crate::time::Time::set_deadline`] is due. May be early news
    /// of nothing (a deadline that was moved): the receiver compares with the clock.
    Timer,
    /// The console has input. Level: it may come again until [`crate::console::Console::read`]
    /// returns 0.
    Console,
    /// A device. A message is acknowledged at the controller; a line is masked too. The caller may take
    /// several for one.
    Device(crate::device::Source),
    /// Another CPU asked for something: [`crate::smp::Smp::send_ipi`].
    Ipi,
    /// Nothing. Already acknowledged; counted, otherwise ignored.
    Spurious,
}

/// The hooks.
pub trait Interrupts: crate::Base {
    /// Opens a window: what is pending is delivered through
    /// [`Upcalls::interrupt`](crate::upcalls::Upcalls::interrupt), then interrupts are off again.
    ///
    /// Called by the executor between slices of kernel tasks. Not a barrier, not a scheduling
    /// point. After it returns, no interrupt that was pending when it was called still is, unless
    /// its source raised it anew.
    fn window(cpu: &Self::Cpu, irq: &mut IrqsOff);

    /// Idle: like [`window`](Self::window), but halts the CPU until at least one interrupt has
    /// been delivered. No wake-up is lost: one that becomes pending between the caller's last
    /// look at its queues and the halt ends the halt (`TIME-4`). On a hypervisor the virtual CPU
    /// is given up.
    fn wait(cpu: &Self::Cpu, irq: &mut IrqsOff);
}
