//! What is ready on one CPU: a queue per priority, and the two words by which other CPUs judge it.
//!
//! The queue is under a leaf lock that anybody may take: wakers to put something in, idle CPUs to
//! take something out, whatever its own CPU is doing (`MIG-2`). Two words are read without it:
//! * [`Running`], on a cache line that only its own CPU writes: what that CPU does. It is written
//!   inside the lock, in the critical section that also looked into the queue. So a waker that has
//!   pushed sees, before it releases the lock, either that the CPU went idle (and interrupts it), or
//!   a CPU that takes the lock later and finds what was pushed. No barrier but the lock's is needed.
//! * `spare`: how much is ready and may go elsewhere. It lies beside the lock and is written under
//!   it; an idle CPU reads it to find out where to pull from.

use crate::cpuset::{CpuId, CpuSet};
use crate::ipc::{Endpoint, Notification, Place as _};
use crate::mm::NoMemory;
use crate::mm::burial::Burial;
use crate::mm::heap::Charged;
use crate::mm::list::List;
use crate::object::Ref;
use crate::process::Process;
use crate::sched::balance::Balance;
use crate::sched::heap::{Member, Node};
use crate::sched::queue::{Link, Linked, Queue};
use crate::sched::task::Task;
use crate::sync::{AtomicU8, AtomicU32, Guard, Leaf, Ordering};
use crate::thread::{Extra, Extras, Thread};
use core::cell::Cell;
use core::ops::{Deref, DerefMut};

/// 0–255; higher runs first.
pub type Priority = u8;

/// What the scheduler can run.
#[derive(Clone)]
pub enum Runnable {
    /// A user thread.
    Thread(Ref<Thread>),
    /// The kernel task that does the work of a thread's call; its storage is part of the thread.
    Job(Ref<Thread>),
    /// A kernel task.
    Task(Ref<Task>),
    /// The kernel task that takes a process apart; its storage is part of the process.
    Teardown(Ref<Process>),
    /// The kernel task that wakes those who waited at an endpoint that has ended; its storage is part of
    /// that. So with a notification.
    CloseEndpoint(Ref<Endpoint>),
    CloseNotification(Ref<Notification>),
    /// The kernel task that frees what is left of memory objects; its storage is part of the kernel.
    Burial(&'static Burial),
    /// The kernel task that spreads the load of a CPU; its storage is part of the CPU.
    Balance(&'static Balance),
}

/// What is embedded in each thing that can be queued.
pub struct Entry {
    link: Link<Runnable>,
    node: Node<Runnable>,
    /// The CPU it last ran on, by number.
    last: AtomicU8,
    /// Whether its run queue counts it as spare. Touched under that queue's lock.
    spare: Cell<bool>,
}

// SAFETY: `spare` is touched only under the lock of the run queue that holds the entry; all else is
// `Sync`.
unsafe impl Sync for Entry {}

impl Entry {
    /// An entry of something that was made on `cpu`.
    pub const fn new(cpu: CpuId) -> Self {
        Self { link: Link::new(), node: Node::new(), last: AtomicU8::new(cpu.get()), spare: Cell::new(false) }
    }

    pub fn link(&self) -> &Link<Runnable> {
        &self.link
    }

    pub fn node(&self) -> &Node<Runnable> {
        &self.node
    }

    /// The CPU it last ran on. Advice: another may be about to run it.
    pub fn last(&self) -> CpuId {
        CpuId::new(self.last.load(Ordering::Relaxed).into()).unwrap_or(CpuId::BOOT)
    }

    pub fn set_last(&self, cpu: CpuId) {
        self.last.store(cpu.get(), Ordering::Relaxed);
    }
}

// SAFETY: the entry is a part of what the reference counts, of the kernel or of a CPU, none of which moves.
unsafe impl Linked for Runnable {
    fn link(&self) -> &Link<Self> {
        &self.entry().link
    }
}

// SAFETY: as above.
unsafe impl Member for Runnable {
    fn node(&self) -> &Node<Self> {
        &self.entry().node
    }
}

impl Runnable {
    pub fn entry(&self) -> &Entry {
        match self {
            Self::Thread(thread) | Self::Job(thread) => &thread.entry,
            Self::Task(task) => &task.entry,
            Self::Teardown(process) => &process.teardown_entry,
            Self::CloseEndpoint(endpoint) => endpoint.closing(),
            Self::CloseNotification(notification) => notification.closing(),
            Self::Burial(burial) => &burial.entry,
            Self::Balance(balance) => &balance.entry,
        }
    }

    pub fn priority(&self) -> Priority {
        match self {
            Self::Thread(thread) | Self::Job(thread) => thread.priority(),
            Self::Task(task) => task.priority(),
            Self::Teardown(process) => process.teardown_priority(),
            Self::CloseEndpoint(endpoint) => endpoint.closing_priority(),
            Self::CloseNotification(notification) => notification.closing_priority(),
            Self::Burial(burial) => burial.priority(),
            Self::Balance(_) => Priority::MAX,
        }
    }

    /// Where it may run.
    pub fn affinity(&self) -> CpuSet {
        match self {
            Self::Thread(thread) => thread.affinity(),
            Self::Task(task) => task.affinity(),
            Self::Job(_) | Self::Teardown(_) | Self::Burial(_) => CpuSet::ALL,
            Self::CloseEndpoint(_) | Self::CloseNotification(_) => CpuSet::ALL,
            Self::Balance(balance) => CpuSet::of(balance.cpu),
        }
    }
}

/// Where in its priority something is put.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It has had its turn, or is new.
    Last,
    /// Something of a higher priority took the CPU from it.
    First,
}

/// What a CPU does, as others see it: nothing, or something of a priority.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Load(u32);

impl Load {
    pub const IDLE: Self = Self(0);

