//! What every CPU reads of an address space when it enters it, and membarrier and the flushers
//! change.

use crate::cpuset::{CpuSet, SharedSet};
use crate::flush::{FlushLog, Range};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::words::{Entered, Registrations};
use crate::{ThisCpu, unless};
use abi::trace::Kind;
use arch_contract::barrier::Site;
use arch_contract::context::ContextId;
use arch_contract::mutant::Mutant;

/// What every CPU reads when it enters the space, on cache lines that are written only when it is
/// loaded on a CPU for the first time, when something is unmapped, and by membarrier.
#[repr(align(128))]
pub struct Shared {
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
    pub fn new() -> Self {
        Self {
            set: SharedSet::new(),
            flushes: FlushLog::new(),
            sync_generation: AtomicU64::new(0),
            registrations: AtomicU32::new(0),
            commands: AtomicU32::new(0),
            holders: AtomicU32::new(0),
        }
    }

    /// Puts `cpu` into the set of CPUs that may have `id`, which this is of, loaded; whether it was
    /// not in it. Before the barrier (e).
    #[inline(always)]
    pub fn join(&self, cpu: &impl ThisCpu, id: ContextId) -> bool {
        let new_here = self.set.join(cpu.number());
        if new_here {
            cpu.event(Kind::Join, id.get(), 0);
        }
        new_here
    }

    /// The CPUs that may have it loaded.
    #[inline(always)]
    pub fn set(&self) -> CpuSet {
        self.set.load()
    }

    pub fn flushes(&self) -> &FlushLog {
        &self.flushes
    }

    /// The TLB generation that a CPU finds which has entered the space.
    #[inline(always)]
    pub fn tlb_generation(&self, _: Entered) -> u64 {
        self.flushes.generation()
    }

    /// Whether it finds it still at `seen`: [`FlushLog::is_still`].
    #[inline(always)]
    pub fn is_still_seen(&self, seen: u64, _: Entered) -> bool {
        self.flushes.is_still(seen)
    }

    /// The sync generation that it finds.
    #[inline(always)]
    pub fn sync_generation_found(&self, _: Entered) -> u64 {
        self.sync_generation()
    }

    /// Raises the TLB generation for `range` of `id`, whose entries are changed already, up to the
    /// barrier after which the set and the words of other CPUs are read. One caller at a time: the
    /// lock of the space orders them. Gives the new generation, and the set.
    #[inline(always)]
    pub fn begin_flush(&self, cpu: &impl ThisCpu, id: ContextId, range: Range) -> (u64, CpuSet) {
        cpu.event(Kind::Generation, id.get(), self.flushes.generation() + 1);
        let wanted = self.flushes.raise(range);
        // The entries and the generation, before the set and the words of other CPUs are read.
        // Pairs with (e). `TLB-1`
        cpu.full_barrier(Site::FlushSample);
        (wanted, self.set())
    }

    /// How many sync-core membarriers were asked for. Acquire: pairs with the release in
    /// [`raise_sync_generation`](Self::raise_sync_generation): the code they are about is written.
    #[inline]
    pub fn sync_generation(&self) -> u64 {
        self.sync_generation.load(Ordering::Acquire)
    }

    /// One more. Before the barrier (a).
    pub fn raise_sync_generation(&self) -> u64 {
        self.sync_generation.fetch_add(1, unless(Mutant::SyncGenerationRelaxed, Ordering::Release)) + 1
    }

    /// What stands beside `current_mm`.
    #[inline]
    pub fn registrations(&self) -> Registrations {
        Registrations::from_bits(self.registrations.load(Ordering::Relaxed))
    }

    /// Adds to what stands beside `current_mm` from the next entry on, up to the barrier after
    /// which the set and the words of other CPUs are read.
    pub fn register(&self, cpu: &impl ThisCpu, registrations: Registrations) {
        self.registrations.fetch_or(registrations.bits(), Ordering::Relaxed);
        // The registration, before the set and the words of other CPUs are read. Pairs with (e).
        // `BAR-2`
        cpu.full_barrier(Site::Register);
    }

    /// The membarrier commands that the process may use.
    pub fn commands(&self) -> &AtomicU32 {
        &self.commands
    }

    /// Whether the process has done the registration `by`.
    #[inline]
    pub fn may(&self, by: abi::membarrier::Command) -> bool {
        self.commands.load(Ordering::Relaxed) & by as u32 != 0
    }

    /// For the refcount policy: one lazy CPU more. Relaxed: before the release store that says
    /// *lazy*, which a teardown reads before it reads the count.
    #[inline(always)]
    pub fn take_hold(&self) {
        self.holders.fetch_add(1, Ordering::Relaxed);
    }

    /// One less. Release: all this CPU did with the tables. Pairs with the acquire in
    /// [`holders`](Self::holders).
    #[inline(always)]
    pub fn give_up(&self) {
        self.holders.fetch_sub(1, Ordering::Release);
    }

    /// The lazy CPUs that have said so. Acquire: pairs with the release in
    /// [`give_up`](Self::give_up).
    pub fn holders(&self) -> u32 {
        self.holders.load(Ordering::Acquire)
    }
}
