//! Where a thread stands, and how it is ended from elsewhere.
//!
//! A thread is moved by whoever has it: the CPU that runs it, or who took it out of a queue. A
//! killer, or who changes its affinity or its priority, does not have it. The protocol:
//! 1. Every move says where the thread stands from now on ([`Thread::stand`]), *inside* the lock of
//!    the queue it is then put into. A move between a CPU and its own run queue needs to say nothing:
//!    it looks at what is wanted, inside the queue's lock.
//! 2. Who wants something writes it into the thread first (doomed, a set of CPUs, a priority), then
//!    reads the standing, then takes the lock of the queue which that names.
//! 3. `stand` answers with what was wanted by then, and is `#[must_use]`.
//!
//! So either the mover's `stand` comes after the reader's look, and then it sees what was written; or
//! it comes before, and then the look finds the new standing; the queue's lock is free only once the
//! thread is in it, so it is found there, unless somebody took it out since, whose `stand` comes
//! after. A thread that is running is reached by an interrupt: its CPU looks on its way out.
//!
//! A wait for a reply has no queue: there the standing itself is what is taken, in one step, so that
//! point 2's killer takes it in place of a queue's lock.
//!
//! # One word
//! What makes "before" and "after" of that is one word. Every move and every look is a read-modify-write
//! of it, or is made with the leaf lock held and all looks are: so they have one order, and whoever comes
//! later in it sees what the earlier did before (each is an acquire and a release, and pairs with all the
//! others). The most frequent standings are nothing but the word; of the others it says that they are
//! stored beside it, with what they refer to, which only whoever has the thread changes, with the lock held.
//!
//! The quick ways of a message change the word alone. A server that is called leaves what is stored as it
//! is, a reference to its endpoint: when it receives there again the word says so, and nothing is counted.

use super::{Extra, Frame, Thread};
use crate::cpuset::CpuId;
use crate::ipc::{Endpoint, Notification};
use crate::object::Ref;
use crate::pending::Pending;
use crate::process::Process;
use crate::sched::ready::Priority;
use crate::sync::{AtomicU64, Guard, Leaf, Ordering};
use arch_contract::mutant::{self, Mutant};
use core::cell::UnsafeCell;

/// Where a thread stands.
#[derive(Clone)]
pub enum Standing {
    /// Made, not yet ready.
    New,
    /// In no queue: a fault of it ends its process, and whoever dooms it ends it.
    Condemned,
    /// Has a CPU: it is the current thread there, or in its run queue, or on its way from the one
    /// to the other. Which of them changes at every switch and is asked of the CPU, not said here.
    On(CpuId),
    /// Waits for console input; makes its call again.
    Reading,
    /// Waits for a process to end; makes its call again.
    WaitingFor(Ref<Process>),
    /// Waits for a thread to end; makes its call again.
    Joining(Ref<Thread>),
    /// In the timer queue of a CPU: sleeps, and makes its call again, or is out of budget.
    Timed(CpuId),
    /// In the timer queue of a CPU, again and again, until what its call waits for has happened.
    Pending(CpuId, Pending),
    /// Among those who wait at an endpoint, to send or to receive; the result of its call is stored there.
    Sending(Ref<Endpoint>),
    Receiving(Ref<Endpoint>),
    /// Among those who wait at a notification; as above.
    Notified(Ref<Notification>),
    /// In no queue: waits for the reply to its call. The number is this wait's alone, and whoever
    /// [claims](Thread::claim) it has the thread.
    Awaiting(u64),
    /// A kernel task works for it and stores the result of the call.
    InTask,
    /// Never runs again.
    Ended,
}

impl Standing {
    /// Whether there is nothing to drop in it.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        matches!(
            self,
            Self::New
                | Self::Condemned
                | Self::On(_)
                | Self::Reading
                | Self::Timed(_)
                | Self::Awaiting(_)
                | Self::InTask
                | Self::Ended
        )
    }
}

/// What [`Thread::stand`] says back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Fate {
    /// It stands there now.
    Lives,
    /// It was doomed before, and stands where it stood: whoever has it ends it.
    Doomed,
}

/// The number of no wait for a reply, before the first.
pub(crate) const NO_WAIT: u64 = Word::AWAITING;
/// From the number of one to that of the next. At a thousand a microsecond they last for two years.
pub(crate) const NEXT_WAIT: u64 = 1 << Word::SHIFT;

