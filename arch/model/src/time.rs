//! A clock that stands still unless someone moves it. One tick is one nanosecond.

use crate::{Cpu, Event, Machine, Model};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::time::{Ticks, Time};
use std::sync::atomic::Ordering;

impl Time for Model {
    fn now(cpu: &Cpu) -> Ticks {
        Ticks(cpu.machine.clock.load(Ordering::SeqCst))
    }

    fn ticks_per_second(_machine: &Machine) -> u64 {
        1_000_000_000
    }

    fn set_deadline(cpu: &Cpu, at: Option<Ticks>, _irq: &IrqsOff) {
        cpu.machine.log(Some(cpu), Event::SetDeadline(at));
        let dropped = mutant::is(Mutant::PastDeadlineDropped) && at.is_some_and(|at| at <= Self::now(cpu));
        cpu.deadline.set(at.filter(|_| !dropped));
    }
}
