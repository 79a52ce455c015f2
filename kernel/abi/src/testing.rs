//! What kernels built for testing offer beside the ABI: scripted races, and counts.
//!
//! A script is a user program that says which CPU is to stop at which point of the kernel, brings
//! the others where it wants them, and lets go. All of it is absent from an ordinary kernel.

crate::numbers! {
    /// Operations of `test`.
    Operation:
    /// `(point, cpu, how)`: the next time CPU `cpu` passes [`Point`] `point`, it stops there until
    /// released. `how`: 0 stops and serves the requests of other CPUs meanwhile, 1 stops deaf, with
    /// interrupts off. In a switch only 1. One point per CPU is armed at a time.
    Arm = 0,
    /// `(cpu) -> 1` if it stands at a point.
    Stopped = 1,
    /// `(cpu) -> 1` if it stood at a point: lets it go on. What was armed there is so no more.
    Release = 2,
    /// `(cpu, kind, slices, address)`: queues a kernel task on `cpu` that runs `slices` slices. Kind 0 uses no
    /// mm, kind 1 uses the caller's; so does kind 2, which reads at `address` in each slice as
    /// [`Trespass`](Self::Trespass) does. It has the caller's priority and stays on `cpu`.
    Task = 3,
    /// `(cpu, counter) -> value` of a [`Counter`].
    Count = 4,
    /// `(value)`: a mark in the trace.
    Mark = 5,
    /// `()`: the caller's CPU stays in the kernel with interrupts off, deaf, until released.
    Stick = 6,
    /// `(count)`: at most so many hardware ids (or slots per CPU) are used from now on.
    LimitIds = 7,
    /// `() -> id` of the caller's address space.
    Context = 8,
    /// `(cpu) -> id` of what its MMU holds, 0 for the kernel's tables, perhaps with
    /// [`LOADED_LAZILY`](crate::testing::LOADED_LAZILY); or of what it is switching to, with
    /// [`LOADED_SWITCHING`](crate::testing::LOADED_SWITCHING).
    Loaded = 9,
    /// `(cpu) -> 1` if it idles.
    Idle = 10,
    /// `(page, side, barrier) -> rounds`: 64 rounds of store buffering, in the kernel, against the CPU
    /// that makes the same call as the other side (0 or 1), for which it waits deaf. `page`: the
    /// address of a page of the caller's, zeroed before the first call. `barrier`: 1 for a full
    /// barrier between store and load, 0 for nothing. Bit n of the answer: in round n the other's
    /// store was not seen.
    StoreBuffering = 11,
    /// `(`[`FaultWord`](crate::testing::FaultWord)`) -> word` of the last fault that ended a process.
    Fault = 12,
    /// `(cpu)`: sends CPU `cpu` a non-maskable interrupt. `NotSupported` where the machine has none that
    /// is survived.
    NonMaskable = 13,
    /// `(cpu) -> steps`: the last sixteen [`Step`](crate::testing::Step)s of its memory contexts, one
    /// hexadecimal digit each, the latest lowest.
    Steps = 20,
    /// `() -> 1` if flushes may reach other CPUs without their help.
    Broadcasts = 21,
    /// `(how, address)`: the kernel reads (0), writes (1) or calls (2) what lies at a user's address, outside
    /// any window. Where the machine can forbid it, the run ends with a report of the fault.
    Trespass = 22,
    /// `(n) -> 1` if what was asked for by the last such call has happened: from now on the `n`-th allocation
    /// of the kernel is refused, once; none if that is 0.
    Refuse = 23,
    /// `() -> did`: the port's `switch_mm` from the caller's mm to the same, of which everything is stale. What
    /// it says that it did, one bit each: 1 for a reload, 2 for a serialized core, 4 for a flush.
    SwitchAgain = 24,
}

/// In what `Loaded` returns.
pub const LOADED_LAZILY: u64 = 1 << 62;
/// In what `Loaded` returns.
pub const LOADED_SWITCHING: u64 = 1 << 63;

crate::numbers! {
    /// What a CPU does to its memory contexts, as far as it is the same on every machine.
    Step:
    /// A lazy episode begins.
    LazyEnter = 1,
    /// It ends in a user of an mm.
    LazyExit = 2,
    /// It ends in the kernel's own tables.
    Drop = 3,
    /// A switch from one mm to another is over.
    Switch = 4,
    /// The barrier (d), on the way out of an mm.
    Left = 13,
    /// The barrier (e), on the way into one.
    Entered = 14,
}

crate::numbers! {
    /// Where a CPU can be stopped.
    Point:
    /// In a switch, `loaded` says switching, before the tables are loaded.
    Switching = 0,
    /// After an adopted mm became current, before the task is polled.
    TaskUsesMm = 1,
    /// membarrier, between the barrier (a) and the first sample.
    MembarrierBeforeSample = 2,
    /// membarrier, after the last sample.
    MembarrierSampled = 3,
    /// A flush, after the generation was raised, before the CPUs are sampled.
    FlushBeforeSample = 4,
    /// On the way to user mode, after the memory context is right, before what is owed is looked at.
    BeforeReturn = 5,
    /// A CPU has left user code for a task or for idle.
    BecameLazy = 6,
    /// A teardown, before it looks which CPUs hold the mm.
    TeardownScan = 7,
    /// On the way to a user of an mm that is not active here, before anything says so.
    Entering = 8,
    /// A CPU has found nothing to do and is about to halt.
    BeforeHalt = 9,
    /// A page's entry was just written, by whoever maps it.
    PageMapped = 10,
    /// A thread that receives has looked for signalled bits, and is not yet among those who wait.
    Receiving = 11,
    /// A thread that binds a notification has found it free, and has not taken it.
    Binding = 12,
    /// A CPU that goes off has taken an alarm out of its timers, and has not given it to another.
    AlarmMoves = 13,
    /// In a switch, after the generations were read, before the tables are loaded. Deaf only.
    SwitchSampled = 20,
    /// In a switch out of a lazy episode, after the tables were loaded, before `exit_lazy_tlb`. Deaf
    /// only.
    EpisodeEnds = 21,
}

crate::numbers! {
    /// What each CPU counts.
    Counter:
    /// Table-base or PID writes.
    Reloads = 0,
    /// Executions of full-barrier sites.
    Barriers = 1,
    /// Core serializations: by a return, because it was owed, or by a switch.
    CoreSyncs = 2,
    /// Interrupts from other CPUs taken.
    Interrupts = 3,
    /// Threads pulled from other CPUs.
    Pulls = 4,
    /// Invalidations, partial or whole.
    Flushes = 5,
    /// `exit_lazy_tlb` calls.
    LazyExits = 6,
    /// Restarted sequences.
    Restarts = 7,
    /// Reuses of retired hardware ids after a flush of everything, on all CPUs together.
    Rollovers = 8,
    /// Interrupts sent for a teardown, on all CPUs together.
    TeardownInterrupts = 9,
    /// Interrupts taken in the kernel outside of windows.
    StrayInterrupts = 10,
    /// Interrupts sent to other CPUs.
    InterruptsSent = 20,
    /// Slices of kernel tasks; those of teardowns and of the balancing are not among them.
    Slices = 21,
}

crate::numbers! {
    /// What is kept of the last fault that ended a process.
    FaultWord:
    /// A [`FaultKind`](crate::exception::FaultKind).
    Kind = 0,
    /// The program counter.
    Pc = 1,
    /// The address, or [`NO_ADDRESS`](crate::exception::NO_ADDRESS).
    Address = 2,
}
