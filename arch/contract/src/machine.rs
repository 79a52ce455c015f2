//! Ending the machine, and the last words before that.

use crate::addr::VirtAddr;

/// How the guest ends. The *status* a program ended with goes over the console as a protocol
/// line, since a hypervisor's exit code can neither carry 0 nor values above 127.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The status line was printed; QEMU exits with [`EXIT_ENDED`].
    Ended,
    /// A panic, an unexpected trap or unusable boot input; QEMU exits with [`EXIT_FAILED`].
    Failed,
}

/// What QEMU exits with after [`Verdict::Ended`]: `0x2a << 1 | 1`, on every machine.
pub const EXIT_ENDED: u8 = 85;
/// What QEMU exits with after [`Verdict::Failed`]: `0x2b << 1 | 1`, on every machine.
pub const EXIT_FAILED: u8 = 87;

/// The hooks.
pub trait Power: crate::Base {
    /// Ends the machine at once. Where QEMU's exit device is missing it is powered off by the
    /// firmware's means, and if all fails the CPU halts for good with interrupts off. Callable
    /// at any time, in any state, on any CPU.
    fn power_off(machine: Option<&Self::Machine>, verdict: Verdict) -> !;

    /// Writes this CPU's registers for a person, several to a line: the general ones as they are
    /// here, and those that say how memory is translated. For panics; a fault has a frame.
    fn print_registers(out: &mut dyn core::fmt::Write) -> core::fmt::Result;

    /// Calls `visit` with the return addresses of the calling kernel code, innermost first, as
    /// far as the frame chain is sound (at most 64). Reads only mapped kernel stack. For panics.
    fn backtrace(visit: &mut dyn FnMut(VirtAddr));
}
