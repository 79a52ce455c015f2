//! The interrupt controller the machine has: XICS, or XIVE where that was negotiated.
//!
//! Both give each CPU a place where interrupts from devices and from other CPUs arrive; what is asked
//! of either is the same, and stands here.

use crate::cpu::Cpu;
use crate::hcall::Status;
use crate::xics;
use crate::xive::Xive;
use arch_contract::boot::{HardwareCpu, PhysRange};
use arch_contract::irq::Interrupt;

/// What [`Controller::accept`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pending {
    Nothing,
    Delivered(Interrupt),
}

/// Why a controller cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControllerError {
    /// The hypervisor refuses a call.
    Refused(&'static str, Status),
    /// There are not as many sources for interrupts between CPUs as there are CPUs.
    TooFewSources,
    /// There is no memory for the event queues.
    NoRoom,
}

impl core::fmt::Display for ControllerError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Refused(call, status) => {
                write!(f, "the hypervisor refuses {call} ({}): try another ic-mode", status.0)
            }
            Self::TooFewSources => write!(f, "it has too few sources for this many CPUs"),
            Self::NoRoom => write!(f, "no room for its event queues: give the machine more memory"),
        }
    }
}

/// A call's status as a result.
pub(crate) fn accepted(call: &'static str, status: Status) -> Result<(), ControllerError> {
    if status == Status::SUCCESS { Ok(()) } else { Err(ControllerError::Refused(call, status)) }
}

/// One for the machine.
#[expect(clippy::large_enum_variant, reason = "there is one, in the `Machine`")]
pub enum Controller {
    Xics,
    Xive(Xive),
}

impl Controller {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Xics => "XICS",
            Self::Xive(_) => "XIVE",
        }
    }

    /// The device pages it needs mapped.
    pub fn pages(&self) -> impl Iterator<Item = PhysRange> {
        let xive = match self {
            Self::Xics => None,
            Self::Xive(xive) => Some(xive),
        };
        xive.into_iter().flat_map(Xive::pages)
    }

    /// Sets up what is one for the machine, for these CPUs. Once, on the boot CPU.
    pub fn start(&self, cpus: &[HardwareCpu]) -> Result<(), ControllerError> {
        match self {
            Self::Xics => Ok(()),
            Self::Xive(xive) => xive.start(cpus),
        }
    }

    /// Lets interrupts reach this CPU, as far as MSR[EE] does.
    pub fn open(&self) -> Result<(), ControllerError> {
        match self {
            Self::Xics => xics::open(),
            Self::Xive(xive) => {
                xive.open();
                Ok(())
            }
        }
    }

    /// Keeps all interrupts from this CPU, which is about to stop.
    pub fn close(&self, cpu: &Cpu) {
        match self {
            Self::Xics => xics::close(cpu),
            Self::Xive(xive) => xive.close(),
        }
    }

    /// Takes an interrupt that is pending for this CPU, and ends it: what is raised after the return
    /// arrives anew. What is still pending keeps asking.
    #[inline]
    pub fn accept(&self, cpu: &Cpu) -> Pending {
        match self {
            Self::Xics => xics::accept(cpu),
            Self::Xive(xive) => xive.accept(cpu),
        }
    }

    /// Interrupts `target`. The caller has ordered what its handler is to see.
    pub fn send(&self, target: &Cpu) {
        match self {
            Self::Xics => xics::send(target.server),
            Self::Xive(xive) => xive.send(target),
        }
    }
}
