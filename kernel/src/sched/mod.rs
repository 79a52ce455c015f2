//! The scheduler: what this CPU does next, on every way out of the kernel.
//!
//! The kernel runs to completion; each entry ends in [`leave`], which answers with a user thread's
//! frame or idles until there is one. Kernel tasks are polled here, one slice at a time, with an
//! interrupt window after each. Priorities are strict, round robin inside one; time is one-shot:
//! the timer is armed for the next sleeper and, only while others of the current priority are
//! ready, for the end of the slice.

pub mod context;
pub mod lifetime;
pub mod queue;
pub mod task;

use crate::cpu::{Cpu, Work};
use crate::object::Ref;
use crate::pending::{PAUSE, Pending};
use crate::process::{Process, Slice};
use crate::rendezvous::{self, Point};
use crate::rseq;
use crate::sched::queue::{Place, Runnable};
use crate::sched::task::Task;
use crate::sync::Ordering;
use crate::thread::{Frame, Standing, Thread};
use crate::trace;
use abi::trace::Kind;
use abi::{Ending, Error, ExitReport};
use arch_contract::irq::{Interrupts, IrqsOff};
use arch_contract::ret::{Owed, Reload, Resume};
use arch_contract::time::{Nanos, Time};
use arch_contract::trap::Traps;
use arch_contract::vector::Vector;
use arch_current::Current;

/// How long a thread runs before another of its priority gets the CPU, in nanoseconds.
pub const SLICE: u64 = 10_000_000;

/// The way out of the kernel: finds what this CPU does next, does it while it is the kernel's
/// own, and returns when it is a user thread's.
pub fn leave(cpu: &'static Cpu, mut irq: IrqsOff) -> Resume<Frame> {
    loop {
        settle_work(cpu, &irq);
        if let Some(thread) = cpu.current() {
            match verdict(cpu, &thread) {
                Verdict::Goes => {
                    arm(cpu, &irq);
                    return enter_user(cpu, &thread, &irq);
                }
                Verdict::Yields(place) => {
                    drop(take_off(cpu, &irq));
                    if place == Place::Last {
                        thread.slice_left.store(0, Ordering::Relaxed);
                    }
                    cpu.queue(Runnable::Thread(thread), place);
                }
            }
        }
        let next = cpu.run_queue.lock().pop();
        match next {
            Some(Runnable::Thread(thread)) => choose(cpu, thread, &irq),
            Some(Runnable::Task(task)) => {
                let began = cpu.now();
                if let Some(task) = Task::poll(task, cpu, &irq) {
                    cpu.queue(Runnable::Task(task), place_after(cpu, began));
                }
                Current::window(cpu.arch(), &mut irq);
            }
            Some(Runnable::Teardown(process)) => {
                context::leave(cpu, &irq);
                trace::event(cpu, Kind::Poll, 0, 0);
                let began = cpu.now();
                match Process::teardown_slice(&process, cpu, &irq) {
                    Slice::More => cpu.queue(Runnable::Teardown(process), place_after(cpu, began)),
                    Slice::Wait(until) => cpu.timers.lock().push_due(Runnable::Teardown(process), until.0),
                    Slice::Done => {}
                }
                trace::event(cpu, Kind::Polled, 0, 0);
                Current::window(cpu.arch(), &mut irq);
            }
            None => {
                context::leave(cpu, &irq);
                arm(cpu, &irq);
                trace::idle(cpu);
                Current::wait(cpu.arch(), &mut irq);
                trace::wake(cpu);
            }
        }
    }
}

/// Where a kernel task goes that has more to do. Among its equals it has the CPU for as long as a
/// thread would, if nothing better is ready after one of its steps: a step is some microseconds,
/// and a task that got one per turn would wait whole slices of every thread in between.
fn place_after(cpu: &Cpu, began: Nanos) -> Place {
    let used = cpu.now().0.saturating_sub(began.0);
    let left = cpu.task_slice_left.get().saturating_sub(used);
    if left > 0 {
        cpu.task_slice_left.set(left);
        return Place::First;
    }
    cpu.task_slice_left.set(SLICE);
    Place::Last
}

/// The last step: memory context, then `return_to_user`, in this order, on every edge (`RET-1`).
fn enter_user(cpu: &'static Cpu, thread: &Thread, irq: &IrqsOff) -> Resume<Frame> {
    // SAFETY: a process's address space lives until its teardown has found it loaded nowhere, and
    // the teardown starts when its last thread has ended.
    unsafe { context::enter(cpu, &thread.process().space, irq) };
    rendezvous::point(cpu, Point::BeforeReturn);
    if cpu.take_rseq() {
        rseq::settle(cpu, thread);
    }
    let owed = Owed { core_sync: cpu.take_core_sync() };
    // SAFETY: 1. the frame is in the current thread, which this CPU holds a reference to. 2. just
    // entered. 3. a full reload is always right.
    unsafe { cpu.return_to_user(thread.frame(), owed, Reload::Full, irq) }
}

