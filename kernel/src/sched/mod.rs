//! The scheduler: what this CPU does next, on every way out of the kernel.
//!
//! The kernel runs to completion; each entry ends in [`leave`], which answers with a user thread's
//! frame or idles until there is one. Kernel tasks are polled here, one slice at a time, with an
//! interrupt window after each. Priorities are strict, round robin inside one.
//!
//! Each CPU has a run queue of its own ([`ready`]). What becomes ready is put where it ran last or
//! where nothing runs ([`place`]); a CPU that has nothing takes from others ([`balance`]), and needs
//! nothing of them for it.
//!
//! Time is one-shot: the timer is armed for the next sleeper, for the end of the current thread's
//! budget, and, only while others of its priority are ready, for the end of its slice. What depends
//! on time is looked at only when the timer has fired, so most ways out read no clock.

pub mod affinity;
pub mod balance;
pub mod context;
pub mod ending;
pub mod heap;
pub mod lifetime;
pub mod limit;
pub mod place;
pub mod priority;
pub mod queue;
pub mod quick;
pub mod ready;
pub mod round_trip;
pub mod task;
pub mod timers;
pub mod waiting;

pub use balance::{evacuate, open};
pub use ending::{end_current, end_current_thread, kill};
pub use waiting::{block_current, complete, hand_to_task, wait_pending};

use crate::cpu::{Cpu, Work};
use crate::hotplug;
use crate::ipc::Place as _;
use crate::job;
use crate::object::Ref;
use crate::process::{Process, Slice};
use crate::rendezvous::{self, Point};
use crate::rseq;
use crate::sched::limit::Limit;
use crate::sched::ready::{Load, Place, Runnable};
use crate::sched::task::Task;
use crate::sync::Ordering;
use crate::thread::{Extra, Fate, Frame, Standing, Thread};
use crate::trace::{self, Window};
use abi::Error;
use abi::trace::Kind;
use arch_contract::barrier::Barriers;
use arch_contract::irq::{Interrupts, IrqsOff};
use arch_contract::mutant::{self, Mutant};
use arch_contract::ret::{CoreSyncOwed, Owed, Reload, Resume};
use arch_contract::time::{Nanos, Ticks, Time};
use arch_contract::trap::Traps;
use arch_contract::vector::Vector;
use arch_current::Current;
use core::task::Poll;

/// How long a thread runs before another of its priority gets the CPU, in nanoseconds.
pub const SLICE: u64 = 10_000_000;

/// Never, as a time.
pub const NEVER: Ticks = Ticks(u64::MAX);

/// The way out of the kernel: finds what this CPU does next, does it while it is the kernel's
/// own, and returns when it is a user thread's.
#[inline(never)]
pub fn leave(cpu: &'static Cpu, irq: IrqsOff) -> Resume<Frame> {
    leave_with(cpu, None, None, irq)
}

/// As [`leave`], for `thread`, which no CPU has and which was woken by the one that left this CPU: it
/// goes on here, if it may and nothing better is ready.
#[inline(never)]
pub fn leave_to(cpu: &'static Cpu, thread: Ref<Thread>, irq: IrqsOff) -> Resume<Frame> {
    if !thread.affinity().has(cpu.number) {
        cpu.make_ready(Runnable::Thread(thread));
        return leave(cpu, irq);
    }
    if thread.stand_again(cpu.number) == Fate::Doomed {
        ending::end_thread(cpu, &thread);
        return leave(cpu, irq);
    }
    leave_with(cpu, Some((Runnable::Thread(thread), Place::First)), None, irq)
}

/// `next`, which this CPU has, goes on in the rest of the slice of the thread that was just taken off this
/// CPU. So two that take turns by messages do not keep their equals from running.
pub fn hand_slice_over(cpu: &Cpu, next: &Thread) {
    let rest = cpu.slice_end.get().0.saturating_sub(cpu.chosen_at.get().0);
    // 0 is a whole one.
    next.slice_left.store(rest.max(1), Ordering::Relaxed);
}

