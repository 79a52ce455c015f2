//! The work of a call that goes on slice by slice.
//!
//! It is a kernel task whose storage is part of the thread that made the call, as that of a teardown
//! is part of the process: a thread that is off its CPU until its call is done has one such call, so
//! starting the work takes no memory and cannot fail. Its entry in the queues is the thread's own,
//! which the thread does not need meanwhile.

use crate::cap::derivation::Revocation;
use crate::cpu::Cpu;
use crate::mm::burial;
use crate::mm::space::Progress;
use crate::object::Ref;
use crate::process::Process;
use crate::syscall::{Attach, Copy, Create, DmaCreate, Map, SLICE_PAGES, Unmap};
use crate::thread::Thread;
use abi::{Error, Handle};
use arch_contract::irq::IrqsOff;
use core::task::Poll;

/// Work on the address space or the capabilities of `process`, which cannot be taken apart while it is under way.
pub struct Job {
    process: Ref<Process>,
    work: Work,
}

/// What is done. With a tag of its own, which is looked at in one instruction.
#[repr(u8)]
pub enum Work {
    Map(Map),
    Unmap(Unmap),
    Close(Handle),
    Revoke(Revocation),
    Create(Create),
    Attach(Attach),
    Copy(Copy),
    DmaCreate(DmaCreate),
    /// What is left of large memory objects, and then the call has this result.
    Bury(Result<u64, Error>),
}

// Short jobs are moved about as well: what is larger belongs into memory of its own.
const _: () = assert!(size_of::<Job>() <= 112);

impl Job {
    /// Begins it, in the `place` of the thread that asks. `Gone` if the process is being ended.
    // Inlined, so that each kind of work is written where it stays.
    #[inline(always)]
    pub fn begin(
        place: &mut Option<Self>,
        cpu: &Cpu,
        process: Ref<Process>,
        work: impl FnOnce() -> Work,
    ) -> Result<(), Error> {
        process.begin_job(cpu)?;
        *place = Some(Self { process, work: work() });
        Ok(())
    }

    /// Does a slice of it, for `caller`. Not again once it is ready.
    #[inline(always)]
    pub fn slice(&mut self, cpu: &'static Cpu, caller: &Thread, irq: &IrqsOff) -> Poll<Result<u64, Error>> {
        match &mut self.work {
            Work::Unmap(unmap) => unmap.slice(&self.process.space, cpu, irq),
            _ => self.slice_of_other(cpu, caller, irq),
        }
    }

    /// The same, for the kinds that are long anyway: out of line, so that the short ones do not pay for
    /// what these keep in registers.
    #[inline(never)]
    fn slice_of_other(
        &mut self,
        cpu: &'static Cpu,
        caller: &Thread,
        irq: &IrqsOff,
    ) -> Poll<Result<u64, Error>> {
        let poll = match &mut self.work {
            Work::Map(map) => map.slice(&self.process.space, cpu, irq),
            Work::Unmap(unmap) => unmap.slice(&self.process.space, cpu, irq),
            Work::Revoke(revocation) => revocation.slice(&self.process.table, cpu, irq),
            Work::Close(handle) => self.process.table.take(cpu, *handle, irq).map(|closed| {
                closed.map(|closed| {
                    closed.dispose(cpu);
                    0
                })
            }),
            Work::Create(create) => create.slice(&self.process.table, cpu),
            Work::Attach(attach) => attach.slice(&self.process, cpu, irq),
            // As long as a program wants, between processes that may both live on: whoever ends the caller
            // does not wait for it.
            Work::Copy(_) if caller.is_doomed() => Poll::Ready(Err(Error::Gone)),
            Work::Copy(copy) => copy.slice(&self.process, cpu, irq),
            Work::DmaCreate(create) => create.slice(&self.process, cpu, irq),
            Work::Bury(result) => {
                return match cpu.kernel.memory.bury(SLICE_PAGES) {
                    Progress::More => Poll::Pending,
                    Progress::Done => Poll::Ready(*result),
                };
            }
        };
        match (&self.work, poll) {
            // Perhaps of something that it has just ended.
            (Work::Close(_) | Work::Revoke(_), Poll::Ready(result)) if cpu.kernel.memory.has_remains() => {
                self.work = Work::Bury(result);
                Poll::Pending
            }
            (_, poll) => poll,
        }
    }

    /// It is done.
    #[inline(always)]
    fn end(&self, cpu: &Cpu) {
        if let Work::Copy(copy) = &self.work {
            copy.end(cpu);
        }
        Process::end_job(&self.process, cpu);
    }
}

/// Whose address space the job of `thread` uses: it is current on the CPU that does a slice of it. The
/// caller has the thread, as for [`slice`].
#[inline(always)]
pub fn uses(thread: &Thread) -> Option<Ref<Process>> {
    // SAFETY: by the caller's word this CPU alone has the thread, hence its job.
    match unsafe { thread.job().as_ref() } {
        Some(Job { process, work: Work::Copy(_) }) => Some(process.clone()),
        _ => None,
    }
}

/// Does a slice of the job of `thread`, which is on no CPU, and was taken off this one or out of a queue
/// of it for that. It is through when there is a result.
#[inline(always)]
pub fn slice(cpu: &'static Cpu, thread: &Thread, irq: &IrqsOff) -> Poll<Result<u64, Error>> {
    // SAFETY: by the caller's word this CPU alone has the thread, hence its job.
    let job = unsafe { thread.job().as_mut() };
    let Some(at_work) = job else { unreachable!("a job without work") };
    let poll = at_work.slice(cpu, thread, irq);
    if poll.is_ready() {
        at_work.end(cpu);
        *job = None;
        burial::look(cpu);
    }
    poll
}