/// Looks at what interrupts have noted.
fn settle_work(cpu: &'static Cpu, irq: &IrqsOff) {
    let work = cpu.take_work();
    if work.has(Work::CONSOLE) {
        cpu.kernel.console.input_arrived(cpu);
    }
    if work.has(Work::TIMER) {
        cpu.armed.set(None);
    }
    let now = cpu.now();
    loop {
        let mut timers = cpu.timers.lock();
        if timers.first_due().is_none_or(|due| due > now.0) {
            break;
        }
        let sleeper = timers.pop();
        drop(timers);
        match sleeper {
            Some(Runnable::Thread(thread)) => wake_sleeper(cpu, thread, irq),
            Some(other) => cpu.make_ready(other),
            None => {}
        }
    }
    // What was made ready just now is looked at next, by `verdict`.
    cpu.take_work();
}

/// Its time has come: it is ready, or looks again at what it waits for.
fn wake_sleeper(cpu: &Cpu, thread: Ref<Thread>, irq: &IrqsOff) {
    if let Standing::Pending(pending) = thread.standing() {
        match pending.look(cpu, thread.process(), irq) {
            // SAFETY: the thread was in the timer queue, so this CPU alone has its frame.
            Some(result) => set_result(unsafe { thread.frame().as_mut() }, result),
            None => {
                let due = cpu.now().0 + PAUSE;
                cpu.timers.lock().push_due(Runnable::Thread(thread), due);
                return;
            }
        }
    }
    cpu.make_ready(Runnable::Thread(thread));
}

/// The current thread's call waits for other CPUs: looks some time, then takes it off this CPU.
pub fn wait_pending(cpu: &Cpu, pending: Pending, irq: &IrqsOff) {
    let Some(thread) = cpu.current() else { return };
    if let Some(result) = pending.look_some_time(cpu, thread.process(), irq) {
        // SAFETY: the thread is current here.
        set_result(unsafe { thread.frame().as_mut() }, result);
        return;
    }
    if let Some(thread) = take_off(cpu, irq) {
        thread.stand(Standing::Pending(pending));
        let due = cpu.now().0 + PAUSE;
        cpu.timers.lock().push_due(Runnable::Thread(thread), due);
    }
}

/// Moves what is queued on `cpu` to other CPUs; whether all of it could be moved.
pub fn evacuate(cpu: &Cpu, _irq: &IrqsOff) -> bool {
    cpu.number == crate::cpuset::CpuId::BOOT
}

/// What becomes of the current thread.
enum Verdict {
    Goes,
    Yields(Place),
}

/// It goes on unless something better is ready, or something equal and its slice is over.
fn verdict(cpu: &Cpu, current: &Thread) -> Verdict {
    let priority = current.priority();
    match cpu.run_queue.lock().best() {
        Some(best) if best > priority => Verdict::Yields(Place::First),
        Some(best) if best == priority && cpu.now() >= cpu.slice_end.get() => Verdict::Yields(Place::Last),
        _ => Verdict::Goes,
    }
}

/// Makes `thread` the current one.
fn choose(cpu: &Cpu, thread: Ref<Thread>, irq: &IrqsOff) {
    let now = cpu.now();
    cpu.chosen_at.set(now);
    let left = match thread.slice_left.swap(0, Ordering::Relaxed) {
        0 => SLICE,
        left => left,
    };
    cpu.slice_end.set(Nanos(now.0.saturating_add(left)));
    thread.stand(Standing::Running);
    if thread.rseq.exists() {
        cpu.add_work(Work::RSEQ);
    }
    if let Some(area) = thread.vector_area() {
        // SAFETY: the thread was in a queue, so this CPU alone has its frame now.
        let frame = unsafe { thread.frame().as_mut() };
        // SAFETY: 1. it is this thread's area, initialized when it was made. 2. whoever used the
        // units before was taken off this CPU, which saved them.
        unsafe { Current::load(cpu.arch(), frame, area, irq) };
    }
    cpu.set_current(thread);
}

/// Takes the current thread off this CPU, its vector registers saved: from here on any CPU may
/// have it. The caller says where it stands.
fn take_off(cpu: &Cpu, irq: &IrqsOff) -> Option<Ref<Thread>> {
    let thread = cpu.take_current()?;
    let now = cpu.now().0;
    thread.ran(now.saturating_sub(cpu.chosen_at.get().0));
    thread.slice_left.store(cpu.slice_end.get().0.saturating_sub(now), Ordering::Relaxed);
    if let Some(area) = thread.vector_area() {
        // SAFETY: the thread was current here, so this CPU alone has its frame.
        let frame = unsafe { thread.frame().as_mut() };
        // SAFETY: a current thread that has an area has the units.
        unsafe { Current::save(cpu.arch(), frame, area, irq) };
    }
    Some(thread)
}

