//! The mutants, one row each: name, id, the clause it breaks, what is changed, and who must notice;
//! where no killer boots a machine, why: `unseen`, here or in the clause.

use crate::Clause;
use crate::mutant::{Killer, Killer::*, On::*, Row};

macro_rules! mutants {
    ($($name:ident $id:literal $clause:ident $change:literal by [$($killer:expr),* $(,)?] $(unseen $unseen:literal)?;)*) => {
        /// A mutant. Each variant stands at the place, or places, where it changes something.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u16)]
        pub enum Mutant { $(#[doc = $change] $name),* }

        /// All mutants, in the order of [`Mutant`].
        pub const ALL: &[Row] = &[$(Row {
            id: $id,
            clause: Clause::$clause,
            change: $change,
            killers: { const KILLERS: &[Killer] = &[$($killer),*]; KILLERS },
            unseen: { #[allow(unused_mut, unused_assignments)] { let mut unseen: Option<&'static str> = None; $(unseen = Some($unseen);)? unseen } },
        }),*];
    };
}

mutants! {
    M1 "m1" Bar4 "No barrier (d) between user code and the store that says the CPU left its mm." by [
        Schedules("bar_4_bar_5_a_round_trip_between_sample_and_start"),
        Loom("ctx_5_a_switch_is_seen_with_its_own_target"),
        Loom("bar_3_message_passing"),
        Loom("bar_3_message_passing_with_a_switch"),
        Trace(Both, "bar_4_bar_5_a_round_trip_between_sample_and_start")];
    M2 "m2" Bar5 "No barrier (e) after the stores that say a CPU has an mm." by [
        Schedules("bar_4_bar_5_a_round_trip_between_sample_and_start"),
        Loom("bar_3_store_buffering_with_a_switch"),
        Loom("bar_3_store_buffering_with_the_end_of_a_lazy_episode"),
        Loom("ret_2_sync_core_against_a_switch"),
        Loom("bar_2_registration_against_switch"),
        Loom("tlb_1_switch_against_flush"),
        Trace(Both, "bar_4_bar_5_a_round_trip_between_sample_and_start")];
    M3 "m3" Bar1 "Full barriers order all but a store before a load: `lwsync`." by [
        Schedules("bar_1_store_buffering_in_the_kernel"),
        Loom("bar_3_store_buffering_with_a_switch"),
        Loom("bar_3_store_buffering_with_the_end_of_a_lazy_episode"),
        Stream(Ppc64le, "bar_4_bar_5_a_round_trip_between_sample_and_start")];
    M4 "m4" Bar3 "membarrier has no barrier (a) before it samples." by [
        Schedules("bar_3_commands_reach_the_cpus_that_run_the_process"),
        Loom("bar_3_store_buffering_with_a_switch"),
        Loom("ret_2_sync_core_against_a_switch"),
        Trace(Both, "bar_3_commands_reach_the_cpus_that_run_the_process"),
        Host("kernel", "bar_3_commands_reach_the_cpus_that_run_the_process")];
    M5 "m5" Bar3 "membarrier has no barrier (c) after its last sample." by [
        Schedules("bar_3_commands_reach_the_cpus_that_run_the_process"),
        Loom("bar_3_message_passing")];
    M6 "m6" Bar6 "The handler of a membarrier request has no barrier." by [
        Schedules("bar_3_commands_reach_the_cpus_that_run_the_process"),
        Trace(Both, "bar_3_commands_reach_the_cpus_that_run_the_process"),
        Case(Both, "bar_3_commands_reach_the_cpus_that_run_the_process"),
        Stream(X86_64, "bar_3_commands_reach_the_cpus_that_run_the_process")];
    M22 "m22" Ctx1 "A CPU serves requests between the store that says it switches and the load, as if interrupts were on." by [
        Trace(Both, "tlb_3_a_cpu_in_the_switching_window"),
        Host("kernel", "tlb_3_a_cpu_in_the_switching_window")];
    M23 "m23" Ctx3 "A CPU joins the mm's set after it has loaded the tables." by [
        Schedules("tlb_3_a_remote_unmap_faults"),
        Loom("tlb_1_switch_against_flush"),
        Trace(Both, "ctx_7_an_episode_ends_in_another_process"),
        Host("kernel", "ctx_7_an_episode_ends_in_another_process")];
    M24 "m24" Ctx3 "The barrier (e) lies before the store that says a CPU switches." by [
        Schedules("bar_2_registering_under_switches"),
        Loom("tlb_1_switch_against_flush"),
        Trace(Both, "ctx_7_an_episode_ends_in_another_process"),
        Host("kernel", "ctx_5_bar_4_bar_5_the_words_at_every_hook")];
    M25 "m25" Tlb3 "A flusher skips a CPU that is switching to the mm." by [
        Schedules("tlb_3_a_flush_waits_for_a_switch"),
        Loom("tlb_1_switch_against_flush"),
        Case(Both, "tlb_3_a_flush_waits_for_a_switch"),
        Host("kernel", "tlb_3_a_flush_waits_for_a_switch")];
    M26 "m26" Tlb3 "A flusher skips lazy CPUs though tables are freed." by [
        Schedules("tlb_3_tables_are_freed_while_lazy"),
        Trace(Both, "tlb_3_tables_are_freed_while_lazy"),
        Host("kernel", "tlb_3_a_lazy_cpu_is_asked_when_tables_are_freed")];
    M27 "m27" Tlb4 "A CPU whose lazy episode ends in the same mm does not compare generations." by [
        Trace(Both, "tlb_4_flushed_while_lazy"),
        Host("kernel", "tlb_4_flushed_while_lazy")];
    M28 "m28" Tlb4 "A CPU that missed several generations forgets what the last was raised for." by [
        Case(Both, "tlb_4_many_flushes_while_lazy"),
        Host("protocol", "tlb_4_a_gap_is_what_changed_or_everything")];
    M29 "m29" Ctx9 "A CPU that a teardown asks lets go of an mm that is active there." by [
        Schedules("ctx_4_ids_are_reused"),
        Host("kernel", "ctx_9_an_active_cpu_lets_go_when_it_becomes_lazy")]
        unseen "a CPU that is asked while it runs the process: a window of some instructions on the way out";
    M30 "m30" Tlb3 "A flush does not wait for the CPUs it asked, so pages are freed before." by [
        Case(Both, "tlb_3_a_flush_waits_for_a_switch"),
        Host("kernel", "tlb_3_a_flush_waits_for_a_switch")];
    M31 "m31" Ctx9 "A teardown misses one CPU that holds the mm." by [
        Case(Both, "ctx_9_teardown_while_lazy_everywhere"),
        Host("kernel", "ctx_9_teardown_while_lazy_everywhere")];
    M32 "m32" Smp3 "A CPU that goes off says so before it has let go of its mm." by [
        Trace(Both, "ctx_9_a_cpu_goes_off_while_lazy"),
        Host("kernel", "ctx_9_a_cpu_goes_off_while_lazy")];
    M33 "m33" Ctx12 "Retired hardware ids are clean without a flush of everything." by [
        Trace(Ppc64le, "ctx_4_ids_are_reused"),
        Host("kernel", "ctx_12_ids_roll_over")];
    M37 "m37" Tlb3 "A flush invalidates on its own CPU only." by [
        Case(Both, "tlb_3_a_remote_unmap_faults"),
        Stream(X86_64, "tlb_3_a_remote_unmap_faults"),
        Host("kernel", "tlb_3_a_flush_returns_when_every_cpu_has_forgotten")];
    M38 "m38" Tlb2 "A flush invalidates on other CPUs only." by [
        Case(Both, "tlb_2_the_cpu_that_unmaps"),
        Stream(X86_64, "tlb_3_a_remote_unmap_faults"),
        Host("kernel", "tlb_2_the_cpu_that_unmaps")];
    HintIsBelieved "hint-is-believed" Ctx2 "A switch loads nothing if the caller says that it is loaded already." by [
        Host("arch_model", "ctx_2_what_is_loaded_is_compared")]
        unseen "the kernel's hint is never wrong: only a test gives a wrong one";
    SameNumberSameMm "same-number-same-mm" Ctx4 "A switch loads nothing if the number of what is loaded is that of what is wanted." by [
        Case(X86_64, "ctx_4_ids_are_reused"),
        Host("kernel", "ctx_4_ids_are_reused")];
    SameTablesSameMm "same-tables-same-mm" Ctx2 "A switch loads nothing if the tables that are loaded are those that are wanted." by [
        Case(X86_64, "ctx_2_a_switch_to_the_same")];
    LeftIsFollowed "left-is-followed" Ctx10 "The end of a lazy episode looks up the mm that was left." by [
        Host("kernel", "ctx_10_what_was_left_may_be_gone")]
        unseen "no port looks up what was left: it is broken in the simulated machine's";
    LocalFlushDoesNothing "local-flush-does-nothing" Tlb2 "A port's flush of some pages does nothing." by [
        Case(Both, "tlb_2_the_cpu_that_unmaps"),
        Stream(X86_64, "tlb_3_a_remote_unmap_faults"),
        Host("kernel", "tlb_2_the_cpu_that_unmaps")];
    LocalFlushOnePageFewer "local-flush-one-page-fewer" Tlb2 "A port's flush of some pages leaves one out." by [
        Case(Both, "tlb_2_the_cpu_that_unmaps"),
        Host("kernel", "tlb_2_the_cpu_that_unmaps")];
    SwitchForgetsWhatItLeaves "switch-forgets-what-it-leaves" Ctx5 "A CPU that switches from one mm to another counts as holding the other only." by [
        Loom("ctx_9_the_last_walk_comes_before_the_free"),
        Case(Both, "ctx_5_a_switch_holds_what_it_leaves"),
        Host("kernel", "ctx_5_a_switch_holds_what_it_leaves")];
    NoSwitchingState "no-switching-state" Ctx5 "`loaded` says active before the tables are loaded." by [
        Loom("ctx_5_a_switch_is_seen_with_its_own_target"),
        Case(Both, "tlb_3_a_cpu_in_the_switching_window"),
        Host("kernel", "ctx_5_bar_4_bar_5_the_words_at_every_hook")];
    SlotKeepsWhatWasThere "slot-keeps-what-was-there" Ctx4 "A per-CPU number goes to another mm, and what is cached under it stays." by [
        Host("kernel", "ctx_4_ids_are_reused")]
        unseen "per-CPU ids: TCG has no PCIDs";
    LeaveWhatWasLeft "leave-what-was-left" Ctx6 "A pass from one kernel task to the next leaves the mm once more." by [
        Case(Both, "ctx_6_kernel_tasks_in_a_row"),
        Host("kernel", "ctx_6_kernel_tasks_in_a_row")];
    NeverLazy "never-lazy" Ctx6 "No lazy episode begins when user code is left." by [
        Case(Both, "ctx_7_kernel_tasks_reload_nothing"),
        Host("kernel", "ctx_7_idle_and_back_ends_the_episode_once")];
    DropSaidTooSoon "drop-said-too-soon" Ctx9 "A CPU says that it holds nothing before it has left the tables." by [
        Host("kernel", "ctx_5_bar_4_bar_5_the_words_at_every_hook")]
        unseen "a window of some instructions between the store and the load";
    IdForTwo "id-for-two" Ctx11 "A hardware id is given to a second mm while the first lives." by [
        Case(Ppc64le, "ctx_4_ids_are_reused"),
        Host("kernel", "ctx_12_ids_roll_over")];
    TablesStayCached "tables-stay-cached" Tlb2 "A local flush leaves the way to freed tables cached." by [
        Host("kernel", "tlb_3_tables_are_freed_while_lazy")]
        unseen "TCG caches no way to a table";
    SeenTooSoon "seen-too-soon" Tlb3 "A CPU says that it has forgotten before it does." by [
        Host("kernel", "tlb_3_forgotten_comes_before_it_is_said")]
        unseen "a window of some instructions between the store and the flush";
    RewrittenNotes "rewritten-notes" Tlb4 "A note of the flush log that was rewritten is believed." by [
        Loom("tlb_4_a_note_is_read_whole_or_not_at_all"),
        Host("protocol", "tlb_4_a_rewritten_note_is_everything")]
        unseen "a reader between two stores of a writer";
    FlushAsksEveryone "flush-asks-everyone" Tlb3 "A flush interrupts every CPU that ever had the mm." by [
        Case(Both, "tlb_3_what_flushes_cost"),
        Host("kernel", "tlb_3_a_lazy_cpu_is_skipped_and_catches_up")];
    WaitersAreDeaf "waiters-are-deaf" Tlb5 "A CPU that waits for another serves nobody." by [
        Host("kernel", "tlb_5_whoever_waits_serves")]
        unseen "two CPUs that wait for each other at the same time: a script of two windows of some instructions";
    TeardownStorm "teardown-storm" Ctx9 "A teardown interrupts the CPUs that it waits for at every look." by [
        Host("kernel", "ctx_9_an_active_cpu_lets_go_when_it_becomes_lazy")]
        unseen "as often as a looker looks, which depends on the host";
    InterruptBeforeRequest "interrupt-before-request" Smp1 "A CPU is interrupted before it can find what is asked of it." by [
        Host("kernel", "smp_1_a_request_is_there_before_its_interrupt")]
        unseen "an interrupt between two stores";
    InterruptStorm "interrupt-storm" Smp2 "Each request interrupts its target, though one is pending." by [
        Case(Both, "smp_2_requests_merge"),
        Host("kernel", "smp_2_requests_merge")];
    InterruptLost "interrupt-lost" Smp2 "No request interrupts its target." by [
        Case(Both, "bar_3_commands_reach_the_cpus_that_run_the_process"),
        Host("kernel", "smp_2_a_thread_goes_where_nothing_runs")];
    NumberBeforeKinds "number-before-kinds" Smp2 "A request has its number before it can be found." by [
        Loom("smp_2_what_is_acknowledged_was_done"),
        Host("protocol", "smp_2_a_number_that_is_served_was_served_with_all_smaller_ones")]
        unseen "a reader between two stores of a writer";
    DirtyCpus "dirty-cpus" Smp3 "A CPU that was off comes back with the translations it had." by [
        Host("kernel", "smp_3_ids_are_reused_while_a_cpu_is_off")]
        unseen "a CPU that QEMU starts has nothing cached";
    WorkOfTheLastLife "work-of-the-last-life" Smp3 "A CPU that comes up does what it was asked before it went off." by [
        Host("kernel", "smp_3_a_cpu_that_comes_up_stays")]
        unseen "a request between the last look of a CPU that goes off and its end";
    NoBarrierInFlush "flush-no-barrier" Tlb1 "A flusher reads the CPU set without a barrier after it raised the generation." by [
        Schedules("bar_2_registering_under_switches"),
        Loom("tlb_1_switch_against_flush")]
        unseen "a missing barrier: TCG orders more, and the tables of the image see what is not there, not what is skipped";
    NoBarrierInRegistration "register-no-barrier" Bar2 "A registration samples CPUs without a barrier after it stored the bit." by [
        Loom("bar_2_registration_against_switch")]
        unseen "a missing barrier, as flush-no-barrier";
    NoBarrierGoingOff "offline-no-barrier" Smp3 "A CPU that goes off looks for requests without a barrier after it said so." by [
        Loom("smp_3_going_off_against_a_request")]
        unseen "a missing barrier, as flush-no-barrier";
    WindowBeforeHalt "window-before-halt" Time4 "Interrupts are let in between the last look and the halt." by [
        Case(Both, "time_4_a_wake_up_before_the_halt"), Host("kernel", "time_4_a_wake_up_before_the_halt")];
    ClearedAfterItsEntry "cleared-after-its-entry" Pte4 "A page is zeroed after its entry was written." by [
        Case(Both, "pte_4_contents_before_the_entry"), Host("kernel", "pte_4_contents_before_the_entry")];
    LastBlockNotCleared "last-block-not-cleared" Pte4 "The last cache block of a page is not zeroed." by [
        Row(Ppc64le, "alloc")];
    LargePagesAreWritable "large-pages-are-writable" Pte7 "A large page can be written whatever was asked for." by [
        Case(Both, "pte_7_large_pages_allow_what_they_should"), Host("kernel", "pte_7_large_pages_allow_what_they_should")];
    LargePageFlushedAsSmall "large-page-flushed-as-small" Pte7 "Only the first page of a large one is flushed when that goes." by [
        Host("kernel", "pte_7_a_large_page_goes_as_a_whole")]
        unseen "a processor forgets all of a large page that it has cached as one, and QEMU all it has";
    OverlapsNotMerged "boot-overlaps" Boot1 "Ranges of the memory map that overlap are not merged." by [
        Host("arch_contract", "boot_1_normalize")]
        unseen "QEMU's memory maps have no overlaps";
    LastCpuForgotten "boot-last-cpu" Boot1 "The last CPU of the list is not started." by [
        Row(Both, "threads"),
        Host("kernel", "boot_1_every_cpu_of_the_list_is_started")];
    HolesCutShort "boot-short-holes" Boot2 "What is cut out of the memory map leaves out its first partial page." by [
        Host("arch_contract", "boot_2_reserve_cuts_whole_pages")]
        unseen "the map is read before the command line";
    AllIsRam "boot-all-is-ram" Boot2 "Reserved ranges of the firmware's map count as RAM." by [
        Host("arch_x86_64", "boot_1_complete")]
        unseen "the map is read before the command line";
    KeptStaysFree "boot-kept-is-free" Boot2 "Memory that the port keeps for itself stays in the free map." by [
        Host("arch_ppc64le", "boot_2_kept_memory_is_not_free")]
        unseen "the map is read before the command line";
    ArchiveIsFree "boot-archive-is-free" Boot3 "The memory of the boot archive is handed out as free." by [
        Case(Both, "boot_3_the_archive_outlives_the_memory"),
        Host("kernel", "boot_3_the_archive_outlives_the_memory")];
    NeededFeatureIgnored "boot-feature-ignored" Boot4 "A machine without a needed feature is not refused." by [
        Host("arch_x86_64", "boot_4_the_first_that_is_missing_is_named")]
        unseen "features are looked at before the command line is read";
    RefusalThatSucceeds "boot-refusal-succeeds" Boot5 "A refusal of boot input ends the run as a success." by [
        Host("kernel", "boot_5_bad_input_is_refused")]
        unseen "the machine is off either way: the host reads the line before";
    RegistersNotReloaded "registers-not-reloaded" Trap1 "Another thread is entered with the registers that the last one left." by [
        Case(Both, "trap_1_registers_over_calls")];
    FlagsOfTheInterrupted "flags-of-the-interrupted" Trap1 "Flags, or condition registers, are lost over a trap." by [
        Case(Both, "trap_1_registers_over_preemption")];
    KernelValueInANewFrame "kernel-value-in-a-frame" Trap2 "A new frame has an address of the kernel's in a register." by [
        Case(Both, "trap_2_a_new_thread_finds_nothing"), Host("kernel", "trap_2_a_new_thread_finds_nothing")];
    InterruptsInCalls "interrupts-in-calls" Trap3 "System calls begin with interrupts on for a moment." by [
        Case(Both, "trap_3_no_interrupt_inside_a_call")];
    FaultWithoutRegisters "fault-without-registers" Trap4 "The report of a kernel fault leaves out cause and registers." by [
        Row(Both, "crash-fault"),
        Host("kernel", "trap_4_a_kernel_fault_says_why_and_ends_the_run")];
    NonMaskableNoted "non-maskable-noted" Trap5 "A non-maskable interrupt is noted like one of the timer's." by [
        Case(X86_64, "trap_5_a_non_maskable_interrupt")];
    BadReturnCutShort "bad-return-cut-short" Trap6 "A program counter that cannot be returned to is cut to one that can." by [
        Case(X86_64, "trap_6_restarted_anywhere")];
    ThreadsStartAnywhere "threads-start-anywhere" Trap6 "Entry and stack of a new thread are not looked at." by [
        Case(Both, "trap_6_threads_started_anywhere"), Host("kernel", "trap_6_threads_started_anywhere")];
    CallersAccess "callers-access" Usr1 "A system call runs with the caller's access flag." by [
        Row(X86_64, "trespass-read")];
    InterruptedsAccess "interrupteds-access" Usr1 "A trap is dealt with under the access flag of what it interrupted." by [
        Row(X86_64, "trespass-trap")];
    CallersStep "callers-step" Trap6 "A system call of a program that steps is stepped." by [
        Case(X86_64, "trap_6_deadly_instructions")];
    TablesInSight "tables-in-sight" Trap6 "User mode can ask a CPU other than the first where the kernel's tables are." by [
        Case(X86_64, "trap_6_deadly_instructions")];
    FacilitiesOpen "facilities-open" Trap6 "User mode can use registers that are no thread's." by [
        Case(Ppc64le, "trap_6_deadly_instructions")];
    ClockBehind "clock-behind" Time1 "The clocks of all CPUs but the first are a millisecond behind." by [
        Case(Both, "time_1_ping_pong"), Case(Both, "time_1_over_migration"), Host("kernel", "time_1_ping_pong")];
    SleepShort "sleep-short" Time2 "Sleeps end half a millisecond early." by [
        Case(Both, "time_2_no_sleep_is_short"), Host("kernel", "time_2_no_sleep_is_short")];
    DeadlineRoundedDown "deadline-rounded-down" Time2 "A deadline is rounded down to a tick." by [
        Host("kernel", "time_2_a_deadline_is_the_first_tick_that_reads_it")]
        unseen "less than a tick of the clock";
    PastDeadlineDropped "past-deadline-dropped" Time3 "A deadline that has passed when the timer is armed does not fire." by [
        Case(Both, "time_3_deadlines_that_pass_while_they_are_armed")];
    ProcessNotCharged "process-not-charged" Time5 "What a thread has run is not charged to its process." by [
        Row(Both, "supervisor-budget"), Host("kernel", "time_5_a_budget_of_a_process")];
    ChargedFromThePeriodOn "charged-from-the-period-on" Time5 "What a thread ran before another CPU began the period is not charged." by [
        Host("kernel", "time_5_a_period_that_another_cpu_began")]
        unseen "on a machine that is shared, how long a program runs says little";
    ReadOnlyIsWritable "read-only-is-writable" Pte1 "A page for reading is encoded as one for writing." by [
        Case(Both, "pte_3_pages_allow_what_they_should"), Host("arch_x86_64", "pte_1_round_trip"),
        Host("arch_ppc64le", "pte_1_round_trip"), Host("kernel", "pte_3_pages_allow_what_they_should")];
    AbsentIsNotZero "absent-is-not-zero" Pte2 "No page is encoded as something other than zero." by [
        Host("arch_x86_64", "pte_2_zero_is_absent"), Host("arch_ppc64le", "pte_1_round_trip")]
        unseen "hardware asks for the present bit alone";
    WritableIsExecutable "writable-is-executable" Pte3 "A page for writing can be executed." by [
        Case(Both, "pte_3_pages_allow_what_they_should"), Host("arch_x86_64", "pte_3_write_xor_execute")];
    DirtyLost "dirty-lost" Pte5 "That a page was written is not read back from its entry." by [
        Host("arch_x86_64", "pte_5_usage_survives"), Host("arch_ppc64le", "pte_1_round_trip")]
        unseen "no call tells a program which pages were written";
    WindowLeftOpen "window-left-open" Usr1 "A window on user memory is not closed." by [
        Stream(Both, "bar_4_bar_5_a_round_trip_between_sample_and_start"),
        Host("kernel", "usr_2_pages_that_are_not_there")];
    UserPagesOpen "user-pages-open" Usr1 "A CPU other than the first lets the kernel read and write user pages at any time." by [
        Row(X86_64, "trespass-read"), Row(X86_64, "trespass-write")];
    UserCodeIsKernels "user-code-is-kernels" Usr1 "A CPU other than the first lets the kernel execute user pages." by [
        Row(Both, "trespass-execute")];
    FaultInAWindowIgnored "fault-in-a-window-ignored" Usr2 "A copy that faulted counts as done." by [
        Case(Both, "usr_2_pages_that_are_not_there"), Host("kernel", "usr_2_pages_that_are_not_there"),
        Host("arch_model", "usr_2_copies_stop_at_the_fault")];
    RangesNotChecked "ranges-not-checked" Usr3 "The range of a copy is not compared with what is the user's." by [
        Case(Both, "usr_3_addresses_that_are_not_the_users")];
    VectorsNotSaved "vectors-not-saved" Fpu1 "The vector registers of a thread that leaves its CPU are not saved." by [
        Case(Both, "fpu_1_vectors_over_preemption"), Host("kernel", "fpu_1_vectors_over_preemption")];
    VectorsLeftOn "vectors-left-on" Fpu2 "The vector units stay on, with what they hold, when their thread has ended." by [
        Case(X86_64, "fpu_2_a_new_thread_finds_nobodys_vectors"),
        Host("kernel", "fpu_2_a_new_thread_finds_nobodys_vectors")];
    VectorAreaNotInitialized "vector-area-not-initialized" Fpu2 "A thread's first vector registers are what was in the memory for them." by [
        Case(Both, "fpu_2_a_new_thread_finds_nobodys_vectors"),
        Host("kernel", "fpu_2_a_new_thread_finds_nobodys_vectors")];
    SerializeAssumed "serialize-assumed" Hv1 "The core serializes by an instruction that this CPU may not have." by [
        Case(X86_64, "hv_1_with_what_there_is")];
    RangeEndsEarly "range-ends-early" Hv2 "The hypervisor is asked to forget a page less than there are." by [
        Host("arch_ppc64le", "hv_2_rpt_invalidate_of_a_range")]
        unseen "TCG lets the guest use tlbie: the hypervisor is not asked";
    TraceLies "trace-lies" Ret2 "A core serialization that is owed before user mode is recorded and not executed." by [
        Stream(X86_64, "ret_2_the_caller_too")];
    TraceLiesOfBarriers "trace-lies-barrier" Bar4 "Full barriers are recorded and not executed." by [
        Stream(Both, "bar_4_bar_5_a_round_trip_between_sample_and_start")];
    M7 "m7" Ret2 "A sync-core membarrier leaves the caller's own CPU out." by [
        Host("kernel", "ret_2_no_order_of_steps_runs_old_code_on_x86"),
        Case(X86_64, "ret_2_the_caller_too"),
        Host("kernel", "ret_2_the_caller_too")];
    M8 "m8" Ctx7 "A lazy episode that ends in the same mm ends without exit_lazy_tlb." by [
        Case(Both, "ctx_7_kernel_tasks_reload_nothing"),
        Host("kernel", "ctx_7_idle_and_back_ends_the_episode_once")];
    M9 "m9" Ctx8 "A kernel task that adopts the mm that its CPU holds lazily does not end the episode." by [
        Case(Both, "bar_3_a_task_that_adopted_is_asked"),
        Host("kernel", "bar_3_a_task_that_adopted_is_asked")];
    M10 "m10" Ctx7 "The end of a lazy episode takes for granted that the lazy mm is the next one." by [
        Case(Both, "ctx_7_an_episode_ends_in_another_process"),
        Host("kernel", "ctx_7_the_episode_ends_with_the_mm_that_was_left")];
    M11 "m11" Ctx7 "exit_lazy_tlb is told the next mm in place of the one that was left." by [
        Trace(Both, "ctx_7_an_episode_ends_in_another_process"),
        Host("kernel", "ctx_7_an_episode_ends_in_another_process")];
    M12 "m12" Ctx6 "exit_lazy_tlb is called when one kernel task follows another." by [
        Case(Both, "ctx_7_kernel_tasks_reload_nothing"),
        Host("kernel", "ctx_7_kernel_tasks_reload_nothing")];
    M13 "m13" Ret2 "The handler of a sync-core request relies on the interrupt's return." by [
        Host("kernel", "ret_2_no_order_of_steps_runs_old_code_on_x86"),
        Case(X86_64, "bar_3_commands_reach_the_cpus_that_run_the_process"),
        Host("kernel", "bar_3_commands_reach_the_cpus_that_run_the_process")];
    M14 "m14" Ret2 "The handler arms nothing if its CPU is about to choose another thread." by [
        Host("kernel", "ret_2_no_order_of_steps_runs_old_code_on_x86"),
        Case(X86_64, "ret_2_a_sibling_that_goes_before"),
        Host("kernel", "ret_2_a_sibling_that_goes_before")];
    M15 "m15" Ret2 "Only the exits of system calls settle what is owed." by [
        Host("kernel", "ret_2_no_order_of_steps_runs_old_code_on_x86"),
        Case(X86_64, "bar_3_commands_reach_the_cpus_that_run_the_process"),
        Host("kernel", "ret_2_an_adopted_mm_hides_no_request")];
    M16 "m16" Ret2 "The sync generation that is compared was read before the CPU said that it enters the mm." by [
        Schedules("ret_2_a_request_before_the_store"),
        Case(X86_64, "ret_2_a_request_before_the_store"),
        Host("kernel", "ret_2_a_request_before_the_store")];
    M17 "m17" Ret2 "The sync generation is raised after the sample." by [
        Schedules("ret_2_entered_after_the_sample"),
        Host("kernel", "ret_2_no_order_of_steps_runs_old_code_where_nothing_serializes"),
        Loom("ret_2_sync_core_against_a_switch"),
        Case(X86_64, "ret_2_entered_after_the_sample"),
        Host("kernel", "ret_2_entered_after_the_sample")];
    M18 "m18" Bar3 "The sampler asks what the MMU holds: a CPU in a switch is left out." by [
        Loom("bar_3_store_buffering_with_a_switch"),
        Case(Both, "bar_3_a_cpu_in_a_switch_is_asked"),
        Host("kernel", "bar_3_a_cpu_in_a_switch_is_asked")];
    M19 "m19" Bar3 "No sampler sees that a kernel task uses an mm." by [
        Case(Both, "bar_3_a_task_that_adopted_is_asked"),
        Host("kernel", "bar_3_a_task_that_adopted_is_asked")];
    M20 "m20" Bar2 "A registration returns before the CPUs that run the process know of it." by [
        Case(Both, "bar_2_a_registration_waits_for_every_cpu"),
        Host("kernel", "bar_2_a_registration_waits_for_every_cpu")];
    M21 "m21" Bar2 "A new process has the registrations of its maker." by [
        Schedules("bar_2_a_new_process_starts_unregistered"),
        Case(Both, "bar_2_a_new_process_starts_unregistered"),
        Host("kernel", "bar_2_a_new_process_starts_unregistered")];
    M40 "m40" Bar3 "Sync-core returns success and does nothing." by [
        Case(X86_64, "bar_3_commands_reach_the_cpus_that_run_the_process"),
        Case(Both, "bar_2_errors_are_those_of_linux"),
        Host("kernel", "bar_3_commands_reach_the_cpus_that_run_the_process")];
    M41 "m41" Code2 "Code is written back to memory, and the instruction caches keep what they have." by [
        Stream(Ppc64le, "bar_2_a_new_process_starts_unregistered"),
        Stream(Ppc64le, "code_2_cross_modifying_code")];
    WrongBlockPublished "wrong-block-published" Code2 "The instruction caches forget the line behind what was stored." by [
        Stream(Ppc64le, "code_2_cross_modifying_code")];
    M42 "m42" Ret2 "The end of a lazy episode takes the core for serialized." by [
        Host("kernel", "ret_2_no_order_of_steps_runs_old_code_on_x86"),
        Case(X86_64, "ret_2_an_adopted_mm_hides_no_request"),
        Host("kernel", "ret_2_an_adopted_mm_hides_no_request")];
    M43 "m43" Mig2 "A CPU that takes a thread waits until the CPU it takes it from agrees." by [
        Case(Both, "mig_2_an_idle_cpu_takes_from_a_stuck_one"),
        Host("kernel", "mig_2_an_idle_cpu_takes_from_a_stuck_one")];
    M44 "m44" Bar1 "A full barrier keeps only the compiler from reordering." by [
        Schedules("bar_1_store_buffering_in_the_kernel"),
        Case(X86_64, "bar_1_store_buffering_in_the_kernel"),
        Stream(Both, "bar_4_bar_5_a_round_trip_between_sample_and_start")];
    SuccessForUnknown "membarrier-unknown-succeeds" Bar2 "membarrier answers a command that does not exist with success." by [
        Case(Both, "bar_2_errors_are_those_of_linux"),
        Host("kernel", "bar_2_errors_are_those_of_linux")];
    FlagsTakenForNothing "membarrier-flags-ignored" Bar2 "membarrier ignores flags that it does not know." by [
        Case(Both, "bar_2_errors_are_those_of_linux"),
        Host("kernel", "bar_2_errors_are_those_of_linux")];
    RegistrationNotAsked "membarrier-unregistered-works" Bar2 "A private command works without its registration." by [
        Case(Both, "bar_2_each_registration_allows_one_command"),
        Host("kernel", "bar_2_each_registration_allows_one_command")];
    QueryHidesSyncCore "membarrier-query-lies" Bar2 "The answer to QUERY leaves a command out that works." by [
        Case(Both, "bar_2_the_query_mask_is_the_truth"),
        Host("kernel", "bar_2_the_query_mask_is_the_truth")];
    RegistrationSkipsSelf "register-not-here" Bar2 "A registration is told to all CPUs that run the process but the caller's own." by [
        Host("kernel", "bar_3_global_expedited_reaches_the_registered")]
        unseen "the next switch of that CPU tells it as well, and on a machine one may come";
    AsksNobody "membarrier-is-a-fence" Bar3 "membarrier is a barrier of the caller's CPU alone." by [
        Case(Both, "bar_3_commands_reach_the_cpus_that_run_the_process"),
        Host("kernel", "bar_3_commands_reach_the_cpus_that_run_the_process")];
    RseqToAll "rseq-flag-ignored" Bar3 "The restart command asks every CPU of the process, though one was named." by [
        Case(Both, "bar_3_one_cpu_and_no_other"),
        Host("kernel", "bar_3_one_cpu_and_no_other")];
    RseqNotRestarted "rseq-no-restart" Bar3 "The handler of the restart command has a barrier, and restarts nothing." by [
        Case(Both, "bar_3_a_sequence_is_started_over"),
        Host("kernel", "bar_3_a_sequence_is_started_over")];
    AcknowledgesFirst "handler-acknowledges-first" Bar6 "The handler acknowledges a request before its barrier." by [
        Loom("smp_1_a_request_lies_between_what_the_asker_did_before_and_after"),
        Host("kernel", "bar_6_the_barrier_comes_before_the_acknowledgement")]
        unseen "a reader between two instructions of the handler";
    HookOnlySometimes "return-without-hook" Ret1 "A call that goes straight back passes no return_to_user." by [
        Host("kernel", "ret_1_every_call_passes_the_return_hook")]
        unseen "the hook is code of the same function: only the host counts its calls";
    LooksAgain "return-served-late" Ret3 "Requests are served after the last look at what is owed." by [
        Host("kernel", "ret_2_no_order_of_steps_runs_old_code_on_x86"),
        Host("kernel", "ret_3_nothing_is_served_after_the_last_look")]
        unseen "a request between the last look and the return instruction";
    ReturnsTrusted "return-trusted" Ret4 "A port with returns that do not serialize says that all do." by [
        Case(X86_64, "ret_2_the_caller_too"),
        Host("kernel", "ret_2_an_armed_core_sync_reaches_the_return_hook_once")];
    LeavesIncomplete "leaves-incomplete" Mig4 "What a thread did to caches and devices may still be under way when another CPU takes it." by [
        Host("kernel", "mig_4_what_a_thread_did_is_complete_before_it_is_ready")]
        unseen "TCG completes cache operations and uncached stores at once";
    MovesUnsaved "moves-unsaved" Mig1 "A thread that must go elsewhere leaves its vector registers behind." by [
        Row(Both, "migrate")];
    CoreSyncEmpty "core-sync-empty" Code1 "core_sync does nothing." by [
        Stream(X86_64, "ret_2_the_caller_too"),
        Stream(X86_64, "code_2_cross_modifying_code"),
        Host("kernel", "ret_2_an_armed_core_sync_reaches_the_return_hook_once")];
    CodeUnpublished "code-unpublished" Code2 "Pages that can be executed are not published." by [
        Stream(Ppc64le, "code_2_cross_modifying_code"),
        Host("kernel", "code_2_what_can_be_executed_is_published")];
    SeenRelaxed "seen-relaxed" Tlb3 "What a CPU did with old translations is not ordered before it says it forgot them." by [
        Schedules("tlb_3_a_remote_unmap_faults"),
        Loom("tlb_3_the_last_use_comes_before_the_free")]
        unseen "an order of two accesses: TCG's CPUs store in order";
    LoadedRelaxed "loaded-relaxed" Ctx9 "What a CPU did with an mm is not ordered before it says it holds another." by [
        Schedules("ctx_9_teardown_while_lazy_everywhere"),
        Loom("ctx_9_the_last_walk_comes_before_the_free")]
        unseen "an order of two accesses: TCG's CPUs store in order";
    GenerationRelaxed "generation-relaxed" Tlb4 "Who reads a TLB generation need not find what it was raised for." by [
        Loom("tlb_4_a_generation_comes_with_its_note")]
        unseen "an order of two accesses: TCG's CPUs load in order on this host";
    SyncGenerationRelaxed "sync-generation-relaxed" Ret2 "Who reads a sync generation need not find the new code." by [
        Loom("ret_2_sync_core_against_a_switch")];
    InterruptUnordered "interrupt-unordered" Smp1 "An interrupt to another CPU is sent without what orders the stores before it." by [
        Stream(Ppc64le, "tlb_3_tables_are_freed_while_lazy")];
    AckRelaxed "ack-relaxed" Smp1 "What a CPU did for a request is not ordered before its acknowledgement." by [
        Schedules("ctx_4_ids_are_reused"),
        Loom("smp_1_a_request_lies_between_what_the_asker_did_before_and_after")]
        unseen "an order of two accesses: TCG's CPUs store in order";
    CopyAddsRights "copy-adds-rights" Cap1 "A copy has the rights that were asked for." by [
        Case(Both, "cap_1_a_copy_is_never_more"),
        Host("kernel", "cap_1_rights_only_shrink")];
    GrantsAreOriginals "grants-are-originals" Cap2 "What a process is given by another counts as derived from nothing." by [
        Case(Both, "cap_2_a_revocation_reaches_every_process"),
        Host("kernel", "cap_2_a_revocation_reaches_what_was_derived_and_nothing_else")];
    MovedIsOriginal "moved-is-original" Cap3 "A moved handle counts as derived from nothing." by [
        Case(Both, "cap_3_moved_and_left"),
        Host("kernel", "cap_2_cap_3_the_brackets_are_a_tree")];
    CopiesForFree "copies-for-free" Cap4 "Who derives while a revocation is under way does nothing for it." by [
        Host("kernel", "cap_4_a_raced_revocation_ends")]
        unseen "on a machine it is up to the timing which of the two is faster";
    RevokedAtOnce "revoked-at-once" Cap5 "A revocation is one slice." by [
        Host("kernel", "cap_5_a_revocation_comes_in_slices")]
        unseen "programs see time, not how long interrupts were off";
    AttachedWithoutRight "attached-without-right" Cap6 "What a mapping allows is not asked of the capability." by [
        Case(Both, "cap_6_a_mapping_is_never_more"),
        Host("kernel", "cap_6_rights_bound_mappings")];
    NeverDetached "never-detached" Cap6 "A revocation deletes the handle of a mapping and leaves the mapping." by [
        Case(Both, "cap_6_a_revocation_unmaps"),
        Host("kernel", "cap_6_a_revoked_mapping_is_gone")];
    CopiedAnywhere "copied-anywhere" Cap7 "A copy between address spaces writes to whatever is mapped." by [
        Case(Both, "cap_7_a_copy_writes_what_could_be_written"),
        Host("kernel", "cap_7_copies_keep_to_what_is_mapped")];
    DeviceMemoryCached "device-memory-cached" Pte6 "A device's registers are mapped like RAM." by [
        Host("kernel", "pte_6_a_devices_registers_are_mapped_as_such")];
    ConfigUnfiltered "config-unfiltered" Dev1 "A function's holder may write all of its configuration space." by [
        Row(Both, "edu"),
        Host("kernel", "dev_1_what_is_the_kernels_is_refused")];
    TableGivenOut "table-given-out" Dev1 "The page that holds a function's MSI-X table is given out with its other registers." by [
        Host("kernel", "dev_1_what_is_the_kernels_is_refused")]
        unseen "the device of the guest row has no such table";
    BarsShareAPage "bars-share-a-page" Dev2 "Base address registers are put next to each other, as small as they are." by [
        Host("kernel", "dev_2_registers_have_pages_of_their_own")]
        unseen "what a driver finds next to its registers depends on what else the machine has";
    MasterLeftOn "master-left-on" Dev3 "A function whose holder is gone may still master the bus." by [
        Row(X86_64, "edu"),
        Host("kernel", "dev_3_the_order_at_the_end")];
    NeverReset "never-reset" Dev3 "A function whose holder is gone is not reset." by [
        Host("kernel", "dev_3_the_order_at_the_end")]
        unseen "the device of the guest row has no reset of its own";
    FramesGoFirst "frames-go-first" Dev3 "The frames a function reached go back before it is kept from the bus." by [
        Host("kernel", "dev_3_the_order_at_the_end")]
        unseen "some instructions during which a device would have to write";
    AddressToAnyHolder "address-to-any-holder" Dev4 "Whoever holds any function learns the bus address of memory that another reaches." by [
        Host("kernel", "dev_4_bus_addresses")]
        unseen "the machine of the guest row has one function";
    ComesUnasked "comes-unasked" Dev5 "An interrupt that has come is not masked." by [
        Host("kernel", "dev_5_one_interrupt_for_each_acknowledgement")]
        unseen "it costs time only: what comes unasked merges";
    NeverComesAgain "never-comes-again" Dev5 "An acknowledged interrupt stays masked." by [
        Host("kernel", "dev_5_one_interrupt_for_each_acknowledgement")]
        unseen "messages of the guest row's device cannot be masked";
    MergedAway "merged-away" Dev5 "An interrupt that comes before the last was acknowledged is forgotten." by [
        Row(Both, "edu")];
    AllRegistersSent "all-registers-sent" Ipc1 "A message takes all message registers along, whatever its tag says." by [
        Case(Both, "ipc_1_messages_arrive_as_they_were_sent"),
        Host("kernel", "ipc_1_a_call_and_its_reply")];
    FirstComeFirstServed "first-come-first-served" Ipc2 "Those who wait are served in the order of their coming." by [
        Case(Both, "ipc_2_the_best_first"),
        Host("kernel", "ipc_2_the_highest_priority_is_served_first")];
    RepliesNeverLate "replies-never-late" Ipc3 "The deadline of a call means nothing once the call was received." by [
        Case(Both, "ipc_3_a_call_that_is_not_answered_in_time"),
        Host("kernel", "ipc_3_deadlines")];
    ServersDieSilently "servers-die-silently" Ipc4 "A server that ends, or receives again, says nothing to its caller." by [
        Case(Both, "ipc_4_a_server_that_ends"),
        Host("kernel", "ipc_4_nobody_waits_for_the_dead")];
    AllRightsSent "all-rights-sent" Ipc5 "A capability in a message has all rights of the sender's." by [
        Case(Both, "ipc_5_capabilities_with_the_rights_that_were_given"),
        Host("kernel", "ipc_5_badges_and_capabilities")];
    AnyWaitAnswered "any-wait-answered" Ipc6 "A reply answers whatever call its caller waits for by now." by [
        Case(Both, "ipc_6_a_late_reply_answers_nothing"),
        Host("kernel", "tests::endings::ipc_6_a_late_reply_answers_nothing")];
    NothingLent "nothing-lent" Ipc7 "A server has its own priority only." by [
        Case(Both, "ipc_7_nobody_overtakes_a_call"),
        Host("kernel", "ipc_7_priority_goes_along_a_chain")];
    ServersPay "servers-pay" Ipc8 "A server runs on its own budget." by [
        Host("kernel", "ipc_8_a_server_runs_on_its_callers_budget")]
        unseen "on a machine that is shared, how long a program runs says little";
    LastSignalOnly "last-signal-only" Ipc9 "A signal takes the place of those before it." by [
        Case(Both, "ipc_9_bits_stay"),
        Host("kernel", "ipc_9_notifications")];
    BoundForGood "bound-for-good" Ipc9 "A notification stays bound to a thread whose process has lost its handle." by [
        Host("kernel", "ipc_9_a_binding_ends_with_its_handle")]
        unseen "what it breaks is seen by looking for what does not happen, and the model shows it";
    LooksOnce "looks-once" Ipc9 "A receiver does not look again, when it stands, for what was signalled since its first look." by [
        Case(Both, "ipc_9_a_signal_between_look_and_stand"),
        Host("kernel", "ipc_9_a_signal_between_look_and_stand")];
    BoundTwice "bound-twice" Ipc9 "Of two that bind a notification at once, the second takes it from the first." by [
        Case(Both, "ipc_9_two_bind_at_once"),
        Host("kernel", "ipc_9_two_bind_at_once")];
    AlarmOfNobody "alarm-of-nobody" Ipc3 "An alarm whose wait has ended goes to another CPU all the same, when its own goes off." by [
        Case(Both, "ipc_3_a_wait_that_ends_while_its_alarm_moves"),
        Host("kernel", "ipc_3_a_wait_that_ends_while_its_alarm_moves")];
    LoansKept "loans-kept" Ipc7 "What a caller has lent stays lent though it has given up." by [
        Host("kernel", "ipc_7_a_loan_ends_with_its_call")]
        unseen "on a machine that is shared, at which priority a program runs says little";
    NeverSteps "never-steps" Ipc10 "A thread that is to stop after one instruction goes on." by [
        Row(Both, "debugger"),
        Host("kernel", "tests::exceptions::ipc_10_a_fault_is_a_call")];
    FramesUnsanitized "frames-unsanitized" Ipc11 "Registers that a handler writes are stored as they are, those of the kernel among them." by [
        Row(Both, "debugger"),
        Host("kernel", "ipc_11_registers_of_a_stopped_thread")];
    VectorsNotStored "vectors-not-stored" Ipc11 "Vector registers that a handler writes are not stored." by [
        Row(Both, "debugger"),
        Host("kernel", "ipc_11_vector_registers_of_a_stopped_thread")];
    VectorsUnsanitized "vectors-unsanitized" Ipc11 "What a handler writes to MXCSR is stored as it is, though the processor loads no such value." by [
        Row(X86_64, "debugger")];
    FaultsForgotten "faults-forgotten" Ipc12 "A fault whose handler is gone is forgotten, and its thread with it." by [
        Row(Both, "debugger"),
        Host("kernel", "ipc_12_a_handler_that_is_gone")];
    CallsNotMadeAgain "calls-not-made-again" Ipc13 "A call that touches a page of a pager's goes on behind it when the page is there." by [
        Case(Both, "ipc_13_pages_come_from_a_pager"),
        Row(Both, "pager"),
        Host("kernel", "ipc_13_a_call_that_touches_an_absent_page")];
    PagesOfNobody "pages-of-nobody" Ipc13 "A page that its pager has not supplied is an ordinary fault." by [
        Case(Both, "ipc_13_pages_come_from_a_pager"),
        Row(Both, "pager"),
        Host("kernel", "ipc_13_a_page_comes_before_its_instruction")];
}
