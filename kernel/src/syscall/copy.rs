//! Copying between address spaces.
//!
//! A job that uses the address space of the source: that is current while a slice runs, so what is read
//! goes through a window like any access to a user's memory, with what the pages allow. What is written
//! goes through the physical map, under the lock of the target's space, page by page after a look at
//! what is mapped there. In between lies a small buffer of the kernel's, so that no window is open while
//! a lock is held. Nothing is relied on from one piece to the next: regions and processes may go
//! meanwhile, and then the copy ends where it is.

use super::memory::process;
use super::{Caller, Outcome, outcome};
use crate::cpu::Cpu;
use crate::job::Work;
use crate::object::Ref;
use crate::process::Process;
use abi::Error;
use arch_contract::addr::{PAGE_SIZE, VirtAddr};
use arch_contract::irq::IrqsOff;
use arch_contract::user::Window;
use arch_current::Current;
use core::task::Poll;

/// Bytes copied at a time, by way of the stack.
const PIECE: usize = 512;
/// Pieces in one slice.
const PIECES: usize = 16;

pub(super) fn copy(caller: &Caller<'_>, args: [u64; 6]) -> Outcome {
    outcome(try_copy(caller, args))
}

fn try_copy(caller: &Caller<'_>, args: [u64; 6]) -> Result<Outcome, Error> {
    let [source, from, target, to, length, _] = args;
    let (source, target) = (process(caller, source)?, process(caller, target)?);
    target.begin_job(caller.cpu)?;
    let copy = Copy { target: target.clone(), from: VirtAddr(from), to: VirtAddr(to), length, done: 0 };
    caller.begin(source, || Work::Copy(copy)).inspect_err(|_| Process::end_job(&target, caller.cpu))
}

/// A copy that is under way: a job of both processes.
pub struct Copy {
    target: Ref<Process>,
    from: VirtAddr,
    to: VirtAddr,
    length: u64,
    done: u64,
}

impl Copy {
    /// One slice of it, with the address space of `source` current.
    pub fn slice(&mut self, source: &Process, cpu: &Cpu, irq: &IrqsOff) -> Poll<Result<u64, Error>> {
        if !source.goes_on(cpu) || !self.target.goes_on(cpu) {
            return self.stop(Error::Gone);
        }
        for _ in 0..PIECES {
            let from = VirtAddr(self.from.0.wrapping_add(self.done));
            // Inside one page of the source: it can be read, or cannot.
            let left = (self.length - self.done).min(PAGE_SIZE - (from.0 - from.page().0));
            if left == 0 {
                return Poll::Ready(Ok(self.done));
            }
            let mut buffer = [0; PIECE];
            let piece = &mut buffer[..left.min(PIECE as u64) as usize];
            // SAFETY: the executor has made the source's address space current for this slice.
            let read = unsafe { Window::<Current>::open(cpu.arch(), irq) }.read(piece, from);
            if read.is_err() {
                return self.stop(Error::BadAddress);
            }
            let to = VirtAddr(self.to.0.wrapping_add(self.done));
            let stored = self.target.space.store(cpu, to, piece);
            self.done += stored as u64;
            if stored < piece.len() {
                return self.stop(Error::BadAddress);
            }
        }
        Poll::Pending
    }

    /// It goes no further.
    fn stop(&self, why: Error) -> Poll<Result<u64, Error>> {
        Poll::Ready(if self.done > 0 { Ok(self.done) } else { Err(why) })
    }

    /// It is done: the target may be taken apart.
    pub fn end(&self, cpu: &Cpu) {
        Process::end_job(&self.target, cpu);
    }
}
