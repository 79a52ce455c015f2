//! Kernel tasks: work that is long or that must wait.
//!
//! A task is a future, polled in bounded slices with an interrupt window between two; it is a
//! run-queue entry with the priority of whoever caused it. There is no kernel thread and no kernel
//! stack to switch: what a task keeps between slices is in the future, charged to a budget.
//!
//! A leaf of such a future is [`slices`]: it is lent the CPU and the interrupts-off token for one
//! slice at a time, so neither can be held across an `.await`.

use crate::cpu::Cpu;
use crate::cpuset::CpuSet;
use crate::mm::NoMemory;
use crate::mm::heap::Charged;
use crate::object::Ref;
use crate::process::Process;
use crate::rendezvous::{self, Point};
use crate::sched::ready::{Entry, Place, Priority, Runnable};
use crate::sched::{context, place};
use crate::sync::{AtomicU8, Leaf, Ordering};
use crate::trace;
use abi::Error;
use abi::testing::Counter;
use abi::trace::Kind;
use allocator_api2::boxed::Box;
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::time::Nanos;
use core::cell::Cell;
use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

/// What a task does, on cache lines of its own as well.
#[repr(align(128))]
struct Apart<F>(F);

impl<F: Future<Output = ()>> Future for Apart<F> {
    type Output = ();
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // SAFETY: the field is pinned as its owner is: nothing moves it out.
        unsafe { self.map_unchecked_mut(|this| &mut this.0) }.poll(context)
    }
}

type Work = Pin<Box<dyn Future<Output = ()> + Send, Charged>>;

/// A kernel task. On cache lines of its own: CPUs that poll different tasks write nothing that the
/// others read.
#[repr(align(128))]
pub struct Task {
    pub(super) entry: Entry,
    priority: Priority,
    /// Where it may be polled.
    affinity: CpuSet,
    /// Whose address space it uses (`use_mm`): current on the CPU that polls it, from before each
    /// poll. One job of the process, which keeps the address space.
    uses: Option<Ref<Process>>,
    state: AtomicU8,
    /// `None` while it is polled and after it finished.
    work: Leaf<Option<Work>>,
}

/// Not queued: it waits for a waker.
const WAITING: u8 = 0;
/// In a timer queue: nothing but the timer wakes it.
const SLEEPING: u8 = 4;
/// In a run queue.
const QUEUED: u8 = 1;
/// Being polled.
const RUNNING: u8 = 2;
/// Being polled, and woken since: goes back to a queue.
const WOKEN: u8 = 3;

impl Task {
    /// Makes a task of `work` and starts it. Its memory is charged to `charged`'s budget.
    pub fn spawn(
        cpu: &'static Cpu,
        charged: Charged,
        priority: Priority,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), NoMemory> {
        Self::start(Self::try_new(cpu, charged, priority, work)?, cpu);
        Ok(())
    }

