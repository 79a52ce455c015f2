//! Threads that wait: for a time, for something that somebody else will do, for a kernel task.
//!
//! A call that must wait is made again when its thread is woken ([`block_current`]), or has its
//! result stored while it waits ([`hand_to_task`], [`wait_pending`]). Each says where the thread
//! stands inside the lock of the queue it goes to: the protocol of [`crate::thread`].

use crate::cpu::Cpu;
use crate::ipc;
use crate::object::Ref;
use crate::pending::{PAUSE, Pending};
use crate::sched::ready::Runnable;
use crate::sched::task::Task;
use crate::sched::{ending, set_result, take_off, whole_slice};
use crate::thread::{Fate, Standing, Thread};
use abi::Error;
use arch_contract::irq::IrqsOff;
use arch_contract::time::{Nanos, Ticks};
use arch_contract::trap::Traps;
use arch_current::Current;

/// Wakes whatever is due.
#[inline(never)]
pub(super) fn wake_sleepers(cpu: &'static Cpu, now: Ticks, irq: &IrqsOff) {
    let now = cpu.kernel.rate.nanos(now);
    loop {
        // There may be many, and others wait for this CPU. `TLB-5`
        cpu.serve();
        let mut timers = cpu.timers.lock();
        let sleeper = timers.pop_up_to(now.0);
        let is_alarm = matches!(&sleeper, Some(Runnable::Thread(thread)) if thread.ipc.alarm.taken(cpu));
        drop(timers);
        match sleeper {
            Some(Runnable::Thread(thread)) if is_alarm => ipc::timed_out(cpu, &thread),
            Some(Runnable::Thread(thread)) => wake_sleeper(cpu, thread, irq),
            Some(Runnable::Task(task)) => Task::wake_sleeper(&task, cpu),
            Some(other) => cpu.make_ready(other),
            None => return,
        }
    }
}

/// Its time has come: it is ready, or looks again at what it waits for.
fn wake_sleeper(cpu: &Cpu, thread: Ref<Thread>, irq: &IrqsOff) {
    if let Standing::Pending(_, pending) = thread.standing() {
        match pending.look(cpu, thread.process(), irq) {
            Some(result) => {
                // SAFETY: the thread was in the timer queue, so this CPU alone has its frame.
                set_result(unsafe { thread.frame().as_mut() }, result);
                // It waits for nothing any more that would have to be given up.
                thread.stand_anyway(Standing::InTask);
            }
            None => return wait_more(cpu, thread, pending),
        }
    }
    cpu.make_ready(Runnable::Thread(thread));
}

/// Looks again later. `thread` is on no CPU and in no queue.
fn wait_more(cpu: &Cpu, thread: Ref<Thread>, pending: Pending) {
    let due = cpu.now().0 + PAUSE;
    sleep_as(cpu, thread, Standing::Pending(cpu.number, pending), due);
}

/// `thread`, which is on no CPU and in no queue, goes on when it is due.
pub(super) fn sleep(cpu: &Cpu, thread: Ref<Thread>, due: Nanos) {
    sleep_as(cpu, thread, Standing::Timed(cpu.number), due.0);
}

fn sleep_as(cpu: &Cpu, thread: Ref<Thread>, standing: Standing, due: u64) {
    let mut timers = cpu.timers.lock();
    if thread.stand(standing) == Fate::Lives {
        timers.push(Runnable::Thread(thread), due);
    } else {
        drop(timers);
        ending::end_thread(cpu, &thread);
    }
}

/// The current thread's call waits for other CPUs: looks some time, then takes it off this CPU.
pub fn wait_pending(cpu: &Cpu, pending: Pending, irq: &IrqsOff) {
    let Some(thread) = cpu.take_current() else { return };
    if let Some(result) = pending.look_some_time(cpu, thread.process(), irq) {
        // SAFETY: the thread is current here.
        set_result(unsafe { thread.frame().as_mut() }, result);
        cpu.set_current(thread);
        return;
    }
    take_off(cpu, &thread, irq);
    // A thread that is doomed by now stands elsewhere, and does not know what it waited for.
    let mut timers = cpu.timers.lock();
    if thread.stand(Standing::Pending(cpu.number, pending.clone())) == Fate::Lives {
        timers.push(Runnable::Thread(thread), cpu.now().0 + PAUSE);
    } else {
        drop(timers);
        pending.give_up(cpu);
        ending::end_thread(cpu, &thread);
    }
}

/// Takes the current thread off this CPU because its call must wait: it makes the call again when
/// it is woken. For calls only, which hold the lock of the queue that `standing` names and put it
/// there. `None` if the thread is doomed: it stays, and is ended on the way out.
pub fn block_current(cpu: &Cpu, standing: Standing, irq: &IrqsOff) -> Option<Runnable> {
    let thread = cpu.take_current()?;
    if thread.stand(standing) == Fate::Doomed {
        cpu.set_current(thread);
        return None;
    }
    take_off(cpu, &thread, irq);
    whole_slice(&thread);
    // SAFETY: the thread was current here, so this CPU alone has its frame.
    Current::restart_syscall(unsafe { thread.frame().as_mut() });
    Some(Runnable::Thread(thread))
}

/// `thread`, which was taken off this CPU, has a job that goes into a queue. That ends its slice, as a
/// yield does: job and thread go behind their equals.
pub(super) fn hand_to_job(thread: Ref<Thread>) -> Runnable {
    whole_slice(&thread);
    thread.stand_in_task();
    Runnable::Job(thread)
}

/// Takes the current thread off this CPU and starts `task`, which does its call's work and ends the
/// wait by [`complete`]. In this order: another CPU may be through with the task at once.
pub fn hand_to_task(cpu: &'static Cpu, task: Ref<Task>, irq: &IrqsOff) {
    if let Some(thread) = cpu.take_current() {
        take_off(cpu, &thread, irq);
        thread.stand_anyway(Standing::InTask);
    }
    Task::start(task, cpu);
}

/// As [`complete`], on the CPU that the work was done on: if that is where the thread ran and may run,
/// the caller gets it, for this CPU.
#[inline(always)]
pub(super) fn complete_here(cpu: &Cpu, thread: Ref<Thread>, result: Result<u64, Error>) -> Option<Runnable> {
    let here = cpu.number;
    if thread.entry.last() != here || !thread.affinity().has(here) {
        complete(cpu, thread, result);
        return None;
    }
    // SAFETY: as in `complete`.
    set_result(unsafe { thread.frame().as_mut() }, result);
    if thread.stand_again(here) == Fate::Lives {
        return Some(Runnable::Thread(thread));
    }
    ending::end_thread(cpu, &thread);
    None
}

/// A kernel task has done the work of `thread`'s call.
pub fn complete(cpu: &Cpu, thread: Ref<Thread>, result: Result<u64, Error>) {
    // SAFETY: a thread that stands in a task is on no CPU and in no queue: its frame is the
    // task's.
    set_result(unsafe { thread.frame().as_mut() }, result);
    cpu.make_ready(Runnable::Thread(thread));
}
