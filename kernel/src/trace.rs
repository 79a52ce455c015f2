//! What kernels built for testing record: a ring of events and a row of counts for each CPU.
//!
//! Recording must not order what it watches: an atomic read-modify-write or a fence in here would
//! hide just the missing barriers that a trace is for. So each CPU writes only its own ring, with
//! relaxed stores, takes no lock, and stamps with its own clock; the host merges by time. Causes
//! then come before effects, if everyone keeps to one rule: **an event that lets another CPU go on
//! is recorded before the store that shows it, an event that follows from another CPU after the
//! load that saw it.**
//!
//! In an ordinary kernel all of it compiles to nothing: [`ENABLED`] is false.

use crate::cpu::Cpu;
use crate::cpuset::CpuSet;
use crate::kernel::Kernel;
use crate::mm::NoMemory;
use crate::mm::heap::Charged;
use crate::print;
use crate::thread::Frame;
use abi::testing::{Counter, Step};
use abi::trace::{Kind, Record};
use allocator_api2::vec::Vec;
use arch_contract::barrier::Site;
use arch_contract::smp::Smp;
use arch_contract::watch::Watch;
use arch_current::Current;
use arrayvec::ArrayVec;
use boot_image::command_line::Tracing;
use core::fmt;
use core::ptr::NonNull;
// Not through `crate::sync`: what is recorded is no part of what is modelled, and a model that
// took each record for a step would drown in them.
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Whether this kernel records at all: it is built with `--cfg spandrel_test`, or for host tests.
pub const ENABLED: bool = cfg!(any(test, spandrel_test));

/// Records in a ring: 128 KiB. A power of two.
const RECORDS: usize = 4096;
/// Records in one line of the dump: the host believes lines of at most 256 bytes.
const PER_LINE: usize = 3;
/// One place for each number, given or not.
const COUNTERS: usize = if ENABLED { Counter::ALL[Counter::ALL.len() - 1] as usize + 1 } else { 0 };

type Slot = [AtomicU64; 4];

/// The ring and the counts of one CPU.
pub struct Trace {
    cpu: u16,
    /// Empty unless the command line says `trace=on`.
    ring: Vec<Slot, Charged>,
    /// The number of the next record.
    next: AtomicU32,
    /// Set by the CPU that prints the rings.
    closed: AtomicBool,
    /// Between [`idle`] and [`wake`].
    idle: AtomicBool,
    /// In [`window`].
    window: AtomicBool,
    counts: [AtomicU64; COUNTERS],
    /// The last [`Step`]s, one digit each.
    steps: AtomicU64,
}

impl Trace {
    /// For CPU `cpu`; the ring is charged to `charged`'s budget.
    pub fn try_new(charged: Charged, cpu: u16, tracing: Tracing) -> Result<Self, NoMemory> {
        let mut ring = Vec::new_in(charged);
        if ENABLED && tracing == Tracing::On {
            ring.try_reserve_exact(RECORDS).map_err(|_| NoMemory)?;
            ring.resize_with(RECORDS, Slot::default);
        }
        let counts = [const { AtomicU64::new(0) }; COUNTERS];
        Ok(Self {
            cpu,
            ring,
            next: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            idle: AtomicBool::new(false),
            window: AtomicBool::new(false),
            counts,
            steps: AtomicU64::new(0),
        })
    }

    fn record(&self, cpu: &Cpu, kind: Kind, a: u64, b: u64) {
        // The machine ends: what this CPU would print would only come between the printed records.
        while self.closed.load(Relaxed) {
            Current::relax(cpu.arch());
        }
        let number = self.next.load(Relaxed);
        let Some(slot) = self.ring.get(number as usize % RECORDS) else { return };
        let record = Record::new(stamp(cpu), self.cpu, number, kind, a, b);
        for (word, value) in slot.iter().zip([record.time, record.what, record.a, record.b]) {
            word.store(value, Relaxed);
        }
        self.next.store(number.wrapping_add(1), Relaxed);
    }

    /// What is in the ring, oldest first. Another CPU may read it: the record that is being written
    /// meanwhile, if there is one, is not among them once the ring is closed.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let next = self.next.load(Relaxed);
        // The oldest slot of a full ring is the one that is written next.
        let kept = (next as usize).min(self.ring.len().saturating_sub(1)) as u32;
        (next - kept..next).filter_map(move |number| {
            let [time, what, a, b] = self.ring.get(number as usize % RECORDS)?;
            Some(Record {
                time: time.load(Relaxed),
                what: what.load(Relaxed),
                a: a.load(Relaxed),
                b: b.load(Relaxed),
            })
        })
    }

    /// Notes what is the same on every machine.
    fn step(&self, kind: Kind, a: u64) {
        let step = match kind {
            Kind::LazyEnter => Step::LazyEnter,
            Kind::LazyExit => Step::LazyExit,
            Kind::Drop => Step::Drop,
            Kind::SwitchEnd => Step::Switch,
            Kind::Barrier if a == Site::LeaveUserMm as u64 => Step::Left,
            Kind::Barrier if a == Site::EnterUserMm as u64 => Step::Entered,
            _ => return,
        };
        self.steps.store(self.steps.load(Relaxed) << 4 | step as u64, Relaxed);
    }

    // What tests ask of another CPU is what is there now, and orders nothing: a barrier that is missing
    // must not be made up for by the question. A read-modify-write is both.

    /// The last sixteen steps of its CPU, the latest in the lowest digit.
    pub fn steps(&self) -> u64 {
        self.steps.fetch_or(0, Relaxed)
    }

    /// Whether its CPU has nothing to do.
    pub fn is_idle(&self) -> bool {
        self.idle.fetch_or(false, Relaxed)
    }

    /// How often it happened on this CPU.
    pub fn counted(&self, counter: Counter) -> u64 {
        self.counts.get(counter as usize).map_or(0, |count| count.fetch_add(0, Relaxed))
    }
}

