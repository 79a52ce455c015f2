//! The clauses: every promise of the architecture layer, by number.
//!
//! This file is their one source. An id, once given, keeps its meaning; it appears in the trait
//! documentation, in the name of every test that checks it and in the mutant that breaks it.
//! *Level* is the step of a port at which the clause should turn green (see the porting guide).

/// Where a clause can be seen to hold or to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Oracle {
    /// What a program sees.
    Behaviour,
    /// The per-CPU event rings.
    Trace,
    /// The executed instructions, watched from outside.
    Instructions,
    /// The simulated machine.
    Model,
    /// The linked image.
    Image,
    /// Portable arithmetic, on the host.
    Host,
}

/// One promise.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    pub id: &'static str,
    pub level: u8,
    pub law: &'static str,
    pub relied_on_by: &'static str,
    pub checked_by: &'static [Oracle],
    /// What an emulator hides, if anything.
    pub unseen: Option<&'static str>,
}

macro_rules! clauses {
    ($($name:ident $id:literal $level:literal [$($oracle:ident)*] $law:literal ; by $relied:literal $(; unseen $unseen:literal)?)*) => {
        /// A clause id.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u16)]
        pub enum Clause { $(#[doc = $law] $name),* }

        /// All clauses, in the order of [`Clause`].
        pub const ALL: &[Text] = &[$(Text {
            id: $id, level: $level, law: $law, relied_on_by: $relied,
            checked_by: &[$(Oracle::$oracle),*],
            unseen: { #[allow(unused_mut, unused_assignments)] { let mut unseen: Option<&'static str> = None; $(unseen = Some($unseen);)? unseen } },
        }),*];
    };
}

clauses! {
    Boot1 "BOOT-1" 1 [Behaviour Host] "The memory map, the command line, the boot image and the list of CPUs arrive complete, sorted and checked." ; by "everything"
    Boot2 "BOOT-2" 1 [Behaviour Host] "No range that the firmware, the image, the initrd or the port still uses is handed out as free." ; by "the frame allocator"
    Boot3 "BOOT-3" 1 [Behaviour] "What the firmware left in its own memory is copied before that memory is reused." ; by "the command line, the initrd"
    Boot4 "BOOT-4" 1 [Behaviour] "A machine without a needed feature is refused with a message that names the feature." ; by "the user"
    Boot5 "BOOT-5" 1 [Behaviour] "Unusable boot input ends the run with a message and a nonzero status; it never hangs and never resets silently." ; by "the user"
    Trap1 "TRAP-1" 2 [Behaviour Model] "The frame holds the user's registers exactly as they were at the trap, and resuming it restores them exactly." ; by "threads, debuggers"
    Trap2 "TRAP-2" 2 [Behaviour] "No kernel value is left in a register when user mode is entered." ; by "isolation"
    Trap3 "TRAP-3" 2 [Behaviour Instructions] "Interrupts are off from entry to return, but for the windows generic code asks for." ; by "every IrqsOff token"
    Trap4 "TRAP-4" 2 [Behaviour] "A fault of the kernel prints its cause, registers and a backtrace and ends the run with a nonzero status at once." ; by "the developer"
    Trap5 "TRAP-5" 2 [Behaviour Model] "A non-maskable interrupt or machine check in a switch window touches no user memory and changes neither current_mm nor loaded." ; by "CTX-2"
    Trap6 "TRAP-6" 5 [Behaviour] "No register value a user program can construct makes the return to user mode fault in kernel mode." ; by "isolation"
    Time1 "TIME-1" 4 [Behaviour] "The clock is monotonic on one CPU and between CPUs that synchronize." ; by "sleep, budgets"
    Time2 "TIME-2" 4 [Behaviour] "A one-shot deadline never fires early without being recognizable as early by the clock." ; by "sleep"
    Time3 "TIME-3" 4 [Behaviour] "A deadline that is already past fires." ; by "sleep"
    Time4 "TIME-4" 4 [Behaviour Model] "An interrupt that becomes pending between the last look at the queues and the halt ends the halt." ; by "idle"
    Time5 "TIME-5" 7 [Behaviour Model] "The threads of a process that has a budget, and of those it makes, get no more of the CPUs than that in each period; what they use beyond it is taken off the next ones." ; by "isolation in time"
    Pte1 "PTE-1" 3 [Host Model] "decode(encode(e)) is e, for every entry the level allows." ; by "the generic walker"
    Pte2 "PTE-2" 3 [Host Model] "A zeroed entry is absent, and absent encodes as zero." ; by "new tables"
    Pte3 "PTE-3" 3 [Host Behaviour Image] "No page is writable and executable, the kernel's own included." ; by "isolation"
    Pte4 "PTE-4" 3 [Instructions Model] "Whoever sees an entry sees what was written to the page or table it names." ; by "zeroed pages, new tables" ; unseen "the missing barrier: TCG walks in program order"
    Pte5 "PTE-5" 3 [Host Behaviour] "Accessed and dirty are recorded where the machine records them, and are never lost by a change of protection." ; by "pagers"
    Pte6 "PTE-6" 3 [Host Model] "A device's registers are mapped as such: accesses to them are not cached, merged or made ahead of time." ; by "user drivers" ; unseen "the memory type: TCG knows no caches"
    Pte7 "PTE-7" 3 [Behaviour Model] "A leaf above the last level maps what the leaves below it would, with the same rights, and goes as one: when it is flushed nobody uses any of it." ; by "large pages"
    Ctx1 "CTX-1" 6 [Model] "Context hooks run with interrupts off." ; by "flush handlers"
    Ctx2 "CTX-2" 6 [Model Trace] "What is loaded is compared; what the caller says was loaded is a hint." ; by "drop_lazy, teardown"
    Ctx3 "CTX-3" 6 [Model Instructions] "A CPU enters the mm's set, then a full barrier, then reads the TLB generation, then loads." ; by "TLB-1" ; unseen "a missing barrier on one thread"
    Ctx4 "CTX-4" 6 [Behaviour Model] "After a switch no other mm's translation is used." ; by "isolation"
    Ctx5 "CTX-5" 6 [Model Trace] "During a switch the CPU counts as holding both mms." ; by "TLB-3, teardown"
    Ctx6 "CTX-6" 6 [Model Trace] "enter_lazy_tlb is called when user code is left for something without an mm, and not on kernel to kernel passes." ; by "CTX-7"
    Ctx7 "CTX-7" 6 [Model Trace] "exit_lazy_tlb is called exactly once per episode that ends in a user of an mm, with the mm that was left." ; by "refcount policy, RET-2"
    Ctx8 "CTX-8" 6 [Model Trace] "use_mm ends a lazy episode like the way to user mode does." ; by "RET-2"
    Ctx9 "CTX-9" 6 [Model Trace Behaviour] "Nothing holds an mm, lazily or not, when its tables are freed." ; by "memory safety"
    Ctx10 "CTX-10" 6 [Model] "The left mm is named, never dereferenced." ; by "memory safety"
    Ctx11 "CTX-11" 6 [Model Instructions] "An mm is loadable on any CPU when new_mm returns: the machine's table entry is visible before the id can be loaded." ; by "switch_mm" ; unseen "a missing ptesync"
    Ctx12 "CTX-12" 6 [Model Behaviour] "A hardware id is reused only after every CPU that might hold translations under it has flushed all levels." ; by "CTX-4"
    Ret1 "RET-1" 5 [Image Model] "Every path to user mode passes return_to_user; the return instructions in the image equal the declared table." ; by "RET-2"
    Ret2 "RET-2" 7 [Instructions Model] "Between a completed sync-core request for an mm and its next user instruction on any CPU, that core serialized." ; by "code modification" ; unseen "stale fetch: TCG never has it"
    Ret3 "RET-3" 5 [Instructions Model] "Interrupts stay off from the last check of what is owed to the return instruction." ; by "RET-2"
    Ret4 "RET-4" 7 [Instructions Model] "A port that says its returns serialize has no return that does not." ; by "RET-2"
    Tlb1 "TLB-1" 7 [Model Instructions] "A flusher changes the entry, raises the generation, then a full barrier, then reads the CPU set." ; by "CTX-3"
    Tlb2 "TLB-2" 6 [Behaviour Model] "When a local flush returns, this CPU can use no old translation, nor walk a freed table." ; by "unmap"
    Tlb3 "TLB-3" 7 [Model Trace] "When a flush returns, no CPU can; a CPU in the switching window is not skipped, and a lazy CPU only where no table is freed." ; by "unmap, teardown"
    Tlb4 "TLB-4" 7 [Model] "A CPU that missed generations forgets all that they were raised for, or everything of the mm." ; by "TLB-3"
    Tlb5 "TLB-5" 7 [Model Behaviour] "Whoever waits for another CPU serves what is asked of itself." ; by "progress"
    Bar1 "BAR-1" 7 [Behaviour Instructions Model] "full_barrier orders stores before it with loads after it." ; by "every site" ; unseen "on a single TCG thread"
    Bar2 "BAR-2" 7 [Behaviour] "membarrier's commands, registrations, errors and their order are those of the Linux interface." ; by "runtimes"
    Bar3 "BAR-3" 7 [Model Behaviour] "membarrier has a full barrier before it samples (a) and after its last sample (c)." ; by "user code" ; unseen "on a single TCG thread"
    Bar4 "BAR-4" 7 [Model Instructions] "A full barrier (d) lies between user accesses under an mm and the store that says the CPU left it." ; by "BAR-3"
    Bar5 "BAR-5" 7 [Model Instructions] "A full barrier (e) lies between the store of current_mm and user accesses under it." ; by "BAR-3"
    Bar6 "BAR-6" 7 [Model Instructions] "The handler of a request has a full barrier before it acknowledges." ; by "BAR-3"
    Smp1 "SMP-1" 7 [Model Behaviour] "An interrupt to another CPU orders what the sender wrote before." ; by "requests"
    Smp2 "SMP-2" 7 [Model Behaviour] "Requests to a CPU may merge; none is lost." ; by "progress"
    Smp3 "SMP-3" 7 [Model Behaviour] "A CPU that comes up starts with clean translations; one that goes down leaves every set." ; by "CTX-4, TLB-3"
    Mig1 "MIG-1" 8 [Model Behaviour] "A thread's accesses before it leaves a CPU are visible where it runs next." ; by "user code"
    Mig2 "MIG-2" 8 [Model Behaviour] "Taking a thread needs nothing of the CPU it last ran on." ; by "progress"
    Mig3 "MIG-3" 8 [Instructions Behaviour] "A reservation of one thread never lets a conditional store of another succeed." ; by "user atomics"
    Mig4 "MIG-4" 8 [Model Image] "What a thread did to caches and to uncached memory is complete before another CPU can take it." ; by "user drivers, code modification" ; unseen "cache operations and uncached stores complete at once"
    Code1 "CODE-1" 7 [Instructions Model] "core_sync forgets instructions fetched before it." ; by "RET-2" ; unseen "stale fetch"
    Code2 "CODE-2" 7 [Instructions Model] "After publish_code, a CPU that serializes fetches the new bytes." ; by "code modification" ; unseen "stale fetch"
    Usr1 "USR-1" 5 [Behaviour Instructions] "Outside a window the kernel cannot touch user pages, where the machine can forbid it." ; by "isolation"
    Usr2 "USR-2" 5 [Behaviour Model] "A fault in a window becomes an error that names the address." ; by "every pointer argument"
    Usr3 "USR-3" 5 [Behaviour Host Model] "Lengths, wrap-around and kernel addresses are refused before a byte moves." ; by "isolation"
    Fpu1 "FPU-1" 5 [Behaviour] "Each thread finds its own vector state, across preemption." ; by "user code"
    Fpu2 "FPU-2" 5 [Behaviour] "No thread finds another's." ; by "isolation"
    Fpu3 "FPU-3" 0 [Image] "The kernel image holds no vector instruction outside the save and restore files." ; by "FPU-1"
    Cap1 "CAP-1" 5 [Behaviour Model] "A handle allows what its rights say, and a copy has no right that its original has not." ; by "isolation"
    Cap2 "CAP-2" 5 [Behaviour Model] "When a revocation returns, everything derived from its root is gone, in every process, and nothing else is." ; by "whoever lends"
    Cap3 "CAP-3" 5 [Behaviour Model] "A moved handle is as derived as before; what was derived from a closed one is its origin's." ; by "CAP-2"
    Cap4 "CAP-4" 7 [Model] "A revocation ends, whatever is derived from what it has not reached yet." ; by "whoever revokes"
    Cap5 "CAP-5" 7 [Model] "A revocation keeps interrupts off, and any lock, for no longer than a few deletions take." ; by "latency of every CPU"
    Cap6 "CAP-6" 7 [Behaviour Model] "A mapping of a memory object allows no more than the capability it was made by, and when that is revoked no CPU uses it any more." ; by "shared memory"
    Cap7 "CAP-7" 5 [Behaviour Model] "A copy between address spaces reads what the one could read and writes what the other could write, and nothing of either when it is gone." ; by "isolation"
    Ipc1 "IPC-1" 5 [Behaviour Model] "A message arrives as it was sent: its words, its label and the badge it was sent by, and nothing else of the sender's registers." ; by "every server; isolation"
    Ipc2 "IPC-2" 5 [Behaviour Model] "Those who wait at an object are served in the order of their priorities, and of their coming inside one." ; by "real-time behaviour"
    Ipc3 "IPC-3" 5 [Behaviour Model] "A deadline ends a wait, never early, and no other wait." ; by "whoever cannot wait for ever"
    Ipc4 "IPC-4" 7 [Behaviour Model] "Nobody waits for what cannot come: when whoever must reply, receive, send or signal is gone, those who wait get an error." ; by "supervisors"
    Ipc5 "IPC-5" 5 [Behaviour Model] "A capability in a message arrives with no more rights than were given it; one that cannot arrives as none, and nothing else of the message is lost." ; by "isolation"
    Ipc6 "IPC-6" 7 [Behaviour Model] "A call is answered at most once, and a reply answers no call but its own." ; by "every client"
    Ipc7 "IPC-7" 5 [Behaviour Model] "A server runs at least at its caller's priority until it replies, along chains of calls." ; by "real-time behaviour"
    Ipc8 "IPC-8" 5 [Behaviour Model] "A server runs on the budget of a caller that has one." ; by "isolation in time"
    Ipc9 "IPC-9" 7 [Behaviour Model] "A bit that is signalled stays until it is taken, and wakes whoever waits for it, at the notification or, bound to it, at an endpoint." ; by "drivers"
    Ipc10 "IPC-10" 5 [Behaviour Model] "A fault of a thread with a handler arrives there as a call that says what happened and where; meanwhile the thread is stopped with its registers exact, and the answer resumes it once, for one instruction if that is asked for." ; by "debuggers and emulators"
    Ipc11 "IPC-11" 5 [Behaviour Model] "Registers that are written through a capability are the thread's when it goes on, and give it nothing that user mode cannot give itself." ; by "isolation"
    Ipc12 "IPC-12" 7 [Behaviour Model] "A fault whose handler is gone, or gives it up, ends the process." ; by "supervisors"
    Ipc13 "IPC-13" 7 [Behaviour Model] "A page of a pager's is there, with what was supplied, before the instruction that touched it is executed again; a call that touched it is made again as if for the first time; without a pager it is an ordinary fault." ; by "user-level paging"
    Dev1 "DEV-1" 9 [Behaviour Model] "Whoever holds a function writes to its configuration space only where that concerns the function alone: never to base addresses, to how it is open to the bus, or to where its interrupts go." ; by "isolation"
    Dev2 "DEV-2" 9 [Model] "Each base address register points into its bridge's window, to pages that no other has." ; by "isolation"
    Dev3 "DEV-3" 9 [Behaviour Model] "When a function's last capability goes it is kept from the bus, then reset, and only then do frames that it reached go back to who paid for them." ; by "memory safety"
    Dev4 "DEV-4" 9 [Model] "The bus address of memory is told to nobody but a holder of both that memory and the function that reaches it." ; by "isolation"
    Dev5 "DEV-5" 9 [Behaviour Model] "An interrupt that has come does not come again before it is acknowledged, and what its device signalled meanwhile is not lost." ; by "drivers"
    Hv1 "HV-1" 9 [Behaviour] "Features are detected, never assumed; without the optional ones everything still works." ; by "portability"
    Hv2 "HV-2" 9 [Behaviour] "The hypervisor is asked as its specification says, and its refusals are handled." ; by "portability"
}

impl Clause {
    /// The clause's text.
    pub fn text(self) -> &'static Text {
        &ALL[self as usize]
    }
    /// Its stable id, such as `CTX-7`.
    pub fn id(self) -> &'static str {
        self.text().id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids are unique, and every clause can be checked by something.
    #[test]
    fn ids_are_unique_and_checked() {
        for (index, text) in ALL.iter().enumerate() {
            assert!(!text.checked_by.is_empty(), "{} has no oracle", text.id);
            assert!(text.level <= 9);
            assert!(ALL[..index].iter().all(|other| other.id != text.id), "{} twice", text.id);
        }
        assert_eq!(Clause::Ctx7.id(), "CTX-7");
    }
}
