//! A process: an address space, a capability table, a budget, and how it ended.
//!
//! Its life: made by the program loader, started with one thread, ended by `exit`, a fault or
//! `process_kill`, then taken apart by a kernel task whose storage is part of the process, so that
//! freeing memory needs none. Whoever holds a capability can read the report until the last one
//! is gone.

use crate::cap::Table;
use crate::cpu::Cpu;
use crate::mm::NoMemory;
use crate::mm::budget::Budget;
use crate::mm::heap::Charged;
use crate::mm::memory::Memory;
use crate::mm::space::{Progress, Space};
use crate::object::Ref;
use crate::program;
use crate::rendezvous::{self, Point};
use crate::sched::lifetime::{self, Teardown, Verdict};
use crate::sched::queue::{Entry, Priority, Queue, Runnable};
use crate::sync::{AtomicBool, AtomicU8, AtomicU64, Leaf, Lock, Ordering};
use crate::thread::Thread;
use abi::{Error, ExitReport};
use arch_contract::irq::IrqsOff;
use arch_contract::time::Nanos;
use arrayvec::ArrayString;

/// A program's name.
pub type Name = ArrayString<{ abi::MAX_NAME }>;

/// A process.
pub struct Process {
    /// For messages to a person. Names nothing.
    pub number: u64,
    pub name: Name,
    pub budget: Ref<Budget>,
    memory: &'static Memory,
    pub space: Space,
    pub table: Lock<Table>,
    life: Lock<Life>,
    priority: AtomicU8,
    /// The highest priority of those who have killed it.
    teardown_floor: AtomicU8,
    pub(crate) teardown_entry: Entry,
    teardown_queued: AtomicBool,
    /// What its teardown knows of the CPUs that still have it loaded.
    teardown: Leaf<Option<Teardown>>,
    /// Whether the machine ends when it does.
    init: AtomicBool,
    /// Nanoseconds its ended threads have run.
    past_time: AtomicU64,
}

/// What changes when a process ends.
struct Life {
    thread: Option<Ref<Thread>>,
    report: Option<ExitReport>,
    /// Threads in `process_wait`. Each makes its call again when woken.
    waiters: Queue,
    /// Operations on the address space that are under way. The teardown starts after the last.
    jobs: usize,
}

/// Pages a teardown gives back in one slice.
const TEARDOWN_PAGES: u64 = 32;

impl Process {
    /// A process without a thread.
    pub fn try_new(
        memory: &'static Memory,
        budget: Ref<Budget>,
        number: u64,
        name: Name,
        space: Space,
        priority: Priority,
    ) -> Result<Ref<Self>, NoMemory> {
        let charged = Charged { memory, budget: budget.clone() };
        let process = Self {
            number,
            name,
            budget: budget.clone(),
            memory,
            space,
            table: Lock::new(Table::new(charged)),
            life: Lock::new(Life { thread: None, report: None, waiters: Queue::new(), jobs: 0 }),
            priority: AtomicU8::new(priority),
            teardown_floor: AtomicU8::new(0),
            teardown_entry: Entry::new(),
            teardown_queued: AtomicBool::new(false),
            teardown: Leaf::new(None),
            init: AtomicBool::new(false),
            past_time: AtomicU64::new(0),
        };
        Ref::try_new(memory, Some(&budget), process)
    }