/// `back` has left the CPU and is ready: it is put back and the next taken out in one critical
/// section. `now` is the time, where it was read anyway.
fn leave_with(
    cpu: &'static Cpu,
    mut back: Option<(Runnable, Place)>,
    mut now: Option<Ticks>,
    mut irq: IrqsOff,
) -> Resume<Frame> {
    loop {
        let work = settle_work(cpu, now, &irq);
        if let Some(thread) = cpu.take_current() {
            match verdict(cpu, &thread, work) {
                Verdict::Goes => match go(cpu, thread, &irq) {
                    Some(resume) => return resume,
                    None => continue,
                },
                Verdict::Yields(place) => {
                    now = Some(take_off(cpu, &thread, &irq));
                    back = match place {
                        Place::First => balance::hand_out(cpu, Runnable::Thread(thread)),
                        Place::Last => {
                            whole_slice(&thread);
                            Some(Runnable::Thread(thread))
                        }
                    }
                    .map(|thread| (thread, place));
                }
                Verdict::Moves => {
                    if !mutant::is(Mutant::MovesUnsaved) {
                        now = Some(take_off(cpu, &thread, &irq));
                    }
                    cpu.make_ready(Runnable::Thread(thread));
                }
                Verdict::Starves(due) => {
                    now = Some(take_off(cpu, &thread, &irq));
                    waiting::sleep(cpu, thread, due);
                }
                Verdict::Ends => {
                    charge(cpu, &thread, Current::now(cpu.arch()));
                    Current::discard(cpu.arch(), &irq);
                    ending::end_thread(cpu, &thread);
                }
            }
        }
        if work.has(Work::GO_OFF) {
            if let Some((item, _)) = back.take() {
                cpu.make_ready(item);
            }
            irq = hotplug::go_off(cpu, irq);
        }
        match switch(cpu, back.take()).or_else(|| balance::pull(cpu)) {
            Some(Runnable::Thread(thread)) => {
                let now = now.take().unwrap_or_else(|| Current::now(cpu.arch()));
                if let Some(thread) = choose(cpu, thread, now, &irq)
                    && let Some(resume) = go(cpu, thread, &irq)
                {
                    return resume;
                }
            }
            Some(item) => {
                let began = now.unwrap_or_else(|| Current::now(cpu.arch()));
                let next = slice(cpu, item, &irq);
                let ended = Current::now(cpu.arch());
                now = Some(ended);
                back = next.map(|item| place_after(cpu, item, began, ended));
                window(cpu, &mut irq);
            }
            None => {
                context::leave(cpu, &irq);
                arm(cpu, NEVER, &irq);
                // What this CPU itself has noted since it looked, no interrupt will tell it.
                if !cpu.work().wants_a_look() {
                    rendezvous::point(cpu, Point::BeforeHalt);
                    if mutant::is(Mutant::WindowBeforeHalt) {
                        window(cpu, &mut irq);
                    }
                    trace::idle(cpu);
                    Current::wait(cpu.arch(), &mut irq);
                    trace::wake(cpu);
                }
                now = None;
            }
        }
    }
}

/// Lets pending interrupts in, for a moment.
fn window(cpu: &Cpu, irq: &mut IrqsOff) {
    trace::window(cpu, Window::Opens);
    Current::window(cpu.arch(), irq);
    trace::window(cpu, Window::Closed);
}

