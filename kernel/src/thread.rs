//! A user thread: a register frame, a vector area once it needs one, and where it stands.
//!
//! There is no kernel stack per thread. A trap saves the registers straight into [`Thread::frame`];
//! a call that must wait leaves the program counter at the call instruction and is made again when
//! the thread wakes, so nothing of a call is kept while it waits.

pub(crate) mod standing;

pub use standing::{Fate, Standing};

use crate::cpu::Cpu;
use crate::cpuset::CpuSet;
use crate::ipc;
use crate::job::Job;
use crate::mm::Machine;
use crate::mm::NoMemory;
use crate::object::Ref;
use crate::process::Process;
use crate::rseq;
use crate::sched::limit::Limit;
use crate::sched::queue::{Link, Linked, Queue};
use crate::sched::ready::{Entry, Priority, Runnable};
use crate::sync::{AtomicPtr, AtomicU8, AtomicU16, AtomicU64, Leaf, Ordering};
use allocator_api2::alloc::Allocator;
use arch_contract::mutant::{self, Mutant};
use arch_contract::trap::Traps;
use arch_contract::vector::Vector;
use arch_current::Current;
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use standing::Whereabouts;

/// The register frame.
pub type Frame = <Current as Traps>::Frame;

/// What is unusual about a thread and concerns a switch. Most have nothing, and one load says so.
/// Changed by the CPU that has the thread, or by others, who then look whether it is in a queue and
/// else have its CPU look: so who reads it under the lock of a queue that it leaves or enters
/// misses nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Extra {
    /// It is to end. Set before its standing says so, and never taken off.
    Doomed = 1,
    /// A budget of CPU time, its own or its process's.
    Limit = 2,
    /// An area for restartable sequences.
    Rseq = 4,
    /// Vector registers. Never taken off.
    Vectors = 8,
    /// A priority other than its process's, of its own or lent. Never taken off.
    Priority = 16,
    /// CPUs that it may not run on.
    Affinity = 32,
    /// It runs on the budget of another.
    Payer = 64,
    /// A notification is bound to it.
    Bound = 128,
    /// A fault has stopped it, and nobody has answered: its registers are no call's.
    Stopped = 256,
    /// The wait that it began last has a deadline.
    Alarm = 512,
}

/// A set of [`Extra`]s.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extras(u16);

impl Extras {
    pub const NONE: Self = Self(0);

    pub const fn with(self, extra: Extra) -> Self {
        Self(self.0 | extra as u16)
    }
    pub const fn has(self, extra: Extra) -> bool {
        self.0 & extra as u16 != 0
    }
    /// Those in either.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// Those in both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    /// Whether all of them are in `other`.
    pub const fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }
}

/// It has no priority of its own, but its process's.
const OF_PROCESS: u16 = 1 << 8;

/// A thread. On cache lines of its own: CPUs that run different threads write nothing that the others
/// read.
#[repr(align(128))]
pub struct Thread {
    pub(crate) entry: Entry,
    /// Its place among the threads of its process.
    sibling: Link<Sibling>,
    /// Its place among those that may not run everywhere.
    restricted: Link<Restricted>,
    frame: UnsafeCell<Frame>,
    /// The work of its call, if a kernel task does that.
    job: UnsafeCell<Option<Job>>,
    /// Where its vector registers are; null until its first vector instruction, or until others set
    /// them. Written by the CPU that has the thread, or while it is stopped and waits for the answer, with the
    /// lock of its standing held.
    vector: AtomicPtr<u8>,
    pub(crate) rseq: rseq::Registration,
    pub(crate) ipc: ipc::State,
    whereabouts: Whereabouts,
    process: Ref<Process>,
    /// Threads in `thread_wait`.
    pub(crate) joiners: Leaf<Queue<Runnable>>,
    /// Its own, or [`OF_PROCESS`].
    priority: AtomicU16,
    /// What others have lent it.
    lent: AtomicU8,
    affinity: AtomicU64,
    pub(crate) limit: Limit,
    /// Ticks it has run, up to its last switch.
    pub cpu_time: AtomicU64,
    /// Ticks of its slice that were left when something better took the CPU; 0 for a whole new
    /// slice, and while it runs.
    pub slice_left: AtomicU64,
    /// See [`Extras`].
    extras: AtomicU16,
}

// SAFETY: `frame` and `job` are touched by the CPU that runs the thread, or, while no CPU does, by
// whoever took it off its queue; `whereabouts` decides which.
unsafe impl Sync for Thread {}
// SAFETY: the frame is plain registers; all else is `Send`.
unsafe impl Send for Thread {}

impl Thread {
    /// A new thread of `process` with `frame`, made on `cpu`, charged to the process's budget. It has
    /// the process's priority and may run everywhere.
    pub fn try_new(process: Ref<Process>, frame: Frame, cpu: &Cpu) -> Result<Ref<Self>, NoMemory> {
        let memory = process.memory();
        let budget = process.budget.clone();
        let extras = if process.limit.is_some() { Extra::Limit as u16 } else { 0 };
        let thread = Self {
            entry: Entry::new(cpu.number),
            sibling: Link::new(),
            restricted: Link::new(),
            frame: UnsafeCell::new(frame),
            job: UnsafeCell::new(None),
            vector: AtomicPtr::new(core::ptr::null_mut()),
            rseq: rseq::Registration::new(),
            ipc: ipc::State::new(),
            whereabouts: Whereabouts::new(),
            process,
            joiners: Leaf::new(Queue::new()),
            priority: AtomicU16::new(OF_PROCESS),
            lent: AtomicU8::new(0),
            affinity: AtomicU64::new(CpuSet::ALL.0),
            limit: Limit::new(),
            cpu_time: AtomicU64::new(0),
            slice_left: AtomicU64::new(0),
            extras: AtomicU16::new(extras),
        };
        Ref::try_new(memory, Some(&budget), thread)
    }

