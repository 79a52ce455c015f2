//! A notification: a word of bits that stay until somebody takes them.
//!
//! A signal adds bits and never waits. One who waits takes all of them at once, so however often a bit
//! was set, it comes once; none is lost. A thread can have one notification bound to it, whose signals end its
//! receiving too: a server waits for messages and for interrupts in one place. That lasts as long as the handle
//! by which it was bound, which is looked up whenever bits are about to be taken that way: so a revocation
//! ends it.

use super::{Alarm, Bound, Place, Waiters, message};
use crate::cap::Object;
use crate::cpu::Cpu;
use crate::cpuset::CpuId;
use crate::object::Ref;
use crate::rendezvous::{self, Point};
use crate::sched::{
    self,
    ready::{Entry, Runnable},
};
use crate::sync::{Leaf, Ordering};
use crate::syscall::Outcome;
use crate::thread::{Extra, Fate, Standing, Thread};
use abi::{Error, Handle, Rights};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};

pub(super) struct State {
    pub(super) bits: u64,
    /// Empty, unless the bits are 0.
    pub(super) waiters: Waiters,
    pub(super) bound: Option<Ref<Thread>>,
    /// Capabilities by which one can signal.
    signallers: u32,
    /// Whether there were some, and now are none.
    pub(super) is_mute: bool,
}

/// A notification.
pub struct Notification {
    pub(super) state: Leaf<State>,
    /// For the kernel task that wakes those who wait when it has ended.
    closing: Entry,
}

impl Notification {
    pub const fn new() -> Self {
        let state = State { bits: 0, waiters: Waiters::new(), bound: None, signallers: 0, is_mute: false };
        Self { state: Leaf::new(state), closing: Entry::new(CpuId::BOOT) }
    }

    /// Adds `bits`.
    pub fn signal(&self, cpu: &Cpu, bits: u64) {
        let mut state = self.state.lock();
        if mutant::is(Mutant::LastSignalOnly) {
            state.bits = 0;
        }
        state.bits |= bits;
        if state.bits == 0 {
            return;
        }
        if let Some(waiter) = state.waiters.pop() {
            let bits = core::mem::take(&mut state.bits);
            drop(state);
            return super::wake(cpu, waiter, Ok(bits));
        }
        drop(state);
        self.interrupt(cpu);
    }

    /// Ends the receiving of the thread to which this is bound, if bits are set and it receives. If it
    /// only begins to, it looks for bits when it stands there. Locks: this one's, then the endpoint's.
    fn interrupt(&self, cpu: &Cpu) {
        let bound = self.state.lock().bound.clone();
        if bound.is_none_or(|bound| of(cpu, &bound).is_none()) {
            return;
        }
        let mut state = self.state.lock();
        if state.bits != 0
            && let Some(Standing::Receiving(endpoint)) = state.bound.as_ref().map(|bound| bound.standing())
            && let Some(receiver) = state.bound.as_ref().and_then(|bound| endpoint.take(bound))
        {
            let bits = core::mem::take(&mut state.bits);
            drop(state);
            message::deliver_bits(&receiver, bits);
            super::release(cpu, receiver);
        }
    }

    /// The current thread, `waiter`, takes the bits, or waits for some.
    pub fn wait(this: &Ref<Self>, cpu: &Cpu, waiter: &Thread, irq: &IrqsOff) -> Outcome {
        let is_past = waiter.ipc.alarm.is_past(cpu);
        let mut state = this.state.lock();
        if state.bits != 0 {
            return Outcome::Done(Ok(core::mem::take(&mut state.bits)));
        }
        if state.is_mute {
            return Outcome::Done(Err(Error::Gone));
        }
        if is_past {
            return Outcome::Done(Err(Error::TimedOut));
        }
        let Some(thread) = cpu.take_current() else { return Outcome::Off };
        if thread.stand(Standing::Notified(this.clone())) == Fate::Doomed {
            // It is ended on the way out.
            cpu.set_current(thread);
            return Outcome::Off;
        }
        sched::take_off(cpu, &thread, irq);
        thread.slice_left.store(0, Ordering::Relaxed);
        Alarm::arm(cpu, &thread);
        state.waiters.push(thread);
        Outcome::Off
    }

