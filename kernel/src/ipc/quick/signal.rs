//! The short ways of a signal, and of the wait for one.
//!
//! A signal to a better thread that waits takes the CPU from the one that signals, which goes first among
//! its equals, in one critical section of the run queue. One to a thread that is no better puts that into the
//! queue, one to nobody leaves the bits. A wait takes bits that are there, or gives the CPU to what is ready.
//!
//! Only where all of that concerns this CPU alone: the woken thread ran here last, and no other CPU idles. The
//! timer may go off for nothing: for a slice that another has the rest of. The long way sees to that, as after
//! a yield.
//!
//! Who waits again where it waited last keeps its reference, as a server does: nothing is counted.
//!
//! Locks: the table's, the notification's, the run queue's, each only tried. The last two are taken the other
//! way round by who puts the kernel task of a notification that has ended into the queue.

use super::{count, may_be_gone, may_follow, may_go_on, meanwhile};
use crate::cpu::{Cpu, Work};
use crate::ipc::Alarm;
use crate::ipc::notification::{Notification, State};
use crate::object::Ref;
use crate::sched::quick::{Turn, run};
use crate::sched::ready::{Load, Place, Priority, ReadyGuard, Runnable};
use crate::sched::{
    self, balance, complete_user_accesses, count_time, ending, load_vectors, save_vectors, take_slice,
};
use crate::sync::{Guard, Ordering};
use crate::thread::{Extra, Extras, Fate, Thread};
use abi::Rights;
use abi::ipc::FOREVER;
use arch_contract::irq::IrqsOff;
use arch_contract::time::{Ticks, Time};
use arch_contract::trap::{Syscall, Traps};
use arch_current::Current;

/// What is seen to where that costs least. A deadline means nothing to a thread that does not wait.
const EASY: Extras = super::EASY.with(Extra::Alarm);

/// What can be seen to.
const FEASIBLE: Extras = super::FEASIBLE.with(Extra::Alarm);

/// What came of it.
enum Done {
    /// This one goes on.
    Next(Ref<Thread>),
    /// The one that has called goes on, with its result.
    Mine(Ref<Thread>),
    /// As much as there was to do is done: the scheduler finds out who goes on.
    Leave(Ref<Thread>),
    /// Nothing was done.
    Unclear(Ref<Thread>),
}

/// The current thread signals.
#[inline(always)]
pub fn signal(cpu: &'static Cpu, made: &Syscall, irq: IrqsOff) -> Turn {
    let done = begin(cpu, made, |thread, handle| try_signal(cpu, thread, handle, made.args[1], EASY, |_| {}));
    finish(cpu, done, |_| {}, irq)
}

/// As [`signal`], where the threads may have vector registers, or be bound to CPUs.
pub fn signal_if_feasible(cpu: &'static Cpu, made: &Syscall, irq: IrqsOff) -> Turn {
    let done = begin(cpu, made, |thread, handle| {
        try_signal(cpu, thread, handle, made.args[1], FEASIBLE, |thread| save_vectors(cpu, thread, &irq))
    });
    // SAFETY: the token is there; this one is used for the time of a hook only.
    let token = unsafe { IrqsOff::assume() };
    finish(cpu, done, |next| load_vectors(cpu, next, &token), irq)
}

/// The current thread waits for a signal.
#[inline(always)]
pub fn wait(cpu: &'static Cpu, made: &Syscall, irq: IrqsOff) -> Turn {
    if made.args[1] != FOREVER {
        return Turn::Unclear(irq);
    }
    let done = begin(cpu, made, |thread, handle| try_wait(cpu, thread, handle, EASY, |_| {}));
    finish(cpu, done, |_| {}, irq)
}

/// As [`wait`], where the threads may have vector registers, or be bound to CPUs.
pub fn wait_if_feasible(cpu: &'static Cpu, made: &Syscall, irq: IrqsOff) -> Turn {
    if made.args[1] != FOREVER {
        return Turn::Unclear(irq);
    }
    let done = begin(cpu, made, |thread, handle| {
        try_wait(cpu, thread, handle, FEASIBLE, |thread| save_vectors(cpu, thread, &irq))
    });
    // SAFETY: as in `signal_if_feasible`.
    let token = unsafe { IrqsOff::assume() };
    finish(cpu, done, |next| load_vectors(cpu, next, &token), irq)
}

