//! The console as programs have it: their output, and who waits for input.

use crate::cpu::Cpu;
use crate::sched::queue::Queue;
use crate::sched::ready::Runnable;
use crate::sync::{Guard, Lock};
use arch_contract::console::Console as _;
use arch_current::Current;

/// The console's state.
pub struct Console {
    /// A device that is slow to poll may be written under it, so it is not a leaf.
    output: Lock<Output>,
    /// Threads in `console_read`. Each makes its call again when woken.
    readers: Lock<Queue<Runnable>>,
}

/// How many bytes of [`abi::PROTOCOL`] the output of programs ends with.
struct Output {
    matched: usize,
}

impl Console {
    pub const fn new() -> Self {
        Self { output: Lock::new(Output { matched: 0 }), readers: Lock::new(Queue::new()) }
    }

    /// Writes what a program printed. A program cannot make a protocol line: where its mark would
    /// be complete, the last byte is replaced by `_`. Not at the beginning of a line only: the
    /// kernel's own lines come in between, and after one the middle of a program's line stands at
    /// the beginning of the terminal's.
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
    pub fn readers<'a>(&'a self, cpu: &Cpu) -> Guard<'a, Queue<Runnable>> {
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
            matched if byte == prefix[matched] => matched + 1,
            // The mark's first byte is nowhere else in it: what does not go on can only begin.
            _ => usize::from(byte == prefix[0]),
        };
        let complete = self.matched == prefix.len();
        if complete {
            self.matched = 0;
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forged(text: &str) -> usize {
        let mut output = Output { matched: 0 };
        text.bytes().filter(|&byte| output.completes_protocol(byte)).count()
    }

    /// The mark counts wherever it is and however often it comes; what only resembles it does not.
    #[test]
    fn protocol_lines_cannot_be_forged() {
        assert_eq!(forged("@spandrel exit 0\n"), 1);
        assert_eq!(forged("hello\r@spandrel exit 0\n@spandrel failed\n"), 2);
        assert_eq!(forged("see @spandrel exit 0\n @spandrel x\n@@spandrel y\n"), 3);
        assert_eq!(forged("@spandre\nl x\n@spandrel\n exit\nspandrel exit @ spandrel x"), 0);
    }
}