/// One slice of a kernel task. Says what of it is ready now: the task, or a thread that it was for.
#[inline(never)]
fn slice(cpu: &'static Cpu, item: Runnable, irq: &IrqsOff) -> Option<Runnable> {
    if let Runnable::Task(task) = item {
        return Task::poll(task, cpu, irq).map(Runnable::Task);
    }
    let uses = match &item {
        Runnable::Job(thread) => job::uses(thread),
        _ => None,
    };
    // SAFETY: it is a job of the process, until the slice after which there is a result.
    unsafe { task::enter_context(cpu, uses.as_deref(), irq) };
    let more = match item {
        Runnable::Teardown(process) => match Process::teardown_slice(&process, cpu, irq) {
            Slice::More => Some(Runnable::Teardown(process)),
            Slice::Wait(until) => {
                cpu.timers.lock().push(Runnable::Teardown(process), until.0);
                None
            }
            Slice::Done => None,
        },
        Runnable::Job(thread) => match job::slice(cpu, &thread, irq) {
            Poll::Ready(result) => waiting::complete_here(cpu, thread, result),
            Poll::Pending => Some(Runnable::Job(thread)),
        },
        Runnable::CloseEndpoint(endpoint) => match endpoint.closing_slice(cpu) {
            Slice::More => Some(Runnable::CloseEndpoint(endpoint)),
            Slice::Done | Slice::Wait(_) => None,
        },
        Runnable::CloseNotification(notification) => match notification.closing_slice(cpu) {
            Slice::More => Some(Runnable::CloseNotification(notification)),
            Slice::Done | Slice::Wait(_) => None,
        },
        Runnable::Burial(burial) => match burial.slice(cpu) {
            Slice::More => Some(Runnable::Burial(burial)),
            Slice::Done | Slice::Wait(_) => None,
        },
        Runnable::Balance(_) => {
            balance::step(cpu);
            None
        }
        Runnable::Task(_) | Runnable::Thread(_) => None,
    };
    trace::event(cpu, Kind::Polled, 0, 0);
    more
}

/// Puts `back` into this CPU's run queue, takes the best out, and publishes what this CPU does now.
#[inline]
fn switch(cpu: &Cpu, back: Option<(Runnable, Place)>) -> Option<Runnable> {
    let mut queue = cpu.ready.lock();
    if let Some((item, place)) = back {
        let priority = match &item {
            // It stands on this CPU already. Who doomed it before this look, inside the lock, has
            // not found it in the queue; who does so after it will.
            Runnable::Thread(thread) if thread.is_doomed() => {
                drop(queue);
                ending::end_thread(cpu, thread);
                return switch(cpu, None);
            }
            other => other.priority(),
        };
        if queue.goes_first(priority, place) {
            cpu.rival.set(queue.has(priority));
            cpu.running.publish(&queue, Load::of(priority));
            return Some(item);
        }
        queue.push(item, priority, place);
    }
    let next = queue.pop();
    let load = match &next {
        None => Load::IDLE,
        Some(item) => {
            let priority = item.priority();
            cpu.rival.set(queue.has(priority));
            Load::of(priority)
        }
    };
    cpu.running.publish(&queue, load);
    next
}

/// Where a kernel task goes that has more to do. Among its equals it has the CPU for as long as a
/// thread would, if nothing better is ready after one of its steps: a step is some microseconds,
/// and a task that got one per turn would wait whole slices of every thread in between. A thread whose
/// task is through goes behind its equals.
fn place_after(cpu: &Cpu, item: Runnable, began: Ticks, ended: Ticks) -> (Runnable, Place) {
    if let Runnable::Thread(_) = item {
        return (item, Place::Last);
    }
    let used = ended.0.saturating_sub(began.0);
    let left = cpu.task_slice_left.get().saturating_sub(used);
    if left > 0 {
        cpu.task_slice_left.set(left);
        return (item, Place::First);
    }
    cpu.task_slice_left.set(cpu.kernel.slice);
    (item, Place::Last)
}

