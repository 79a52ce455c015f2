//! Threads that meet: endpoints, replies, notifications.
//!
//! The one idea: nothing of a message is ever stored. It lies in the sender's registers, that is in
//! its frame, until a receiver is there, and is then copied into the receiver's frame by whichever CPU
//! brought the two together. So sending needs no memory and cannot fail half-way, and a thread that
//! waits keeps nothing but its place in a queue.
//!
//! # Who has a thread that waits
//! Waiting here is waiting as anywhere ([`crate::thread`]), with two differences: the call is not made
//! again, since its result is stored by whoever ends the wait, and a wait may have a deadline.
//! * In the queue of an [`Endpoint`] or a [`Notification`]: whoever takes it out of the queue, under its
//!   lock, has it: the partner, its deadline, its killer, or the end of the object.
//! * For a reply it is in no queue. It stands [`Standing::Awaiting`] with a number that it never has
//!   again. Whoever changes that standing, under the thread's leaf lock, has it
//!   ([`Thread::claim`](crate::thread::Thread::claim)): so of all who would answer one succeeds, once,
//!   and a [`Caller`], which is no more than the thread and the number, goes stale by itself.
//!
//! # Deadlines
//! The thread is also in the timers of a CPU, its *alarm*, by a node that its queue does not use. The
//! two are independent: when the alarm goes off, [`timed_out`] tries to get hold of the thread, as others
//! do, if its deadline has really passed; who ends the wait takes the alarm out ([`Alarm::cancel`])
//! before it lets the thread go. Locks: a queue's, then that of timers or of a thread, all leaves.
//!
//! # Faults
//! A fault whose thread has a handler, and a page that comes from a pager, are calls that the thread makes
//! without having asked for it ([`exception`]).
//!
//! # The short way
//! A call to a server that waits, and its reply, have a way of their own ([`quick`]), which does what the
//! long way would. So have a signal and the wait for one ([`quick::signal`]), a
//! fault that asks a pager for its page, and the answer ([`quick::fault`]).
//!
//! # Work is bounded
//! A message is a copy of a few words and at most four capabilities. A queue is a heap ([`Heap`]): a
//! thread goes in and out in a number of steps logarithmic in those who wait. A call lends to one
//! thread, the receiver, what the caller has by then, what it was lent included ([`loan`]): so a chain of calls
//! costs each link the same, and nobody walks along it. What is not bounded, waking all who wait at an
//! object that has ended, is a kernel task's ([`Place`]).

pub mod endpoint;
pub mod exception;
mod loan;
pub mod message;
pub mod notification;
pub mod quick;
pub mod reply;

pub use endpoint::Endpoint;
pub use notification::Notification;
pub use reply::{Caller, Reply};

use self::exception::Stop;
use crate::cpu::Cpu;
use crate::cpuset::CpuId;
use crate::object::Ref;
use crate::process::Slice;
use crate::sched::heap::{Heap, Member, Node};
use crate::sched::ready::{Entry, Priority, Runnable};
use crate::sched::set_result;
use crate::sync::{AtomicU8, AtomicU64, Leaf, Ordering};
use crate::thread::{Extra, Standing, Thread, standing};
use abi::ipc::FOREVER;
use abi::{Error, Handle};
use arch_contract::mutant::{self, Mutant};
use core::cell::Cell;

/// What a thread keeps for this.
pub struct State {
    /// Its place among those who wait at an endpoint or a notification.
    node: Node<Waiter>,
    pub(crate) alarm: Alarm,
    /// That of the capability which it sends by.
    badge: AtomicU64,
    /// The last number it stood [`Standing::Awaiting`] with.
    awaited: AtomicU64,
    /// Whose call it received last, and has not answered. For whoever has the thread, as its frame.
    caller: Cell<Option<Caller>>,
    /// What has stopped it, while it has [`Extra::Stopped`](crate::thread::Extra). For whoever has the
    /// thread, as its frame.
    stopped: Cell<Option<Stop>>,
    /// For its faults.
    pub(crate) handler: exception::Place,
    /// What ends its receiving too. Changed by the thread alone.
    bound: Leaf<Option<Bound>>,
    /// What it was lent, and who has its call.
    sides: loan::Sides,
}