    /// As [`spawn`](Self::spawn), for another CPU alone, and with the address space of `uses` if it
    /// is to use one. Errors: `NoMemory`; `Gone` if that process has ended.
    pub fn spawn_on(
        cpu: &'static Cpu,
        target: &'static Cpu,
        charged: Charged,
        priority: Priority,
        uses: Option<Ref<Process>>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error> {
        if let Some(process) = &uses {
            process.begin_job(cpu)?;
        }
        let affinity = CpuSet::of(target.number);
        let task = Self::make(target, charged, priority, affinity, uses.clone(), work);
        let task = task.map_err(|NoMemory| {
            if let Some(process) = &uses {
                Process::end_job(process, cpu);
            }
            Error::NoMemory
        })?;
        cpu.make_ready(Runnable::Task(task));
        Ok(())
    }

    /// Makes a task of `work`. Its memory is charged to `charged`'s budget.
    pub fn try_new(
        cpu: &'static Cpu,
        charged: Charged,
        priority: Priority,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Ref<Self>, NoMemory> {
        Self::make(cpu, charged, priority, CpuSet::ALL, None, work)
    }

    fn make(
        cpu: &'static Cpu,
        charged: Charged,
        priority: Priority,
        affinity: CpuSet,
        uses: Option<Ref<Process>>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Ref<Self>, NoMemory> {
        let memory = charged.memory;
        let budget = charged.budget.clone();
        let work = Box::try_new_in(Apart(work), charged).map_err(|_| NoMemory)?;
        let work: Box<dyn Future<Output = ()> + Send, Charged> = allocator_api2::unsize_box!(work);
        let task = Task {
            entry: Entry::new(cpu.number),
            priority,
            uses,
            state: AtomicU8::new(QUEUED),
            affinity,
            work: Leaf::new(Some(Box::into_pin(work))),
        };
        Ref::try_new(memory, Some(&budget), task)
    }

    /// Queues a new task, here: whoever caused it is about to wait for it.
    pub fn start(this: Ref<Self>, cpu: &Cpu) {
        if let Some(task) = place::offer(cpu, cpu, Runnable::Task(this), Place::Last) {
            cpu.make_ready(task);
        }
    }

    pub fn priority(&self) -> Priority {
        self.priority
    }

    pub fn affinity(&self) -> CpuSet {
        self.affinity
    }

    /// Polls `task` once, on this CPU, with the memory context it wants. Returns it if it has more
    /// to do at once: the caller queues it again.
    pub fn poll(task: Ref<Self>, cpu: &'static Cpu, irq: &IrqsOff) -> Option<Ref<Self>> {
        // SAFETY: the job of this task keeps the teardown from starting.
        unsafe { enter_context(cpu, task.uses.as_deref(), irq) };
        let again = Self::poll_here(task, cpu, irq);
        trace::event(cpu, Kind::Polled, 0, 0);
        trace::count(cpu, Counter::Slices);
        again
    }

    fn poll_here(task: Ref<Self>, cpu: &'static Cpu, irq: &IrqsOff) -> Option<Ref<Self>> {
        // Taken out, so that the leaf lock is not held while the work runs.
        let mut work = task.work.lock().take()?;
        task.state.store(RUNNING, Ordering::Relaxed);
        let slice = Slice { cpu, irq, task: &task, until: Cell::new(None) };
        // SAFETY: the vtable's functions treat the data as a `Slice`, which lives for the poll.
        let waker = unsafe { Waker::from_raw(RawWaker::new((&raw const slice).cast(), &SLICE)) };
        let poll = work.as_mut().poll(&mut Context::from_waker(&waker));
        if poll.is_ready() {
            if let Some(process) = &task.uses {
                Process::end_job(process, cpu);
            }
            return None;
        }
        *task.work.lock() = Some(work);
        task.entry.set_last(cpu.number);
        if let Some(until) = slice.until.get() {
            task.state.store(SLEEPING, Ordering::Relaxed);
            cpu.timers.lock().push(Runnable::Task(task.clone()), until.0);
            return None;
        }
        // Release: this poll comes before the next, by whoever a waker has it done. Acquire: what a waker
        // that came meanwhile wrote before comes before the poll that it wants. Pairs with `wake`.
        if task.state.compare_exchange(RUNNING, WAITING, Ordering::AcqRel, Ordering::Acquire).is_err() {
            task.state.store(QUEUED, Ordering::Relaxed);
            return Some(task);
        }
        None
    }

    /// Queues a task that waits, or has one that is being polled polled again.
    pub fn wake(this: &Ref<Self>, cpu: &Cpu) {
        // Acquire and release: pairs with the end of `poll`.
        let woken = this.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| match state {
            WAITING => Some(QUEUED),
            RUNNING => Some(WOKEN),
            _ => None,
        });
        if woken == Ok(WAITING) {
            cpu.make_ready(Runnable::Task(this.clone()));
        }
    }

    /// Queues a task whose timer is due; the caller took it out of the timer queue.
    pub(super) fn wake_sleeper(this: &Ref<Self>, cpu: &Cpu) {
        this.state.store(QUEUED, Ordering::Relaxed);
        cpu.make_ready(Runnable::Task(this.clone()));
    }
}

/// Makes the memory context what a kernel task wants before it is polled: of the mm it uses, which then
/// stays until something else is chosen, or of none.
///
/// # Safety
/// The task is a job of the process, which is not taken apart before that ends.
pub(super) unsafe fn enter_context(cpu: &Cpu, uses: Option<&Process>, irq: &IrqsOff) {
    match uses {
        None => context::leave(cpu, irq),
        Some(process) => {
            if !(mutant::is(Mutant::M9) && cpu.words.holds(process.space.id())) {
                // SAFETY: the caller's obligation.
                unsafe { context::enter(cpu, &process.space, irq) };
            }
            if mutant::is(Mutant::M19) {
                cpu.words.leave(cpu);
            }
            rendezvous::point(cpu, Point::TaskUsesMm);
        }
    }
    trace::event(cpu, Kind::Poll, uses.map_or(0, |process| process.space.id().get()), 0);
}

/// What a leaf future finds behind the waker of the poll it runs in.
struct Slice<'a> {
    cpu: &'static Cpu,
    irq: &'a IrqsOff,
    task: &'a Ref<Task>,
    /// When the task goes on, if it is to sleep.
    until: Cell<Option<Nanos>>,
}

/// The waker of a poll in progress: borrowed. It cannot be kept: waking takes a CPU, which only
/// whoever runs on it can name; [`Task::wake`] is for them.
static SLICE: RawWakerVTable =
    RawWakerVTable::new(|_| panic!("a task's waker cannot be kept"), wake_slice, wake_slice, |_| {});

unsafe fn wake_slice(data: *const ()) {
    // SAFETY: only `Task::poll` makes wakers with `SLICE`, from a `Slice` that outlives them.
    let slice = unsafe { &*data.cast::<Slice<'_>>() };
    Task::wake(slice.task, slice.cpu);
}

/// The slice that `context`'s poll runs in.
fn slice_of<'a>(context: &Context<'a>) -> &'a Slice<'a> {
    let waker = context.waker();
    assert!(core::ptr::eq(waker.vtable(), &SLICE), "a kernel task is polled by the executor only");
    // SAFETY: the vtable says that the data is the `Slice` of the poll that is under way.
    unsafe { &*waker.data().cast::<Slice<'_>>() }
}

/// A future that runs `step` once per slice until it is ready.
pub fn slices<T, F>(step: F) -> Slices<T, F>
where
    F: FnMut(&'static Cpu, &IrqsOff) -> Poll<T> + Unpin,
{
    Slices { step, _output: PhantomData }
}

/// See [`slices`].
pub struct Slices<T, F> {
    step: F,
    _output: PhantomData<fn() -> T>,
}

impl<T, F> Future for Slices<T, F>
where
    F: FnMut(&'static Cpu, &IrqsOff) -> Poll<T> + Unpin,
{
    type Output = T;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let slice = slice_of(context);
        let poll = (self.step)(slice.cpu, slice.irq);
        if poll.is_pending() {
            Task::wake(slice.task, slice.cpu);
        }
        poll
    }
}

/// A future that is ready at `due`, by the clock.
pub fn sleep_until(due: Nanos) -> Sleep {
    Sleep(due)
}

/// See [`sleep_until`].
pub struct Sleep(Nanos);

impl Future for Sleep {
    type Output = ();
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let slice = slice_of(context);
        if slice.cpu.now() >= self.0 {
            return Poll::Ready(());
        }
        slice.until.set(Some(self.0));
        Poll::Pending
    }
}
