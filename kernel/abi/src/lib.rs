//! What the kernel and user mode agree on: numbers, layouts, meanings.
//!
//! Everything a program can name, it names by a [`Handle`]: an index into its process's
//! capability table, where an object and [`Rights`] stand. There are no global ids and no ambient
//! authority: a process that was given nothing can compute, exit, and nothing else.
//!
//! # Making a call
//! | | x86_64 | ppc64le |
//! | --- | --- | --- |
//! | instruction | `syscall` | `scv 0`, or `sc` where the CPU has no `scv` |
//! | number | `rax` | `r0` |
//! | arguments | `rdi rsi rdx r10 r8 r9` | `r3`–`r8` |
//! | status | `rax` | `r3` |
//! | value | `rdx` | `r4` |
//! | overwritten | `rcx r11` | `r0`, `r5`–`r12`, `lr`, `ctr`, `xer`, `cr0 cr1 cr5 cr6 cr7` |
//!
//! | *calls with a message* | | |
//! | tag | third argument, then value | third argument, then value |
//! | message registers | `r10 r8 r9 r12 r13 r14 r15 rbx` | `r15`–`r22` |
//! | badge received | `rsi` | `r14` |
//!
//! A status of 0 is success; otherwise it is an [`Error`] and the value is 0, unless the call
//! says otherwise. Vector registers are preserved.
#![no_std]