    pub const fn of(priority: Priority) -> Self {
        Self(priority as u32 + 1)
    }

    /// `None` for idle.
    pub const fn priority(self) -> Option<Priority> {
        match self.0.checked_sub(1) {
            Some(priority) => Some(priority as Priority),
            None => None,
        }
    }
}

/// The word in which a CPU publishes its [`Load`], on a cache line of its own.
#[repr(align(128))]
pub struct Running(AtomicU32);

impl Running {
    pub const fn new() -> Self {
        Self(AtomicU32::new(Load::IDLE.0))
    }

    /// Advice, unless the CPU's run queue is held.
    pub fn load(&self) -> Load {
        Load(self.0.load(Ordering::Relaxed))
    }

    /// For its own CPU, which holds its run queue. Relaxed: the lock orders it.
    pub fn publish(&self, _queue: &ReadyGuard<'_>, load: Load) {
        if self.load() != load {
            self.0.store(load.0, Ordering::Relaxed);
        }
    }
}

/// The run queue of a CPU, with the word beside it.
#[repr(align(128))]
pub struct Ready {
    queue: Leaf<RunQueue>,
    spare: AtomicU32,
}

impl Ready {
    pub fn try_new(charged: Charged, cpu: CpuId) -> Result<Self, NoMemory> {
        Ok(Self { queue: Leaf::new(RunQueue::try_new(charged, cpu)?), spare: AtomicU32::new(0) })
    }

    #[inline]
    pub fn lock(&self) -> ReadyGuard<'_> {
        ReadyGuard { queue: self.queue.lock(), spare: &self.spare }
    }

    /// `None` if somebody holds it.
    #[inline]
    pub fn try_lock(&self) -> Option<ReadyGuard<'_>> {
        Some(ReadyGuard { queue: self.queue.try_lock()?, spare: &self.spare })
    }

    /// How much is ready and may go elsewhere. Advice, since it is read without the lock.
    pub fn spare(&self) -> u32 {
        self.spare.load(Ordering::Relaxed)
    }
}

/// A run queue that is held. What it has to spare is published when it is let go.
pub struct ReadyGuard<'a> {
    queue: Guard<'a, RunQueue>,
    spare: &'a AtomicU32,
}

