//! CPUs off and on again, at run time.
//!
//! A CPU goes off by itself, on the way out of its kernel, when it was asked to: it moves what is
//! queued on it elsewhere, lets go of its mm, says that it is off, and looks for requests a last
//! time ([`protocol::offline`]).
//!
//! CPU 0 stays on: the console's interrupts go there.

use crate::cpu::Cpu;
use crate::cpuset::CpuId;
use crate::pending::Pending;
use crate::request::Kinds;
use crate::sched::{self, context};
use crate::sync::{AtomicBool, Ordering};
use crate::syscall::Outcome;
use abi::Error;
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::smp::{PowerState, Smp};
use arch_contract::time::Time;
use arch_contract::tlb::Tlb;
use arch_current::Current;
use protocol::offline;

/// Whether a CPU has answered that it cannot go off. Relaxed: it stands for itself, and the request that
/// it answers comes after it was cleared.
pub struct Refused(AtomicBool);

impl Refused {
    pub const fn new() -> Self {
        Self(AtomicBool::new(false))
    }
}

/// Turns `number` on.
pub fn turn_on(cpu: &Cpu, number: u64) -> Outcome {
    match find(cpu, number) {
        Some((number, _)) => Outcome::Pending(Pending::CpuOn(number)),
        None => Outcome::Done(Err(Error::BadArgument)),
    }
}

/// Whether `number` is on, and takes work: a thread that is told so may be sent there. Starts it if
/// it is off, which it may become only now.
pub fn look_on(cpu: &Cpu, number: CpuId, irq: &IrqsOff) -> Option<Result<u64, Error>> {
    if cpu.kernel.affinities.takers().has(number) {
        return Some(Ok(0));
    }
    let other = cpu.kernel.any_cpu(number)?;
    // One asker at a time: to start a CPU that runs would be to reset it.
    let _starting = cpu.kernel.starting.lock(cpu);
    let stopped = Current::power_state(cpu.arch(), other.arch()) == PowerState::Stopped;
    if stopped && Current::start_cpu(cpu.arch(), other.arch(), irq).is_err() {
        return Some(Err(Error::NotSupported));
    }
    None
}

/// Turns `number` off.
pub fn turn_off(cpu: &Cpu, number: u64, irq: &IrqsOff) -> Outcome {
    match find(cpu, number) {
        Some((number, other)) if number != CpuId::BOOT => {
            if cpu.kernel.online().has(number) {
                other.refused.0.store(false, Ordering::Relaxed);
                cpu.ask(other, Kinds::GO_OFF, irq);
                if number == cpu.number {
                    cpu.serve();
                }
            }
            Outcome::Pending(Pending::CpuOff(number))
        }
        _ => Outcome::Done(Err(Error::BadArgument)),
    }
}

fn find(cpu: &Cpu, number: u64) -> Option<(CpuId, &'static Cpu)> {
    let number = CpuId::new(number)?;
    Some((number, cpu.kernel.any_cpu(number)?))
}

/// Whether `number` has gone off, or has refused.
pub fn look_off(cpu: &Cpu, number: CpuId) -> Option<Result<u64, Error>> {
    let other = cpu.kernel.any_cpu(number)?;
    if other.refused.0.load(Ordering::Relaxed) {
        return Some(Err(Error::BadArgument));
    }
    let off = offline::is_off(&cpu.kernel.online, number)
        && Current::power_state(cpu.arch(), other.arch()) == PowerState::Stopped;
    off.then_some(Ok(0))
}

/// This CPU was asked to go off, and has no current thread. Returns if it cannot.
pub fn go_off(cpu: &'static Cpu, irq: IrqsOff) -> IrqsOff {
    if !sched::evacuate(cpu) {
        cpu.refused.0.store(true, Ordering::Relaxed);
        return irq;
    }
    if mutant::is(Mutant::M32) {
        offline::go_off(cpu, &cpu.kernel.online, || {});
    }
    context::leave(cpu, &irq);
    context::drop_when_lazy(cpu, &irq);
    if !mutant::is(Mutant::DirtyCpus) {
        Current::flush_local_all(cpu.arch(), &irq);
    }
    Current::set_deadline(cpu.arch(), None, &irq);
    cpu.armed.set(sched::NEVER);
    offline::go_off(cpu, &cpu.kernel.online, || cpu.serve());
    // What was queued by someone who still saw it on.
    sched::evacuate(cpu);
    Current::stop_cpu(cpu.arch(), irq)
}
