//! The short way from one thread to the next: a yield to an equal, with nothing else to look at.
//!
//! [`leave`](super::leave) decides anew on every way out of the kernel, which takes some hundred
//! instructions. A thread that yields needs none of it as long as nothing was noted for this CPU
//! ([`Work::NONE`]) and what is ready is an equal. Where anything is unusual this does nothing, and
//! the long way does it all.
//!
//! All of it is inlined into the upcall, and what is unlikely is called where nothing is kept for
//! after the call: so the whole way from entry to return keeps what it needs in registers, and saves
//! none.
//!
//! The timer stays as it is armed: for the end of an earlier slice, hence too early rather than too
//! late, and the long way sees to that when it fires. Armed it is: whoever put the first equal into
//! this CPU's queue has it look, on the long way, which arms it, or, on the short way of a signal, arms it
//! itself ([`watch_slice`](super::watch_slice)); and it stays so while there is one.

use super::{complete_user_accesses, count_time, load_vectors, round_trip, save_vectors};
use crate::cpu::{Cpu, Work};
use crate::object::Ref;
use crate::sched::context::{self, Rest, Serialized};
use crate::sched::ready::{NoTurn, Runnable};
use crate::sync::Ordering;
use crate::thread::{Extra, Extras, Frame, Thread};
use crate::trace;
use abi::testing::Counter;
use arch_contract::irq::IrqsOff;
use arch_contract::mutant;
use arch_contract::ret::{CoreSyncOwed, Owed, Reload, Resume, Return};
use arch_contract::time::{Ticks, Time};
use arch_current::Current;
use core::ptr::NonNull;

/// What came of it.
pub enum Turn {
    /// Another thread has it.
    Next(Resume<Frame>),
    /// There is no other.
    Mine(IrqsOff),
    /// Nothing was done: the long way must be gone.
    Unclear(IrqsOff),
}

/// What a turn sees to by itself, where that costs least.
const EASY: Extras = Extras::NONE.with(Extra::Priority).with(Extra::Alarm);

/// What it can see to.
pub(crate) const FEASIBLE: Extras = EASY.with(Extra::Affinity).with(Extra::Vectors);

/// The current thread of `cpu`, whose call is done, lets the next one of its priority run.
#[inline(always)]
pub fn take_turns(cpu: &'static Cpu, irq: IrqsOff) -> Turn {
    match turn(cpu, EASY, |_| {}) {
        Ok((Runnable::Thread(next), _)) => Turn::Next(run(cpu, next, &irq)),
        Ok((job, now)) => Turn::Next(round_trip::to_other(cpu, job, now, irq)),
        Err(NoTurn::Alone) => Turn::Mine(irq),
        Err(NoTurn::Unequal) => Turn::Unclear(irq),
    }
}

/// As [`take_turns`], where the threads may have vector registers, or be bound to CPUs.
pub fn take_turns_if_feasible(cpu: &'static Cpu, irq: IrqsOff) -> Turn {
    match turn(cpu, FEASIBLE, |current| save_vectors(cpu, current, &irq)) {
        Ok((Runnable::Thread(next), _)) => {
            load_vectors(cpu, &next, &irq);
            Turn::Next(run(cpu, next, &irq))
        }
        Ok((job, now)) => Turn::Next(round_trip::to_other(cpu, job, now, irq)),
        Err(NoTurn::Alone) => Turn::Mine(irq),
        Err(NoTurn::Unequal) => Turn::Unclear(irq),
    }
}

/// Whether `next` need not be watched more closely than a thread with a whole slice: a rest of one may
/// end before what the timer is armed for.
#[inline(always)]
pub(super) fn has_whole_slice(next: &Thread) -> bool {
    next.slice_left.load(Ordering::Relaxed) == 0
}

/// Puts the current thread behind its equals and takes the first of them, if neither has anything but
/// what is `easy`. That may be the job of a thread. `save` is called before others can have the current
/// one. With the time.
#[inline(always)]
fn turn(cpu: &Cpu, easy: Extras, save: impl FnOnce(&Thread)) -> Result<(Runnable, Ticks), NoTurn> {
    if cpu.work() != Work::NONE || mutant::any() {
        return Err(NoTurn::Unequal);
    }
    let Some(current) = cpu.take_current() else { return Err(NoTurn::Unequal) };
    let now = Current::now(cpu.arch());
    let Some(mut queue) = cpu.ready.try_lock() else {
        cpu.set_current(current);
        return Err(NoTurn::Unequal);
    };
    // Inside the lock, as in the long way: both threads stand on this CPU, before and after.
    let priority = current.priority();
    let may = |current: &Thread, next: &Thread| {
        let may = has_whole_slice(next);
        if may {
            complete_user_accesses(cpu);
            count_time(cpu, current, now);
            save(current);
        }
        may
    };
    // SAFETY: `current` was current here, hence in no queue, and only who has it puts it into one.
    match unsafe { queue.turn(current, priority, easy, may) } {
        Ok(next) => {
            drop(queue);
            if let Runnable::Thread(next) = &next {
                next.entry.set_last(cpu.number);
                cpu.slice_end.set(Ticks(now.0 + cpu.kernel.slice));
            }
            Ok((next, now))
        }
        Err((current, why)) => {
            drop(queue);
            cpu.set_current(current);
            Err(why)
        }
    }
}

/// Has `next`, which was just taken, run.
#[inline(always)]
pub(crate) fn run(cpu: &'static Cpu, next: Ref<Thread>, irq: &IrqsOff) -> Resume<Frame> {
    // SAFETY: a process's address space lives until its teardown has found it loaded nowhere, and
    // the teardown starts when its last thread has ended. What is left of it follows below.
    let entered = unsafe { context::enter_from_user(cpu, &next.process().space, irq) };
    let frame = next.frame();
    cpu.set_current(next);
    match entered {
        // Nothing was owed before: nothing was noted at all.
        Ok(serialized) => {
            if serialized == Serialized::Now {
                trace::count(cpu, Counter::CoreSyncs);
            }
            let owed = serialized == Serialized::Owed;
            let owed = if owed { CoreSyncOwed::Yes } else { CoreSyncOwed::No };
            let resume = go(cpu, frame, owed, irq);
            // SAFETY: 1. just made. 2. `next` was all there was, on the way from the upcall to here,
            // and is the CPU's now.
            unsafe { Current::go(cpu.arch(), resume) }
        }
        Err(rest) => enter_and_go(cpu, rest, irq),
    }
}

/// Does what is left of entering the address space of the thread that is current by now.
#[cold]
#[inline(never)]
fn enter_and_go(cpu: &'static Cpu, rest: Rest, irq: &IrqsOff) -> Resume<Frame> {
    let Some(next) = cpu.current() else { unreachable!("it was just made current") };
    // SAFETY: as in `run`.
    unsafe { context::enter_rest(cpu, &next.process().space, rest, irq) };
    go(cpu, next.frame(), cpu.take_core_sync(), irq)
}

#[inline(always)]
fn go(cpu: &'static Cpu, frame: NonNull<Frame>, core_sync: CoreSyncOwed, irq: &IrqsOff) -> Resume<Frame> {
    // SAFETY: 1. the frame is in the current thread, which this CPU holds a reference to. 2. its
    // address space was just entered. 3. a full reload is always right.
    unsafe { cpu.return_to_user(frame, Owed { core_sync }, Reload::Full, irq) }
}