/// A standing as far as the word says it, and whether the thread is doomed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    /// What is stored beside the word.
    const STORED: Self = Self(0);
    const IN_TASK: Self = Self(1);
    const ON: u64 = 2;
    const AWAITING: u64 = 3;
    const KIND: u64 = 3;
    /// To whatever the standing is.
    const DOOMED: u64 = 4;
    const SHIFT: u32 = 8;

    #[inline(always)]
    const fn on(cpu: CpuId) -> Self {
        Self((cpu.get() as u64) << Self::SHIFT | Self::ON)
    }

    /// The number is the word already.
    #[inline(always)]
    const fn awaiting(number: u64) -> Self {
        Self(number)
    }

    fn of(standing: &Standing) -> Self {
        match standing {
            Standing::On(cpu) => Self::on(*cpu),
            Standing::Awaiting(number) => Self::awaiting(*number),
            Standing::InTask => Self::IN_TASK,
            _ => Self::STORED,
        }
    }

    /// `None` if it is stored beside it.
    fn standing(self) -> Option<Standing> {
        let rest = self.0 >> Self::SHIFT;
        match self.0 & Self::KIND {
            Self::ON => CpuId::new(rest).map(Standing::On),
            Self::AWAITING => Some(Standing::Awaiting(self.0 & !Self::DOOMED)),
            0 => None,
            _ => Some(Standing::InTask),
        }
    }

    const fn is_doomed(self) -> bool {
        self.0 & Self::DOOMED != 0
    }

    /// Doomed if `before` was.
    const fn as_doomed_as(self, before: Self) -> Self {
        Self(self.0 | before.0 & Self::DOOMED)
    }
}

/// Where one thread stands.
pub(super) struct Whereabouts {
    word: AtomicU64,
    lock: Leaf<()>,
    /// Changed by whoever has the thread, with the lock held, who may read it without.
    stored: UnsafeCell<Standing>,
}

impl Whereabouts {
    pub const fn new() -> Self {
        let stored = UnsafeCell::new(Standing::New);
        Self { word: AtomicU64::new(Word::STORED.0), lock: Leaf::new(()), stored }
    }

    /// Where it stands, and what is changed of that by `update`, with the lock held.
    fn look<R>(&self, update: impl FnOnce() -> u64, f: impl FnOnce(&Standing) -> R) -> R {
        let _held: Guard<'_, ()> = self.lock.lock();
        match Word(update()).standing() {
            Some(standing) => f(&standing),
            // SAFETY: it does not change while the lock is held.
            None => f(unsafe { &*self.stored.get() }),
        }
    }

    /// What is stored.
    ///
    /// # Safety
    /// The caller has the thread.
    #[inline(always)]
    unsafe fn stored(&self) -> &Standing {
        // SAFETY: only the caller changes it.
        unsafe { &*self.stored.get() }
    }

    /// Moves to what the word says alone, or says of what is stored, from where the thread stands.
    #[inline(always)]
    fn pass(&self, to: Word) -> Fate {
        // Nobody but a killer changes it meanwhile: the caller has the thread.
        self.pass_from(Word(self.word.load(Ordering::Relaxed) & !Word::DOOMED), to)
    }

    /// As [`pass`](Self::pass), if it stands at `from`; says it is doomed if not.
    #[inline(always)]
    fn pass_from(&self, from: Word, to: Word) -> Fate {
        match self.word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => Fate::Lives,
            Err(_) => Fate::Doomed,
        }
    }

    /// Moves to any standing, doomed or not. Says where the thread stood.
    fn put(&self, standing: Standing) -> Standing {
        let to = Word::of(&standing);
        let held = self.lock.lock();
        let before = Word(self.word.load(Ordering::Relaxed));
        // SAFETY: the lock is held, and the caller has the thread.
        let stored = unsafe { self.stored.get().replace(standing) };
        self.word.store(to.as_doomed_as(before).0, Ordering::Release);
        drop(held);
        before.standing().unwrap_or(stored)
    }

    /// Whether the thread was doomed while it stood at its last standing, or before.
    #[inline(always)]
    fn is_doomed(&self) -> bool {
        Word(self.word.load(Ordering::Relaxed)).is_doomed()
    }
}

impl Thread {
    /// Where it stands.
    pub fn standing(&self) -> Standing {
        self.look_at_standing(Standing::clone)
    }

    /// What `f` says of where it stands, with the lock held: meanwhile nobody changes that but by a quick
    /// way, and that of a thread that a fault has stopped nobody at all.
    pub(crate) fn look_at_standing<R>(&self, f: impl FnOnce(&Standing) -> R) -> R {
        self.whereabouts.look(|| self.whereabouts.word.fetch_or(0, Ordering::AcqRel), f)
    }

