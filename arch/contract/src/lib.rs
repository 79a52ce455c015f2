//! What an architecture must supply, and what it may rely on.
//!
//! Each module is one subject: a trait whose documentation says, for every hook, who calls it and
//! when, what holds before, what is promised after, and who relies on the promise. Promises carry
//! clause ids from [`clauses`]; the same id names the test that checks the promise and the mutant
//! that breaks it. What a type can hold, a type holds: the tokens ([`irq::IrqsOff`],
//! [`context::LeftLazy`], [`context::NowUser`], [`context::Switched`], [`ret::Resume`]) make most
//! wrong calls fail to compile.
//!
//! An architecture is a type that implements [`Arch`], that is, every trait below. The generic
//! kernel calls these hooks as `Current::hook(…)`; the architecture calls up only through
//! [`upcalls::Upcalls`]. Nothing here contains assembly or asks for a target.
//!
//! Every architecture folder has the same file names as this one, one per trait.
#![no_std]

// For [`mutant`], which asks the environment on a host.
#[cfg(not(target_os = "none"))]
extern crate std;

pub mod addr;
pub mod barrier;
pub mod boot;
pub mod clauses;
pub mod console;
pub mod context;
pub mod device;
pub mod irq;
pub mod machine;
pub mod mutant;
pub mod mutants;
pub mod pte;
pub mod ret;
pub mod smp;
pub mod time;
pub mod tlb;
pub mod trap;
pub mod upcalls;
pub mod user;
pub mod vector;
pub mod watch;

pub use clauses::Clause;

/// The two values every hook hangs off. No hook keeps state anywhere else.
pub trait Base: Sized + 'static {
    /// What the architecture knows of the whole machine: features found, controllers, the physical
    /// map. One per machine; in the model one per run.
    type Machine: Sync + 'static;

    /// What the architecture keeps per CPU. Reached through a register on a real machine. All of
    /// it is written by its own CPU only, through cells and atomics: `&mut Cpu` does not exist.
    type Cpu: 'static;

    /// The name a person reads: `x86_64`, `ppc64le`, `model`.
    const NAME: &'static str;

    /// The machine this CPU belongs to.
    fn machine(cpu: &Self::Cpu) -> &Self::Machine;

    /// The generic kernel's per-CPU value, as it was given to [`upcalls::Upcalls::boot`]'s
    /// [`bind`](Self::bind); null before. Two loads at most: every trap does it.
    fn upper(cpu: &Self::Cpu) -> *const ();

    /// Stores the generic kernel's per-CPU value. Called once per CPU, before its first trap from
    /// user mode and before its first interrupt window.
    fn bind(cpu: &Self::Cpu, upper: *const ());
}

/// An architecture: all hooks.
pub trait Arch:
    Base
    + barrier::Barriers
    + boot::Boot
    + console::Console
    + context::Contexts
    + device::Devices
    + irq::Interrupts
    + machine::Power
    + pte::Paging
    + ret::Return
    + smp::Smp
    + time::Time
    + tlb::Tlb
    + trap::Traps
    + user::UserAccess
    + vector::Vector
    + watch::Watch
{
}

/// The answer of a hook that this port does not have yet. It names what is missing, so that the
/// failure is reported by clause and stays confined to it. A stub never pretends to have worked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotImplemented(pub Clause);
