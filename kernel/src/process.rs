//! A process: an address space, a capability table, a budget, and how it ended.
//!
//! Its life: made by the program loader, started with one thread, ended by `exit`, a fault,
//! `process_kill` or the end of its last thread. That it will end is one thing, and how is settled
//! then; that it has ended is another: its last thread is off every CPU. After that, and after the
//! last job that others do in it, it is taken apart by a kernel task whose storage is part of the
//! process, so that freeing memory needs none. Whoever holds a capability can read the report until
//! the last one is gone.

use crate::cap::{Emptied, Table};
use crate::cpu::Cpu;
use crate::cpuset::CpuId;
use crate::ipc::exception;
use crate::mm::NoMemory;
use crate::mm::budget::Budget;
use crate::mm::heap::Charged;
use crate::mm::memory::Memory;
use crate::mm::space::{Progress, Space};
use crate::object::Ref;
use crate::program;
use crate::rendezvous::{self, Point};
use crate::sched::ending;
use crate::sched::lifetime::{self, Teardown, Verdict};
use crate::sched::limit::Limit;
use crate::sched::queue::Queue;
use crate::sched::ready::{Entry, Priority, Runnable};
use crate::sync::{AtomicBool, AtomicU8, AtomicU64, Leaf, Lock, Ordering};
use crate::thread::{Sibling, Thread};
use abi::{Ending, Error, ExitReport};
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
    /// Of the CPU time of its threads, if there is one: its own, or that of whoever made it.
    pub(crate) limit: Option<Ref<Limit>>,
    memory: &'static Memory,
    pub space: Space,
    pub table: Table,
    life: Lock<Life>,
    priority: AtomicU8,
    /// For faults of threads that have no handler of their own.
    pub(crate) handler: exception::Place,
    /// The highest priority of those who have killed it, and of its threads when it ended.
    teardown_floor: AtomicU8,
    pub(crate) teardown_entry: Entry,
    /// What its teardown knows of the CPUs that still have it loaded.
    teardown: Leaf<Option<Teardown>>,
    /// Whether the machine ends when it does.
    init: AtomicBool,
    /// Ticks its ended threads have run.
    past_time: AtomicU64,
}

/// What changes when a process ends.
struct Life {
    /// Those that have not ended. While the process is being ended, the doomed ones are last.
    threads: Queue<Sibling>,
    /// How it ends, once that is settled. No thread is added after that.
    ending: Option<ExitReport>,
    /// Threads in `process_wait`. Each makes its call again when woken.
    waiters: Queue<Runnable>,
    /// Operations on the address space that are under way. The teardown starts after the last.
    jobs: usize,
    teardown_entry: Use,
}

/// What the entry of the process is in a queue for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    /// It is in none.
    Nothing,
    /// To doom the threads that were not doomed yet.
    Dooming,
    /// To take the process apart.
    Teardown,
}

impl Life {
    /// How it ended, if it has.
    fn report(&self) -> Option<ExitReport> {
        if self.threads.is_empty() { self.ending } else { None }
    }
}