// SAFETY: `caller` and `stopped` are touched only by whoever has the thread, as its frame; all else is `Sync`.
unsafe impl Sync for State {}

impl State {
    pub const fn new() -> Self {
        Self {
            node: Node::new(),
            alarm: Alarm::new(),
            badge: AtomicU64::new(0),
            awaited: AtomicU64::new(standing::NO_WAIT),
            caller: Cell::new(None),
            stopped: Cell::new(None),
            handler: Leaf::new(None),
            bound: Leaf::new(None),
            sides: loan::Sides::new(),
        }
    }

    /// The number of the next wait for a reply.
    #[inline(always)]
    fn next_wait(&self) -> u64 {
        let number = self.awaited.load(Ordering::Relaxed) + standing::NEXT_WAIT;
        self.awaited.store(number, Ordering::Relaxed);
        number
    }

    /// Whether a fault has stopped it whose handler may touch the registers. For who holds the lock of its
    /// standing, while it waits.
    pub(crate) fn opens_registers(&self) -> bool {
        self.stopped.get().is_some_and(|stop| stop.opens_registers())
    }

    /// On whose budget it runs, if not on its own.
    pub(crate) fn payer(&self) -> Option<Ref<Thread>> {
        self.sides.payer()
    }
}

/// What is bound to a thread, and the handle of its process by which it was: as long as that names it, it is.
#[derive(Clone)]
struct Bound {
    notification: Ref<Notification>,
    by: Handle,
}

/// A thread that waits at an endpoint or a notification.
pub struct Waiter(pub Ref<Thread>);

// SAFETY: the node is a part of what the reference counts, which does not move.
unsafe impl Member for Waiter {
    fn node(&self) -> &Node<Self> {
        &self.0.ipc.node
    }
}

/// Those who wait at an object: the highest priority first, and inside one in the order of their coming.
pub struct Waiters {
    /// Who waits alone, as a server does most often: it comes and goes in one step. While it is here nobody
    /// is in the heap.
    alone: Option<Ref<Thread>>,
    heap: Heap<Waiter>,
    /// How many came into the heap.
    came: u64,
}

impl Waiters {
    const fn new() -> Self {
        Self { alone: None, heap: Heap::new(), came: 0 }
    }

    fn is_empty(&self) -> bool {
        self.first().is_none()
    }

    #[inline(always)]
    fn first(&self) -> Option<&Ref<Thread>> {
        match &self.alone {
            None => self.heap.first().map(|waiter| &waiter.0),
            alone => alone.as_ref(),
        }
    }

    /// Puts `thread`, which stands here, behind its equals.
    #[inline(always)]
    fn push(&mut self, thread: Ref<Thread>) {
        if self.is_empty() {
            let none = self.alone.replace(thread);
            // Nothing to drop: that is known.
            core::mem::forget(none);
        } else {
            self.push_among(thread);
        }
    }

    /// As [`push`](Self::push), where others wait.
    #[cold]
    #[inline(never)]
    fn push_among(&mut self, thread: Ref<Thread>) {
        if let Some(first) = self.alone.take() {
            self.push_into_heap(first);
        }
        self.push_into_heap(thread);
    }

    fn push_into_heap(&mut self, thread: Ref<Thread>) {
        // At a thousand a microsecond, 56 bits last for two years.
        self.came += 1;
        let priority = thread.priority();
        let rank = if mutant::is(Mutant::FirstComeFirstServed) { 0 } else { Priority::MAX - priority };
        self.heap.push(Waiter(thread), u64::from(rank) << 56 | self.came);
    }

    /// The priority of the first; 0 if there is none.
    fn first_priority(&self) -> Priority {
        match &self.alone {
            Some(alone) => alone.priority(),
            None => self.heap.first_key().map_or(0, |key| Priority::MAX - (key >> 56) as Priority),
        }
    }

    #[inline(always)]
    fn pop(&mut self) -> Option<Ref<Thread>> {
        match self.alone.take() {
            None => self.pop_from_heap(),
            alone => alone,
        }
    }

    #[inline(never)]
    fn pop_from_heap(&mut self) -> Option<Ref<Thread>> {
        self.heap.pop().map(|waiter| waiter.0)
    }

    fn remove(&mut self, thread: &Thread) -> Option<Ref<Thread>> {
        match self.alone.take_if(|alone| core::ptr::eq(&raw const **alone, thread)) {
            None => self.heap.remove(&thread.ipc.node).map(|waiter| waiter.0),
            alone => alone,
        }
    }

