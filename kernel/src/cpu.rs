//! One value per CPU: what runs here, what is ready here, what is due here, what the MMU holds.
//!
//! It is written by its own CPU only, through cells; what others may touch (the queues, the words
//! of the memory context) is atomic or under a leaf lock. `&mut Cpu` does not exist: an interrupt
//! in a window, and later a request of another CPU, work on the same value.

use crate::cpuset::CpuId;
use crate::hotplug::Refused;
use crate::kernel::Kernel;
use crate::mm::Machine;
use crate::mm::NoMemory;
use crate::mm::heap::Charged;
use crate::object::Ref;
use crate::rendezvous::Rendezvous;
use crate::request::Inbox;
use crate::sched;
use crate::sched::balance::Balance;
use crate::sched::context::{Held, Words};
use crate::sched::ready::{Priority, Ready, Running};
use crate::sched::timers::Timed;
use crate::sync::{Ordering, atomic};
use crate::thread::{Frame, Thread};
use crate::trace::{self, Trace};
use abi::testing::Counter;
use abi::trace::Kind;
use arch_contract::Base;
use arch_contract::barrier::{Barriers, Site};
use arch_contract::irq::{Interrupt, IrqsOff};
use arch_contract::mutant::{self, Mutant};
use arch_contract::ret::{CoreSyncOwed, Owed, Reload, Resume, Return};
use arch_contract::time::{Nanos, Ticks, Time};
use arch_current::Current;
use core::cell::Cell;
use core::ptr::NonNull;
use protocol::{Strength, ThisCpu};

/// The architecture's half.
pub type ArchCpu = <Current as Base>::Cpu;

/// What must be looked at before user mode is entered again. Zero on the fast path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Work(u32);

impl Work {
    pub const NONE: Self = Self(0);
    /// Something became ready that may go before the current thread.
    pub const READY: Self = Self(1);
    /// The one-shot timer fired.
    pub const TIMER: Self = Self(2);
    /// The console has input.
    pub const CONSOLE: Self = Self(4);
    /// The core must serialize before the next user instruction (`RET-2`). Only the way to user
    /// mode takes it off.
    pub const CORE_SYNC: Self = Self(8);
    /// The area of the next thread's restartable sequences must be looked at. Only the way to user
    /// mode takes it off.
    pub const RSEQ: Self = Self(16);
    /// This CPU is to go off.
    pub const GO_OFF: Self = Self(32);
    /// The current thread lets others of its priority run first.
    pub const YIELD: Self = Self(64);
    /// A device has interrupted.
    pub const DEVICE: Self = Self(128);

    /// What waits for the edge to user mode.
    const AT_THE_EDGE: Self = Self::CORE_SYNC.with(Self::RSEQ);

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
    /// Whether there is anything that the scheduler decides.
    pub const fn wants_a_look(self) -> bool {
        self.0 & !Self::AT_THE_EDGE.0 != 0
    }
}

/// What the generic kernel keeps per CPU.
pub struct Cpu {
    arch: &'static ArchCpu,
    pub kernel: &'static Kernel,
    pub number: CpuId,
    pub(crate) words: Words,
    /// What goes with `words` and is nobody else's business.
    pub(crate) held: Held,
    pub(crate) inbox: Inbox,
    pub(crate) refused: Refused,
    pub(crate) running: Running,
    pub(crate) ready: Ready,
    pub(crate) timers: Timed,
    pub(crate) balance: Balance,
    /// Whether that has a timer or is in a queue.
    pub(crate) balancing: Cell<bool>,
    current: Cell<Option<Ref<Thread>>>,
    work: Cell<Work>,
    /// When the current thread was chosen, or last charged.
    pub(crate) chosen_at: Cell<Ticks>,
    /// When its slice ends, if there is a rival.
    pub(crate) slice_end: Cell<Ticks>,
    /// Whether others of its priority are ready here.
    pub(crate) rival: Cell<bool>,
    /// When it must be charged, if it has a limit.
    pub(crate) limit_end: Cell<Ticks>,
    /// Ticks that are left of the slice that kernel tasks share on this CPU.
    pub(crate) task_slice_left: Cell<u64>,
    /// What the one-shot timer is armed for; the end of time if it is not.
    pub(crate) armed: Cell<Ticks>,
    /// When the first of `timers` is due: in nanoseconds, as it was last seen, and in ticks.
    pub(crate) first_due: Cell<(u64, Ticks)>,
    pub(crate) trace: Trace,
    pub(crate) rendezvous: Rendezvous,
}

