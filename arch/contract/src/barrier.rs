//! Full barriers, named by their site, and core serialization.
//!
//! Generic code never writes a bare fence: each full barrier goes through
//! [`Barriers::full_barrier`] with a [`Site`], so that the trace, the instruction oracle and the
//! image inventory can name it. Site letters are those of the membarrier ordering argument.

/// Where a full barrier stands in generic code, and what it pairs with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Site {
    /// (a) membarrier, on entry: the caller's accesses before, sampling of `current_mm` after.
    /// Pairs with (e). `BAR-3`
    MembarrierEnter,
    /// (c) membarrier, on exit: sampling before, the caller's accesses after. Pairs with (d).
    /// `BAR-3`
    MembarrierExit,
    /// (d) user accesses under the old mm before the store that says this CPU left it. Pairs
    /// with (c). `BAR-4`
    LeaveUserMm,
    /// (e) the stores that say this CPU has an mm (`current_mm`, its bit in the mm's CPU set,
    /// `loaded`), before the mm's generations are read, its tables loaded and its user's accesses
    /// made. Only a barrier after those stores counts. Pairs with (a) and with
    /// [`FlushSample`](Self::FlushSample). `BAR-5`, `CTX-3`
    EnterUserMm,
    /// In the handler of a membarrier request, before it acknowledges. `BAR-6`
    IpiHandler,
    /// The entry and the generation are written, before the CPU set and the other CPUs'
    /// `loaded` are read. Pairs with [`EnterUserMm`](Self::EnterUserMm). `TLB-1`
    FlushSample,
    /// A membarrier registration is in the mm, before the CPUs that have the mm are sampled.
    /// Pairs with [`EnterUserMm`](Self::EnterUserMm). `BAR-2`
    Register,
    /// A CPU has left every mm and says it is off, before it looks for requests a last time. Pairs
    /// with the asker's [`MembarrierEnter`](Self::MembarrierEnter) or
    /// [`FlushSample`](Self::FlushSample). `SMP-3`
    Offline,
}

/// Whether the core is known to have forgotten instructions it fetched before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum CoreSync {
    /// A core-serializing (x86) or context-synchronizing (Power) event was executed.
    Done,
    /// Nothing of the kind happened here.
    NotDone,
}

/// The hooks.
pub trait Barriers: crate::Base {
    /// A full memory barrier: every access before it, in program order, is ordered before every
    /// access after it, store→load included (`BAR-1`). x86_64: a locked operation or `mfence`;
    /// ppc64le: `sync`, never `lwsync`. Not core-serializing, and nobody may assume so.
    fn full_barrier(cpu: &Self::Cpu, site: Site);

    /// Completes what the user code that ran last on this CPU has begun and a release leaves open, as
    /// seen by every CPU (`MIG-4`). Called between the last user instruction of a thread that leaves
    /// this CPU and the store by which others can take it; that store is in a critical section of a
    /// lock that is taken after the last user instruction.
    ///
    /// Plain accesses to memory need nothing here: the release of that lock and the acquire of whoever
    /// takes the thread order them, and they are in the set that a barrier of the thread's own orders
    /// there (`MIG-1`). What is left are the accesses that the release does not order, and those whose
    /// completion only the CPU that made them can wait for: the thread's own barrier for them may be
    /// executed elsewhere. On x86_64 these are non-temporal stores, stores to write-combining memory
    /// and `clflushopt`, and the locked operation that takes the lock waits for them (SDM vol. 3
    /// §9.2.2, §12.3.1): nothing is to be done. On ppc64le these are accesses to caching-inhibited or
    /// write-through storage, which `lwsync` does not order, and `dcbst`, `dcbf` and `icbi`, which are
    /// complete only after a `sync` on the CPU that executed them (Power ISA Book II §4.4.1, §4.6.3):
    /// `sync`. It is no [`full_barrier`](Self::full_barrier), and generic code does not rely on one
    /// here.
    fn complete_user_accesses(cpu: &Self::Cpu);

    /// Serializes this core at once: no instruction fetched before is executed after (`CODE-1`).
    /// x86_64: `serialize`, else a return to itself by `iretq` (SDM vol. 3 §9.3); ppc64le: `isync`. Never
    /// from a non-maskable handler. Not a memory barrier for other CPUs' purposes.
    fn core_sync(cpu: &Self::Cpu, irq: &crate::irq::IrqsOff);

    /// The writer's part of code modification for `len` bytes at `start` of the physical map:
    /// afterwards, any CPU that performs a [`core_sync`](Self::core_sync) fetches the new bytes
    /// (`CODE-2`).
    ///
    /// # Safety
    /// `start..start + len` is mapped, readable kernel memory.
    unsafe fn publish_code(cpu: &Self::Cpu, start: core::ptr::NonNull<u8>, len: usize);
}
