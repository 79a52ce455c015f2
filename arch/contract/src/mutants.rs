//! The mutants, one row each: name, id, the clause it breaks, what is changed, and who must notice.

use crate::Clause;
use crate::mutant::{Killer, Killer::*, On::*, Row};

macro_rules! mutants {
    ($($name:ident $id:literal $clause:ident $change:literal by [$($killer:expr),* $(,)?];)*) => {
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
        }),*];
    };
}

mutants! {
    M1 "m1" Bar4 "No barrier (d) between user code and the store that says the CPU left its mm." by [
        Trace(Both, "bar_4_bar_5_a_round_trip_between_sample_and_start")];
    M2 "m2" Bar5 "No barrier (e) after the stores that say a CPU has an mm." by [
        Trace(Both, "bar_4_bar_5_a_round_trip_between_sample_and_start")];
    M4 "m4" Bar3 "membarrier has no barrier (a) before it samples." by [
        Case(Both, "bar_3_store_buffering")];
    M5 "m5" Bar3 "membarrier has no barrier (c) after its last sample." by [
        Loom("bar_3_message_passing")];
    M6 "m6" Bar6 "The handler of a membarrier request has no barrier." by [
        Trace(Both, "bar_3_commands_reach_the_cpus_that_run_the_process")];
    M22 "m22" Ctx1 "A CPU serves requests between the store that says it switches and the load, as if interrupts were on." by [
        Trace(Both, "tlb_3_a_cpu_in_the_switching_window"),
        Host("kernel", "tlb_3_a_cpu_in_the_switching_window")];
    M23 "m23" Ctx3 "A CPU joins the mm's set after it has loaded the tables." by [
        Trace(Both, "ctx_7_an_episode_ends_in_another_process"),
        Host("kernel", "ctx_7_an_episode_ends_in_another_process")];
    M24 "m24" Ctx3 "The barrier (e) lies before the store that says a CPU switches." by [
        Trace(Both, "ctx_7_an_episode_ends_in_another_process"),
        Host("kernel", "ctx_5_bar_4_bar_5_the_words_at_every_hook")];
    M25 "m25" Tlb3 "A flusher skips a CPU that is switching to the mm." by [
        Case(Both, "tlb_3_a_flush_waits_for_a_switch"),
        Host("kernel", "tlb_3_a_flush_waits_for_a_switch")];
    M26 "m26" Tlb3 "A flusher skips lazy CPUs though tables are freed." by [
        Trace(Both, "tlb_3_tables_are_freed_while_lazy"),
        Host("kernel", "tlb_3_a_lazy_cpu_is_asked_when_tables_are_freed")];
    M27 "m27" Tlb4 "A CPU whose lazy episode ends in the same mm does not compare generations." by [
        Case(Both, "tlb_4_flushed_while_lazy"),
        Host("kernel", "tlb_4_flushed_while_lazy")];
    M28 "m28" Tlb4 "A CPU that missed several generations forgets what the last was raised for." by [
        Case(Both, "tlb_4_many_flushes_while_lazy"),
        Host("protocol", "tlb_4_a_gap_is_what_changed_or_everything")];
    M29 "m29" Ctx9 "A CPU that a teardown asks lets go of an mm that is active there." by [
        Host("kernel", "ctx_9_an_active_cpu_lets_go_when_it_becomes_lazy")];
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
    M34 "m34" Ctx11 "ppc64le: a process-table entry is not waited for (ptesync; isync) before its id is loaded." by [
        Stream(Ppc64le, "ctx_4_ids_are_reused")];
    M35 "m35" Ctx4 "ppc64le: no isync behind mtspr PID." by [
        Stream(Ppc64le, "ctx_7_an_episode_ends_in_another_process")];
    M36 "m36" Tlb3 "ppc64le: a broadcast tlbie is not waited for (eieio; tlbsync; ptesync)." by [
        Stream(Ppc64le, "tlb_3_a_remote_unmap_faults")];
    M37 "m37" Tlb3 "A flush invalidates on its own CPU only." by [
        Case(Both, "tlb_3_a_remote_unmap_faults"),
        Host("kernel", "tlb_3_a_flush_returns_when_every_cpu_has_forgotten")];
    M38 "m38" Tlb2 "A flush invalidates on other CPUs only." by [
        Case(Both, "tlb_2_the_cpu_that_unmaps"),
        Host("kernel", "tlb_2_the_cpu_that_unmaps")];
    HintIsBelieved "hint-is-believed" Ctx2 "A switch loads nothing if the caller says that it is loaded already." by [
        Host("arch_model", "ctx_2_what_is_loaded_is_compared")];
    SameNumberSameMm "same-number-same-mm" Ctx4 "A switch loads nothing if the number of what is loaded is that of what is wanted." by [
        Case(X86_64, "ctx_4_ids_are_reused"),
        Host("kernel", "ctx_4_ids_are_reused")];
    LeftIsFollowed "left-is-followed" Ctx10 "The end of a lazy episode looks up the mm that was left." by [
        Host("kernel", "ctx_10_what_was_left_may_be_gone")];
    LocalFlushDoesNothing "local-flush-does-nothing" Tlb2 "A port's flush of some pages does nothing." by [
        Case(Both, "tlb_2_the_cpu_that_unmaps"),
        Host("kernel", "tlb_2_the_cpu_that_unmaps")];
    LocalFlushOnePageFewer "local-flush-one-page-fewer" Tlb2 "A port's flush of some pages leaves one out." by [
        Case(Both, "tlb_2_the_cpu_that_unmaps"),
        Host("kernel", "tlb_2_the_cpu_that_unmaps")];
    SwitchForgetsWhatItLeaves "switch-forgets-what-it-leaves" Ctx5 "A CPU that switches from one mm to another counts as holding the other only." by [
        Case(Both, "ctx_5_a_switch_holds_what_it_leaves"),
        Host("kernel", "ctx_5_a_switch_holds_what_it_leaves")];
    NoSwitchingState "no-switching-state" Ctx5 "`loaded` says active before the tables are loaded." by [
        Case(Both, "tlb_3_a_cpu_in_the_switching_window"),
        Host("kernel", "ctx_5_bar_4_bar_5_the_words_at_every_hook")];
    SlotKeepsWhatWasThere "slot-keeps-what-was-there" Ctx4 "A per-CPU number goes to another mm, and what is cached under it stays." by [
        Host("kernel", "ctx_4_ids_are_reused")];
    LeaveWhatWasLeft "leave-what-was-left" Ctx6 "A pass from one kernel task to the next leaves the mm once more." by [
        Case(Both, "ctx_6_kernel_tasks_in_a_row"),
        Host("kernel", "ctx_6_kernel_tasks_in_a_row")];
    NeverLazy "never-lazy" Ctx6 "No lazy episode begins when user code is left." by [
        Host("kernel", "ctx_7_idle_and_back_ends_the_episode_once")];
    DropSaidTooSoon "drop-said-too-soon" Ctx9 "A CPU says that it holds nothing before it has left the tables." by [
        Host("kernel", "ctx_5_bar_4_bar_5_the_words_at_every_hook")];
    IdForTwo "id-for-two" Ctx11 "A hardware id is given to a second mm while the first lives." by [
        Case(Ppc64le, "ctx_4_ids_are_reused"),
        Host("kernel", "ctx_12_ids_roll_over")];
    TablesStayCached "tables-stay-cached" Tlb2 "A local flush leaves the way to freed tables cached." by [
        Host("kernel", "tlb_3_tables_are_freed_while_lazy")];
    SeenTooSoon "seen-too-soon" Tlb3 "A CPU says that it has forgotten before it does." by [
        Host("kernel", "tlb_3_forgotten_comes_before_it_is_said")];
    RewrittenNotes "rewritten-notes" Tlb4 "A note of the flush log that was rewritten is believed." by [
        Host("protocol", "tlb_4_a_rewritten_note_is_everything")];
    FlushAsksEveryone "flush-asks-everyone" Tlb3 "A flush interrupts every CPU that ever had the mm." by [
        Case(Both, "tlb_3_what_flushes_cost"),
        Host("kernel", "tlb_3_a_lazy_cpu_is_skipped_and_catches_up")];
    WaitersAreDeaf "waiters-are-deaf" Tlb5 "A CPU that waits for another serves nobody." by [
        Host("kernel", "tlb_5_whoever_waits_serves")];
    TeardownStorm "teardown-storm" Ctx9 "A teardown interrupts the CPUs that it waits for at every look." by [
        Host("kernel", "ctx_9_an_active_cpu_lets_go_when_it_becomes_lazy")];
    InterruptBeforeRequest "interrupt-before-request" Smp1 "A CPU is interrupted before it can find what is asked of it." by [
        Host("kernel", "smp_1_a_request_is_there_before_its_interrupt")];
    InterruptStorm "interrupt-storm" Smp2 "Each request interrupts its target, though one is pending." by [
        Case(Both, "smp_2_requests_merge"),
        Host("kernel", "smp_2_requests_merge")];
    InterruptLost "interrupt-lost" Smp2 "No request interrupts its target." by [
        Host("kernel", "smp_2_a_thread_goes_where_nothing_runs")];
    NumberBeforeKinds "number-before-kinds" Smp2 "A request has its number before it can be found." by [
        Host("protocol", "smp_2_a_number_that_is_served_was_served_with_all_smaller_ones")];
    DirtyCpus "dirty-cpus" Smp3 "A CPU that was off comes back with the translations it had." by [
        Host("kernel", "smp_3_ids_are_reused_while_a_cpu_is_off")];
    WorkOfTheLastLife "work-of-the-last-life" Smp3 "A CPU that comes up does what it was asked before it went off." by [
        Host("kernel", "smp_3_a_cpu_that_comes_up_stays")];
    NoBarrierInFlush "flush-no-barrier" Tlb1 "A flusher reads the CPU set without a barrier after it raised the generation." by [
        Loom("tlb_1_switch_against_flush")];
    NoBarrierInRegistration "register-no-barrier" Bar2 "A registration samples CPUs without a barrier after it stored the bit." by [
        Loom("bar_2_registration_against_switch")];
    NoBarrierGoingOff "offline-no-barrier" Smp3 "A CPU that goes off looks for requests without a barrier after it said so." by [
        Loom("smp_3_going_off_against_a_request")];
}
