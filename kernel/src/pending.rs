//! Calls that wait for other CPUs.
//!
//! The kernel does not block, and another CPU may take long: its virtual CPU may not even be
//! running. So a call that has asked others for something looks a few times and then gives the CPU
//! up: the thread stands [`Standing::Pending`](crate::thread::Standing::Pending) in the timer queue,
//! and is looked at again until what it waits for has happened. The call is not made again; its
//! result is stored when it is there. A thread that is killed meanwhile just never looks.

use crate::cpu::Cpu;
use crate::cpuset::{CpuId, CpuSet};
use crate::hotplug;
use crate::kernel::Waiting;
use crate::object::Ref;
use crate::process::Process;
use crate::request::Ticket;
use crate::sched::affinity;
use crate::sync::Ordering;
use crate::thread::Thread;
use abi::Error;
use abi::membarrier::Command;
use arch_contract::context::ContextId;
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::smp::Smp;
use arch_current::Current;

/// Looks before the thread gives the CPU up.
const LOOKS: u32 = 64;
/// Nanoseconds between two looks after that.
pub const PAUSE: u64 = 100_000;

/// What a call waits for.
#[derive(Clone)]
pub enum Pending {
    /// The targets' barriers.
    Membarrier { ticket: Ticket, command: Command, mm: ContextId },
    /// That every CPU of the process knows of its registration.
    Registration { ticket: Ticket, command: Command },
    /// A CPU to come on.
    CpuOn(CpuId),
    /// A CPU to go off.
    CpuOff(CpuId),
    /// All teardowns.
    Teardowns,
    /// A thread to leave a CPU that it may not run on any more; with the result.
    Move(Ref<Thread>, CpuSet),
}

impl Pending {
    /// The result of the call, if it is there. `process` is the caller's.
    pub fn look(&self, cpu: &Cpu, process: &Process, irq: &IrqsOff) -> Option<Result<u64, Error>> {
        let kernel = cpu.kernel;
        match *self {
            Self::Membarrier { ticket, command, mm } => ticket.is_served(kernel).then(|| {
                protocol::membarrier::finish(cpu, command, mm);
                Ok(0)
            }),
            Self::Registration { ticket, command } => (ticket.is_served(kernel) || mutant::is(Mutant::M20))
                .then(|| {
                    process.space.shared().commands().fetch_or(command as u32, Ordering::Relaxed);
                    Ok(0)
                }),
            Self::CpuOn(number) => hotplug::look_on(cpu, number, irq),
            Self::CpuOff(number) => hotplug::look_off(cpu, number),
            Self::Move(ref thread, before) => affinity::has_moved(thread).then_some(Ok(before.0)),
            Self::Teardowns => (kernel.teardowns() == 0).then(|| {
                kernel.hurry(Waiting::Ends);
                Ok(0)
            }),
        }
    }

    /// As [`look`](Self::look), a few times.
    pub fn look_some_time(&self, cpu: &Cpu, process: &Process, irq: &IrqsOff) -> Option<Result<u64, Error>> {
        for _ in 0..LOOKS {
            if let Some(result) = self.look(cpu, process, irq) {
                return Some(result);
            }
            cpu.serve();
            Current::relax(cpu.arch());
        }
        None
    }

    /// The thread that waited will not look again.
    pub fn give_up(&self, cpu: &Cpu) {
        if matches!(self, Self::Teardowns) {
            cpu.kernel.hurry(Waiting::Ends);
        }
    }
}