impl Deref for ReadyGuard<'_> {
    type Target = RunQueue;
    fn deref(&self) -> &RunQueue {
        &self.queue
    }
}

impl DerefMut for ReadyGuard<'_> {
    fn deref_mut(&mut self) -> &mut RunQueue {
        &mut self.queue
    }
}

impl Drop for ReadyGuard<'_> {
    fn drop(&mut self) {
        self.spare.store(self.queue.spare, Ordering::Relaxed);
    }
}

/// Whether a run queue takes anything: one whose CPU is off does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    Open,
    Closed,
}

/// Why there was no [`turn`](RunQueue::turn).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoTurn {
    /// Nothing as good is ready.
    Alone,
    /// What is ready is better, or not easy.
    Unequal,
}

/// One queue per priority, and a bit for each that is not empty: picking takes constant time.
pub struct RunQueue {
    /// 256 of them, never more or fewer. In the heap: a CPU's value is made on a small stack.
    queues: List<Queue<Runnable>>,
    ready: [u64; 4],
    /// The highest priority at which something is ready, as a [`Load`].
    best: Load,
    spare: u32,
    here: CpuSet,
    pub gate: Gate,
}

/// How many entries a CPU that pulls looks at, at most, with the lock held: what is bound to one CPU
/// is not counted as spare, so only threads with odd sets are in the way.
const LOOK_AT: usize = 32;

impl RunQueue {
    /// What is ready, the best first.
    #[cfg(test)]
    pub fn waiting(&self) -> impl Iterator<Item = &Runnable> {
        self.queues.iter().rev().flat_map(Queue::iter)
    }

    fn try_new(charged: Charged, cpu: CpuId) -> Result<Self, NoMemory> {
        let mut queues = List::new(charged);
        queues.fill_to(256, Queue::new)?;
        Ok(Self {
            queues,
            ready: [0; 4],
            best: Load::IDLE,
            spare: 0,
            here: CpuSet::of(cpu),
            gate: Gate::Open,
        })
    }

    /// Puts `item` into the queue of `priority`, which the caller has read once: it can change at
    /// any time, and where a thread was put must be where it is looked for.
    pub fn push(&mut self, item: Runnable, priority: Priority, place: Place) {
        let spare = item.affinity() != self.here;
        item.entry().spare.set(spare);
        self.spare += spare as u32;
        let queue = &mut self.queues[priority as usize];
        match place {
            Place::Last => queue.push(item),
            Place::First => queue.push_front(item),
        }
        self.ready[priority as usize / 64] |= 1 << (priority % 64);
        self.best = self.best.max(Load::of(priority));
    }

    /// The highest priority at which something is ready.
    #[inline]
    pub fn best(&self) -> Option<Priority> {
        self.best.priority()
    }

    /// Finds `best` anew.
    fn find_best(&mut self) {
        let word = (0..4).rev().find(|&word| self.ready[word] != 0);
        self.best = word.map_or(Load::IDLE, |word| {
            Load::of((word as u32 * 64 + 63 - self.ready[word].leading_zeros()) as Priority)
        });
    }

    /// How much may go elsewhere, without what is next here.
    pub fn left_over(&self) -> u32 {
        let next = self.best().and_then(|priority| self.queues[priority as usize].first());
        self.spare - next.map_or(0, |next| next.entry().spare.get() as u32)
    }

    /// Whether anything is ready at `priority`.
    #[inline]
    pub fn has(&self, priority: Priority) -> bool {
        self.ready[priority as usize / 64] >> (priority % 64) & 1 != 0
    }

    /// Whether what is put in at `priority` and `place` would be what comes out next.
    #[inline]
    pub fn goes_first(&self, priority: Priority, place: Place) -> bool {
        match place {
            Place::Last => self.best < Load::of(priority),
            Place::First => self.best <= Load::of(priority),
        }
    }

