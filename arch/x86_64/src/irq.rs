//! Interrupt windows and idle.

use crate::X86_64;
use crate::cpu::Cpu;
use arch_contract::irq::{Interrupts, IrqsOff};
use core::arch::asm;

impl Interrupts for X86_64 {
    fn window(_: &Cpu, _: &mut IrqsOff) {
        // `sti` takes effect after the next instruction (SDM vol. 2 STI); what is pending is taken
        // between `nop` and `cli`, one after the other, since a handler returns with IF set.
        // SAFETY: handlers keep to the kernel's stack below here; all registers come back. The
        // token is borrowed exclusively, so nobody relies on interrupts being off meanwhile.
        unsafe { asm!("sti", "nop", "cli") };
    }

    fn wait(_: &Cpu, _: &mut IrqsOff) {
        // The one instruction after `sti` that cannot be interrupted is `hlt`: what became pending
        // since the caller's last look ends the halt at once (TIME-4).
        // SAFETY: as in `window`.
        unsafe { asm!("sti", "hlt", "cli") };
    }
}