/// Takes the current thread off this CPU because its call must wait: it makes the call again when
/// it is woken. For calls only.
pub fn block_current(cpu: &Cpu, standing: Standing, irq: &IrqsOff) -> Option<Ref<Thread>> {
    let thread = take_off(cpu, irq)?;
    thread.slice_left.store(0, Ordering::Relaxed);
    // SAFETY: the thread was current here, so this CPU alone has its frame.
    Current::restart_syscall(unsafe { thread.frame().as_mut() });
    thread.stand(standing);
    Some(thread)
}

/// Takes the current thread off this CPU because a kernel task does its call's work.
/// [`complete`] ends the wait.
pub fn hand_to_task(cpu: &Cpu, irq: &IrqsOff) -> Option<Ref<Thread>> {
    let thread = take_off(cpu, irq)?;
    thread.stand(Standing::InTask);
    Some(thread)
}

/// A kernel task has done the work of `thread`'s call.
pub fn complete(cpu: &Cpu, thread: Ref<Thread>, result: Result<u64, Error>) {
    let standing = thread.standing();
    if matches!(standing, Standing::InTaskDoomed) {
        rseq::forget(cpu, &thread);
        thread.stand(Standing::Ended);
        let process = thread.process().clone();
        Process::end(&process, cpu, ExitReport::new(Ending::Killed, abi::KILL_STATUS));
        return;
    }
    // SAFETY: a thread that stands in a task is on no CPU and in no queue: its frame is the
    // task's.
    set_result(unsafe { thread.frame().as_mut() }, result);
    cpu.make_ready(Runnable::Thread(thread));
}

/// Stores what a call returned.
pub fn set_result(frame: &mut Frame, result: Result<u64, Error>) {
    match result {
        Ok(value) => Current::set_result(frame, 0, value),
        Err(error) => Current::set_result(frame, error as u64, 0),
    }
}

/// Lets others of the current thread's priority run first.
pub fn yield_current(cpu: &Cpu) {
    cpu.slice_end.set(Nanos(0));
    cpu.add_work(Work::READY);
}

/// Ends the current thread and its process.
pub fn end_current(cpu: &Cpu, report: ExitReport, irq: &IrqsOff) {
    let Some(thread) = cpu.take_current() else { return };
    thread.ran(cpu.now().0.saturating_sub(cpu.chosen_at.get().0));
    Current::discard(cpu.arch(), irq);
    rseq::forget(cpu, &thread);
    thread.stand(Standing::Ended);
    let process = thread.process().clone();
    Process::end(&process, cpu, report);
}

/// Ends another process, wherever its thread stands. Its teardown has at least the caller's
/// priority: the caller may be short of just that memory.
pub fn kill(cpu: &Cpu, process: &Ref<Process>) {
    if let Some(priority) = cpu.current_priority() {
        process.hurry_teardown(priority);
    }
    let report = ExitReport::new(Ending::Killed, abi::KILL_STATUS);
    if let Some(thread) = process.thread(cpu) {
        let standing = thread.standing();
        match standing {
            Standing::Ready(priority) => drop(cpu.run_queue.lock().remove(&thread, priority)),
            Standing::Reading => drop(cpu.kernel.console.readers(cpu).remove(&thread)),
            Standing::WaitingFor(other) => other.forget_waiter(cpu, &thread),
            Standing::Sleeping => drop(cpu.timers.lock().remove(&thread)),
            Standing::Pending(pending) => {
                pending.give_up(cpu);
                drop(cpu.timers.lock().remove(&thread));
            }
            Standing::InTask | Standing::InTaskDoomed => {
                // The task uses the address space: the end waits for it.
                thread.stand(Standing::InTaskDoomed);
                return;
            }
            Standing::New | Standing::Running | Standing::Ended => {}
        }
        rseq::forget(cpu, &thread);
        thread.stand(Standing::Ended);
    }
    Process::end(process, cpu, report);
}

/// Arms the one-shot timer for what is due next on this CPU, if that changed.
fn arm(cpu: &Cpu, irq: &IrqsOff) {
    let mut due = cpu.timers.lock().first_due().map(Nanos);
    if let Some(priority) = cpu.current_priority()
        && cpu.run_queue.lock().best() == Some(priority)
    {
        let end = cpu.slice_end.get();
        due = Some(due.map_or(end, |due| due.min(end)));
    }
    if cpu.armed.replace(due) != due {
        Current::set_deadline(cpu.arch(), due.map(|due| cpu.kernel.rate.ticks(due)), irq);
    }
}