    /// What is next.
    #[inline]
    pub fn first(&self) -> Option<&Runnable> {
        self.queues.get(self.best()? as usize)?.first()
    }

    /// Takes the first of the highest priority.
    pub fn pop(&mut self) -> Option<Runnable> {
        let priority = self.best()?;
        let item = self.queues[priority as usize].pop();
        self.taken(item, priority)
    }

    /// Takes what has `entry` out, if it is here.
    pub fn remove(&mut self, entry: &Entry) -> Option<Runnable> {
        // The link knows its queue, and the queues lie in a row.
        let priority = entry.link.holder_among(&self.queues)? as Priority;
        let item = self.queues[priority as usize].remove(&entry.link);
        self.taken(item, priority)
    }

    /// Takes the best that may run on `cpu`.
    pub fn pop_for(&mut self, cpu: CpuId) -> Option<Runnable> {
        let mut looked = 0;
        for word in (0..4).rev() {
            let mut bits = self.ready[word];
            while bits != 0 {
                let bit = 63 - bits.leading_zeros();
                bits &= !(1 << bit);
                let queue = &mut self.queues[word * 64 + bit as usize];
                let left = LOOK_AT - looked;
                let found =
                    queue.iter().take(left).inspect(|_| looked += 1).find(|item| item.affinity().has(cpu));
                if let Some(item) = found.cloned() {
                    let item = queue.remove(item.link());
                    return self.taken(item, (word as u32 * 64 + bit) as Priority);
                }
                if looked == LOOK_AT {
                    return None;
                }
            }
        }
        None
    }

    /// One turn among equals: puts `thread` last at `priority` and takes the first, if that is the
    /// best that is ready, if it is a thread or the job of one, if neither has anything but what is
    /// `easy` and both may run here, and if `may` says so of `thread` and of that one.
    ///
    /// # Safety
    /// `thread` is in no queue, as for [`Queue::exchange`].
    #[inline(always)]
    pub unsafe fn turn(
        &mut self,
        thread: Ref<Thread>,
        priority: Priority,
        easy: Extras,
        may: impl FnOnce(&Thread, &Thread) -> bool,
    ) -> Result<Runnable, (Ref<Thread>, NoTurn)> {
        if self.best != Load::of(priority) {
            let why = if self.best < Load::of(priority) { NoTurn::Alone } else { NoTurn::Unequal };
            return Err((thread, why));
        }
        let may = |thread: &Runnable, first: &Runnable| {
            let (Runnable::Thread(thread), Runnable::Thread(first) | Runnable::Job(first)) = (thread, first)
            else {
                return false;
            };
            let extras = thread.extras().or(first.extras());
            if !extras.within(easy)
                || extras.has(Extra::Affinity)
                    && thread.affinity().and(first.affinity()).and(self.here).is_empty()
                || !may(thread, first)
            {
                return false;
            }
            let spare = !extras.has(Extra::Affinity) || thread.affinity() != self.here;
            thread.entry.spare.set(spare);
            let was_spare = first.entry.spare.get();
            if was_spare != spare {
                self.spare = self.spare + spare as u32 - was_spare as u32;
            }
            true
        };
        // SAFETY: there are 256 queues, always.
        let queue = unsafe { self.queues.get_unchecked_mut(priority as usize) };
        // SAFETY: 1. the caller's obligation. 2. something is ready at `best`.
        match unsafe { queue.exchange(Runnable::Thread(thread), may) } {
            Ok(first) => Ok(first),
            Err(Runnable::Thread(thread)) => Err((thread, NoTurn::Unequal)),
            Err(_) => unreachable!("it is the thread"),
        }
    }

    fn taken(&mut self, item: Option<Runnable>, priority: Priority) -> Option<Runnable> {
        let item = item?;
        self.spare -= item.entry().spare.get() as u32;
        if self.queues[priority as usize].is_empty() {
            self.ready[priority as usize / 64] &= !(1 << (priority % 64));
            if self.best == Load::of(priority) {
                self.find_best();
            }
        }
        Some(item)
    }
}
