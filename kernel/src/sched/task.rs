//! Kernel tasks: work that is long or that must wait.
//!
//! A task is a future, polled in bounded slices with an interrupt window between two; it is a
//! run-queue entry with the priority of whoever caused it. There is no kernel thread and no kernel
//! stack to switch: what a task keeps between slices is in the future, charged to a budget.
//!
//! A leaf of such a future is [`slices`]: it is lent the CPU and the interrupts-off token for one
//! slice at a time, so neither can be held across an `.await`.

use crate::cpu::Cpu;
use crate::mm::NoMemory;
use crate::mm::heap::Charged;
use crate::object::Ref;
use crate::process::Process;
use crate::rendezvous::{self, Point};
use crate::request::Kinds;
use crate::sched::context;
use crate::sched::queue::{Entry, Place, Priority, Runnable};
use crate::sync::{AtomicU8, Leaf, Ordering};
use crate::trace;
use abi::Error;
use abi::trace::Kind;
use allocator_api2::boxed::Box;
use arch_contract::irq::IrqsOff;
use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

type Work = Pin<Box<dyn Future<Output = ()> + Send, Charged>>;

/// A kernel task.
pub struct Task {
    pub(super) entry: Entry,
    priority: Priority,
    /// Whose address space it uses (`use_mm`): current on the CPU that polls it, from before each
    /// poll. One job of the process, which keeps the address space.
    uses: Option<Ref<Process>>,
    state: AtomicU8,
    /// The CPU that queues it when it is woken.
    home: &'static Cpu,
    /// `None` while it is polled and after it finished.
    work: Leaf<Option<Work>>,
}

/// Not queued: it waits for a waker.
const WAITING: u8 = 0;
/// In a run queue.
const QUEUED: u8 = 1;
/// Being polled.
const RUNNING: u8 = 2;
/// Being polled, and woken since: goes back to a queue.
const WOKEN: u8 = 3;

impl Task {
    /// Makes a task of `work` and queues it on `cpu`. Its memory is charged to `charged`'s budget.
    pub fn spawn(
        cpu: &'static Cpu,
        charged: Charged,
        priority: Priority,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), NoMemory> {
        cpu.make_ready(Runnable::Task(Self::try_new(cpu, charged, priority, None, work)?));
        Ok(())
    }

    /// As [`spawn`](Self::spawn), on another CPU, and with the address space of `uses` if it is to
    /// use one. Errors: `NoMemory`; `Gone` if that process has ended.
    pub fn spawn_on(
        cpu: &Cpu,
        target: &'static Cpu,
        charged: Charged,
        priority: Priority,
        uses: Option<Ref<Process>>,
        work: impl Future<Output = ()> + Send + 'static,
        irq: &IrqsOff,
    ) -> Result<(), Error> {
        if let Some(process) = &uses {
            process.begin_job(cpu)?;
        }
        let task = Self::try_new(target, charged, priority, uses.clone(), work);
        let task = task.map_err(|NoMemory| {
            if let Some(process) = &uses {
                Process::end_job(process, cpu);
            }
            Error::NoMemory
        })?;
        target.run_queue.lock().push(Runnable::Task(task), priority, Place::Last);
        cpu.ask(target, Kinds::RESCHEDULE, irq);
        Ok(())
    }