/// The last step: the timer, the memory context, then `return_to_user`, in this order, on every edge
/// (`RET-1`). `None` if this CPU was asked to look meanwhile; the thread is current then.
#[inline]
fn go(cpu: &'static Cpu, thread: Ref<Thread>, irq: &IrqsOff) -> Option<Resume<Frame>> {
    let mut due = cpu.limit_end.get();
    if cpu.rival.get() {
        due = due.min(cpu.slice_end.get());
    }
    arm(cpu, due, irq);
    // SAFETY: a process's address space lives until its teardown has found it loaded nowhere, and
    // the teardown starts when its last thread has ended.
    unsafe { context::enter(cpu, &thread.process().space, irq) };
    let frame = thread.frame();
    cpu.set_current(thread);
    if cpu.work().wants_a_look() {
        return None;
    }
    rendezvous::point(cpu, Point::BeforeReturn);
    if cpu.take_rseq() {
        rseq::settle(cpu);
    }
    let owed = match mutant::is(Mutant::M15) {
        true => Owed { core_sync: CoreSyncOwed::No },
        false => Owed { core_sync: cpu.take_core_sync() },
    };
    if mutant::is(Mutant::LooksAgain) {
        cpu.serve();
    }
    let reload = if mutant::is(Mutant::RegistersNotReloaded) { Reload::ResultOnly } else { Reload::Full };
    // SAFETY: 1. the frame is in the current thread, which this CPU holds a reference to. 2. just
    // entered. 3. a full reload is always right.
    Some(unsafe { cpu.return_to_user(frame, owed, reload, irq) })
}

/// Looks at what interrupts and other CPUs have noted, and says what it was. `now` if it is known.
#[inline]
fn settle_work(cpu: &'static Cpu, mut now: Option<Ticks>, irq: &IrqsOff) -> Work {
    let work = cpu.take_work();
    if work.has(Work::CONSOLE) {
        cpu.kernel.console.input_arrived(cpu);
    }
    if work.has(Work::DEVICE) {
        cpu.kernel.devices.wires.deliver(cpu);
    }
    if work.has(Work::TIMER) {
        cpu.armed.set(NEVER);
        now = Some(Current::now(cpu.arch()));
    }
    if let Some(now) = now
        && first_due(cpu) <= now
    {
        waiting::wake_sleepers(cpu, now, irq);
    }
    work
}

/// When the next sleeper is due. What that is in ticks is computed when it changes.
#[inline]
fn first_due(cpu: &Cpu) -> Ticks {
    let due = cpu.timers.first_due();
    let (of, ticks) = cpu.first_due.get();
    if of == due {
        return ticks;
    }
    first_due_anew(cpu, due)
}

#[cold]
fn first_due_anew(cpu: &Cpu, due: u64) -> Ticks {
    let ticks = if due == u64::MAX { NEVER } else { cpu.kernel.rate.ticks(Nanos(due)) };
    cpu.first_due.set((due, ticks));
    ticks
}

/// What becomes of the current thread.
enum Verdict {
    Goes,
    Yields(Place),
    /// It may not run here.
    Moves,
    /// It is out of budget until then.
    Starves(Nanos),
    Ends,
}

/// It goes on unless something better is ready, or something equal and its slice is over, or it may
/// not.
#[inline]
fn verdict(cpu: &Cpu, current: &Thread, work: Work) -> Verdict {
    if current.is_doomed() {
        return Verdict::Ends;
    }
    if !current.affinity().has(cpu.number) {
        return Verdict::Moves;
    }
    if work.has(Work::GO_OFF) {
        return Verdict::Yields(Place::First);
    }
    if let Err(due) = limit_from(cpu, current, None) {
        return Verdict::Starves(due);
    }
    let priority = current.priority();
    let queue = cpu.ready.lock();
    let best = queue.best();
    let rival = best == Some(priority);
    let place = match best {
        Some(best) if best > priority => Place::First,
        Some(_) if rival && (work.has(Work::YIELD) || work.has(Work::TIMER) && slice_is_over(cpu)) => {
            Place::Last
        }
        _ => {
            cpu.rival.set(rival);
            cpu.running.publish(&queue, Load::of(priority));
            return Verdict::Goes;
        }
    };
    Verdict::Yields(place)
}

fn slice_is_over(cpu: &Cpu) -> bool {
    Current::now(cpu.arch()) >= cpu.slice_end.get()
}

