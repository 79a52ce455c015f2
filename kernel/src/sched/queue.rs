//! Queues of what can run or wait, without allocation.
//!
//! An [`Entry`] is embedded in each thing that can be queued, so putting it somewhere cannot fail
//! and freeing memory needs none. A thing is in at most one queue at a time; the queue owns a
//! reference to it.

use crate::mm::NoMemory;
use crate::mm::heap::Charged;
use crate::mm::list::List;
use crate::object::Ref;
use crate::process::Process;
use crate::sched::task::Task;
use crate::sync::{AtomicU64, Ordering};
use crate::thread::Thread;
use core::cell::Cell;
use core::ptr;

/// 0–255; higher runs first.
pub type Priority = u8;

/// The link of something that can be queued.
pub struct Entry {
    /// The next in the queue this entry is in.
    next: Cell<Option<Runnable>>,
    /// When it is due, in nanoseconds since boot, while it is in a timer queue.
    due: AtomicU64,
}

// SAFETY: `next` is touched only by methods of the `Queue` that holds the entry, which have
// `&mut Queue`; an entry is in one queue at a time, since a queue owns what it holds by a `Runnable`
// that was moved into it by the one place that decides the thing's state.
unsafe impl Sync for Entry {}
// SAFETY: as above; the references inside are `Send`.
unsafe impl Send for Entry {}

impl Entry {
    pub const fn new() -> Self {
        Self { next: Cell::new(None), due: AtomicU64::new(0) }
    }
}

/// What the scheduler can run.
#[derive(Clone)]
pub enum Runnable {
    /// A user thread.
    Thread(Ref<Thread>),
    /// A kernel task.
    Task(Ref<Task>),
    /// The kernel task that takes a process apart; its storage is part of the process.
    Teardown(Ref<Process>),
}

impl Runnable {
    fn entry(&self) -> &Entry {
        match self {
            Self::Thread(thread) => &thread.entry,
            Self::Task(task) => &task.entry,
            Self::Teardown(process) => &process.teardown_entry,
        }
    }
    pub fn priority(&self) -> Priority {
        match self {
            Self::Thread(thread) => thread.priority(),
            Self::Task(task) => task.priority(),
            Self::Teardown(process) => process.teardown_priority(),
        }
    }
}

/// First in, first out.
pub struct Queue {
    head: Option<Runnable>,
    /// The last entry; null when empty. Alive while `head` is not `None`.
    tail: *const Entry,
    len: usize,
}

// SAFETY: `tail` points to an entry that the queue owns through `head`'s chain.
unsafe impl Send for Queue {}

impl Queue {
    pub const fn new() -> Self {
        Self { head: None, tail: ptr::null(), len: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// Puts `item` last.
    pub fn push(&mut self, item: Runnable) {
        let entry: *const Entry = item.entry();
        if self.head.is_none() {
            self.head = Some(item);
        } else {
            // SAFETY: the queue is not empty, so `tail` is its last entry, which the chain owns.
            unsafe { (*self.tail).next.set(Some(item)) };
        }
        self.tail = entry;
        self.len += 1;
    }

    /// Puts `item` first.
    pub fn push_front(&mut self, item: Runnable) {
        match self.head.take() {
            None => self.push(item),
            Some(head) => {
                item.entry().next.set(Some(head));
                self.head = Some(item);
                self.len += 1;
            }
        }
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<Runnable> {
        let item = self.head.take()?;
        self.head = item.entry().next.take();
        self.len -= 1;
        Some(item)
    }

    /// Takes `thread` out, wherever it stands; the order of the others stays.
    pub fn remove(&mut self, thread: &Ref<Thread>) -> Option<Runnable> {
        let mut found = None;
        for _ in 0..self.len {
            let item = self.pop()?;
            match &item {
                Runnable::Thread(other) if Ref::ptr_eq(other, thread) => found = Some(item),
                _ => self.push(item),
            }
        }
        found
    }

    /// Puts `item` before the first that is due later.
    pub fn push_due(&mut self, item: Runnable, due: u64) {
        item.entry().due.store(due, Ordering::Relaxed);
        let mut item = Some(item);
        for _ in 0..self.len {
            let Some(other) = self.pop() else { break };
            if other.entry().due.load(Ordering::Relaxed) > due
                && let Some(item) = item.take()
            {
                self.push(item);
            }
            self.push(other);
        }
        if let Some(item) = item {
            self.push(item);
        }
    }

    /// When the first is due.
    pub fn first_due(&self) -> Option<u64> {
        self.head.as_ref().map(|item| item.entry().due.load(Ordering::Relaxed))
    }
}

impl Drop for Queue {
    /// One by one: dropping the chain by its links would recurse.
    fn drop(&mut self) {
        while self.pop().is_some() {}
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

/// One queue per priority, and a bit for each that is not empty: picking takes constant time.
pub struct RunQueue {
    /// 256 of them, never more or fewer. In the heap: a CPU's value is made on a small stack.
    queues: List<Queue>,
    ready: [u64; 4],
}

impl RunQueue {
    pub fn try_new(charged: Charged) -> Result<Self, NoMemory> {
        let mut queues = List::new(charged);
        queues.fill_to(256, Queue::new)?;
        Ok(Self { queues, ready: [0; 4] })
    }

    /// Puts `item` into the queue of `priority`, which the caller has read once: it can change at
    /// any time, and where a thread was put must be where it is looked for.
    pub fn push(&mut self, item: Runnable, priority: Priority, place: Place) {
        let queue = &mut self.queues[priority as usize];
        match place {
            Place::Last => queue.push(item),
            Place::First => queue.push_front(item),
        }
        self.ready[priority as usize / 64] |= 1 << (priority % 64);
    }

    /// The highest priority at which something is ready.
    pub fn best(&self) -> Option<Priority> {
        (0..4)
            .rev()
            .find(|&word| self.ready[word] != 0)
            .map(|word| (word as u32 * 64 + 63 - self.ready[word].leading_zeros()) as Priority)
    }

    /// Takes the first of the highest priority.
    pub fn pop(&mut self) -> Option<Runnable> {
        let priority = self.best()?;
        let item = self.queues[priority as usize].pop();
        self.settle(priority);
        item
    }

    /// Takes `thread` out of the queue of `priority`, at which it was pushed.
    pub fn remove(&mut self, thread: &Ref<Thread>, priority: Priority) -> Option<Runnable> {
        let item = self.queues[priority as usize].remove(thread);
        self.settle(priority);
        item
    }

    fn settle(&mut self, priority: Priority) {
        if self.queues[priority as usize].is_empty() {
            self.ready[priority as usize / 64] &= !(1 << (priority % 64));
        }
    }
}