/// What both need: the current thread, and a handle. `None` if nothing was done.
#[inline(always)]
fn begin(cpu: &Cpu, made: &Syscall, attempt: impl FnOnce(Ref<Thread>, u64) -> Done) -> Option<Done> {
    if !may_be_gone(cpu) {
        return None;
    }
    Some(attempt(cpu.take_current()?, made.args[0]))
}

#[inline(always)]
fn finish(cpu: &'static Cpu, done: Option<Done>, load: impl FnOnce(&Thread), irq: IrqsOff) -> Turn {
    match done {
        Some(Done::Next(next)) => {
            count(cpu);
            load(&next);
            sched::watch_slice(cpu, &irq);
            Turn::Next(run(cpu, next, &irq))
        }
        Some(Done::Mine(current)) => {
            count(cpu);
            cpu.set_current(current);
            sched::watch_slice(cpu, &irq);
            Turn::Mine(irq)
        }
        Some(Done::Leave(current)) => {
            cpu.set_current(current);
            Turn::Next(sched::leave(cpu, irq))
        }
        Some(Done::Unclear(current)) => {
            cpu.set_current(current);
            Turn::Unclear(irq)
        }
        None => Turn::Unclear(irq),
    }
}

/// This CPU's run queue, if what is put into it and taken out is nothing to others.
#[inline(always)]
fn queue(cpu: &Cpu) -> Option<ReadyGuard<'_>> {
    let queue = cpu.ready.try_lock()?;
    balance::is_settled(cpu).then_some(queue)
}

/// The registers of `thread`, which this CPU has, say what its call returned.
#[inline(always)]
fn set_result(thread: &Thread, value: u64) {
    // SAFETY: the caller has the thread.
    Current::set_result(unsafe { thread.frame().as_mut() }, 0, value);
}

/// What becomes of who was woken.
enum Woken<'a> {
    /// There was nobody.
    Nobody,
    /// It is in the run queue, behind who runs.
    Ready,
    /// It has the CPU, whose run queue is to get the other at this priority.
    Runs(Ref<Thread>, ReadyGuard<'a>, Priority),
    /// It is in the run queue, which is to be looked at: somebody wanted something of it.
    Changed,
    /// It is to end.
    Doomed(Ref<Thread>),
}

