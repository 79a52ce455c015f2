//! Text for a person, and protocol lines for the host, over the boot console.
//!
//! A line of the protocol has [`abi::PROTOCOL`] at its beginning. Programs share the console, but
//! what they write goes through [`crate::console`], which keeps them from forging such a line.

use crate::mm::Machine;
use arch_contract::console::Console;
use arch_current::Current;
use core::fmt::{self, Write};

/// Writes text to the console. `None` works too: before the machine is known, and in a panic.
pub struct Text<'a>(pub Option<&'a Machine>);

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        Current::write(self.0, text.as_bytes());
        Ok(())
    }
}

/// Prints a line of the kernel's own: `spandrel: …`.
pub fn line(machine: Option<&Machine>, text: fmt::Arguments<'_>) {
    // Writing to the console cannot fail.
    let _ = writeln!(Text(machine), "spandrel: {text}");
}

/// Prints a line of the protocol.
pub fn protocol(machine: Option<&Machine>, text: fmt::Arguments<'_>) {
    let _ = writeln!(Text(machine), "\n{}{text}", abi::PROTOCOL);
}
