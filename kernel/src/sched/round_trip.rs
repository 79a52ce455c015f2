//! The short way from a thread to a kernel task and back to a thread.
//!
//! A call whose work a kernel task does ([`to_job`]), or a yield to a kernel task ([`to_task`]), is one
//! slice of that task and then, most often, a thread again: of the same process, with nothing noted
//! meanwhile. The CPU passes through a lazy episode, by the steps of [`context`] that the long way
//! takes as well; what is spared is only deciding, again and again, what is known here. As in
//! [`quick`], whatever is unusual is left to the long way, [`leave_with`]; and the traces and
//! instruction streams of the suite, which go this way unless a mutant is selected, hold it to the
//! same rules.
//!
//! No window for interrupts follows the slice where a thread comes next: user mode is one. The timer
//! stays as it is armed, as in [`quick`].

use super::quick::{FEASIBLE, has_whole_slice};
use super::{
    context, leave_with, load_vectors, place_after, set_result, take_off, take_slice, waiting, window,
};
use crate::cpu::{Cpu, Work};
use crate::job;
use crate::object::Ref;
use crate::sched::ready::{Load, Place, Runnable};
use crate::thread::{Frame, Thread};
use crate::trace;
use abi::Error;
use abi::trace::Kind;
use arch_contract::irq::IrqsOff;
use arch_contract::mutant;
use arch_contract::ret::{Owed, Reload, Resume, Return};
use arch_contract::time::{Ticks, Time};
use arch_current::Current;
use core::task::Poll;

/// The current thread's call is now the business of a kernel task, its job. Where nothing as good is
/// ready, and nothing else is to be looked at, the task is what comes next, and after it the thread:
/// that needs no queue, and the thread stands on this CPU all the time.
pub fn to_job(cpu: &'static Cpu, irq: IrqsOff) -> Resume<Frame> {
    let Some(thread) = cpu.take_current() else { unreachable!("a call without a thread") };
    let now = take_off(cpu, &thread, &irq);
    // What became ready after this CPU last looked has it look again.
    if cpu.work() != Work::NONE || cpu.rival.get() || mutant::any() || job::uses(&thread).is_some() {
        return leave_with(cpu, Some((waiting::hand_to_job(thread), Place::Last)), Some(now), irq);
    }
    match job_slice(cpu, &thread, &irq) {
        Poll::Ready(result) => {
            // SAFETY: the thread was current here, so this CPU alone has its frame.
            set_result(unsafe { thread.frame().as_mut() }, result);
            back(cpu, thread, now, irq)
        }
        Poll::Pending => more(cpu, Some(waiting::hand_to_job(thread)), now, irq),
    }
}

/// `job` was just taken out of the queue of this CPU, in turn with the thread that was current until
/// `now`.
#[inline(never)]
pub(super) fn to_other(cpu: &'static Cpu, job: Runnable, now: Ticks, irq: IrqsOff) -> Resume<Frame> {
    let Runnable::Job(thread) = job else { unreachable!("neither a thread nor its job") };
    if job::uses(&thread).is_some() {
        return leave_with(cpu, Some((Runnable::Job(thread), Place::First)), Some(now), irq);
    }
    match job_slice(cpu, &thread, &irq) {
        Poll::Ready(result) => match waiting::complete_here(cpu, thread, result) {
            Some(Runnable::Thread(thread)) => back(cpu, thread, now, irq),
            left => more(cpu, left, now, irq),
        },
        Poll::Pending => more(cpu, Some(Runnable::Job(thread)), now, irq),
    }
}

/// The slice that began at `began` is over, and `left`, if there is any, is ready now of what it was
/// about: the long way, by a window.
#[cold]
#[inline(never)]
fn more(cpu: &'static Cpu, left: Option<Runnable>, began: Ticks, mut irq: IrqsOff) -> Resume<Frame> {
    let ended = Current::now(cpu.arch());
    let back = left.map(|item| place_after(cpu, item, began, ended));
    window(cpu, &mut irq);
    leave_with(cpu, back, Some(ended), irq)
}

/// A slice of the job of `thread`, with the memory context that it wants: none.
#[inline(always)]
fn job_slice(cpu: &'static Cpu, thread: &Thread, irq: &IrqsOff) -> Poll<Result<u64, Error>> {
    context::leave(cpu, irq);
    trace::event(cpu, Kind::Poll, 0, 0);
    let poll = job::slice(cpu, thread, irq);
    trace::event(cpu, Kind::Polled, 0, 0);
    poll
}

/// The slice that began at `began` was the last: `thread`, whose call is done, is ready here.
#[inline(always)]
fn back(cpu: &'static Cpu, thread: Ref<Thread>, began: Ticks, irq: IrqsOff) -> Resume<Frame> {
    match next(cpu, thread) {
        Ok(Runnable::Thread(thread)) => run(cpu, thread, irq),
        Ok(job) => other_job(cpu, job, irq),
        Err(thread) => more(cpu, Some(Runnable::Thread(thread)), began, irq),
    }
}

/// What comes next is a job as well: by the long way, after a window.
#[cold]
#[inline(never)]
fn other_job(cpu: &'static Cpu, job: Runnable, mut irq: IrqsOff) -> Resume<Frame> {
    window(cpu, &mut irq);
    leave_with(cpu, Some((job, Place::First)), None, irq)
}

/// What comes next on this CPU now that `thread`'s call is done: an equal, if one is ready, or else
/// `thread`, if that is easy.
#[inline(always)]
fn next(cpu: &Cpu, thread: Ref<Thread>) -> Result<Runnable, Ref<Thread>> {
    let priority = thread.priority();
    if cpu.work() != Work::NONE || cpu.running.load() != Load::of(priority) || mutant::any() {
        return Err(thread);
    }
    if !cpu.rival.get() {
        // As others see it this CPU has run the thread all the time: who made anything ready that is
        // as good, or wants something of the thread since it stands here again, interrupts it.
        let may = thread.extras().within(FEASIBLE) && thread.affinity().has(cpu.number);
        return if may { Ok(Runnable::Thread(thread)) } else { Err(thread) };
    }
    let Some(mut queue) = cpu.ready.try_lock() else { return Err(thread) };
    // SAFETY: the thread stands on this CPU and is in no queue; only who has it puts it into one.
    unsafe { queue.turn(thread, priority, FEASIBLE, |_, next| has_whole_slice(next)) }
        .map_err(|(thread, _)| thread)
}

/// Has `thread` run, with the registers and the address space that it had.
#[inline(always)]
fn run(cpu: &'static Cpu, thread: Ref<Thread>, irq: IrqsOff) -> Resume<Frame> {
    thread.entry.set_last(cpu.number);
    take_slice(cpu, &thread, Current::now(cpu.arch()));
    load_vectors(cpu, &thread, &irq);
    // SAFETY: a process's address space lives until its teardown has found it loaded nowhere, and
    // the teardown starts when its last thread has ended.
    unsafe { context::come_back(cpu, &thread.process().space, &irq) };
    let frame = thread.frame();
    cpu.set_current(thread);
    let owed = Owed { core_sync: cpu.take_core_sync() };
    // SAFETY: 1. the frame is in the current thread, which this CPU holds a reference to. 2. its
    // address space was just entered. 3. a full reload is always right.
    let resume = unsafe { cpu.return_to_user(frame, owed, Reload::Full, &irq) };
    // SAFETY: 1. just made. 2. the thread was all there was, on the way from the upcall to here, and is the
    // CPU's now.
    unsafe { Current::go(cpu.arch(), resume) }
}
