//! A simulated machine: the architecture layer on the host, for running the generic kernel in
//! ordinary tests.
//!
//! The idea is to be *worse* than real machines in what they permit and *stricter* in what they
//! forbid. Translations are cached whenever they are used and leave the cache only through the
//! flush hooks or, under schedules, by chance, so a forgotten flush shows. Nothing serializes or
//! fences unless the [`Profile`] says that this machine's instruction does, and until something does
//! a core executes what it once fetched. A translation that is found under a tag that has
//! changed hands, a hardware id that is taken while a CPU still remembers its former user, a load
//! without the barrier before it: each ends the run with a message that names the clause.
//! A physical address outside RAM, a retired address space that is loaded, or one that is retired
//! while a CPU holds it, ends the run with a message that names the clause. Time stands still
//! but for [`Machine::advance`] and a halt, which jumps to the next thing that can end it; where
//! nothing can, the run ends: a deadlock cannot look like patience.
//!
//! A test makes a [`Machine`] with [`Machine::new`], binds the kernel's
//! [`Upcalls`](arch_contract::upcalls::Upcalls) with [`Machine::connect`], and then plays the user
//! itself: it sets registers in a [`Frame`] and calls the upcalls. What the hooks did, in order, is
//! in [`Machine::events`].
//!
//! Or every CPU is a host thread ([`Pace::Threads`]): each makes its own upcalls, and waits where
//! [`Cpu::wait_for_start`] and the halt let it.
//!
//! One file per trait of the contract, plus the [`profile`], the [`events`] and the [`cpu`].

pub mod cpu;
pub mod device;
pub mod events;
pub mod host;
pub mod profile;

mod halt;

mod barrier;
mod boot;
mod code;
mod console;
mod context;
mod irq;
mod machine;
mod pte;
mod ret;
mod smp;
mod snapshot;
mod time;
mod tlb;
mod trap;
mod user;
pub mod vector;
mod walker;
mod watch;

use std::sync::atomic::Ordering;

pub use code::Version;
pub use context::Mm;
pub use cpu::{Cpu, Loaded};
pub use device::Bridge;
pub use events::Event;
pub use halt::Ended;
pub use machine::{Config, Machine, Pace, PowerOff, RAM_BASE};
pub use profile::Profile;
pub use pte::KERNEL_ENTRY;
pub use snapshot::Snapshot;
pub use trap::Frame;
pub use vector::{AREA_BYTES, VECTOR_WORDS};

/// The architecture.
pub struct Model;

impl arch_contract::Arch for Model {}

impl arch_contract::Base for Model {
    type Machine = Machine;
    type Cpu = Cpu;

    const NAME: &'static str = "model";

    fn machine(cpu: &Cpu) -> &Machine {
        cpu.machine
    }

    fn upper(cpu: &Cpu) -> *const () {
        cpu.upper()
    }

    fn bind(cpu: &Cpu, upper: *const ()) {
        // Release: what `upper` leads to is written before any CPU finds it.
        cpu.upper.store(upper.cast_mut(), Ordering::Release);
    }
}