#[inline(always)]
fn try_signal(
    cpu: &Cpu,
    signaller: Ref<Thread>,
    handle: u64,
    bits: u64,
    easy: Extras,
    save: impl FnOnce(&Thread),
) -> Done {
    let woken = 'woken: {
        let Some(slots) = signaller.process().table.try_lock() else { break 'woken None };
        let Some(notification) = slots.notification(handle, Rights::WRITE) else { break 'woken None };
        let Some(mut state) = notification.state.try_lock() else { break 'woken None };
        let Some(waiter) = state.waiters.first() else {
            if state.bound.is_some() {
                break 'woken None;
            }
            state.bits |= bits;
            break 'woken Some(Woken::Nobody);
        };
        if bits == 0 || waiter.extras().has(Extra::Alarm) || waiter.entry.last() != cpu.number {
            break 'woken None;
        }
        let Some(mut ready) = queue(cpu) else { break 'woken None };
        let Some([priority, of_waiter]) = may_follow(cpu, &signaller, waiter, easy) else {
            break 'woken None;
        };
        let goes_on = match of_waiter > priority {
            true => ready.goes_first(of_waiter, Place::Last),
            false => ready.goes_first(priority, Place::First),
        };
        if !goes_on {
            break 'woken None;
        }
        // From here on it is done. While the notification is held nobody takes the waiter out of its queue.
        set_result(waiter, bits);
        let Some(waiter) = state.waiters.pop() else { break 'woken None };
        meanwhile::pass();
        if waiter.stand_called(cpu.number) == Fate::Doomed {
            break 'woken Some(Woken::Doomed(waiter));
        }
        // Who wanted something of it before it stood here has interrupted nobody.
        let now = waiter.priority();
        if now != of_waiter || !may_go_on(cpu, &waiter, easy) {
            ready.push(Runnable::Thread(waiter), now, Place::Last);
            break 'woken Some(Woken::Changed);
        }
        if of_waiter > priority {
            cpu.running.publish(&ready, Load::of(of_waiter));
            break 'woken Some(Woken::Runs(waiter, ready, priority));
        }
        ready.push(Runnable::Thread(waiter), of_waiter, Place::Last);
        cpu.rival.set(ready.has(priority));
        Some(Woken::Ready)
    };
    let Some(woken) = woken else { return Done::Unclear(signaller) };
    set_result(&signaller, 0);
    match woken {
        Woken::Nobody | Woken::Ready => Done::Mine(signaller),
        Woken::Runs(waiter, mut ready, priority) => {
            let now = take_off(cpu, &signaller, save);
            let left = cpu.slice_end.get().0.saturating_sub(now.0);
            signaller.slice_left.store(left, Ordering::Relaxed);
            // It stands here already.
            ready.push(Runnable::Thread(signaller), priority, Place::First);
            drop(ready);
            cpu.rival.set(false);
            take_slice(cpu, &waiter, now);
            Done::Next(waiter)
        }
        Woken::Changed => {
            cpu.add_work(Work::READY);
            Done::Leave(signaller)
        }
        Woken::Doomed(waiter) => {
            ending::end_thread(cpu, &waiter);
            Done::Leave(signaller)
        }
    }
}

/// Takes `thread`, which was current, off this CPU. Says what time it is.
#[inline(always)]
fn take_off(cpu: &Cpu, thread: &Thread, save: impl FnOnce(&Thread)) -> Ticks {
    complete_user_accesses(cpu);
    let now = Current::now(cpu.arch());
    count_time(cpu, thread, now);
    save(thread);
    now
}

/// What a wait comes to.
enum Wait<'a> {
    /// These were there.
    Bits(u64),
    /// What is first in the run queue goes on; the other is to stand here meanwhile.
    Off(Guard<'a, State>, ReadyGuard<'a>),
}

#[inline(always)]
fn try_wait(cpu: &Cpu, waiter: Ref<Thread>, handle: u64, easy: Extras, save: impl FnOnce(&Thread)) -> Done {
    let wait = 'wait: {
        let Some(slots) = waiter.process().table.try_lock() else { break 'wait None };
        let Some(notification) = slots.notification(handle, Rights::READ) else { break 'wait None };
        let was_here = waiter.notified_at().is_some_and(|held| Ref::ptr_eq(held, notification));
        // SAFETY: it lives while the table is held. It is used after that only if the waiter has a reference to
        // it, which stays until the waiter is out of its queue again, which nobody takes it out of before the
        // notification is let go.
        let notification: &Notification = unsafe { &*core::ptr::from_ref::<Notification>(notification) };
        let Some(mut state) = notification.state.try_lock() else { break 'wait None };
        if state.bits != 0 {
            break 'wait Some(Wait::Bits(core::mem::take(&mut state.bits)));
        }
        if !was_here || state.is_mute {
            break 'wait None;
        }
        let Some(ready) = queue(cpu) else { break 'wait None };
        let Some(Runnable::Thread(next)) = ready.first() else { break 'wait None };
        if may_follow(cpu, &waiter, next, easy).is_none() {
            break 'wait None;
        }
        Some(Wait::Off(state, ready))
    };
    let (mut state, mut ready) = match wait {
        None => return Done::Unclear(waiter),
        Some(Wait::Bits(bits)) => {
            set_result(&waiter, bits);
            return Done::Mine(waiter);
        }
        Some(Wait::Off(state, ready)) => (state, ready),
    };
    let now = take_off(cpu, &waiter, save);
    Alarm::set_deadline(&waiter, FOREVER);
    if waiter.stand_waiting_again(cpu.number) == Fate::Doomed {
        // It is ended on the way out.
        return Done::Leave(waiter);
    }
    state.waiters.push(waiter);
    drop(state);
    let Some(Runnable::Thread(next)) = ready.pop() else { unreachable!("it is the first") };
    let priority = next.priority();
    cpu.rival.set(ready.has(priority));
    cpu.running.publish(&ready, Load::of(priority));
    drop(ready);
    next.entry.set_last(cpu.number);
    take_slice(cpu, &next, now);
    Done::Next(next)
}