    /// The priority of `thread` has changed: puts it where it belongs now, if it is here.
    fn replace(&mut self, thread: &Thread) {
        if let Some(thread) = self.remove(thread) {
            self.push(thread);
        }
    }
}

/// What threads wait at. When it has ended while some do, a kernel task wakes them, whose storage is part
/// of the object.
pub(crate) trait Place: Sized {
    /// Of the kernel task.
    fn closing(&self) -> &Entry;
    fn waiters<R>(&self, f: impl FnOnce(&mut Waiters) -> R) -> R;
    /// The kernel task.
    fn task(this: Ref<Self>) -> Runnable;

    /// At what priority that works: that of the best who waits.
    fn closing_priority(&self) -> Priority {
        self.waiters(|waiters| waiters.first_priority())
    }

    /// It has ended: the first slice at once.
    fn close(this: &Ref<Self>, cpu: &Cpu) {
        if let Slice::More = this.closing_slice(cpu) {
            cpu.make_ready(Self::task(this.clone()));
        }
    }

    /// Wakes some. Nobody is added any more.
    fn closing_slice(&self, cpu: &Cpu) -> Slice {
        for _ in 0..WOKEN_AT_ONCE {
            let Some(thread) = self.waiters(Waiters::pop) else { return Slice::Done };
            let is_stopped = thread.extras().has(Extra::Stopped);
            wake(cpu, thread, Err(Error::Gone));
            if is_stopped {
                // That may have been the end of a process, with a report on the console: one in a slice.
                return Slice::More;
            }
        }
        Slice::More
    }
}

/// Threads that are woken in one slice.
const WOKEN_AT_ONCE: usize = 16;

/// The timer of a thread's wait.
pub struct Alarm {
    /// Nanoseconds since boot. Written by the thread's call. Where it is not [`FOREVER`] the thread has
    /// [`Extra::Alarm`].
    deadline: AtomicU64,
    /// The CPU in whose timers it is, or [`NOWHERE`]. Written inside the lock of those timers.
    at: AtomicU8,
}

const NOWHERE: u8 = u8::MAX;

impl Alarm {
    const fn new() -> Self {
        Self { deadline: AtomicU64::new(FOREVER), at: AtomicU8::new(NOWHERE) }
    }

    fn deadline(&self) -> u64 {
        self.deadline.load(Ordering::Relaxed)
    }

    /// The deadline of the wait of `thread`, which runs here, that is about to begin, if it has not passed.
    /// An alarm of an earlier one that is on its way finds no earlier deadline.
    pub(crate) fn set_deadline(thread: &Thread, deadline: u64) {
        thread.ipc.alarm.deadline.store(deadline, Ordering::Relaxed);
        match (thread.extras().has(Extra::Alarm), deadline != FOREVER) {
            (false, true) => thread.add_extra(Extra::Alarm),
            (true, false) => thread.drop_extra(Extra::Alarm),
            _ => {}
        }
    }

    /// Whether the deadline has passed.
    fn is_past(&self, cpu: &Cpu) -> bool {
        let deadline = self.deadline();
        deadline != FOREVER && (deadline == 0 || deadline <= cpu.now().0)
    }

    /// Whether it was set and has gone off: the timers have it no more.
    fn went_off(&self) -> bool {
        self.deadline() != FOREVER && self.at.load(Ordering::Relaxed) == NOWHERE
    }

    /// Puts `thread`, which this CPU alone has, into its timers, if there is a deadline.
    fn arm(cpu: &Cpu, thread: &Ref<Thread>) {
        let alarm = &thread.ipc.alarm;
        if alarm.deadline() == FOREVER {
            return;
        }
        let mut timers = cpu.timers.lock();
        alarm.at.store(cpu.number.get(), Ordering::Relaxed);
        timers.push(Runnable::Thread(thread.clone()), alarm.deadline());
    }

