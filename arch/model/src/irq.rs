//! Interrupt windows, and the halt.

use crate::{Cpu, Event, Model};
use arch_contract::irq::{Interrupts, IrqsOff};

impl Interrupts for Model {
    fn window(cpu: &Cpu, _irq: &mut IrqsOff) {
        cpu.machine.log(Some(cpu), Event::Window);
        cpu.deliver_pending();
    }

    /// # Panics
    /// If nothing can ever end the halt: on a real machine that is a hang.
    fn wait(cpu: &Cpu, _irq: &mut IrqsOff) {
        cpu.machine.log(Some(cpu), Event::Wait);
        cpu.halt();
    }
}