impl Cpu {
    pub fn try_new(arch: &'static ArchCpu, kernel: &'static Kernel, number: CpuId) -> Result<Self, NoMemory> {
        let charged = Charged { memory: kernel.memory, budget: kernel.root.clone() };
        let trace = Trace::try_new(charged.clone(), number.get().into(), kernel.tracing)?;
        Ok(Self {
            arch,
            kernel,
            number,
            words: Words::new(),
            held: Held::new(),
            inbox: Inbox::new(),
            refused: Refused::new(),
            running: Running::new(),
            ready: Ready::try_new(charged, number)?,
            timers: Timed::new(),
            balance: Balance::new(number),
            balancing: Cell::new(false),
            current: Cell::new(None),
            work: Cell::new(Work::NONE),
            chosen_at: Cell::new(Ticks(0)),
            slice_end: Cell::new(Ticks(0)),
            rival: Cell::new(false),
            limit_end: Cell::new(sched::NEVER),
            task_slice_left: Cell::new(kernel.slice),
            armed: Cell::new(sched::NEVER),
            first_due: Cell::new((u64::MAX, sched::NEVER)),
            trace,
            rendezvous: Rendezvous::new(),
        })
    }

    /// The value behind the architecture's.
    ///
    /// # Safety
    /// [`Base::bind`] was called on `arch` with a `Cpu` that lives for ever, on this CPU.
    #[inline(always)]
    pub unsafe fn of(arch: &'static ArchCpu) -> &'static Cpu {
        // SAFETY: the caller's obligation.
        unsafe { &*Current::upper(arch).cast::<Cpu>() }
    }

    /// The value that hooks take.
    #[inline(always)]
    pub fn arch(&self) -> &'static ArchCpu {
        self.arch
    }