/// Threads that are doomed in one slice.
const DOOMED_AT_ONCE: usize = 16;

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
        limit: Option<Ref<Limit>>,
    ) -> Result<Ref<Self>, NoMemory> {
        let charged = Charged { memory, budget: budget.clone() };
        let process = Self {
            number,
            name,
            budget: budget.clone(),
            limit,
            memory,
            space,
            table: Table::new(charged),
            life: Lock::new(Life {
                threads: Queue::new(),
                ending: None,
                waiters: Queue::new(),
                jobs: 0,
                teardown_entry: Use::Nothing,
            }),
            priority: AtomicU8::new(priority),
            handler: Leaf::new(None),
            teardown_floor: AtomicU8::new(0),
            teardown_entry: Entry::new(CpuId::BOOT),
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

    /// For its threads that have none of their own, and for its new ones. Takes effect when they are
    /// next queued.
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

    /// Adds a thread; the caller makes it ready. `Gone` if the process is being ended.
    pub fn add_thread(&self, cpu: &Cpu, thread: Ref<Thread>) -> Result<(), Error> {
        let mut life = self.life.lock(cpu);
        if life.ending.is_some() {
            return Err(Error::Gone);
        }
        life.threads.push(Sibling(thread));
        Ok(())
    }

    /// Nanoseconds its threads have run, up to their last switch. Goes through all of them with the lock
    /// held: a total would cost every switch a write that all CPUs share. See `CAVEATS.md` for how long it takes.
    pub fn cpu_time(&self, cpu: &Cpu) -> u64 {
        let life = self.life.lock(cpu);
        let running: u64 = life.threads.iter().map(|thread| thread.0.cpu_time.load(Ordering::Relaxed)).sum();
        cpu.kernel.rate.length(self.past_time.load(Ordering::Relaxed) + running)
    }

    /// Makes the machine end when this process does.
    pub fn set_init(&self) {
        self.init.store(true, Ordering::Relaxed);
    }

    /// How it ended, if it has.
    pub fn report(&self, cpu: &Cpu) -> Option<ExitReport> {
        self.life.lock(cpu).report()
    }

    /// The report, or, while there is none, queues `waiter` until there is.
    pub fn report_or_wait(&self, cpu: &Cpu, waiter: impl FnOnce() -> Option<Runnable>) -> Option<ExitReport> {
        let mut life = self.life.lock(cpu);
        if life.report().is_none()
            && let Some(waiter) = waiter()
        {
            life.waiters.push(waiter);
        }
        life.report()
    }

    /// Takes `thread` out of those who wait, if it is one of them.
    pub fn forget_waiter(&self, cpu: &Cpu, thread: &Thread) -> Option<Runnable> {
        self.life.lock(cpu).waiters.remove(thread.entry.link())
    }

    /// Whether it is not being ended.
    pub fn goes_on(&self, cpu: &Cpu) -> bool {
        self.life.lock(cpu).ending.is_none()
    }

    /// Starts an operation on the address space, which keeps it from being taken apart until
    /// [`end_job`](Self::end_job). `Gone` if the process is being ended.
    pub fn begin_job(&self, cpu: &Cpu) -> Result<(), Error> {
        let mut life = self.life.lock(cpu);
        if life.ending.is_some() {
            return Err(Error::Gone);
        }
        life.jobs += 1;
        Ok(())
    }

    /// As [`begin_job`](Self::begin_job), for what takes something out of the address space, which can
    /// be done while the process is being ended. `false` if the teardown has begun.
    pub fn begin_undoing(&self, cpu: &Cpu) -> bool {
        let mut life = self.life.lock(cpu);
        let torn = life.teardown_entry == Use::Teardown;
        life.jobs += !torn as usize;
        !torn
    }

    /// Ends an operation that [`begin_job`](Self::begin_job) started.
    pub fn end_job(this: &Ref<Self>, cpu: &Cpu) {
        let mut life = this.life.lock(cpu);
        life.jobs -= 1;
        if life.ending.is_some() {
            drop(life);
            Self::take_apart(this, cpu);
        }
    }

    /// Settles that it ends, and how: the first report stays. Its threads are doomed, the first of
    /// them here and the rest by its kernel task; when the last is off every CPU it has ended.
    pub fn condemn(this: &Ref<Self>, cpu: &Cpu, report: ExitReport) {
        let empty = {
            let mut life = this.life.lock(cpu);
            if life.ending.is_some() {
                return;
            }
            life.ending = Some(report);
            // The rest of it is ended by a kernel task, which must not wait for just those threads. The highest
            // they ever had would be known without going through them, but it could be that of a caller of long
            // ago, and the whole teardown would have it.
            if let Some(highest) = life.threads.iter().map(|thread| thread.0.priority()).max() {
                this.hurry_teardown(highest);
            }
            let empty = life.threads.is_empty();
            if empty {
                cpu.kernel.teardown_begins();
            }
            empty
        };
        if empty {
            return Self::has_ended(this, cpu, report);
        }
        if this.doom_some(cpu) == Progress::More {
            let mut life = this.life.lock(cpu);
            if life.teardown_entry == Use::Nothing {
                life.teardown_entry = Use::Dooming;
                drop(life);
                cpu.make_ready(Runnable::Teardown(this.clone()));
            }
        }
    }

    /// As [`condemn`](Self::condemn), where the caller may be ending something itself, which must not nest:
    /// all threads are doomed by its kernel task, which runs at `floor` at least.
    pub fn condemn_later(this: &Ref<Self>, cpu: &Cpu, floor: Priority, report: ExitReport) {
        let mut life = this.life.lock(cpu);
        if life.ending.is_some() {
            return;
        }
        life.ending = Some(report);
        this.hurry_teardown(floor);
        if core::mem::replace(&mut life.teardown_entry, Use::Dooming) == Use::Nothing {
            drop(life);
            cpu.make_ready(Runnable::Teardown(this.clone()));
        }
    }

    /// Dooms some of its threads. One CPU at a time does, and no thread is added meanwhile; so when
    /// the first in the list is doomed all are.
    fn doom_some(&self, cpu: &Cpu) -> Progress {
        for _ in 0..DOOMED_AT_ONCE {
            let thread = {
                let mut life = self.life.lock(cpu);
                if life.threads.first().is_none_or(|first| first.0.is_doomed()) {
                    return Progress::Done;
                }
                let Some(first) = life.threads.pop() else { return Progress::Done };
                let thread = first.0.clone();
                life.threads.push(first);
                thread
            };
            ending::doom(cpu, &thread);
        }
        Progress::More
    }

    /// `thread`, which is off every CPU and out of every queue, has ended. More than once is once.
    pub fn thread_ended(this: &Ref<Self>, cpu: &Cpu, thread: &Thread) {
        let (was, last) = {
            let mut life = this.life.lock(cpu);
            let Some(was) = life.threads.remove_thread(thread) else { return };
            this.past_time.fetch_add(thread.cpu_time.load(Ordering::Relaxed), Ordering::Relaxed);
            let last = life.threads.is_empty();
            if last {
                // Inside the lock: who learns that it has ended, and waits for all teardowns, waits
                // for this one.
                cpu.kernel.teardown_begins();
            }
            let exited = ExitReport::new(Ending::Exited, 0);
            (was, last.then(|| *life.ending.get_or_insert(exited)))
        };
        drop(was);
        if let Some(report) = last {
            Self::has_ended(this, cpu, report);
        }
    }

    /// Its last thread is gone: wakes who waits.
    fn has_ended(this: &Ref<Self>, cpu: &Cpu, report: ExitReport) {
        exception::set(&this.handler, None);
        if this.init.load(Ordering::Relaxed) {
            program::init_ended(cpu, report);
        }
        loop {
            let waiter = this.life.lock(cpu).waiters.pop();
            match waiter {
                Some(waiter) => cpu.make_ready(waiter),
                None => break,
            }
        }
        Self::take_apart(this, cpu);
    }

    /// Queues the teardown, if it has ended and nothing is under way in it.
    fn take_apart(this: &Ref<Self>, cpu: &Cpu) {
        let before = {
            let mut life = this.life.lock(cpu);
            if life.report().is_none() || life.jobs > 0 || life.teardown_entry == Use::Teardown {
                return;
            }
            core::mem::replace(&mut life.teardown_entry, Use::Teardown)
        };
        if before == Use::Nothing {
            cpu.make_ready(Runnable::Teardown(this.clone()));
        }
    }

    /// One slice of taking it apart: first what it could name, then its memory. `CTX-9`: the
    /// address space is loaded nowhere before its first table is freed.
    pub fn teardown_slice(this: &Ref<Self>, cpu: &'static Cpu, irq: &IrqsOff) -> Slice {
        if this.life.lock(cpu).teardown_entry == Use::Dooming {
            if this.doom_some(cpu) == Progress::More {
                return Slice::More;
            }
            let mut life = this.life.lock(cpu);
            if life.teardown_entry == Use::Dooming {
                life.teardown_entry = Use::Nothing;
                return Slice::Done;
            }
        }
        match this.table.empty(cpu, irq) {
            Emptied::Capability(capability) => {
                capability.dispose(cpu);
                return Slice::More;
            }
            Emptied::Nothing => return Slice::More,
            Emptied::All => {}
        }
        rendezvous::point(cpu, Point::TeardownScan);
        if let Verdict::Wait(until) =
            lifetime::is_loaded_nowhere(cpu, &this.space, &mut this.teardown.lock(), irq)
        {
            return Slice::Wait(until);
        }
        match this.space.teardown_step(cpu, TEARDOWN_PAGES) {
            Progress::More => Slice::More,
            // Perhaps of what it had.
            Progress::Done if this.memory.bury(TEARDOWN_PAGES) == Progress::More => Slice::More,
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