    /// What `f` does with the registers of a thread that a fault has stopped and that nobody has answered;
    /// `None` if it is not stopped, or if its wait for the answer is not that with the number `wait`. Who
    /// answers it, and then has its frame, comes before or after: a quick way too
    /// [claims](Self::claim_stopped_to_run) it with the lock held.
    pub(crate) fn while_stopped<R>(&self, wait: Option<u64>, f: impl FnOnce(&mut Frame) -> R) -> Option<R> {
        self.while_stopped_at(
            |standing| match (standing, wait) {
                (Standing::Awaiting(number), Some(wait)) => *number == wait,
                (Standing::Sending(_) | Standing::Awaiting(_), None) => true,
                _ => false,
            },
            f,
        )
    }

    /// As [`while_stopped`](Self::while_stopped), if its exception was received: from then on its vector
    /// registers are in its area. One that is still to be received may not have left its CPU.
    pub(crate) fn while_received<R>(&self, wait: Option<u64>, f: impl FnOnce(&mut Frame) -> R) -> Option<R> {
        self.while_stopped_at(
            |standing| matches!(standing, Standing::Awaiting(number) if wait.is_none_or(|wait| wait == *number)),
            f,
        )
    }

    fn while_stopped_at<R>(
        &self,
        fits: impl FnOnce(&Standing) -> bool,
        f: impl FnOnce(&mut Frame) -> R,
    ) -> Option<R> {
        self.look_at_standing(|standing| {
            let waits = fits(standing);
            if !waits || !self.ipc.opens_registers() {
                return None;
            }
            // SAFETY: nobody has a thread that waits. Whoever takes it out of its queue writes nothing into the
            // frame of one that is stopped before it has changed the standing, and whoever claims one that
            // awaits the answer changes that first: each with the lock, which is held here.
            Some(f(unsafe { self.frame().as_mut() }))
        })
    }

    /// Whether it waits for a reply, asked without the lock.
    #[cfg(test)]
    pub(crate) fn awaits_now(&self) -> bool {
        self.whereabouts.word.load(Ordering::Relaxed) & Word::KIND == Word::AWAITING
    }

    /// Dooms it and says where it stood then. From the next [`stand`](Self::stand) on, whoever has
    /// it knows.
    pub fn doom(&self) -> Standing {
        self.add_extra(Extra::Doomed);
        let doom = || self.whereabouts.word.fetch_or(Word::DOOMED, Ordering::AcqRel);
        self.whereabouts.look(doom, Standing::clone)
    }

    /// Says where it stands now, if it is to live. For whoever has it, inside the lock of the queue
    /// it is put into.
    #[inline]
    pub fn stand(&self, standing: Standing) -> Fate {
        let to = Word::of(&standing);
        let held = self.whereabouts.lock.lock();
        if self.whereabouts.is_doomed() {
            return Fate::Doomed;
        }
        // SAFETY: the lock is held, and the caller has the thread.
        let before = unsafe { self.whereabouts.stored.get().replace(standing) };
        self.whereabouts.word.store(to.0, Ordering::Release);
        drop(held);
        // It may be the last reference to a process.
        if !before.is_plain() {
            drop(before);
        }
        Fate::Lives
    }

    /// As [`stand`](Self::stand), for what the word says alone.
    #[inline(always)]
    fn stand_plainly(&self, to: Word) -> Fate {
        // SAFETY: the caller has the thread.
        if unsafe { self.whereabouts.stored() }.is_plain() {
            return self.whereabouts.pass(to);
        }
        self.stand_over(to)
    }

    /// As [`stand_plainly`](Self::stand_plainly), where what is stored must be dropped.
    #[cold]
    #[inline(never)]
    fn stand_over(&self, to: Word) -> Fate {
        let Some(standing) = to.standing() else { unreachable!("the word does not say it alone") };
        self.stand(standing)
    }

    /// As [`stand`](Self::stand) for the run queue of `cpu`, in which it was not. Says at which
    /// priority: read after it stands there, so that who changes it later finds it there.
    #[inline]
    pub fn stand_ready(&self, cpu: CpuId) -> Result<Priority, Fate> {
        match self.stand_again(cpu) {
            Fate::Lives => Ok(self.priority()),
            Fate::Doomed => Err(Fate::Doomed),
        }
    }

    /// As [`stand`](Self::stand), on `cpu`.
    #[inline(always)]
    pub(crate) fn stand_again(&self, cpu: CpuId) -> Fate {
        self.stand_plainly(Word::on(cpu))
    }

