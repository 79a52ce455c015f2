//! The boot console: bytes out, bytes in. Everything else about terminals is user mode's.

/// The hooks.
pub trait Console: crate::Base {
    /// Writes all of `bytes`, unbuffered, polling the device where it must. Works from the first
    /// instruction after [`crate::boot`]'s early set-up and in a panic, when `machine` is not
    /// there yet. A newline is sent as it is: the terminal's convention is the host's.
    fn write(machine: Option<&Self::Machine>, bytes: &[u8]);

    /// Takes up to `into.len()` bytes that have arrived, 0 if none. Never waits. After it has
    /// returned 0, later input raises [`Interrupt::Console`](crate::irq::Interrupt::Console).
    fn read(cpu: &Self::Cpu, into: &mut [u8]) -> usize;
}
