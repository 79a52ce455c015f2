//! An endpoint: where senders and receivers meet.
//!
//! At any time those who wait are all senders or all receivers: whoever comes and finds one of the
//! other side takes the best of them. It ends when no capability is left by which anybody could receive,
//! or none by which anybody could send; from then on both sides get `Gone`.

use super::{Alarm, Place, Waiters, message, notification, reply};
use crate::cpu::Cpu;
use crate::cpuset::CpuId;
use crate::ipc::message::Kind;
use crate::object::Ref;
use crate::rendezvous::{self, Point};
use crate::sched::ready::{Entry, Runnable};
use crate::sched::{self, ending};
use crate::sync::{Guard, Leaf, Ordering};
use crate::syscall::Outcome;
use crate::thread::{Extra, Fate, Standing, Thread};
use abi::ipc::Tag;
use abi::{Call, Error, Rights};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::trap::Traps;
use arch_current::Current;

/// Which side those who wait are on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Senders,
    Receivers,
}

/// Whether an object can still be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    Open,
    Ended,
}

pub(super) struct State {
    pub(super) waiters: Waiters,
    /// Means nothing while nobody waits.
    pub(super) side: Side,
    pub(super) life: Life,
    /// Capabilities by which one can send, and by which one can receive.
    senders: u32,
    receivers: u32,
}

/// An endpoint.
pub struct Endpoint {
    pub(super) state: Leaf<State>,
    /// For the kernel task that wakes those who wait when it has ended.
    closing: Entry,
}

impl State {
    /// The first who waits on `side`.
    #[inline(always)]
    pub(super) fn first(&self, side: Side) -> Option<&Ref<Thread>> {
        if self.side == side { self.waiters.first() } else { None }
    }

    /// Takes the first who waits on `side`.
    fn pop(&mut self, side: Side) -> Option<Ref<Thread>> {
        if self.side == side { self.waiters.pop() } else { None }
    }
}

impl Endpoint {
    pub const fn new() -> Self {
        let state = State {
            waiters: Waiters::new(),
            side: Side::Senders,
            life: Life::Open,
            senders: 0,
            receivers: 0,
        };
        Self { state: Leaf::new(state), closing: Entry::new(CpuId::BOOT) }
    }

    /// The current thread, `sender`, sends the message in its registers, with `badge`.
    pub fn send(
        this: &Ref<Self>,
        cpu: &Cpu,
        sender: &Ref<Thread>,
        kind: Kind,
        badge: u64,
        irq: &IrqsOff,
    ) -> Outcome {
        sender.ipc.badge.store(badge, Ordering::Relaxed);
        let is_past = sender.ipc.alarm.is_past(cpu);
        if kind == Kind::Call && is_past {
            return Outcome::Done(Err(Error::TimedOut));
        }
        let mut state = this.state.lock();
        if state.life == Life::Ended {
            return Outcome::Done(Err(Error::Gone));
        }
        let Some(receiver) = state.pop(Side::Receivers) else {
            if is_past {
                return Outcome::Done(Err(Error::TimedOut));
            }
            return Self::wait(this, state, cpu, Side::Senders, irq);
        };
        drop(state);
        Alarm::cancel(cpu, &receiver);
        match kind {
            Kind::Send => {
                message::deliver(cpu, sender, &receiver, 0, badge, irq);
                cpu.make_ready(Runnable::Thread(receiver));
                Outcome::Done(Ok(0))
            }
            Kind::Call => {
                message::deliver(cpu, sender, &receiver, Tag::CALL, badge, irq);
                let Some(sender) = cpu.take_current() else { unreachable!("a call without a thread") };
                sched::take_off(cpu, &sender, irq);
                sender.slice_left.store(0, Ordering::Relaxed);
                sched::hand_slice_over(cpu, &receiver);
                Alarm::arm(cpu, &sender);
                await_reply(cpu, sender, &receiver);
                Outcome::To(receiver)
            }
        }
    }