    /// As [`stand`](Self::stand), for `cpu`, whose current thread it is: it waits for a reply.
    #[inline(always)]
    pub(crate) fn stand_awaiting(&self, number: u64, cpu: CpuId) -> Fate {
        self.whereabouts.pass_from(Word::on(cpu), Word::awaiting(number))
    }

    /// As [`stand`](Self::stand) on `cpu`, for who has taken it out of those who receive at an endpoint or wait
    /// at a notification.
    #[inline(always)]
    pub(crate) fn stand_called(&self, cpu: CpuId) -> Fate {
        self.whereabouts.pass_from(Word::STORED, Word::on(cpu))
    }

    /// Where it last received, if it was called there by the quick way and has not waited for anything but
    /// replies since. For the CPU whose current thread it is.
    #[inline(always)]
    pub(crate) fn received_at(&self) -> Option<&Ref<Endpoint>> {
        // SAFETY: the caller has the thread.
        match unsafe { self.whereabouts.stored() } {
            Standing::Receiving(endpoint) => Some(endpoint),
            _ => None,
        }
    }

    /// As [`received_at`](Self::received_at): where it last waited for a signal.
    #[inline(always)]
    pub(crate) fn notified_at(&self) -> Option<&Ref<Notification>> {
        // SAFETY: the caller has the thread.
        match unsafe { self.whereabouts.stored() } {
            Standing::Notified(notification) => Some(notification),
            _ => None,
        }
    }

    /// As [`stand`](Self::stand), for `cpu`, whose current thread it is: it receives where it last
    /// [received](Self::received_at).
    #[inline(always)]
    pub(crate) fn stand_receiving_again(&self, cpu: CpuId) -> Fate {
        self.whereabouts.pass_from(Word::on(cpu), Word::STORED)
    }

    /// As [`stand_receiving_again`](Self::stand_receiving_again), where it last [waited](Self::notified_at).
    #[inline(always)]
    pub(crate) fn stand_waiting_again(&self, cpu: CpuId) -> Fate {
        self.whereabouts.pass_from(Word::on(cpu), Word::STORED)
    }

    /// Ends its wait for a reply, if it still is the one with this number: then the caller has it, and it
    /// stands as if a kernel task worked for it.
    pub(crate) fn claim(&self, number: u64) -> bool {
        let _held = self.whereabouts.lock.lock();
        let word = &self.whereabouts.word;
        let now = Word(word.load(Ordering::Relaxed));
        let waits = match mutant::is(Mutant::AnyWaitAnswered) {
            true => now.0 & Word::KIND == Word::AWAITING,
            false => now == Word::awaiting(number).as_doomed_as(now),
        };
        let to = Word::IN_TASK.as_doomed_as(now);
        waits && word.compare_exchange(now.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// As [`claim`](Self::claim), to run on `cpu` at once, which one that is doomed does not: who dooms
    /// it finds it waiting. Not for one that a fault has stopped, which others may be looking at.
    #[inline(always)]
    pub(crate) fn claim_to_run(&self, number: u64, cpu: CpuId) -> bool {
        self.whereabouts.pass_from(Word::awaiting(number), Word::on(cpu)) == Fate::Lives
    }

    /// As [`claim_to_run`](Self::claim_to_run), of a thread that a fault has stopped: not while others
    /// [have its registers](Self::while_stopped).
    #[inline(always)]
    pub(crate) fn claim_stopped_to_run(&self, number: u64, cpu: CpuId) -> bool {
        let _held = self.whereabouts.lock.lock();
        self.claim_to_run(number, cpu)
    }

    /// Says that a kernel task works for it, doomed or not: the task will learn it in the end.
    #[inline]
    pub(crate) fn stand_in_task(&self) {
        if self.stand_plainly(Word::IN_TASK) == Fate::Doomed {
            drop(self.stand_anyway(Standing::InTask));
        }
    }

    /// Says that a kernel task works for it, or that it has ended, doomed or not. Says where it stood.
    pub(crate) fn stand_anyway(&self, standing: Standing) -> Standing {
        self.whereabouts.put(standing)
    }

    /// Its timer is that of `cpu` from now on. As [`stand`](Self::stand).
    pub fn stand_timed_on(&self, cpu: CpuId) -> Fate {
        let _held = self.whereabouts.lock.lock();
        if self.whereabouts.is_doomed() {
            return Fate::Doomed;
        }
        // SAFETY: the lock is held, and the caller has the thread.
        if let Standing::Timed(at) | Standing::Pending(at, _) = unsafe { &mut *self.whereabouts.stored.get() }
        {
            *at = cpu;
        }
        Fate::Lives
    }
}