    pub fn process(&self) -> &Ref<Process> {
        &self.process
    }

    /// The higher of its own priority and what it was lent.
    #[inline]
    pub fn priority(&self) -> Priority {
        if !self.extras().has(Extra::Priority) {
            return self.process.priority();
        }
        self.own_priority().max(self.lent.load(Ordering::Relaxed))
    }

    /// What it has if nobody lends it more.
    pub fn own_priority(&self) -> Priority {
        match self.priority.load(Ordering::Relaxed) {
            OF_PROCESS => self.process.priority(),
            own => own as Priority,
        }
    }

    /// For [`crate::sched::priority`], which requeues it.
    pub(crate) fn store_priority(&self, priority: Priority) {
        self.priority.store(priority.into(), Ordering::Relaxed);
        self.add_extra(Extra::Priority);
    }

    /// As [`store_priority`](Self::store_priority).
    pub(crate) fn store_lent(&self, priority: Priority) {
        self.lent.store(priority, Ordering::Relaxed);
        self.add_extra(Extra::Priority);
    }

    /// What it was lent.
    pub(crate) fn lent(&self) -> Priority {
        self.lent.load(Ordering::Relaxed)
    }

    /// The CPUs it may run on.
    pub fn affinity(&self) -> CpuSet {
        CpuSet(self.affinity.load(Ordering::Relaxed))
    }

    /// For [`crate::sched::affinity`]. Says what it was.
    pub(crate) fn swap_affinity(&self, set: CpuSet) -> CpuSet {
        let before = self.affinity.swap(set.0, Ordering::Relaxed);
        match set {
            CpuSet::ALL => self.drop_extra(Extra::Affinity),
            _ => self.add_extra(Extra::Affinity),
        }
        CpuSet(before)
    }

    /// Whether it is to end. For its own CPU, which was interrupted after it was doomed.
    pub fn is_doomed(&self) -> bool {
        self.extras().has(Extra::Doomed)
    }

    /// Where its registers are. Stays in place while the thread lives.
    pub fn frame(&self) -> NonNull<Frame> {
        // SAFETY: the address of a field is not null.
        unsafe { NonNull::new_unchecked(self.frame.get()) }
    }

    /// Where the work of its call is, for whoever has the thread, as its frame.
    pub fn job(&self) -> NonNull<Option<Job>> {
        // SAFETY: the address of a field is not null.
        unsafe { NonNull::new_unchecked(self.job.get()) }
    }

    /// The vector area, if it has one.
    #[inline]
    pub fn vector_area(&self) -> Option<NonNull<u8>> {
        // Relaxed: asked and made by who has the thread, or who looks at a stopped one with the lock of its
        // standing held, which who has it next takes after that.
        NonNull::new(self.vector.load(Ordering::Relaxed))
    }

    /// Gives it a vector area in the initial state, if it has none; charged to its process.
    pub fn make_vector_area(&self, machine: &Machine) -> Result<NonNull<u8>, NoMemory> {
        if let Some(area) = self.vector_area() {
            return Ok(area);
        }
        let layout = Current::area_layout(machine);
        let area = self.process.charged().allocate(layout).map_err(|_| NoMemory)?.cast();
        if !mutant::is(Mutant::VectorAreaNotInitialized) {
            // SAFETY: it was just allocated with the layout that the machine asks for.
            unsafe { Current::init_area(machine, area) };
        }
        self.vector.store(area.as_ptr(), Ordering::Relaxed);
        self.add_extra(Extra::Vectors);
        Ok(area)
    }

    /// Adds ticks on a CPU. Only the CPU that runs it does.
    #[inline]
    pub fn ran(&self, ticks: u64) {
        self.cpu_time.store(self.cpu_time.load(Ordering::Relaxed) + ticks, Ordering::Relaxed);
    }

    /// What is unusual about it.
    #[inline]
    pub fn extras(&self) -> Extras {
        Extras(self.extras.load(Ordering::Relaxed))
    }

    /// It has this from now on.
    pub fn add_extra(&self, extra: Extra) {
        self.extras.fetch_or(extra as u16, Ordering::Relaxed);
    }

    /// It has this no more.
    pub fn drop_extra(&self, extra: Extra) {
        self.extras.fetch_and(!(extra as u16), Ordering::Relaxed);
    }
}

/// A thread in the list of its process's threads.
pub struct Sibling(pub Ref<Thread>);

// SAFETY: the link is a part of what the reference counts, which does not move.
unsafe impl Linked for Sibling {
    fn link(&self) -> &Link<Self> {
        &self.0.sibling
    }
}

/// A thread in the list of those that may not run everywhere.
pub struct Restricted(pub Ref<Thread>);

// SAFETY: the link is a part of what the reference counts, which does not move.
unsafe impl Linked for Restricted {
    fn link(&self) -> &Link<Self> {
        &self.0.restricted
    }
}

impl Queue<Sibling> {
    pub fn remove_thread(&mut self, thread: &Thread) -> Option<Sibling> {
        self.remove(&thread.sibling)
    }
}

impl Queue<Restricted> {
    pub fn remove_thread(&mut self, thread: &Thread) -> Option<Restricted> {
        self.remove(&thread.restricted)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(area) = self.vector_area() {
            let layout = Current::area_layout(self.process.memory().machine());
            // SAFETY: `make_vector_area` allocated it from an allocator of this process, with the layout that
            // the machine asks for, which does not change; nobody has the thread any more.
            unsafe { self.process.charged().deallocate(area, layout) };
        }
    }
}
