//! The timebase is the clock, the decrementer the one-shot timer (Power ISA 3.0B Book III §7).
//!
//! The timebase is one for all CPUs. The decrementer counts down at the same rate and asks for an
//! interrupt as long as it is negative.

use crate::Ppc64le;
use crate::cpu::{Cpu, Machine};
use crate::spr::{self, number};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::time::{Ticks, Time};

/// Sets the decrementer as far ahead as it goes.
pub(crate) fn disarm(cpu: &Cpu) {
    // SAFETY: any value is right for this register; it takes effect by itself.
    unsafe { spr::write::<{ number::DEC }>(cpu.machine.decrementer_max) };
}

/// Whether the decrementer is negative, by the sign bit of the width it has.
pub(crate) fn expired(cpu: &Cpu) -> bool {
    spr::read::<{ number::DEC }>() & (cpu.machine.decrementer_max + 1) != 0
}

impl Time for Ppc64le {
    #[inline(always)]
    fn now(_cpu: &Cpu) -> Ticks {
        Ticks(spr::read::<{ number::TB }>())
    }

    fn ticks_per_second(machine: &Machine) -> u64 {
        machine.timebase
    }

    fn set_deadline(cpu: &Cpu, at: Option<Ticks>, _irq: &IrqsOff) {
        let Some(at) = at else {
            cpu.armed.set(false);
            return disarm(cpu);
        };
        cpu.armed.set(true);
        // Counts through 0: it fires one tick after `ticks` have passed, so never early, and after
        // one tick for a deadline that is past.
        let ticks = at.0.saturating_sub(Self::now(cpu).0).min(cpu.machine.decrementer_max);
        if mutant::is(Mutant::PastDeadlineDropped) && ticks == 0 {
            return disarm(cpu);
        }
        // SAFETY: as in `disarm`.
        unsafe { spr::write::<{ number::DEC }>(ticks) };
    }
}