pub mod device;
pub mod exception;
pub mod ipc;
pub mod membarrier;
pub mod registers;
pub mod rseq;
pub mod testing;
pub mod trace;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! numbers {
    ($(#[$meta:meta])* $name:ident: $($(#[$doc:meta])* $variant:ident = $number:literal,)*) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u64)]
        pub enum $name { $($(#[$doc])* $variant = $number),* }
        impl $name {
            /// All of them, in order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
            /// The one with this number.
            pub const fn from_number(number: u64) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }
    };
}
pub(crate) use numbers;

numbers! {
    /// The system calls. In the signatures, a handle's rights are in brackets.
    Call:
    /// `null()`. Does nothing and succeeds: the price of the door.
    Null = 0,
    /// `exit(status)`. Ends the calling process; the low 8 bits are its status. Does not return.
    Exit = 1,
    /// `yield()`. Lets ready threads of the same priority run first.
    Yield = 2,
    /// `handle_close(handle)`. Empties the slot. What was derived from it is derived from its own
    /// origin from now on. Errors: `BadHandle`.
    HandleClose = 3,
    /// `handle_copy(handle [any], rights, badge) -> handle`. A new handle on the same object with the
    /// rights that both name, derived from the first. A badge of 0 keeps the one it has; another is
    /// given to it, once, if the object knows badges. Errors: `BadHandle`, `BadArgument` (a badge
    /// that cannot be given), `TableFull`, `NoMemory`.
    HandleCopy = 4,
    /// `console_write(console [WRITE], address, length) -> bytes`. Writes at least one byte and
    /// at most [`CONSOLE_CHUNK`](crate::CONSOLE_CHUNK); the caller calls again for the rest.
    ConsoleWrite = 5,
    /// `console_read(console [READ], address, length) -> bytes`. Waits until there is input.
    ConsoleRead = 6,
    /// `clock_read(timer [READ]) -> nanoseconds` since boot. Monotonic.
    ClockRead = 7,
    /// `sleep_until(timer [WAIT], nanoseconds)`. Waits until the clock reads at least that. A
    /// time that is past returns at once.
    SleepUntil = 8,
    /// `memory_map(process [MAP], address, length, protection) -> address`. Maps zeroed memory,
    /// charged to the process's budget. Address and length are multiples of the page size;
    /// address 0 lets the kernel choose. Protection is a [`Protection`] number. All or nothing.
    /// Errors: `NoMemory`, `BadAddress` (not user's, or in part taken), `BadArgument`.
    MemoryMap = 9,
    /// `memory_unmap(process [MAP], address, length)`. Gives whole mapped pages back; pages of
    /// the range that are not mapped are skipped. Errors: `BadArgument`, `BadAddress`.
    MemoryUnmap = 10,
    /// `archive_entry(archive [READ], index, address, length) -> name length`. The name of the
    /// `index`-th file, not terminated; cut off at `length`, the value is the full length.
    /// Errors: `NotFound` past the last.
    ArchiveEntry = 11,
    /// `spawn(archive [EXECUTE], address of a `[`SpawnRequest`](crate::SpawnRequest)`) -> process`.
    /// Loads a program and starts it. Errors: `NotFound`, `BadProgram` (the console says why),
    /// `NoMemory`, `BadArgument`, `BadHandle`, `TableFull`.
    Spawn = 12,
    /// `process_wait(process [WAIT]) -> `[`ExitReport`](crate::ExitReport). Waits until it ended.
    /// Errors: `BadArgument` for the caller's own process.
    ProcessWait = 13,
    /// `process_kill(process [MANAGE])`. Ends it, if it has not ended.
    ProcessKill = 14,
    /// `process_info(process [READ], address of a `[`ProcessInfo`](crate::ProcessInfo)`)`.
    ProcessInfo = 15,
    /// `power_off(machine [MANAGE], status)`. Ends the machine with a status of 0–255. Does not
    /// return on success. Errors: `BadArgument`.
    PowerOff = 16,
    /// `process_priority(process [MANAGE], priority)`. 0–255, at most the caller's own; higher
    /// runs first. Errors: `BadArgument`.
    ProcessPriority = 17,
    /// `thread_start(process [MANAGE], entry, stack, argument) -> thread`. Starts a thread at
    /// `entry` as a function is entered, below `stack` (16-byte aligned), with `argument` as its
    /// first argument; registers that the machine's ABI does not define there are zero. It has the
    /// process's priority, may run on the CPUs that the caller may run on, and has no budget of its
    /// own. The handle has all rights. Errors: `NoMemory`, `TableFull`, `Gone`, `BadAddress` (entry
    /// or stack is not a user's).
    ThreadStart = 18,
    /// `thread_exit()`. Ends the calling thread. When the last thread of a process ends, the
    /// process ends with status 0. Does not return.
    ThreadExit = 19,
    /// `thread_wait(thread [WAIT])`. Waits until it has ended. Errors: `BadArgument` for the caller.
    ThreadWait = 20,
    /// `thread_affinity(thread [MANAGE], set) -> set before`. Bit n of a set is CPU n. Takes effect
    /// before the call returns: a thread that runs on a CPU outside the set has left it. A set of 0
    /// only asks. [`Handle::NONE`] is the calling thread. Errors: `BadArgument` if no CPU of the
    /// set is on.
    ThreadAffinity = 21,
    /// `thread_priority(thread [MANAGE], priority)`. 0–255, at most the caller's own; higher runs
    /// first. [`Handle::NONE`] is the calling thread. Errors: `BadArgument`.
    ThreadPriority = 22,
    /// `thread_budget(thread [MANAGE], budget, period)`. At most `budget` nanoseconds of CPU time
    /// in each `period`; a thread that has used its budget waits for the next period. 0 and 0 take
    /// the limit away. [`Handle::NONE`] is the calling thread. Errors: `BadArgument` (budget above
    /// period, or below [`MIN_BUDGET`](crate::MIN_BUDGET)).
    ThreadBudget = 23,
    /// `membarrier(command, flags, cpu) -> value`. See [`membarrier`].
    Membarrier = 24,
    /// `rseq_register(address)`. See [`rseq`]. Address 0 ends it. Errors: `BadArgument` (not
    /// aligned to the area's size, or there is a registration and `address` is not 0),
    /// `BadAddress` (not writable memory that is mapped), `NoMemory`.
    RseqRegister = 25,
    /// `code_publish(address, length)`. The writer's part of code modification: what this thread
    /// wrote to the range before is what any CPU fetches after it has serialized, which
    /// [`membarrier`]'s `PRIVATE_EXPEDITED_SYNC_CORE` makes every thread of the process do. At most
    /// [`MAX_PUBLISH`](crate::MAX_PUBLISH) bytes; the caller calls again for the rest. Errors:
    /// `BadArgument` (too long), `BadAddress` (not wholly mapped).
    CodePublish = 26,
    /// `cpus(machine [READ], which) -> set` of CPUs. Bit n is CPU n; `which` is a [`CpusThat`]
    /// number. Errors: `BadArgument`.
    Cpus = 27,
    /// `cpu_power(machine [MANAGE], cpu, 0 or 1)`. Turns a CPU off or on, and returns when it is.
    /// What was queued there moves elsewhere. CPU 0 stays on. Errors: `BadArgument` (no such CPU,
    /// or CPU 0 off, or some thread may run nowhere else), `NotSupported` (the machine refused).
    CpuPower = 28,
    /// `quiesce(machine [MANAGE])`. Waits until every process that had ended when the call was made
    /// is taken apart: for whoever compares free memory.
    Quiesce = 29,
    /// `test(operation, …)`. Exists only in kernels built for testing, else `BadCall`. See
    /// [`testing`].
    Test = 30,
    /// `handle_move(handle [any], process [MANAGE]) -> handle in that process`. Takes the handle out
    /// of the caller's table and puts it into that of the process, with its place in the derivation.
    /// [`Handle::NONE`] is the calling process. Errors: `BadHandle`, `TableFull`, `NoMemory`, `Gone`
    /// (the process has ended).
    HandleMove = 31,
    /// `handle_revoke(handle [any])`. Deletes everything that was derived from it, by copying or by
    /// granting, in every process; the handle itself stays. When the call returns there was a moment
    /// during it at which nothing of the kind existed. If the handle is closed meanwhile, what is
    /// left is derived from its own origin. Errors: `BadHandle`.
    HandleRevoke = 32,
    /// `handle_info(handle [any], address of a `[`HandleInfo`](crate::HandleInfo)`)`.
    HandleInfo = 33,
    /// `memory_create(length) -> memory`. A memory object of zeroes, charged to the caller's budget
    /// until nothing names or maps it. The length is a multiple of the page size and at most
    /// [`MAX_MEMORY`](crate::MAX_MEMORY). The handle has READ, WRITE and EXECUTE. Errors:
    /// `BadArgument`, `NoMemory`, `TableFull`.
    MemoryCreate = 34,
    /// `memory_attach(process [MAP], memory [READ, and what the protection allows], address, offset,
    /// length, protection) -> attachment`. Maps a part of a memory object. All of them are multiples
    /// of the page size; address 0 lets the kernel choose, and [`HandleInfo`](crate::HandleInfo) says
    /// where. The mapping lasts as long as its handle, which is derived from that on the memory and
    /// cannot be copied; closing either way unmaps it, `memory_unmap` does not. The same memory can be
    /// mapped many times, with other protections too. All or nothing. Errors: `NoMemory`,
    /// `BadAddress` (not user's, or in part taken), `BadArgument`, `TableFull`.
    MemoryAttach = 35,
    /// `memory_copy(process [MAP], from, process [MAP], to, length) -> bytes`. Copies from one address
    /// space to another, or inside one, what the first may read to where the second may write; in
    /// ascending order, and not at once: others see it come. Fewer bytes than asked for mean that the
    /// next is not mapped so, or that one of the processes is ending. Errors, if not one byte was
    /// copied: `BadAddress`, `Gone`.
    MemoryCopy = 36,
    /// `thread_exceptions(thread or process [MANAGE], endpoint [WRITE] or `[`Handle::NONE`]`) -> handler`.
    /// From now on faults of the thread, or of those of the process that have no handler of their own, are
    /// calls to the endpoint: see [`exception`]. That lasts as long as the handle on the handler, which is
    /// derived from that on the endpoint and cannot be copied, or until there is another handler.
    /// `NONE` as endpoint takes the handler away, and no handle comes back; `NONE` as thread is the calling
    /// one. Errors: `NoMemory`, `TableFull`.
    ThreadExceptions = 40,
    /// `thread_registers(thread [READ], address, length) -> bytes`. Writes the
    /// [`registers`] of a thread that an exception has stopped. [`Handle::NONE`] is the one whose exception
    /// the calling thread received last and has not answered. Errors: `NotStopped`, `BadArgument` (length is
    /// not that of the machine's registers).
    ThreadRegisters = 41,
    /// `thread_set_registers(thread [MANAGE], address, length)`. The opposite of `thread_registers`.
    ThreadSetRegisters = 42,
    /// `thread_vectors(thread [READ], address, length) -> bytes`. As `thread_registers`, of the vector and
    /// floating-point units, once the exception was received. Nothing is written, and 0 comes back, if the
    /// thread has not used them: then they are as for a new thread. Errors: as there.
    ThreadVectors = 46,
    /// `thread_set_vectors(thread [MANAGE], address, length)`. The opposite of `thread_vectors`. If the
    /// thread has not used them, its process is charged for them now. Errors: as there, `NoMemory`.
    ThreadSetVectors = 47,
    /// `memory_create_paged(length, endpoint [WRITE]) -> memory`. A memory object without a page. When one is
    /// touched, or wanted by a call, the endpoint gets a call for the thread that did it, with the badge of the
    /// capability: its label is one of the page kinds of [`exception::FaultKind`], its one word the offset of
    /// the page in the object. A reply with the label 0 makes the thread touch it again, any other ends its
    /// process. Without a pager, because nobody can receive at the endpoint any more, it is an ordinary fault,
    /// or an error of the call. The list of pages is charged to the caller's budget. The handle has READ,
    /// WRITE, EXECUTE and MANAGE, and is derived from that on the endpoint: revoking that takes the memory back,
    /// wherever it is mapped, and its pager has nobody more to answer. At most
    /// [`MAX_PAGED`](crate::MAX_PAGED) bytes. Errors: as `memory_create`.
    MemoryCreatePaged = 43,
    /// `memory_supply(memory [MANAGE], offset, source [READ, WRITE, EXECUTE], source offset, length)`. Pages of
    /// a paged memory object are from now on those of another memory object, which is not paged: whoever maps
    /// either sees what is written by the other, and the pages stay while one of the two is there. A page that
    /// was supplied stays what it is. All are multiples of the page size; length is at most
    /// [`MAX_SUPPLY`](crate::MAX_SUPPLY). Errors: `BadArgument`, `WrongObject` (not paged, or the source is),
    /// `NoMemory` (more than [`MAX_SOURCES`](crate::MAX_SOURCES) sources).
    MemorySupply = 44,
    /// `archive_read(archive [READ], index, offset, address, length) -> bytes`. Copies from `offset` on
    /// of the `index`-th file, at most [`ARCHIVE_CHUNK`](crate::ARCHIVE_CHUNK) bytes; the caller calls
    /// again for the rest. 0 at the end of the file. Errors: `NotFound` past the last file.
    ArchiveRead = 45,
    /// `endpoint_create() -> endpoint`, charged to the process's budget. The handle has the rights
    /// `READ`, `WRITE` and `MANAGE`. See [`ipc`] for what the following calls have in common. Errors:
    /// `NoMemory`, `TableFull`.
    EndpointCreate = 48,
    /// `call(endpoint [WRITE], deadline, tag, words) -> tag, words`. Sends a message and waits for the
    /// reply. Errors: `BadArgument` (tag), `BadHandle` (of a capability to be sent), `TimedOut`, `Gone`
    /// (nobody can receive any more, or whoever had to reply has ended or has given the call up).
    EndpointCall = 49,
    /// `reply_receive(endpoint [READ], deadline, tag, words) -> tag, badge, words`. Replies to the
    /// caller whose call this thread received last, if it has not been answered and has not given up,
    /// then receives. The deadline is that of the receiving: a reply never waits, and is made whatever
    /// comes of the receiving. Errors: `BadArgument` (tag), `BadHandle` (before the reply), `TimedOut`,
    /// `Gone`.
    ReplyReceive = 50,
    /// `send(endpoint [WRITE], deadline, tag, words)`. Sends a message, and waits until it was received.
    /// Errors: as `call`.
    EndpointSend = 51,
    /// `receive(endpoint [READ], deadline) -> tag, badge, words`. Receives a message, or what was
    /// signalled to the notification that is bound to the thread. A caller that this thread has not
    /// replied to gets `Gone`. Errors: `TimedOut`, `Gone` (nobody can send any more).
    EndpointReceive = 52,
    /// `reply(reply or `[`Handle::NONE`]`, 0, tag, words)`. Replies to the caller of a reply object, or
    /// to the one whose call this thread received last. Errors: `BadArgument` (tag), `Gone` (it was
    /// replied to, or it has given up).
    Reply = 53,
    /// `reply_save() -> reply`. Makes an object of the duty to reply to the call that this thread
    /// received last, so that it can be met later, or by whom the handle is sent to. What the caller had
    /// lent ends. A caller whose reply object is closed for good gets `Gone`. Errors: `NotFound` (there
    /// is no such call), `NoMemory`, `TableFull`.
    ReplySave = 54,
    /// `notification_create() -> notification`, charged to the process's budget. The handle has the
    /// rights `READ`, `WRITE` and `MANAGE`. Errors: `NoMemory`, `TableFull`.
    NotificationCreate = 55,
    /// `notification_signal(notification [WRITE], bits)`. Adds bits to those that are set, and wakes
    /// whoever waits for them: one thread, which gets them all. Never waits.
    NotificationSignal = 56,
    /// `notification_wait(notification [READ], deadline) -> bits`. Takes the bits that are set; waits
    /// until there are some. Errors: `TimedOut`, `Gone` (nobody can signal any more).
    NotificationWait = 57,
    /// `notification_bind(notification [READ] or `[`Handle::NONE`]`)`. From now on what is signalled
    /// ends the calling thread's receiving too; `NONE` ends that, as does the end of the handle. A
    /// notification is bound to one thread at most, and a thread to one notification. Errors:
    /// `BadArgument` (it is bound to another thread).
    NotificationBind = 58,
    /// `pci_function(machine [MANAGE], index) -> function`. A handle with all rights on the `index`-th PCI
    /// function of the machine, derived from the machine's. See [`device`]. Errors: `NotFound` past the
    /// last, `Busy` (something of its last holder is left), `TableFull`, `NoMemory`.
    PciFunction = 64,
    /// `pci_info(function [READ], address of a `[`PciInfo`](crate::device::PciInfo)`)`.
    PciInfo = 65,
    /// `pci_read(function [READ], offset, width) -> value`. Reads 1, 2 or 4 bytes of configuration space,
    /// aligned to that. Errors: `BadArgument`, `Gone`.
    PciRead = 66,
    /// `pci_write(function [WRITE], offset, width, value)`. Errors: as `pci_read`, and `NoRight` for
    /// registers that are the kernel's: see [`device`].
    PciWrite = 67,
    /// `pci_bar(function [MANAGE], bar) -> memory`. The registers behind a memory BAR, 0–5, to be attached
    /// like any memory; derived from the function's handle. It ends before the page where the MSI-X table
    /// begins. Errors: `BadArgument` (not a memory BAR), `NotSupported` (nothing of it can be given out),
    /// `Gone`, `NoMemory`, `TableFull`.
    PciBar = 68,
    /// `pci_command(function [MANAGE], set) -> set before`. Turns the [`Command`](crate::device::Command)
    /// bits of the set on and the others off. Errors: `BadArgument` (other bits), `Gone`.
    PciCommand = 69,
    /// `pci_interrupt(function [MANAGE], vector) -> interrupt`. A handle with all rights on one of the
    /// interrupts that [`PciInfo`](crate::device::PciInfo) counts, derived from the function's. Errors:
    /// `BadArgument` (no such vector), `NotSupported`, `NoMemory` (no source is left in the machine),
    /// `Gone`, `TableFull`.
    PciInterrupt = 70,
    /// `interrupt_bind(interrupt [MANAGE], notification [WRITE] or `[`Handle::NONE`]`, bits)`. From now on it
    /// signals these bits, and nothing it signalled before; it is acknowledged. `NONE` ends that. Errors:
    /// `BadArgument` (no bits), `Gone`.
    InterruptBind = 71,
    /// `interrupt_acknowledge(interrupt [MANAGE])`. It may come again: once it has come it does not until
    /// then. What the device signalled meanwhile comes at once. Errors: `Gone`.
    InterruptAcknowledge = 72,
    /// `dma_create(function [MANAGE], length) -> memory`. Zeroed memory that the function can reach, in one
    /// piece on the bus, charged to the caller's budget until nothing names or maps it *and* the function
    /// has been reset; derived from the function's handle, with READ and WRITE. The length is as
    /// for `memory_create`. Errors: as there, `TableFull` too for more than
    /// [`MAX_DMA`](crate::device::MAX_DMA) in one function, `Gone`.
    DmaCreate = 73,
    /// `dma_address(function [READ], memory [READ], offset) -> bus address` of a byte of what `dma_create`
    /// made for this function. Errors: `WrongObject` (other memory), `BadArgument` (beyond its end), `Gone`.
    DmaAddress = 74,
}

numbers! {
    /// Why a call failed. 0 is success and has no name.
    Error:
    /// There is no call with this number.
    BadCall = 1,
    /// The slot is empty or out of range.
    BadHandle = 2,
    /// The object is not of the kind the call wants.
    WrongObject = 3,
    /// The handle lacks a right.
    NoRight = 4,
    /// A value is out of its range.
    BadArgument = 5,
    /// A pointer argument is not wholly readable (or writable) user memory.
    BadAddress = 6,
    /// The budget or the machine has no memory left for it.
    NoMemory = 7,
    /// The capability table is full.
    TableFull = 8,
    /// There is nothing by that name or index.
    NotFound = 9,
    /// The file is not a program this machine can run.
    BadProgram = 10,
    /// The object has ended.
    Gone = 11,
    /// The machine cannot do this.
    NotSupported = 12,
    /// Something must be registered first.
    NotRegistered = 13,
    /// The deadline has passed.
    TimedOut = 14,
    /// No exception has stopped the thread.
    NotStopped = 15,
    /// Something is left of its last holder: again later.
    Busy = 19,
}

numbers! {
    /// What a handle is on.
    Kind:
    Process = 1,
    Thread = 2,
    Console = 3,
    Timer = 4,
    Archive = 5,
    Machine = 6,
    Memory = 7,
    Attachment = 8,
    Endpoint = 9,
    Reply = 10,
    Notification = 11,
    Interrupt = 12,
    PciFunction = 13,
    /// What faults go by: see [`exception`].
    Handler = 14,
}

numbers! {
    /// What a mapping allows. There is no number for writable and executable.
    Protection:
    Read = 1,
    ReadWrite = 2,
    ReadExecute = 3,
}

numbers! {
    /// Which CPUs a set is of.
    CpusThat:
    /// Those that run, and take threads.
    AreOn = 0,
    /// All of the machine, whether they run, were turned off or have not come up yet.
    Exist = 1,
}

/// An index into the caller's capability table. 0 is never valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Handle(pub u32);

impl Handle {
    /// Names nothing.
    pub const NONE: Self = Self(0);
}

/// Handles are below this. Not every number below it can be one.
pub const TABLE_SLOTS: u32 = 1 << 17;

bitflags::bitflags! {
    /// What a handle allows. What each right means for an object is said at the calls.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Rights: u32 {
        const READ = 1;
        const WRITE = 2;
        const EXECUTE = 4;
        const MAP = 8;
        const WAIT = 16;
        const MANAGE = 32;
    }
}

/// Where a new process finds what it was given. The kernel fills [`PROCESS`](initial::PROCESS);
/// the others are the grants of the [`SpawnRequest`], in order, and may be empty. `init` is given
/// all of them.
pub mod initial {
    use super::Handle;
    /// The process itself.
    pub const PROCESS: Handle = Handle(1);
    /// First grant.
    pub const CONSOLE: Handle = Handle(2);
    /// Second grant.
    pub const TIMER: Handle = Handle(3);
    /// Third grant.
    pub const ARCHIVE: Handle = Handle(4);
    /// Fourth grant.
    pub const MACHINE: Handle = Handle(5);
}

/// Most bytes one `console_write` takes.
pub const CONSOLE_CHUNK: usize = 256;
/// Most bytes one `archive_read` copies.
pub const ARCHIVE_CHUNK: usize = 4096;
/// Most bytes of arguments a process can be started with.
pub const MAX_ARGS: usize = 4096;
/// Most grants in a [`SpawnRequest`].
pub const MAX_GRANTS: usize = 16;
/// Bytes of a program's name, at most.
pub const MAX_NAME: usize = 64;
/// Bytes of the stack a process starts with. Below it lies an unmapped guard.
pub const STACK_BYTES: u64 = 128 * 1024;
/// The smallest page, in bytes.
pub const PAGE_BYTES: u64 = 4096;
/// The largest memory object, in bytes, if the budget gives that much.
pub const MAX_MEMORY: u64 = 1 << 30;
/// The largest one that a device reaches, in bytes.
pub const MAX_DMA: u64 = 2 << 20;
/// The largest one whose pages come from a pager.
pub const MAX_PAGED: u64 = 2 << 20;
/// Most bytes of one `memory_supply`.
pub const MAX_SUPPLY: u64 = 64 * 1024;
/// Memory objects that the pages of a paged one can come from, at most.
pub const MAX_SOURCES: usize = 4;
/// The smallest budget of a thread, in nanoseconds.
pub const MIN_BUDGET: u64 = 10_000;
/// Most bytes of one `code_publish`.
pub const MAX_PUBLISH: u64 = 64 * 1024;
/// The priority of a process whose maker asked for none.
pub const DEFAULT_PRIORITY: u64 = 100;

// # How a process starts
// The entry point is called with the address and the length in bytes of the argument block: the
// arguments, each followed by a zero byte; the first is the program's name. The block is mapped
// read-only. The stack pointer is as the machine's ABI wants it at a function's entry. All other
// registers are zero.

/// One handle for a child.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Grant {
    /// The maker's handle, or [`Handle::NONE`] to leave the child's slot empty.
    pub handle: Handle,
    /// [`Rights`] bits; the child gets those the maker has too. Unknown bits: `BadArgument`.
    pub rights: u32,
}

/// What to start.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SpawnRequest {
    /// The program's name in the archive: UTF-8, at most [`MAX_NAME`] bytes.
    pub name: u64,
    pub name_len: u64,
    /// The argument block, see above; at most [`MAX_ARGS`] bytes, the last byte zero, not empty.
    pub args: u64,
    pub args_len: u64,
    /// `Grant`s; at most [`MAX_GRANTS`].
    pub grants: u64,
    pub grants_len: u64,
    /// Bytes of memory the process may have charged, out of the maker's budget; `u64::MAX` for
    /// no limit of its own.
    pub memory: u64,
    /// 0–255, at most the maker's own.
    pub priority: u64,
    /// Nanoseconds of CPU time that its threads and those of the processes it makes have together in each
    /// period, as `thread_budget` says; 0 and 0 for no budget of its own. A process that has one, or was made
    /// by one that has, can give none.
    pub cpu_budget: u64,
    pub cpu_period: u64,
}

/// What `process_info` writes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProcessInfo {
    /// 0 while it lives, else 1.
    pub ended: u64,
    /// Valid when ended.
    pub report: u64,
    /// Bytes charged to it now.
    pub memory: u64,
    /// Bytes that may be charged to it, as far as its own limit goes.
    pub memory_limit: u64,
    /// CPU time its threads have used, in nanoseconds.
    pub cpu_time: u64,
    pub priority: u64,
}

