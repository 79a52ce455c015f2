//! Memory contexts: which address space this CPU's MMU holds, and the hooks that change it.
//!
//! The generic scheduler decides *when*, in exactly one function; these hooks say *how*. Generic
//! code assumes nothing of a hook beyond its clauses: not that a switch is a barrier, not that it
//! serializes the core. What did happen comes back as a [`Switched`], and generic code pays for
//! what is missing.
//!
//! | `loaded` on this CPU | next is a user of | calls, in this order |
//! | --- | --- | --- |
//! | the kernel's own tables | B | `switch_mm(kernel → B)` |
//! | A, active | B | `switch_mm(A → B)` |
//! | A, lazy | B | `switch_mm(A → B)`, then `exit_lazy_tlb(left A, now B)` |
//! | B, lazy | B | `exit_lazy_tlb(left B, now B)` |
//! | B, active | B | nothing |
//!
//! and before user mode, always, [`return_to_user`](crate::ret::Return::return_to_user).

use crate::addr::PhysAddr;
use crate::barrier::CoreSync;
use crate::irq::IrqsOff;
use core::num::NonZeroU64;

/// Names an address space for ever: never reused. What it named may be gone; it reaches nothing.
/// At most 48 bits, so that it shares a word with registration and state bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ContextId(NonZeroU64);

impl ContextId {
    /// The `n`-th id. `None` for 0 and beyond 48 bits.
    pub const fn new(n: u64) -> Option<Self> {
        match NonZeroU64::new(n) {
            Some(n) if n.get() < 1 << 48 => Some(Self(n)),
            _ => None,
        }
    }
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

/// What the generic code believes was loaded before. A hint: the port compares with what its CPU
/// really holds (`CTX-2`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Previously {
    Kernel,
    Mm(ContextId),
}

/// The machine's number for an address space, where it is one number for all CPUs: a PID, an ASID.
/// A cache of [`ContextId`]: reused, after every CPU has forgotten what it held under it (`CTX-12`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HardwareId(pub u32);

/// How a machine tells the cached translations of address spaces apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tags {
    /// Each CPU numbers what it holds for itself: PCIDs. Generic code gives each address space it
    /// loads one of `slots` numbers per CPU. One slot: there are no tags, a load forgets what was
    /// there before.
    PerCpu { slots: u16 },
    /// One number per address space, on all CPUs: PIDs, ASIDs. Generic code gives out
    /// `first..first + count`.
    Global { first: u32, count: u32 },
}

/// Under which number of this CPU the translations of an address space are cached, with
/// [`Tags::PerCpu`]; below `slots`. 0 otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(pub u16);

/// An address space as this CPU has it cached.
pub struct Cached<'a, M> {
    pub mm: &'a M,
    pub slot: Slot,
}

/// What a CPU may have cached of an address space that it is about to load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stale {
    /// Nothing, or only what is still right: it may be used.
    Nothing,
    /// Anything under its slot or its hardware id, of whatever age and, under the slot, of whatever
    /// address space: all of it must be forgotten before it can be used (`CTX-4`, `TLB-4`).
    Everything,
}

/// An address space that may be loaded: alive for the call, hardware id valid and not shared
/// (`CTX-11`).
pub struct Loadable<'a, M> {
    mm: &'a M,
    id: ContextId,
    slot: Slot,
    stale: Stale,
}

impl<'a, M> Loadable<'a, M> {
    /// # Safety
    /// 1. `mm` stays alive, and its tables stay allocated, until this CPU has loaded something
    ///    else or `drop_lazy` was called on it.
    /// 2. `id` is the context id `mm` was made with.
    /// 3. If `stale` is [`Stale::Nothing`], nothing is cached here under `slot`, or under the
    ///    hardware id of `mm`, but what its tables say.
    pub unsafe fn new(mm: &'a M, id: ContextId, slot: Slot, stale: Stale) -> Self {
        Self { mm, id, slot, stale }
    }
    pub fn mm(&self) -> &'a M {
        self.mm
    }
    pub fn id(&self) -> ContextId {
        self.id
    }
    pub fn slot(&self) -> Slot {
        self.slot
    }
    pub fn stale(&self) -> Stale {
        self.stale
    }
}

/// The address space a lazy episode held. It names, it does not reach (`CTX-10`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeftLazy(pub ContextId);

/// The address space whose user code may run next on this CPU: `current_mm` already says so.
pub struct NowUser<'a, M> {
    pub mm: &'a M,
    pub id: ContextId,
}

/// What a switch really did beyond its purpose. Generic code supplies what is missing.
///
/// There is no witness for a memory barrier: the one that is needed, (e), must come *before* the
/// generations are read and the tables are loaded (`CTX-3`), so generic code executes it before the
/// call, in one place for every machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Switched {
    /// The core serialized after the hook was entered.
    pub core_serialized: Did,
    /// The table base or process id register was written.
    pub reloaded: Did,
    /// Nothing is cached of the mm but what its tables said after the hook was entered.
    pub flushed: Did,
}

