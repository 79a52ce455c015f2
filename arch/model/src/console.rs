//! The console: two buffers, and input that may be scripted for later.

use crate::machine::Console as Buffers;
use crate::{Cpu, Machine, Model};
use arch_contract::console::Console;
use arch_contract::time::Ticks;

impl Buffers {
    /// Lets input that is due at `now` arrive.
    pub(crate) fn arrive(&mut self, now: Ticks) {
        while self.later.front().is_some_and(|(at, _)| *at <= now) {
            let (_, bytes) = self.later.pop_front().expect("just seen");
            self.input.extend(bytes);
        }
    }

    /// Whether an arrival has to be told now. Once told, it is not told again until a read has
    /// found nothing.
    pub(crate) fn raise(&mut self) -> bool {
        let raise = !self.raised && !self.input.is_empty();
        self.raised |= raise;
        raise
    }
}

impl Console for Model {
    /// Without a machine there is no buffer: the bytes go to the host's standard error.
    fn write(machine: Option<&Machine>, bytes: &[u8]) {
        match machine {
            Some(machine) => machine.console().output.extend_from_slice(bytes),
            None => eprint!("{}", String::from_utf8_lossy(bytes)),
        }
    }

    fn read(cpu: &Cpu, into: &mut [u8]) -> usize {
        let mut console = cpu.machine.console();
        let count = into.len().min(console.input.len());
        for (slot, byte) in into.iter_mut().zip(console.input.drain(..count)) {
            *slot = byte;
        }
        if count == 0 {
            console.raised = false;
        }
        count
    }
}
