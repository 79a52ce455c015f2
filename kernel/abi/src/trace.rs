//! The event trace: what test kernels record, and what the host checks and draws.
//!
//! Each CPU writes into a ring of its own, so that recording orders nothing between CPUs. Records
//! of different CPUs are merged by time; the clocks of CPUs agree as far as `TIME-1` says. So an
//! event that lets another CPU go on is recorded before the store that shows it, and one that
//! follows from another CPU after the load that saw it: the merged order then has every cause
//! before its effects.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One event. 32 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Record {
    /// Nanoseconds since boot.
    pub time: u64,
    /// Low 16 bits: a [`Kind`]; the next 16: the CPU; the upper 32: the event's number on its CPU.
    pub what: u64,
    pub a: u64,
    pub b: u64,
}

crate::numbers! {
    /// What happened. An mm is a context id, 0 for none; a thread is the address of its frame.
    Kind:
    /// `current_mm` became mm `a`.
    Current = 1,
    /// The MMU goes from mm `a` to mm `b`; `loaded` says switching.
    SwitchBegin = 2,
    /// It holds mm `a` now. `b`: bit 0 reloaded, bit 1 the core serialized, bit 2 all that was cached
    /// of it, or under its number, was forgotten; bits 16–31 the slot plus one, if this machine has
    /// numbers per CPU.
    SwitchEnd = 3,
    /// A lazy episode of mm `a` begins.
    LazyEnter = 4,
    /// It ends: `a` was left, `b` is the user's now.
    LazyExit = 5,
    /// It ends: this CPU went from `a` to the kernel's tables.
    Drop = 6,
    /// A full barrier at site `a`.
    Barrier = 7,
    /// The core serialized.
    CoreSync = 8,
    /// To user mode in mm `a`, thread `b`.
    UserReturn = 9,
    /// From user mode; `a`: 0 call, 1 interrupt, 2 fault.
    UserEnter = 10,
    /// Requests `b` were sent to the CPUs in set `a`.
    Request = 11,
    /// Requests `a` were served.
    Served = 12,
    /// membarrier command `a` on mm `b` begins.
    MembarrierEnter = 13,
    /// It returns.
    MembarrierExit = 14,
    /// mm `a`'s code was published.
    Code = 15,
    /// mm `a`'s TLB generation became `b`.
    Generation = 16,
    /// This CPU has no translation of mm `a` older than generation `b`.
    Seen = 17,
    /// A flush of mm `a` for generation `b` returned: no CPU uses what was before it. With
    /// [`TABLES`](crate::trace::TABLES) in `b` page-table pages go too, so that no CPU that holds the
    /// mm may walk the old ones.
    Flushed = 18,
    /// This CPU entered mm `a`'s set.
    Join = 19,
    /// The tables of mm `a` are about to be freed.
    FreeTables = 20,
    /// mm `a` got hardware id `b`.
    IdTaken = 21,
    /// Hardware id `b` of mm `a` leads nowhere any more.
    IdRetired = 22,
    /// This CPU forgot all translations of all mms.
    FlushAll = 23,
    /// Retired hardware ids can be taken again.
    Rollover = 24,
    /// Thread `a` runs here, after CPU `b`.
    Migrate = 25,
    /// A kernel task is polled; `a`: the mm it uses.
    Poll = 26,
    /// The poll is over.
    Polled = 27,
    /// This CPU has nothing to do.
    Idle = 28,
    /// It has something to do again.
    Wake = 29,
    /// A mark of the test, value `a`.
    Mark = 30,
    /// mm `a`'s sync generation became `b`.
    SyncGeneration = 31,
    /// This CPU is on.
    Online = 32,
    /// This CPU goes off.
    Offline = 33,
    /// membarrier has looked at `current_mm` of all CPUs: set `a` of CPUs found to run mm `b`.
    Sampled = 34,
    /// This CPU left mm `a`'s set.
    Part = 35,
    /// Every CPU was made to forget what it had of mm `a` before generation `b`, without its help.
    Broadcast = 36,
}

/// In the generation of a [`Kind::Flushed`].
pub const TABLES: u64 = 1 << 63;

impl Record {
    pub const fn new(time: u64, cpu: u16, number: u32, kind: Kind, a: u64, b: u64) -> Self {
        Self { time, what: kind as u64 | (cpu as u64) << 16 | (number as u64) << 32, a, b }
    }
    pub const fn kind(&self) -> Option<Kind> {
        Kind::from_number(self.what & 0xffff)
    }
    pub const fn cpu(&self) -> u16 {
        (self.what >> 16) as u16
    }
    pub const fn number(&self) -> u32 {
        (self.what >> 32) as u32
    }
}