/// When it happened.
fn stamp(cpu: &Cpu) -> u64 {
    #[cfg(test)]
    return cpu.kernel.events.fetch_add(1, Relaxed);
    #[cfg(not(test))]
    cpu.now().0
}

/// Records that something happened on `cpu`, the calling CPU.
#[inline(always)]
pub fn event(cpu: &Cpu, kind: Kind, a: u64, b: u64) {
    if ENABLED {
        cpu.trace.step(kind, a);
        if !cpu.trace.ring.is_empty() {
            cpu.trace.record(cpu, kind, a, b);
        }
    }
}

/// Counts that something happened on `cpu`, the calling CPU.
#[inline(always)]
pub fn count(cpu: &Cpu, counter: Counter) {
    if let Some(count) = cpu.trace.counts.get(counter as usize) {
        count.store(count.load(Relaxed) + 1, Relaxed);
    }
}

/// `cpu`, the calling CPU, goes to user mode with `frame`.
#[inline(always)]
pub fn user_return(cpu: &Cpu, frame: NonNull<Frame>) {
    if ENABLED {
        let mm = cpu.words.current_mm().map_or(0, |mm| mm.id.get());
        event(cpu, Kind::UserReturn, mm, frame.addr().get() as u64);
    }
}

/// `cpu`, the calling CPU, is about to store whose user code may run on it (0: nobody's): a mark for
/// whoever watches the instructions.
#[inline(always)]
pub fn mark_current_mm(cpu: &Cpu, mm: u64) {
    match mm {
        _ if !ENABLED => {}
        0 => Current::leaves_mm(cpu.arch()),
        _ => Current::enters_mm(cpu.arch()),
    }
}

/// `cpu`, the calling CPU, has nothing to do.
#[inline(always)]
pub fn idle(cpu: &Cpu) {
    if ENABLED {
        event(cpu, Kind::Idle, 0, 0);
        cpu.trace.idle.store(true, Relaxed);
    }
}

/// It looks for something to do again.
#[inline(always)]
pub fn wake(cpu: &Cpu) {
    if ENABLED {
        cpu.trace.idle.store(false, Relaxed);
        event(cpu, Kind::Wake, 0, 0);
    }
}

/// `cpu`, the calling CPU, is about to open a window for interrupts, or has closed it.
#[inline(always)]
pub fn window(cpu: &Cpu, now: Window) {
    if ENABLED {
        cpu.trace.window.store(now == Window::Opens, Relaxed);
    }
}

/// See [`window`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    Opens,
    Closed,
}

/// An interrupt was taken in the kernel: where it idles or has a window, or else it is counted.
/// `TRAP-3`
#[inline(always)]
pub fn interrupted(cpu: &Cpu) {
    if ENABLED && !cpu.trace.idle.load(Relaxed) && !cpu.trace.window.load(Relaxed) {
        count(cpu, Counter::StrayInterrupts);
    }
}

/// Looks of the printing CPU before it begins, while others finish what they print. On the host
/// nobody prints.
const SETTLE: u32 = if cfg!(test) { 100 } else { 100_000 };

/// Prints what the rings hold, if there are any, for the host: `@spandrel trace CPU RECORDS`. For
/// the end of a run: a CPU that comes to record anything more stands still.
pub fn dump(kernel: &Kernel) {
    let cpus = || CpuSet::ALL.iter().filter_map(|number| kernel.any_cpu(number));
    if !ENABLED || kernel.tracing == Tracing::Off {
        return;
    }
    cpus().for_each(|cpu| cpu.trace.closed.store(true, Relaxed));
    for cpu in cpus().take(1) {
        (0..SETTLE).for_each(|_| Current::relax(cpu.arch()));
    }
    for Cpu { trace, .. } in cpus() {
        let mut records = trace.records();
        loop {
            let some: ArrayVec<_, PER_LINE> = records.by_ref().take(PER_LINE).collect();
            if some.is_empty() {
                break;
            }
            print::protocol(Some(kernel.machine), format_args!("trace {} {}", trace.cpu, Hex(&some)));
        }
    }
}

/// Records as the host reads them.
struct Hex<'a>(&'a [Record]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|Record { time, what, a, b }| write!(f, "{time:016x}{what:016x}{a:016x}{b:016x}"))
    }
}
