//! The interrupt controller of PAPR guests, by hypervisor calls (PAPR §14.11.1, and §6.2).
//!
//! One presentation controller per CPU, with a current priority (CPPR) and a request register for
//! interrupts from other CPUs (MFRR). A smaller number is more urgent; 0xff lets all in and asks
//! for none.

use crate::controller::{ControllerError, Pending, accepted};
use crate::cpu::Cpu;
use crate::hcall::{self, Call, Status};
use crate::spr;
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

/// Takes the most urgent interrupt, if one is pending, and ends it. Sources are message-signalled
/// or, as this CPU's MFRR, cleared here, so ending first loses nothing.
pub fn accept(cpu: &Cpu) -> Pending {
    // SAFETY: acknowledges an interrupt to this CPU's controller; no memory is touched.
    let (status, [xirr, ..]) = unsafe { hcall::call(Call::Xirr, [LEAST]) };
    let source = xirr as u32 & 0x00ff_ffff;
    if status != Status::SUCCESS || source == NONE {
        return Pending::Nothing;
    }
    if source == IPI {
        // Before the end of interrupt: a request made after this line raises it anew.
        request(cpu.server, LEAST);
    }
    // SAFETY: ends what was just accepted.
    let _ = unsafe { hcall::call(Call::Eoi, [xirr & 0xffff_ffff]) };
    Pending::Delivered(match source {
        IPI => Interrupt::Ipi,
        _ if Some(source) == cpu.machine.console_interrupt => Interrupt::Console,
        _ => Interrupt::Spurious,
    })
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

/// Directs a source at a CPU and lets it through.
pub fn enable(source: u32, server: HardwareCpu, set_xive: u32) -> Result<(), crate::rtas::RtasError> {
    crate::rtas::call(set_xive, &[source, server.0, PRIORITY as u32]).map(|[]| ())
}