    fn try_new(
        home: &'static Cpu,
        charged: Charged,
        priority: Priority,
        uses: Option<Ref<Process>>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Ref<Self>, NoMemory> {
        let memory = charged.memory;
        let budget = charged.budget.clone();
        let work = Box::try_new_in(work, charged).map_err(|_| NoMemory)?;
        let work: Box<dyn Future<Output = ()> + Send, Charged> = allocator_api2::unsize_box!(work);
        let task = Task {
            entry: Entry::new(),
            priority,
            uses,
            state: AtomicU8::new(QUEUED),
            home,
            work: Leaf::new(Some(Box::into_pin(work))),
        };
        Ref::try_new(memory, Some(&budget), task)
    }

    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// Makes the memory context what the task wants: of the mm it uses, which then stays until
    /// something else is chosen, or of none.
    fn enter_context(&self, cpu: &Cpu, irq: &IrqsOff) {
        match &self.uses {
            None => context::leave(cpu, irq),
            Some(process) => {
                // SAFETY: the job of this task keeps the teardown from starting.
                unsafe { context::enter(cpu, &process.space, irq) };
                rendezvous::point(cpu, Point::TaskUsesMm);
            }
        }
    }

    /// Polls `task` once, on this CPU, with the memory context it wants. Returns it if it has more
    /// to do at once: the caller queues it again.
    pub fn poll(task: Ref<Self>, cpu: &'static Cpu, irq: &IrqsOff) -> Option<Ref<Self>> {
        task.enter_context(cpu, irq);
        let mm = task.uses.as_ref().map_or(0, |process| process.space.id().get());
        trace::event(cpu, Kind::Poll, mm, 0);
        let again = Self::poll_here(task, cpu, irq);
        trace::event(cpu, Kind::Polled, 0, 0);
        again
    }

    fn poll_here(task: Ref<Self>, cpu: &'static Cpu, irq: &IrqsOff) -> Option<Ref<Self>> {
        // Taken out, so that the leaf lock is not held while the work runs.
        let mut work = task.work.lock().take()?;
        task.state.store(RUNNING, Ordering::Relaxed);
        let slice = Slice { cpu, irq, task: &task };
        // SAFETY: the vtable's functions treat the data as a `Slice`, which lives for the poll; a
        // clone turns into an owned task, see `VTABLE`.
        let waker = unsafe { Waker::from_raw(RawWaker::new((&raw const slice).cast(), &SLICE)) };
        let poll = work.as_mut().poll(&mut Context::from_waker(&waker));
        if poll.is_ready() {
            if let Some(process) = &task.uses {
                Process::end_job(process, cpu);
            }
            return None;
        }
        *task.work.lock() = Some(work);
        if task.state.compare_exchange(RUNNING, WAITING, Ordering::AcqRel, Ordering::Acquire).is_err() {
            task.state.store(QUEUED, Ordering::Relaxed);
            return Some(task);
        }
        None
    }

    fn wake(this: &Ref<Self>) {
        let woken = this.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| match state {
            WAITING => Some(QUEUED),
            RUNNING => Some(WOKEN),
            _ => None,
        });
        if woken == Ok(WAITING) {
            this.home.make_ready(Runnable::Task(this.clone()));
        }
    }
}

/// What a leaf future finds behind the waker of the poll it runs in.
struct Slice<'a> {
    cpu: &'static Cpu,
    irq: &'a IrqsOff,
    task: &'a Ref<Task>,
}

/// The waker of a poll in progress: borrowed.
static SLICE: RawWakerVTable = RawWakerVTable::new(clone_slice, wake_slice, wake_slice, |_| {});
/// A waker that was kept: it owns a reference to its task.
static OWNED: RawWakerVTable = RawWakerVTable::new(clone_owned, wake_owned, wake_owned_by_ref, drop_owned);

unsafe fn clone_slice(data: *const ()) -> RawWaker {
    // SAFETY: only `Task::poll` makes wakers with `SLICE`, from a `Slice` that outlives them.
    let slice = unsafe { &*data.cast::<Slice<'_>>() };
    RawWaker::new(Ref::into_raw(slice.task.clone()).cast(), &OWNED)
}
unsafe fn wake_slice(data: *const ()) {
    // SAFETY: as in `clone_slice`.
    Task::wake(unsafe { (*data.cast::<Slice<'_>>()).task });
}
unsafe fn clone_owned(data: *const ()) -> RawWaker {
    // SAFETY: `data` came from `Ref::into_raw`, and its reference is still owned by the waker:
    // `ManuallyDrop` leaves it there.
    let task = unsafe { core::mem::ManuallyDrop::new(Ref::<Task>::from_raw(data.cast())) };
    RawWaker::new(Ref::into_raw((*task).clone()).cast(), &OWNED)
}
unsafe fn wake_owned(data: *const ()) {
    // SAFETY: the waker gives its reference up here.
    Task::wake(&unsafe { Ref::<Task>::from_raw(data.cast()) });
}
unsafe fn wake_owned_by_ref(data: *const ()) {
    // SAFETY: as in `clone_owned`.
    let task = unsafe { core::mem::ManuallyDrop::new(Ref::<Task>::from_raw(data.cast())) };
    Task::wake(&task);
}
unsafe fn drop_owned(data: *const ()) {
    // SAFETY: the waker gives its reference up here.
    drop(unsafe { Ref::<Task>::from_raw(data.cast()) });
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
        let waker = context.waker();
        assert!(core::ptr::eq(waker.vtable(), &SLICE), "a kernel task is polled by the executor only");
        // SAFETY: the vtable says that the data is the `Slice` of the poll that is under way.
        let slice = unsafe { &*waker.data().cast::<Slice<'_>>() };
        let poll = (self.step)(slice.cpu, slice.irq);
        if poll.is_pending() {
            Task::wake(slice.task);
        }
        poll
    }
}