    pub fn memory(&self) -> &'static Memory {
        self.memory
    }

    /// An allocator that charges this process.
    pub fn charged(&self) -> Charged {
        Charged { memory: self.memory, budget: self.budget.clone() }
    }

    pub fn priority(&self) -> Priority {
        self.priority.load(Ordering::Relaxed)
    }

    /// Takes effect when its thread is next queued.
    pub fn set_priority(&self, priority: Priority) {
        self.priority.store(priority, Ordering::Relaxed);
    }

    /// At what priority it is taken apart: its own, or that of whoever caused it, if that is higher.
    pub fn teardown_priority(&self) -> Priority {
        self.priority().max(self.teardown_floor.load(Ordering::Relaxed))
    }

    /// Makes the teardown run at `floor` at least.
    pub fn hurry_teardown(&self, floor: Priority) {
        self.teardown_floor.fetch_max(floor, Ordering::Relaxed);
    }

    /// Its thread, while it lives.
    pub fn thread(&self, cpu: &Cpu) -> Option<Ref<Thread>> {
        self.life.lock(cpu).thread.clone()
    }

    /// Gives it its thread; the caller makes that ready.
    pub fn attach(&self, cpu: &Cpu, thread: Ref<Thread>) {
        self.life.lock(cpu).thread = Some(thread);
    }

    /// Nanoseconds its threads have run, up to their last switch.
    pub fn cpu_time(&self, cpu: &Cpu) -> u64 {
        let running = self.thread(cpu).map_or(0, |thread| thread.cpu_time.load(Ordering::Relaxed));
        self.past_time.load(Ordering::Relaxed) + running
    }

    /// Makes the machine end when this process does.
    pub fn set_init(&self) {
        self.init.store(true, Ordering::Relaxed);
    }

    /// How it ended, if it has.
    pub fn report(&self, cpu: &Cpu) -> Option<ExitReport> {
        self.life.lock(cpu).report
    }

    /// The report, or, while there is none, queues `waiter` until there is.
    pub fn report_or_wait(&self, cpu: &Cpu, waiter: impl FnOnce() -> Option<Runnable>) -> Option<ExitReport> {
        let mut life = self.life.lock(cpu);
        if life.report.is_none()
            && let Some(waiter) = waiter()
        {
            life.waiters.push(waiter);
        }
        life.report
    }

    /// Takes `thread` out of those who wait.
    pub fn forget_waiter(&self, cpu: &Cpu, thread: &Ref<Thread>) {
        drop(self.life.lock(cpu).waiters.remove(thread));
    }

    /// Starts an operation on the address space, which keeps it from being taken apart until
    /// [`end_job`](Self::end_job). `Gone` if the process has ended.
    pub fn begin_job(&self, cpu: &Cpu) -> Result<(), Error> {
        let mut life = self.life.lock(cpu);
        if life.report.is_some() {
            return Err(Error::Gone);
        }
        life.jobs += 1;
        Ok(())
    }

    /// Ends an operation that [`begin_job`](Self::begin_job) started.
    pub fn end_job(this: &Ref<Self>, cpu: &Cpu) {
        let teardown = {
            let mut life = this.life.lock(cpu);
            life.jobs -= 1;
            life.jobs == 0 && life.report.is_some()
        };
        if teardown {
            Self::queue_teardown(this, cpu);
        }
    }

    fn queue_teardown(this: &Ref<Self>, cpu: &Cpu) {
        if !this.teardown_queued.swap(true, Ordering::Relaxed) {
            cpu.kernel.teardown_begins();
            cpu.make_ready(Runnable::Teardown(this.clone()));
        }
    }

    /// Records the end: the first report stays. Wakes who waits and queues the teardown. The
    /// thread is off every CPU and out of every queue.
    pub fn end(this: &Ref<Self>, cpu: &Cpu, report: ExitReport) {
        let (thread, mut waiters, idle) = {
            let mut life = this.life.lock(cpu);
            if life.report.is_none() {
                life.report = Some(report);
            }
            (life.thread.take(), core::mem::replace(&mut life.waiters, Queue::new()), life.jobs == 0)
        };
        if let Some(thread) = thread {
            this.past_time.fetch_add(thread.cpu_time.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        if this.init.load(Ordering::Relaxed) {
            program::init_ended(cpu, report);
        }
        while let Some(waiter) = waiters.pop() {
            cpu.make_ready(waiter);
        }
        if idle {
            Self::queue_teardown(this, cpu);
        }
    }

    /// One slice of taking it apart: first what it could name, then its memory. `CTX-9`: the
    /// address space is loaded nowhere before its first table is freed.
    pub fn teardown_slice(this: &Ref<Self>, cpu: &'static Cpu, irq: &IrqsOff) -> Slice {
        let capability = this.table.lock(cpu).take_last();
        if capability.is_some() {
            drop(capability);
            return Slice::More;
        }
        rendezvous::point(cpu, Point::TeardownScan);
        if let Verdict::Wait(until) =
            lifetime::is_loaded_nowhere(cpu, &this.space, &mut this.teardown.lock(), irq)
        {
            return Slice::Wait(until);
        }
        match this.space.teardown_step(cpu, TEARDOWN_PAGES) {
            Progress::More => Slice::More,
            Progress::Done => {
                cpu.kernel.teardown_ended();
                Slice::Done
            }
        }
    }
}

/// How a slice of a teardown ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Slice {
    More,
    Done,
    /// Some CPU has it loaded: look again then.
    Wait(Nanos),
}
