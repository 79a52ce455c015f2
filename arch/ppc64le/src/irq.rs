//! Interrupts, polled.
//!
//! The kernel opens no window for the hardware to interrupt it: a window asks the interrupt
//! controller and the decrementer what is pending and delivers that. Idle needs H_CEDE, which
//! enables interrupts as it wakes; the interrupt that follows at once is put off by the vector
//! (see `trap_entry.rs`), stays pending since sources are level-triggered, and is found by the
//! poll. So kernel code is interrupted nowhere, and needs no stack for it.

use crate::controller::Pending;
use crate::cpu::Cpu;
use crate::{Ppc64le, time};
use arch_contract::irq::{Interrupt, Interrupts, IrqsOff};
use core::arch::global_asm;

// H_CEDE (PAPR §14.11.3.2): gives the virtual CPU up until an interrupt is pending. It returns with
// EE on; the window is from there to the instruction that turns it off, which is in it too.
global_asm!(
    ".pushsection .text.cede, \"ax\", @progbits",
    ".balign 16",
    ".globl spandrel_cede",
    "spandrel_cede:",
    "li 3, 0xe0",
    "sc 1",
    ".globl spandrel_cede_window",
    "spandrel_cede_window:",
    "li 0, 2", // RI, not EE
    "mtmsrd 0, 1",
    ".globl spandrel_cede_window_end",
    "spandrel_cede_window_end:",
    "blr",
    ".popsection",
);

unsafe extern "C" {
    safe fn spandrel_cede();
}

/// The external interrupt that is pending at the controller: acknowledged, ended, named.
pub(crate) fn take_external(cpu: &Cpu) -> Interrupt {
    match cpu.machine.controller.accept(cpu) {
        Pending::Nothing => Interrupt::Spurious,
        Pending::Delivered(interrupt) => interrupt,
    }
}

/// The decrementer has run out. It is set far ahead, or it would stay pending.
pub(crate) fn take_decrementer(cpu: &Cpu) -> Interrupt {
    time::disarm(cpu);
    if cpu.armed.replace(false) { Interrupt::Timer } else { Interrupt::Spurious }
}

/// Delivers all that is pending. How many there were.
fn poll(cpu: &Cpu) -> usize {
    // SAFETY: every `Cpu` is in static storage and never moves; entry code made it so.
    let cpu: &'static Cpu = unsafe { &*core::ptr::from_ref(cpu) };
    let mut delivered = 0;
    if time::expired(cpu) && take_decrementer(cpu) == Interrupt::Timer {
        (cpu.on_interrupt)(cpu, Interrupt::Timer);
        delivered += 1;
    }
    while let Pending::Delivered(interrupt) = cpu.machine.controller.accept(cpu) {
        (cpu.on_interrupt)(cpu, interrupt);
        delivered += 1;
    }
    delivered
}

impl Interrupts for Ppc64le {
    fn window(cpu: &Cpu, _irq: &mut IrqsOff) {
        poll(cpu);
    }

    fn wait(cpu: &Cpu, _irq: &mut IrqsOff) {
        // What becomes pending after a poll ends the H_CEDE that follows it at once (`TIME-4`).
        while poll(cpu) == 0 {
            spandrel_cede();
        }
    }
}