/// What `handle_info` writes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HandleInfo {
    /// A [`Kind`] number.
    pub kind: u64,
    /// [`Rights`] bits.
    pub rights: u64,
    /// 0: none.
    pub badge: u64,
    /// Of an attachment: where it begins.
    pub address: u64,
    /// Of a memory object or an attachment: its bytes.
    pub length: u64,
}

/// How a process ended, in one word: bits 0–7 the status, bits 8–15 a [`Ending`] number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExitReport(pub u64);

numbers! {
    /// Why a process ended.
    Ending:
    /// It called `exit`.
    Exited = 0,
    /// A fault killed it; the status is [`FAULT_STATUS`](crate::FAULT_STATUS). The console says which.
    Fault = 1,
    /// Somebody called `process_kill`; the status is [`KILL_STATUS`](crate::KILL_STATUS).
    Killed = 2,
}

/// The status of a process that a fault ended.
pub const FAULT_STATUS: u8 = 139;
/// The status of a process that was killed.
pub const KILL_STATUS: u8 = 137;

impl ExitReport {
    pub const fn new(ending: Ending, status: u8) -> Self {
        Self((ending as u64) << 8 | status as u64)
    }
    pub const fn status(self) -> u8 {
        self.0 as u8
    }
    pub const fn ending(self) -> Option<Ending> {
        Ending::from_number(self.0 >> 8 & 0xff)
    }
}

// # The console protocol
// Lines that start with `@spandrel ` are for the host. A run ends with exactly one of
//   @spandrel exit STATUS          0–255: `power_off`, or init ended
//   @spandrel failed               a panic, a kernel fault, or unusable boot input
// and may hold
//   @spandrel frame ADDRESS        one line per backtrace entry, hexadecimal, innermost first
//   @spandrel trace CPU RECORDS    in test kernels, before the end: `trace::Record`s of one CPU,
//                                  oldest first, 64 hexadecimal digits each; many lines

/// What every protocol line starts with.
pub const PROTOCOL: &str = "@spandrel ";
