//! A user thread: a register frame, a vector area once it needs one, and where it stands.
//!
//! There is no kernel stack per thread. A trap saves the registers straight into [`Thread::frame`];
//! a call that must wait leaves the program counter at the call instruction and is made again when
//! the thread wakes, so nothing of a call is kept while it waits.

use crate::mm::NoMemory;
use crate::mm::heap::Charged;
use crate::object::Ref;
use crate::pending::Pending;
use crate::print::Machine;
use crate::process::Process;
use crate::rseq;
use crate::sched::queue::{Entry, Priority};
use crate::sync::{AtomicU64, Leaf, Ordering};
use allocator_api2::alloc::Allocator;
use arch_contract::trap::Traps;
use arch_contract::vector::Vector;
use arch_current::Current;
use core::cell::UnsafeCell;
use core::ptr::NonNull;

/// The register frame.
pub type Frame = <Current as Traps>::Frame;

/// Where a thread stands. Written under its leaf lock by whoever moves it.
#[derive(Clone)]
pub enum Standing {
    /// Made, not yet ready.
    New,
    /// The current thread of a CPU.
    Running,
    /// In a run queue, at this priority.
    Ready(Priority),
    /// Waits for console input; makes its call again.
    Reading,
    /// Waits for a process to end; makes its call again.
    WaitingFor(Ref<Process>),
    /// In the timer queue; makes its call again.
    Sleeping,
    /// In the timer queue, again and again, until what its call waits for has happened.
    Pending(Pending),
    /// A kernel task works for it and stores the result of the call.
    InTask,
    /// A kernel task works for it; when that is done it ends instead of returning.
    InTaskDoomed,
    /// Never runs again.
    Ended,
}

/// A thread.
pub struct Thread {
    pub(crate) entry: Entry,
    frame: UnsafeCell<Frame>,
    /// `None` until its first vector instruction.
    vector: Leaf<Option<VectorArea>>,
    pub(crate) rseq: rseq::Registration,
    standing: Leaf<Standing>,
    process: Ref<Process>,
    /// Nanoseconds it has run, up to its last switch.
    pub cpu_time: AtomicU64,
    /// Nanoseconds of its slice that were left when something better took the CPU; 0 for a whole
    /// new slice.
    pub slice_left: AtomicU64,
}

// SAFETY: `frame` is touched by the CPU that runs the thread, or, while no CPU does, by whoever
// took it off its queue; `standing` decides which.
unsafe impl Sync for Thread {}
// SAFETY: the frame is plain registers; all else is `Send`.
unsafe impl Send for Thread {}

impl Thread {
    /// A new thread of `process` with `frame`, charged to the process's budget.
    pub fn try_new(process: Ref<Process>, frame: Frame) -> Result<Ref<Self>, NoMemory> {
        let memory = process.memory();
        let budget = process.budget.clone();
        let thread = Self {
            entry: Entry::new(),
            frame: UnsafeCell::new(frame),
            vector: Leaf::new(None),
            rseq: rseq::Registration::new(),
            standing: Leaf::new(Standing::New),
            process,
            cpu_time: AtomicU64::new(0),
            slice_left: AtomicU64::new(0),
        };
        Ref::try_new(memory, Some(&budget), thread)
    }

    pub fn process(&self) -> &Ref<Process> {
        &self.process
    }

    pub fn priority(&self) -> Priority {
        self.process.priority()
    }

    /// Where it stands.
    pub fn standing(&self) -> Standing {
        self.standing.lock().clone()
    }

    /// Says where it stands now. For whoever moves it.
    pub fn stand(&self, standing: Standing) {
        // What stood there is dropped after the lock: it may be the last reference to a process.
        let _before = core::mem::replace(&mut *self.standing.lock(), standing);
    }

    /// Where its registers are. Stays in place while the thread lives.
    pub fn frame(&self) -> NonNull<Frame> {
        // SAFETY: the address of a field is not null.
        unsafe { NonNull::new_unchecked(self.frame.get()) }
    }

    /// The vector area, if it has one.
    pub fn vector_area(&self) -> Option<NonNull<u8>> {
        self.vector.lock().as_ref().map(|area| area.at)
    }

    /// Gives it a vector area in the initial state, if it has none; charged to its process.
    pub fn make_vector_area(&self, machine: &Machine) -> Result<NonNull<u8>, NoMemory> {
        let mut vector = self.vector.lock();
        if let Some(area) = vector.as_ref() {
            return Ok(area.at);
        }
        let area = VectorArea::try_new(machine, self.process.charged())?;
        let at = area.at;
        *vector = Some(area);
        Ok(at)
    }

    /// Adds time on a CPU.
    pub fn ran(&self, nanos: u64) {
        self.cpu_time.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// Memory for the vector registers.
struct VectorArea {
    at: NonNull<u8>,
    layout: core::alloc::Layout,
    charged: Charged,
}

// SAFETY: the area is memory that this value owns.
unsafe impl Send for VectorArea {}

impl VectorArea {
    fn try_new(machine: &Machine, charged: Charged) -> Result<Self, NoMemory> {
        let layout = Current::area_layout(machine);
        let at = charged.allocate(layout).map_err(|_| NoMemory)?.cast();
        // SAFETY: `at` was just allocated with the layout that the machine asks for.
        unsafe { Current::init_area(machine, at) };
        Ok(Self { at, layout, charged })
    }
}

impl Drop for VectorArea {
    fn drop(&mut self) {
        // SAFETY: `at` was allocated by this allocator with this layout, and is dropped once.
        unsafe { self.charged.deallocate(self.at, self.layout) };
    }
}
