//! The interrupt controller of PAPR guests, by hypervisor calls (PAPR §14.11.1, and §6.2).
//!
//! One presentation controller per CPU, with a current priority (CPPR) and a request register for
//! interrupts from other CPUs (MFRR). A smaller number is more urgent; 0xff lets all in and asks
//! for none.

use crate::controller::{ControllerError, Pending, accepted};
use crate::cpu::Cpu;
use crate::hcall::{self, Call, Status};
use crate::rtas::{self, RtasError};
use crate::passage::Wiring;
use crate::sources::Sources;
use crate::spr;
use crate::tree::RtasTokens;
use arch_contract::boot::HardwareCpu;
use arch_contract::irq::Interrupt;
use arch_contract::mutant::{self, Mutant};

/// Priority given to every source.
const PRIORITY: u64 = 5;
/// Least urgent: as CPPR, everything may interrupt; as MFRR, nothing asks.
const LEAST: u64 = 0xff;
/// Most urgent: as CPPR, nothing may interrupt.
const MOST: u64 = 0;
/// Sources that are not devices.
const NONE: u32 = 0;
const IPI: u32 = 2;

/// Opens this CPU's presentation controller. The error is the hypervisor's: it has no XICS.
pub fn open() -> Result<(), ControllerError> {
    // SAFETY: sets this CPU's interrupt priority; interrupts are off.
    let (status, _) = unsafe { hcall::call(Call::Cppr, [LEAST]) };
    accepted("H_CPPR", status)
}

/// Takes the most urgent interrupt, if one is pending, and ends it. Sources are message-signalled,
/// or cleared or silenced here, as this CPU's MFRR and lines, so ending first loses nothing.
pub fn accept(cpu: &Cpu) -> Pending {
    // SAFETY: acknowledges an interrupt to this CPU's controller; no memory is touched.
    let (status, [xirr, ..]) = unsafe { hcall::call(Call::Xirr, [LEAST]) };
    let source = xirr as u32 & 0x00ff_ffff;
    if status != Status::SUCCESS || source == NONE {
        return Pending::Nothing;
    }
    // Before the end of interrupt: what is raised after this line arrives anew.
    let interrupt = match source {
        IPI => {
            request(cpu.server, LEAST);
            Interrupt::Ipi
        }
        _ if Some(source) == cpu.machine.console_interrupt => Interrupt::Console,
        _ => Sources::taken(cpu, source).map_or(Interrupt::Spurious, Interrupt::Device),
    };
    // SAFETY: ends what was just accepted.
    let _ = unsafe { hcall::call(Call::Eoi, [xirr & 0xffff_ffff]) };
    Pending::Delivered(interrupt)
}

#[inline(always)]
fn request(server: HardwareCpu, priority: u64) {
    // SAFETY: asks the controller of a CPU for an interrupt, or takes the request back.
    let _ = unsafe { hcall::call(Call::Ipi, [server.0.into(), priority]) };
}

/// Interrupts `server`.
pub fn send(server: HardwareCpu) {
    if !mutant::is(Mutant::InterruptUnordered) {
        // PAPR promises no order between what is written here and the handler (`SMP-1`).
        spr::sync();
    }
    request(server, PRIORITY - 1);
}

/// Closes this CPU's presentation controller: nothing interrupts it, and no request is left.
pub fn close(cpu: &Cpu) {
    request(cpu.server, LEAST);
    // SAFETY: as in `open`.
    let _ = unsafe { hcall::call(Call::Cppr, [MOST]) };
}

/// The calls that switch sources (PAPR §7.3.10.1), which come together.
#[derive(Clone, Copy)]
pub struct SourceCalls {
    set_xive: u32,
    on: u32,
    off: u32,
}

impl SourceCalls {
    /// `None`: firmware lacks one of them.
    pub fn find(tokens: &RtasTokens) -> Option<Self> {
        Some(Self { set_xive: tokens.set_xive?, on: tokens.int_on?, off: tokens.int_off? })
    }

    /// Directs a source at a CPU, and lets it through unless it is a line.
    pub fn direct(&self, source: u32, server: HardwareCpu, wiring: Wiring) -> Result<(), RtasError> {
        rtas::call(self.set_xive, &[source, server.0, PRIORITY as u32]).map(|[]| ())?;
        match wiring {
            Wiring::Message => Ok(()),
            Wiring::Line => rtas::call(self.off, &[source]).map(|[]| ()),
        }
    }

    /// Lets a source through that was switched off; at once if it is asserted.
    pub fn on(&self, source: u32) {
        // It was directed before, so firmware knows it.
        let _ = rtas::call::<0>(self.on, &[source]);
    }

    pub fn off(&self, source: u32) {
        // As above.
        let _ = rtas::call::<0>(self.off, &[source]);
    }
}
