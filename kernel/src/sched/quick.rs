//! The short way from one thread to the next: a yield to an equal, with nothing else to look at.
//!
//! [`leave`](super::leave) decides anew on every way out of the kernel, which takes some hundred
//! instructions. A thread that yields needs none of it as long as nothing was noted for this CPU
//! ([`Work::NONE`]) and what is ready is an equal. Where anything is unusual this does nothing, and
//! the long way does it all.
//!
//! The timer stays as it is armed: for the end of an earlier slice, hence too early rather than too
//! late, and the long way sees to that when it fires.

use super::{NEVER, begin_slice, charge, load_vectors, save_vectors};
use crate::cpu::{Cpu, Work};
use crate::sched::context;
use crate::sched::ready::Runnable;
use crate::sync::Ordering;
use crate::thread::Frame;
use arch_contract::irq::IrqsOff;
use arch_contract::ret::{CoreSyncOwed, Owed, Reload, Resume};
use arch_contract::time::Time;
use arch_current::Current;

/// What came of it.
pub enum Turn {
    /// Another thread has it.
    Next(Resume<Frame>),
    /// There is no other.
    Mine,
    /// The long way must be gone.
    Unclear,
}

/// The current thread of `cpu`, whose call is done, lets the next one of its priority run.
#[inline]
pub fn take_turns(cpu: &'static Cpu, irq: &IrqsOff) -> Turn {
    if cpu.work() != Work::NONE || cpu.armed.get() == NEVER {
        return Turn::Unclear;
    }
    let Some(current) = cpu.take_current() else { return Turn::Unclear };
    let priority = current.priority();
    let mut queue = cpu.ready.lock();
    let best = queue.best();
    if best < Some(priority) {
        drop(queue);
        cpu.set_current(current);
        return Turn::Mine;
    }
    let plain = match queue.first_thread(priority).filter(|_| best == Some(priority)) {
        Some(next) if !current.has_extras() && !next.has_extras() && next.affinity().has(cpu.number) => {
            // Inside the lock, as in the long way. Both stand on this CPU, before and after.
            // A rest of a slice may end before what the timer is armed for.
            !current.is_doomed() && !next.is_doomed() && next.slice_left.load(Ordering::Relaxed) == 0
        }
        _ => false,
    };
    if !plain {
        drop(queue);
        cpu.set_current(current);
        return Turn::Unclear;
    }
    let now = Current::now(cpu.arch());
    charge(cpu, &current, now);
    current.slice_left.store(0, Ordering::Relaxed);
    save_vectors(cpu, &current, irq);
    let Runnable::Thread(next) = queue.exchange(Runnable::Thread(current), priority) else {
        unreachable!("the first was a thread, and the lock is held")
    };
    drop(queue);
    next.entry.set_last(cpu.number);
    begin_slice(cpu, &next, now);
    load_vectors(cpu, &next, irq);
    // SAFETY: a process's address space lives until its teardown has found it loaded nowhere, and
    // the teardown starts when its last thread has ended.
    unsafe { context::enter(cpu, &next.process().space, irq) };
    let frame = next.frame();
    cpu.set_current(next);
    let owed = match cpu.work() {
        Work::NONE => Owed { core_sync: CoreSyncOwed::No },
        _ => Owed { core_sync: cpu.take_core_sync() },
    };
    // SAFETY: 1. the frame is in the current thread, which this CPU holds a reference to. 2. just
    // entered. 3. a full reload is always right.
    Turn::Next(unsafe { cpu.return_to_user(frame, owed, Reload::Full, irq) })
}