    /// Takes `thread`, whose wait is over, out of the timers, before it can wait again.
    fn cancel(cpu: &Cpu, thread: &Thread) {
        let alarm = &thread.ipc.alarm;
        loop {
            // Acquire: what the timers did with the node is done, so the next timers that it is put into
            // do not find it in these. Pairs with the release in `taken`.
            let at = alarm.at.load(Ordering::Acquire);
            let Some(holder) = CpuId::new(at.into()).and_then(|at| cpu.kernel.any_cpu(at)) else { return };
            let mut timers = holder.timers.lock();
            // Else it went off, or the CPU, which goes off, has just given it to another.
            if alarm.at.compare_exchange(at, NOWHERE, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                let item = timers.remove(thread.entry.node());
                drop(timers);
                return drop(item);
            }
        }
    }

    /// `thread` was just taken out of the timers of `cpu`, whose lock is held: whether by its alarm, which
    /// is over.
    pub(crate) fn taken(&self, cpu: &Cpu) -> bool {
        let here = cpu.number.get();
        // Release: pairs with the acquire in `cancel`.
        self.at.compare_exchange(here, NOWHERE, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Whether it is in the timers of `cpu`, whose lock is held, or was just taken out of them.
    pub(crate) fn is_at(&self, cpu: &Cpu) -> bool {
        self.at.load(Ordering::Relaxed) == cpu.number.get()
    }

    /// As `from` goes off, `to`, the lock of whose timers is held, gets its timers. Not this one, if its
    /// wait has ended meanwhile.
    pub(crate) fn moves(&self, from: &Cpu, to: &Cpu) -> bool {
        let (from, to) = (from.number.get(), to.number.get());
        self.at.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// The alarm of `thread` has gone off: ends its wait, if it still waits and its deadline has passed.
pub fn timed_out(cpu: &Cpu, thread: &Ref<Thread>) {
    let taken = match thread.standing() {
        Standing::Sending(endpoint) | Standing::Receiving(endpoint) => endpoint.take_overdue(cpu, thread),
        Standing::Notified(notification) => notification.take_overdue(cpu, thread),
        Standing::Awaiting(number) => {
            if mutant::is(Mutant::RepliesNeverLate) {
                return;
            }
            // The number first: a later wait, with a later deadline, has another.
            (thread.ipc.alarm.is_past(cpu) && thread.claim(number)).then(|| {
                loan::given_up(cpu, thread);
                thread.clone()
            })
        }
        _ => None,
    };
    if let Some(thread) = taken {
        wake(cpu, thread, Err(Error::TimedOut));
    }
}

/// Takes `thread`, which is to end, out of where it waits, if it does.
pub(crate) fn take(thread: &Ref<Thread>, standing: &Standing) -> Option<Ref<Thread>> {
    match standing {
        Standing::Sending(endpoint) | Standing::Receiving(endpoint) => endpoint.take(thread),
        Standing::Notified(notification) => notification.take(thread),
        Standing::Awaiting(number) => thread.claim(*number).then(|| thread.clone()),
        _ => None,
    }
}

/// The priority of `thread`, which may wait, has changed.
pub(crate) fn replace(thread: &Thread, standing: &Standing) {
    match standing {
        Standing::Sending(endpoint) | Standing::Receiving(endpoint) => {
            endpoint.waiters(|waiters| waiters.replace(thread));
        }
        Standing::Notified(notification) => notification.waiters(|waiters| waiters.replace(thread)),
        _ => {}
    }
}

/// Ends the wait of `thread`, which this CPU has, with an error or a number.
fn wake(cpu: &Cpu, thread: Ref<Thread>, result: Result<u64, Error>) {
    if thread.extras().has(Extra::Stopped) {
        return exception::unanswered(cpu, thread);
    }
    // SAFETY: whoever has a thread that waits has its frame.
    set_result(unsafe { thread.frame().as_mut() }, result);
    release(cpu, thread);
}

/// Lets `thread`, which this CPU has and whose result is stored, go on.
fn release(cpu: &Cpu, thread: Ref<Thread>) {
    Alarm::cancel(cpu, &thread);
    cpu.make_ready(Runnable::Thread(thread));
}

/// `thread`, which this CPU has, has ended: nobody waits for it any more, nor it for anything.
pub(crate) fn ended(cpu: &Cpu, thread: &Ref<Thread>) {
    Alarm::cancel(cpu, thread);
    loan::given_up(cpu, thread);
    reply::stop_serving(cpu, thread);
    notification::unbind(thread);
    exception::set(&thread.ipc.handler, None);
}