/// Whether something happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Did {
    Yes,
    No,
}

impl Switched {
    /// No switch lay on this step.
    pub const NOTHING: Self = Self { core_serialized: Did::No, reloaded: Did::No, flushed: Did::No };
}

/// The hooks.
pub trait Contexts: crate::pte::Paging {
    /// The port's part of an address space: its root, its hardware id. Shared between CPUs.
    type Mm: Send + Sync + 'static;

    /// How translations are told apart here. Constant after boot.
    fn tags(machine: &Self::Machine) -> Tags;

    /// Makes the port's part for the tables at `root`, which [`init_root`](crate::pte::Paging::init_root)
    /// prepared. `hardware` is an id of [`Tags::Global`] that nobody else has and that no CPU has
    /// anything cached under; `HardwareId(0)` otherwise. On return any CPU may load it: where the
    /// machine has a table of roots, the entry is visible to every walker (`CTX-11`).
    fn new_mm(machine: &Self::Machine, root: PhysAddr, id: ContextId, hardware: HardwareId) -> Self::Mm;

    /// Ends what [`new_mm`](Self::new_mm) began: the hardware id leads nowhere any more. CPUs may
    /// still have translations cached under it; generic code gives the id out again only after
    /// each has called [`flush_local_all`](crate::tlb::Tlb::flush_local_all) (`CTX-12`).
    ///
    /// # Safety
    /// `mm` is loaded on no CPU, not even lazily (`CTX-9`), and never will be again.
    unsafe fn retire_mm(machine: &Self::Machine, mm: &Self::Mm);

    /// Makes `to` what this CPU's MMU holds.
    ///
    /// # When
    /// By `context::enter` in the scheduler, and nowhere else: on the way to user mode, or before a
    /// kernel task that uses `to` is polled.
    ///
    /// # Holds before
    /// Interrupts are off (`CTX-1`). `current_mm` names `to`, this CPU is in `to`'s set, `loaded`
    /// reads *switching (from, to)*, and a full barrier lies between those stores and the call
    /// (`CTX-3`): no walk through `to`'s tables may begin before the call.
    ///
    /// # Promises after
    /// User accesses and walks on this CPU go through `to`'s tables and through no other mm's
    /// cached translations (`CTX-4`); if [`Loadable::stale`] says so, through nothing cached
    /// before. Nothing else, but what the returned [`Switched`] says: not a barrier, even where the
    /// instruction happens to be one.
    ///
    /// # Safety
    /// `to` is [`Loadable`]: its obligations hold.
    unsafe fn switch_mm(
        cpu: &Self::Cpu,
        from: Previously,
        to: &Loadable<'_, Self::Mm>,
        irq: &IrqsOff,
    ) -> Switched;

    /// Starts a lazy episode: nothing that follows uses user mappings, and `held` stays loaded.
    /// Called when a CPU leaves user code for something without an mm, after `current_mm = none`.
    /// Kernel → kernel passes call nothing (`CTX-6`). Promises nothing; a port may note it to
    /// skip flushes.
    fn enter_lazy_tlb(cpu: &Self::Cpu, held: ContextId, irq: &IrqsOff);

    /// Ends a lazy episode: this CPU's loaded address space stops being lazy.
    ///
    /// # When
    /// Exactly once per episode that ends in a user of an mm (`CTX-7`), on the way to user mode
    /// or before a task that uses `now` is polled (`CTX-8`), after any
    /// [`switch_mm`](Self::switch_mm), before the first user instruction or access of `now`.
    /// `left` is what the CPU held lazily; it need not be `now`, and may already be gone.
    ///
    /// # Promises after
    /// Nothing by itself: neither a barrier nor core serialization. What is owed before user mode
    /// is settled by [`return_to_user`](crate::ret::Return::return_to_user) (`RET-2`). A port may
    /// serialize here if that is cheaper, and says so.
    fn exit_lazy_tlb(
        cpu: &Self::Cpu,
        left: LeftLazy,
        now: NowUser<'_, Self::Mm>,
        switched: Switched,
        irq: &IrqsOff,
    ) -> CoreSync;

    /// Moves a CPU that runs no user off `left`, to the kernel's own tables. After it no walk on
    /// this CPU uses `left`'s tables (`CTX-9`). What is cached under its hardware id or slot may
    /// stay: nothing uses it until that is loaded again (`CTX-12`). Called in a lazy episode only;
    /// it ends the episode without `exit_lazy_tlb`.
    fn drop_lazy(cpu: &Self::Cpu, left: LeftLazy, irq: &IrqsOff);
}
