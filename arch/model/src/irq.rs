//! Interrupt windows, and the halt that jumps to whatever ends it.

use crate::{Cpu, Event, Model};
use arch_contract::irq::{Interrupt, Interrupts, IrqsOff};
use arch_contract::time::{Ticks, Time};
use std::sync::atomic::Ordering;

/// Delivers all that is pending and says whether anything was.
fn deliver_pending(cpu: &Cpu) -> bool {
    let machine = cpu.machine;
    let now = Model::now(cpu);
    let mut any = false;
    if cpu.deadline.get().is_some_and(|at| at <= now) {
        cpu.deadline.set(None);
        machine.deliver(cpu, Interrupt::Timer);
        any = true;
    }
    if machine.shared(cpu.number).ipi.swap(false, Ordering::SeqCst) {
        machine.deliver(cpu, Interrupt::Ipi);
        any = true;
    }
    // The boot CPU has the console.
    if cpu.number == 0 {
        let raise = {
            let mut console = machine.console();
            console.arrive(now);
            console.raise()
        };
        if raise {
            machine.deliver(cpu, Interrupt::Console);
            any = true;
        }
    }
    any
}

impl Interrupts for Model {
    fn window(cpu: &Cpu, _irq: &mut IrqsOff) {
        cpu.machine.log(Some(cpu), Event::Window);
        deliver_pending(cpu);
    }

    /// # Panics
    /// If nothing can ever end the halt: on a real machine that is a hang.
    fn wait(cpu: &Cpu, _irq: &mut IrqsOff) {
        cpu.machine.log(Some(cpu), Event::Wait);
        if deliver_pending(cpu) {
            return;
        }
        let typed = match cpu.number {
            0 => cpu.machine.console().later.front().map(|(at, _)| *at),
            _ => None,
        };
        let next: Option<Ticks> = cpu.deadline.get().into_iter().chain(typed).min();
        let Some(next) = next else { panic!("CPU {}: idle with nothing armed", cpu.number) };
        cpu.machine.clock.fetch_max(next.0, Ordering::SeqCst);
        if !deliver_pending(cpu) {
            // Input arrived while the last was not drained: the halt goes on to the next event.
            assert!(typed.is_some(), "CPU {}: idle with nothing armed", cpu.number);
            Self::wait(cpu, _irq);
        }
    }
}