    /// Binds it to `thread`, which calls and names it by the handle `by`. `BadArgument` if it is bound to
    /// another.
    pub fn bind(this: &Ref<Self>, cpu: &Cpu, thread: &Ref<Thread>, by: Handle) -> Result<(), Error> {
        let other = this.state.lock().bound.clone().filter(|bound| !Ref::ptr_eq(bound, thread));
        if let Some(other) = other {
            if of(cpu, &other).is_some_and(|bound| Ref::ptr_eq(&bound, this)) {
                return Err(Error::BadArgument);
            }
            // It has lost the handle.
            this.leave(&other);
        }
        unbind(thread);
        rendezvous::point(cpu, Point::Binding);
        let mut state = this.state.lock();
        if state.bound.is_some() && !mutant::is(Mutant::BoundTwice) {
            return Err(Error::BadArgument);
        }
        state.bound = Some(thread.clone());
        drop(state);
        *thread.ipc.bound.lock() = Some(Bound { notification: this.clone(), by });
        thread.add_extra(Extra::Bound);
        Ok(())
    }

    /// It is bound to `thread` no more, if it is.
    fn leave(&self, thread: &Ref<Thread>) {
        let mut state = self.state.lock();
        let was = state.bound.take_if(|bound| Ref::ptr_eq(bound, thread));
        drop(state);
        drop(was);
    }

    /// There is one more capability with `rights`.
    pub fn named(&self, rights: Rights) {
        self.state.lock().signallers += u32::from(rights.contains(Rights::WRITE));
    }

    /// There is one less capability with `rights`.
    pub fn unnamed(this: &Ref<Self>, cpu: &Cpu, rights: Rights) {
        let begins = {
            let mut state = this.state.lock();
            state.signallers -= u32::from(rights.contains(Rights::WRITE));
            let ends = !state.is_mute && state.signallers == 0;
            state.is_mute |= ends;
            ends && !state.waiters.is_empty()
        };
        if begins {
            Self::close(this, cpu);
        }
    }

    /// Takes `thread` out of those who wait, if it is one of them.
    pub(super) fn take(&self, thread: &Thread) -> Option<Ref<Thread>> {
        self.state.lock().waiters.remove(thread)
    }

    /// As [`take`](Self::take), if its deadline has passed.
    pub(super) fn take_overdue(&self, cpu: &Cpu, thread: &Thread) -> Option<Ref<Thread>> {
        let mut state = self.state.lock();
        if thread.ipc.alarm.is_past(cpu) { state.waiters.remove(thread) } else { None }
    }
}

impl Place for Notification {
    fn closing(&self) -> &Entry {
        &self.closing
    }
    fn waiters<R>(&self, f: impl FnOnce(&mut Waiters) -> R) -> R {
        f(&mut self.state.lock().waiters)
    }
    fn task(this: Ref<Self>) -> Runnable {
        Runnable::CloseNotification(this)
    }
}

/// The notification that is bound to `thread`, if its process still has the handle for it.
fn of(cpu: &Cpu, thread: &Thread) -> Option<Ref<Notification>> {
    let Bound { notification, by } = thread.ipc.bound.lock().clone()?;
    if mutant::is(Mutant::BoundForGood) {
        return Some(notification);
    }
    let named = thread.process().table.get(cpu, by, Rights::READ).ok()?.object;
    matches!(named, Object::Notification(named) if Ref::ptr_eq(&named, &notification)).then_some(notification)
}

/// Takes the bits of the notification that is bound to `thread`, which runs here.
pub(super) fn take_bound(cpu: &Cpu, thread: &Ref<Thread>) -> u64 {
    if !thread.extras().has(Extra::Bound) {
        return 0;
    }
    let Some(bound) = of(cpu, thread) else { return 0 };
    let mut state = bound.state.lock();
    // Unless another thread has it by now.
    match &state.bound {
        Some(to) if Ref::ptr_eq(to, thread) => core::mem::take(&mut state.bits),
        _ => 0,
    }
}

/// `thread` has begun to receive: what was signalled meanwhile ends that.
pub(super) fn look_again(cpu: &Cpu, thread: &Thread) {
    if thread.extras().has(Extra::Bound)
        && let Some(bound) = of(cpu, thread)
    {
        bound.interrupt(cpu);
    }
}

/// Ends what [`Notification::bind`] did for `thread`, which calls or has ended.
pub fn unbind(thread: &Ref<Thread>) {
    thread.drop_extra(Extra::Bound);
    let bound = thread.ipc.bound.lock().take();
    if let Some(bound) = bound {
        bound.notification.leave(thread);
    }
}
