//! What every CPU reads of a space when it enters it, and membarrier and the flushers change.
//!
//! It is kept off the cache lines of the lock and of what the lock guards, so that entering a
//! space that has run here before writes no line that another CPU reads.

use super::Space;
use crate::cpu::Cpu;
use crate::cpuset::{CpuSet, SharedSet};
use crate::mm::flush::FlushLog;
use crate::sched::context::Registrations;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::trace;
use abi::trace::Kind;

/// What every CPU reads when it enters the space, on cache lines that are written only when it is
/// loaded on a CPU for the first time, when something is unmapped, and by membarrier.
#[repr(align(128))]
pub(super) struct Shared {
    /// The CPUs that may have it loaded: a superset, since a CPU stays in when it goes on to
    /// another space. Joined before the barrier (e).
    set: SharedSet,
    flushes: FlushLog,
    /// How many sync-core membarriers there were.
    sync_generation: AtomicU64,
    /// [`Registrations`].
    registrations: AtomicU32,
    /// What membarrier commands the process may use: bits of `abi::membarrier`.
    commands: AtomicU32,
    /// For the refcount policy: lazy CPUs.
    holders: AtomicU32,
}

impl Shared {
    pub(super) const fn new() -> Self {
        Self {
            set: SharedSet::new(),
            flushes: FlushLog::new(),
            sync_generation: AtomicU64::new(0),
            registrations: AtomicU32::new(0),
            commands: AtomicU32::new(0),
            holders: AtomicU32::new(0),
        }
    }
}

impl Space {
    /// Puts `cpu` into the set of CPUs that may have it loaded; whether it was not in it. Before
    /// the barrier (e).
    pub fn join(&self, cpu: &Cpu) -> bool {
        let new_here = self.shared.set.join(cpu.number);
        if new_here {
            trace::event(cpu, Kind::Join, self.id.get(), 0);
        }
        new_here
    }

    /// The CPUs that may have it loaded.
    pub fn set(&self) -> CpuSet {
        self.shared.set.load()
    }

    pub fn flushes(&self) -> &FlushLog {
        &self.shared.flushes
    }

    /// How many sync-core membarriers were asked for. Acquire: pairs with the release in
    /// [`raise_sync_generation`](Self::raise_sync_generation): the code they are about is written.
    #[inline]
    pub fn sync_generation(&self) -> u64 {
        self.shared.sync_generation.load(Ordering::Acquire)
    }

    /// One more. Before the barrier (a).
    pub fn raise_sync_generation(&self) -> u64 {
        self.shared.sync_generation.fetch_add(1, Ordering::Release) + 1
    }

    /// What stands beside `current_mm`.
    #[inline]
    pub fn registrations(&self) -> Registrations {
        Registrations::from_bits(self.shared.registrations.load(Ordering::Relaxed))
    }

    /// Adds to what stands beside `current_mm` from the next entry on. A full barrier follows.
    pub fn register(&self, registrations: Registrations) {
        self.shared.registrations.fetch_or(registrations.bits(), Ordering::Relaxed);
    }

    /// The membarrier commands that the process may use.
    pub(crate) fn commands(&self) -> &AtomicU32 {
        &self.shared.commands
    }

    /// Whether the process has done the registration `by`.
    #[inline]
    pub(crate) fn may(&self, by: abi::membarrier::Command) -> bool {
        self.shared.commands.load(Ordering::Relaxed) & by as u32 != 0
    }

    /// For the refcount policy.
    pub(crate) fn holders(&self) -> &AtomicU32 {
        &self.shared.holders
    }
}