    pub fn machine(&self) -> &'static Machine {
        Current::machine(self.arch)
    }

    /// Nanoseconds since boot.
    pub fn now(&self) -> Nanos {
        let now = self.kernel.rate.nanos(Current::now(self.arch));
        if mutant::is(Mutant::ClockBehind) && self.number != CpuId::BOOT {
            return Nanos(now.0.saturating_sub(1_000_000));
        }
        now
    }

    /// The one way to a full barrier in generic code.
    #[inline(always)]
    pub fn full_barrier(&self, site: Site) {
        match protocol::strength(site) {
            Strength::Full if mutant::is(Mutant::TraceLiesOfBarriers) => {}
            Strength::Full => Current::full_barrier(self.arch, site),
            Strength::AcquireRelease => return atomic::fence(Ordering::AcqRel),
            Strength::None => return,
        }
        trace::event(self, Kind::Barrier, site as u64, 0);
        trace::count(self, Counter::Barriers);
    }

    /// The last step of every way to user mode (`RET-1`): [`Return::return_to_user`].
    ///
    /// # Safety
    /// As there; and `current_mm` names the mm of the frame's thread.
    #[inline(always)]
    pub unsafe fn return_to_user(
        &self,
        frame: NonNull<Frame>,
        owed: Owed,
        reload: Reload,
        irq: &IrqsOff,
    ) -> Resume<Frame> {
        if owed.core_sync == CoreSyncOwed::Yes {
            trace::event(self, Kind::CoreSync, 0, 0);
            trace::count(self, Counter::CoreSyncs);
        }
        let forgets = mutant::is(Mutant::TraceLies);
        let owed = if forgets { Owed { core_sync: CoreSyncOwed::No } } else { owed };
        trace::user_return(self, frame);
        if mutant::is(Mutant::HookOnlySometimes) && reload == Reload::ResultOnly {
            // SAFETY: it is not: what is owed is forgotten.
            return unsafe { Resume::settled(frame, reload) };
        }
        // SAFETY: the caller's obligation.
        unsafe { Current::return_to_user(self.arch, frame, owed, reload, irq) }
    }

    /// Makes the core serialize before the next user instruction on this CPU, if its returns to
    /// user mode do not do so anyway.
    pub fn owe_core_sync(&self) {
        if !Current::user_return_serializes(self.arch) {
            self.add_work(Work::CORE_SYNC);
        }
    }

    /// The thread whose user code this CPU runs, or ran when it entered the kernel.
    pub fn current(&self) -> Option<Ref<Thread>> {
        let current = self.current.take();
        self.current.set(current.clone());
        current
    }

    /// Whether `thread` is current here.
    pub(crate) fn is_current(&self, thread: &Thread) -> bool {
        let current = self.current.take();
        let is_it = current.as_ref().is_some_and(|current| core::ptr::eq(&**current, thread));
        self.current.set(current);
        is_it
    }

    pub(crate) fn current_priority(&self) -> Option<Priority> {
        let current = self.current.take();
        let priority = current.as_ref().map(|thread| thread.priority());
        self.current.set(current);
        priority
    }

    /// Makes `thread` current; nothing is.
    #[inline]
    pub(crate) fn set_current(&self, thread: Ref<Thread>) {
        let none = self.current.replace(Some(thread));
        debug_assert!(none.is_none(), "a thread is current already");
        // Nothing to drop: that is known, and would be asked on every switch.
        core::mem::forget(none);
    }

    pub(crate) fn take_current(&self) -> Option<Ref<Thread>> {
        self.current.take()
    }

    /// Whether anything must be looked at before user mode.
    #[inline(always)]
    pub(crate) fn work(&self) -> Work {
        self.work.get()
    }

    pub(crate) fn add_work(&self, work: Work) {
        self.work.set(self.work.get().with(work));
    }

    /// Takes what there is to look at; what is owed before user mode stays.
    pub(crate) fn take_work(&self) -> Work {
        let work = self.work.get();
        self.work.set(Work(work.0 & Work::AT_THE_EDGE.0));
        work
    }

    /// Takes [`Work::RSEQ`] off, and says whether it was there.
    pub(crate) fn take_rseq(&self) -> bool {
        let work = self.work.get();
        self.work.set(Work(work.0 & !Work::RSEQ.0));
        work.has(Work::RSEQ)
    }

    /// Takes what is owed before user mode.
    pub(crate) fn take_core_sync(&self) -> CoreSyncOwed {
        let work = self.work.get();
        self.work.set(Work(work.0 & !Work::CORE_SYNC.0));
        if work.has(Work::CORE_SYNC) { CoreSyncOwed::Yes } else { CoreSyncOwed::No }
    }

    /// Notes an interrupt. Takes no lock and decides nothing: the executor does, when it next
    /// looks.
    pub fn note(&self, interrupt: Interrupt) {
        match interrupt {
            Interrupt::Timer => self.add_work(Work::TIMER),
            Interrupt::Console => self.add_work(Work::CONSOLE),
            Interrupt::Ipi => {
                trace::count(self, Counter::Interrupts);
                self.serve();
            }
            Interrupt::Device(source) => self.kernel.devices.wires.note(self, source),
            Interrupt::Spurious => {}
        }
    }
}

impl ThisCpu for Cpu {
    #[inline(always)]
    fn number(&self) -> CpuId {
        self.number
    }
    #[inline(always)]
    fn full_barrier(&self, site: Site) {
        Cpu::full_barrier(self, site);
    }
    #[inline(always)]
    fn event(&self, kind: Kind, a: u64, b: u64) {
        trace::event(self, kind, a, b);
        if kind == Kind::Current {
            trace::mark_current_mm(self, a);
        }
    }
}