/// Until when `thread` may run, if it has a limit; or when it may again. `chosen` is the time at
/// which it is chosen, if it is now.
#[inline]
fn limit_from(cpu: &Cpu, thread: &Thread, chosen: Option<Ticks>) -> Result<(), Nanos> {
    if !is_limited(thread) {
        cpu.limit_end.set(NEVER);
        return Ok(());
    }
    let now = chosen.unwrap_or_else(|| {
        let now = Current::now(cpu.arch());
        charge(cpu, thread, now);
        now
    });
    let end = of_payer(thread, |own, process| {
        let now = cpu.kernel.rate.nanos(now);
        match (own.until(now), process.map_or(Ok(Nanos(u64::MAX)), |process| process.until(now))) {
            (Ok(own), Ok(process)) => Ok(own.min(process)),
            (Err(own), Err(process)) => Err(own.max(process)),
            (Err(due), _) | (_, Err(due)) => Err(due),
        }
    })?;
    cpu.limit_end.set(if end.0 == u64::MAX { NEVER } else { cpu.kernel.rate.ticks(end) });
    Ok(())
}

/// Makes `thread`, which was just taken out of a queue, the next one on this CPU, if it may be that.
#[inline]
fn choose(cpu: &Cpu, thread: Ref<Thread>, now: Ticks, irq: &IrqsOff) -> Option<Ref<Thread>> {
    // Who wants something of it wrote that before looking into the queue. If it was not there any
    // more, this look sees what is wanted, or this CPU is asked to look.
    if thread.is_doomed() {
        ending::end_thread(cpu, &thread);
        return None;
    }
    if !thread.affinity().has(cpu.number) {
        cpu.make_ready(Runnable::Thread(thread));
        return None;
    }
    if let Err(due) = limit_from(cpu, &thread, Some(now)) {
        waiting::sleep(cpu, thread, due);
        return None;
    }
    thread.entry.set_last(cpu.number);
    take_slice(cpu, &thread, now);
    if thread.rseq.exists() {
        cpu.add_work(Work::RSEQ);
    }
    load_vectors(cpu, &thread, irq);
    Some(thread)
}

/// Loads the vector registers of `thread`, which was just taken out of a queue, if it has any.
#[inline]
pub(crate) fn load_vectors(cpu: &Cpu, thread: &Thread, irq: &IrqsOff) {
    if let Some(area) = thread.vector_area() {
        // SAFETY: the thread was in a queue, so this CPU alone has its frame now.
        let frame = unsafe { thread.frame().as_mut() };
        // SAFETY: 1. it is this thread's area, initialized when it was made. 2. whoever used the
        // units before was taken off this CPU, which saved them.
        unsafe { Current::load(cpu.arch(), frame, area, irq) };
    }
}

/// Saves the vector registers of `thread`, which was current, if it has any.
#[inline]
pub(crate) fn save_vectors(cpu: &Cpu, thread: &Thread, irq: &IrqsOff) {
    if let Some(area) = thread.vector_area()
        && !mutant::is(Mutant::VectorsNotSaved)
    {
        // SAFETY: the thread was current here, so this CPU alone has its frame.
        let frame = unsafe { thread.frame().as_mut() };
        // SAFETY: a current thread that has an area has the units.
        unsafe { Current::save(cpu.arch(), frame, area, irq) };
    }
}

/// `thread` has the CPU from `now` on, for what is left of its slice, or a new one. While it runs
/// nothing is left over.
#[inline]
pub(crate) fn take_slice(cpu: &Cpu, thread: &Thread, now: Ticks) {
    let ticks = match thread.slice_left.load(Ordering::Relaxed) {
        0 => cpu.kernel.slice,
        left => {
            whole_slice(thread);
            left
        }
    };
    cpu.chosen_at.set(now);
    cpu.slice_end.set(Ticks(now.0 + ticks));
}

/// When `thread` next has a CPU, it has it for a whole slice.
#[inline]
fn whole_slice(thread: &Thread) {
    thread.slice_left.store(0, Ordering::Relaxed);
}

/// Counts the time since `thread`, which runs here, was last charged; says how much. The clock never
/// goes back (`TIME-1`).
#[inline]
pub(crate) fn count_time(cpu: &Cpu, thread: &Thread, now: Ticks) -> u64 {
    let ran = now.0 - cpu.chosen_at.replace(now).0;
    thread.ran(ran);
    ran
}

