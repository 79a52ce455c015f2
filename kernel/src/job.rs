//! The work of a call that goes on slice by slice.
//!
//! It is a kernel task whose storage is part of the thread that made the call, as that of a teardown
//! is part of the process: a thread that is off its CPU until its call is done has one such call, so
//! starting the work takes no memory and cannot fail. Its entry in the queues is the thread's own,
//! which the thread does not need meanwhile.

use crate::cap::derivation::Revocation;
use crate::cpu::Cpu;
use crate::object::Ref;
use crate::process::Process;
use crate::sched;
use crate::sched::ready::Runnable;
use crate::syscall::{Map, Unmap};
use crate::thread::Thread;
use abi::Error;
use arch_contract::irq::IrqsOff;
use core::task::Poll;

/// Work on the address space or the capabilities of `process`, which cannot be taken apart while it is under way.
pub struct Job {
    process: Ref<Process>,
    work: Work,
}

/// What is done.
pub enum Work {
    Map(Map),
    Unmap(Unmap),
    Revoke(Revocation),
}

impl Job {
    /// Begins it. `Gone` if the process is being ended.
    pub fn begin(cpu: &Cpu, process: Ref<Process>, work: Work) -> Result<Self, Error> {
        process.begin_job(cpu)?;
        Ok(Self { process, work })
    }

    /// Does a slice of it. Not again once it is ready.
    pub fn slice(&mut self, cpu: &'static Cpu, irq: &IrqsOff) -> Poll<Result<u64, Error>> {
        match &mut self.work {
            Work::Map(map) => map.slice(&self.process.space, cpu, irq),
            Work::Unmap(unmap) => unmap.slice(&self.process.space, cpu, irq),
            Work::Revoke(revocation) => revocation.slice(&self.process.table, cpu),
        }
    }

    /// It is done.
    pub fn end(self, cpu: &Cpu) {
        Process::end_job(&self.process, cpu);
    }
}

/// Does a slice of the job of `thread`, which was just taken out of a queue for it. Says what it has
/// for this CPU: the job again, or the thread, whose call is done.
pub fn slice(cpu: &'static Cpu, thread: Ref<Thread>, irq: &IrqsOff) -> Option<Runnable> {
    // SAFETY: a thread that stands in a task is on no CPU, and the queue's entry was this CPU's to
    // take: it alone has the job now.
    let job = unsafe { thread.job().as_mut() };
    let result = match job.as_mut().map(|job| job.slice(cpu, irq)) {
        Some(Poll::Ready(result)) => result,
        Some(Poll::Pending) => return Some(Runnable::Job(thread)),
        None => unreachable!("a job without work"),
    };
    if let Some(job) = job.take() {
        job.end(cpu);
    }
    sched::complete_here(cpu, thread, result)
}
