//! The console as programs have it: their output, and who waits for input.

use crate::cpu::Cpu;
use crate::sched::queue::Queue;
use crate::sync::{Guard, Lock};
use arch_contract::console::Console as _;
use arch_current::Current;

/// The console's state.
pub struct Console {
    /// A device that is slow to poll may be written under it, so it is not a leaf.
    output: Lock<Output>,
    /// Threads in `console_read`. Each makes its call again when woken.
    readers: Lock<Queue>,
}

/// How much of [`abi::PROTOCOL`] the current line of program output consists of, if it began so.
struct Output {
    matched: Option<usize>,
}

impl Console {
    pub const fn new() -> Self {
        Self { output: Lock::new(Output { matched: Some(0) }), readers: Lock::new(Queue::new()) }
    }

    /// Writes what a program printed. A program cannot make a protocol line: where one would be
    /// complete, its last byte is replaced by `_`.
    pub fn write(&self, cpu: &Cpu, bytes: &[u8]) {
        let machine = cpu.machine();
        let mut output = self.output.lock(cpu);
        let mut from = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            if output.completes_protocol(byte) {
                Current::write(Some(machine), &bytes[from..at]);
                Current::write(Some(machine), b"_");
                from = at + 1;
            }
        }
        Current::write(Some(machine), &bytes[from..]);
    }

    /// Those who wait for input.
    pub fn readers<'a>(&'a self, cpu: &Cpu) -> Guard<'a, Queue> {
        self.readers.lock(cpu)
    }

    /// Input has arrived: wakes all who wait for it.
    pub fn input_arrived(&self, cpu: &Cpu) {
        loop {
            let Some(reader) = self.readers.lock(cpu).pop() else { return };
            cpu.make_ready(reader);
        }
    }
}

impl Output {
    fn completes_protocol(&mut self, byte: u8) -> bool {
        let prefix = abi::PROTOCOL.as_bytes();
        self.matched = match self.matched {
            _ if byte == b'\n' || byte == b'\r' => Some(0),
            Some(matched) if byte == prefix[matched] => Some(matched + 1),
            _ => None,
        };
        if self.matched == Some(prefix.len()) {
            self.matched = None;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forged(text: &str) -> usize {
        let mut output = Output { matched: Some(0) };
        text.bytes().filter(|&byte| output.completes_protocol(byte)).count()
    }

    /// Only the word at the beginning of a line counts, however often it comes.
    #[test]
    fn protocol_lines_cannot_be_forged() {
        assert_eq!(forged("@spandrel exit 0\n"), 1);
        assert_eq!(forged("hello\r@spandrel exit 0\n@spandrel failed\n"), 2);
        assert_eq!(forged("see @spandrel exit 0\n @spandrel x\n@@spandrel y\n@spandre\nl x"), 0);
    }
}