/// Counts the time since `thread`, which runs here, was last charged, and charges it.
#[inline]
fn charge(cpu: &Cpu, thread: &Thread, now: Ticks) {
    let ran = count_time(cpu, thread, now);
    if is_limited(thread) {
        of_payer(thread, |own, process| {
            let process = process.filter(|_| !mutant::is(Mutant::ProcessNotCharged));
            for limit in [Some(own), process].into_iter().flatten() {
                limit.charge(cpu.kernel.rate.length(ran), cpu.kernel.rate.nanos(now));
            }
        });
    }
}

/// Whether it runs on a budget: its own, its process's, or that of a caller.
#[inline]
fn is_limited(thread: &Thread) -> bool {
    let extras = thread.extras();
    extras.has(Extra::Limit) || extras.has(Extra::Payer)
}

/// What `f` does with the limits of whoever pays for `thread`: its own, and that of its process.
fn of_payer<R>(thread: &Thread, f: impl FnOnce(&Limit, Option<&Limit>) -> R) -> R {
    let payer = thread.ipc.payer();
    let payer = payer.as_deref().unwrap_or(thread);
    f(&payer.limit, payer.process().limit.as_deref())
}

/// Charges what the current thread has run so far.
pub(crate) fn charge_now(cpu: &Cpu, thread: &Thread) {
    charge(cpu, thread, Current::now(cpu.arch()));
}

/// Takes `thread`, which was current, off this CPU, its time charged and its vector registers saved:
/// from here on any CPU may have it. The caller says where it stands. Says what time it is.
pub(crate) fn take_off(cpu: &Cpu, thread: &Thread, irq: &IrqsOff) -> Ticks {
    complete_user_accesses(cpu);
    let now = Current::now(cpu.arch());
    charge(cpu, thread, now);
    thread.slice_left.store(cpu.slice_end.get().0.saturating_sub(now.0), Ordering::Relaxed);
    save_vectors(cpu, thread, irq);
    now
}

/// What the thread that leaves this CPU has begun here is complete before any CPU can find it in a
/// queue: before whatever it does elsewhere. `MIG-4`
#[inline(always)]
pub(crate) fn complete_user_accesses(cpu: &Cpu) {
    if !mutant::is(Mutant::LeavesIncomplete) {
        Current::complete_user_accesses(cpu.arch());
    }
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
    cpu.add_work(Work::YIELD);
}

/// Has the CPU that runs `thread`, if any does, look at what changed about it.
pub fn look_again(cpu: &Cpu, thread: &Thread) {
    if let Standing::On(at) = thread.standing()
        && let Some(at) = cpu.kernel.cpu(at)
    {
        cpu.poke(at);
    }
}

/// Takes the current thread off this CPU for good.
fn take_current(cpu: &Cpu) -> Option<Ref<Thread>> {
    let thread = cpu.take_current()?;
    charge(cpu, &thread, Current::now(cpu.arch()));
    Some(thread)
}

/// Arms the timer for the end of the slice, if others wait for that and it would go off later.
#[inline(always)]
pub(crate) fn watch_slice(cpu: &'static Cpu, irq: &IrqsOff) {
    if cpu.rival.get() && cpu.armed.get() > cpu.slice_end.get() {
        arm_for_slice(cpu, irq);
    }
}

#[cold]
#[inline(never)]
fn arm_for_slice(cpu: &'static Cpu, irq: &IrqsOff) {
    arm(cpu, cpu.slice_end.get(), irq);
}

/// Arms the one-shot timer for the next sleeper, or for `due` if that is earlier, if that changed.
#[inline]
fn arm(cpu: &'static Cpu, due: Ticks, irq: &IrqsOff) {
    balance::arm(cpu);
    let due = due.min(first_due(cpu));
    if cpu.armed.replace(due) != due {
        Current::set_deadline(cpu.arch(), (due != NEVER).then_some(due), irq);
    }
}