    /// The current thread, `receiver`, receives.
    pub fn receive(this: &Ref<Self>, cpu: &Cpu, receiver: &Ref<Thread>, irq: &IrqsOff) -> Outcome {
        let bits = notification::take_bound(cpu, receiver);
        if bits != 0 {
            message::deliver_bits(receiver, bits);
            return Outcome::Message;
        }
        rendezvous::point(cpu, Point::Receiving);
        let is_past = receiver.ipc.alarm.is_past(cpu);
        let mut state = this.state.lock();
        if let Some(sender) = state.pop(Side::Senders) {
            drop(state);
            accept(cpu, sender, receiver, irq);
            return Outcome::Message;
        }
        if state.life == Life::Ended {
            return Outcome::Done(Err(Error::Gone));
        }
        if is_past {
            return Outcome::Done(Err(Error::TimedOut));
        }
        let outcome = Self::wait(this, state, cpu, Side::Receivers, irq);
        // Who has signalled since the first look may not have found it here; who does so now will.
        if !mutant::is(Mutant::LooksOnce) {
            notification::look_again(cpu, receiver);
        }
        outcome
    }

    /// Takes the current thread off this CPU and puts it among those who wait.
    fn wait(this: &Ref<Self>, mut state: Guard<'_, State>, cpu: &Cpu, side: Side, irq: &IrqsOff) -> Outcome {
        let Some(thread) = cpu.take_current() else { return Outcome::Off };
        let standing = match side {
            Side::Senders => Standing::Sending(this.clone()),
            Side::Receivers => Standing::Receiving(this.clone()),
        };
        if thread.stand(standing) == Fate::Doomed {
            // It is ended on the way out.
            cpu.set_current(thread);
            return Outcome::Off;
        }
        sched::take_off(cpu, &thread, irq);
        thread.slice_left.store(0, Ordering::Relaxed);
        Alarm::arm(cpu, &thread);
        state.side = side;
        state.waiters.push(thread);
        Outcome::Off
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

    /// There is one more capability with `rights`.
    pub fn named(&self, rights: Rights) {
        let mut state = self.state.lock();
        state.senders += u32::from(rights.contains(Rights::WRITE));
        state.receivers += u32::from(rights.contains(Rights::READ));
    }

    /// There is one less capability with `rights`.
    pub fn unnamed(this: &Ref<Self>, cpu: &Cpu, rights: Rights) {
        let begins = {
            let mut state = this.state.lock();
            state.senders -= u32::from(rights.contains(Rights::WRITE));
            state.receivers -= u32::from(rights.contains(Rights::READ));
            let ends = state.life == Life::Open && (state.senders == 0 || state.receivers == 0);
            if ends {
                state.life = Life::Ended;
            }
            ends && !state.waiters.is_empty()
        };
        if begins {
            Self::close(this, cpu);
        }
    }
}

impl Place for Endpoint {
    fn closing(&self) -> &Entry {
        &self.closing
    }
    fn waiters<R>(&self, f: impl FnOnce(&mut Waiters) -> R) -> R {
        f(&mut self.state.lock().waiters)
    }
    fn task(this: Ref<Self>) -> Runnable {
        Runnable::CloseEndpoint(this)
    }
}

/// The message of `sender`, which this CPU has taken out of the queue, goes to the current thread.
fn accept(cpu: &Cpu, sender: Ref<Thread>, receiver: &Ref<Thread>, irq: &IrqsOff) {
    let badge = sender.ipc.badge.load(Ordering::Relaxed);
    // SAFETY: this CPU has it.
    let call = Current::syscall(unsafe { sender.frame().as_ref() }).number;
    if call == Call::EndpointCall as u64 || sender.extras().has(Extra::Stopped) {
        message::deliver(cpu, &sender, receiver, Tag::CALL, badge, irq);
        await_reply(cpu, sender, receiver);
    } else {
        message::deliver(cpu, &sender, receiver, 0, badge, irq);
        super::wake(cpu, sender, Ok(0));
    }
}

/// `client`, which is off this CPU and whose message `server` has, waits for the reply. This CPU has
/// both; `client` it has no more when this returns.
fn await_reply(cpu: &Cpu, client: Ref<Thread>, server: &Ref<Thread>) {
    let number = client.ipc.next_wait();
    reply::serve(cpu, server, &client, number);
    if client.stand(Standing::Awaiting(number)) == Fate::Doomed {
        return ending::end_thread(cpu, &client);
    }
    // An alarm that went off while it was between two waits has found it in neither.
    if client.ipc.alarm.went_off() {
        super::timed_out(cpu, &client);
    }
}
