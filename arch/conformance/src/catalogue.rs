//! Where the reference's scenarios and mutants went.
//!
//! The suite grew from a list of fifty scenarios (T-01 to T-50) and forty-four mutants (m1 to m44)
//! that speaks of a kernel with a stack per thread, with `fork` and with `exec`. This one has none
//! of those, but the same duties. Each row says what became of one of them; `tools/x check` sees to
//! it that none is missing and that every name in `held_by` exists.

/// How a scenario or a mutant of the list is said here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// As it stands there.
    AsItIs,
    /// By what does the same here.
    Translated(&'static str),
    /// It cannot be said of this kernel, for this reason; `held_by` names what holds the same law.
    NotExpressible(&'static str),
}

/// One scenario or mutant.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// `T-01` or `m1`.
    pub from: &'static str,
    pub flow: Flow,
    /// Conformance cases, host tests by their function's name, gates of `tools/x check`, and mutants
    /// of `arch_contract::mutants` by their id.
    pub held_by: &'static [&'static str],
}

macro_rules! rows {
    ($($from:literal $flow:expr => $($by:literal)*;)*) => {
        /// All of them.
        pub const ALL: &[Row] = &[$(Row { from: $from, flow: $flow, held_by: &[$($by),*] }),*];
    };
}

use Flow::{AsItIs, NotExpressible, Translated};

rows! {
    "T-01" AsItIs => "bar_3_commands_reach_the_cpus_that_run_the_process";
    "T-02" AsItIs => "bar_2_errors_are_those_of_linux";
    "T-03" AsItIs => "bar_2_the_query_mask_is_the_truth";
    "T-04" AsItIs => "bar_3_one_cpu_and_no_other" "bar_2_errors_are_those_of_linux";
    "T-05" Translated("fork and exec are one step here, the start of a process, which begins unregistered; a registration is reported for itself alone")
        => "bar_2_a_new_process_starts_unregistered" "bar_2_each_registration_allows_one_command";
    "T-06" Translated("there is no bit that says ready: a registration returns when every CPU that runs the process has read it")
        => "bar_2_a_registration_waits_for_every_cpu" "bar_2_registering_under_switches" "bar_3_global_expedited_reaches_the_registered";
    "T-07" AsItIs => "bar_3_store_buffering" "bar_1_store_buffering_in_the_kernel";
    "T-08" AsItIs => "bar_3_message_passing" "m5";
    "T-09" AsItIs => "bar_4_bar_5_every_edge" "ctx_5_bar_4_bar_5_the_words_at_every_hook" "m1" "m2";
    "T-10" AsItIs => "bar_4_bar_5_a_round_trip_between_sample_and_start";
    "T-11" Translated("a thread that ends leaves its mm as any other does; there is no state to clear, since it stands in the word that is stored")
        => "bar_4_a_thread_ends_before_the_sample";
    "T-12" AsItIs => "bar_3_a_task_that_adopted_is_asked" "bar_4_a_task_is_through_before_the_sample";
    "T-13" Translated("processes share no memory, so what is ordered cannot be seen: the barriers on the receiver's CPU are counted")
        => "bar_3_global_expedited_reaches_the_registered" "bar_3_a_task_that_adopted_is_asked";
    "T-14" AsItIs => "bar_3_a_sequence_is_started_over" "bar_6_the_barrier_comes_before_the_acknowledgement";
    "T-15" AsItIs => "bar_6_the_barrier_comes_before_the_acknowledgement" "bar_3_commands_reach_the_cpus_that_run_the_process";
    "T-16" Translated("a sample reads words of CPUs and follows no pointer; that threads and processes end meanwhile must not matter")
        => "bar_3_sampling_while_threads_end";
    "T-17" AsItIs => "ret_2_an_adopted_mm_hides_no_request";
    "T-18" AsItIs => "ret_2_a_sibling_that_goes_before" "ret_2_a_sibling_that_left_by_a_call";
    "T-19" AsItIs => "ret_2_the_caller_too" "ret_2_a_caller_that_is_moved";
    "T-20" Translated("the accidents are the simulated machine's profiles: under riscv64 and minimal neither a switch nor a return serializes; every case runs under each")
        => "ret_2_an_adopted_mm_hides_no_request" "ret_2_a_sibling_that_goes_before" "ret_2_a_request_before_the_store" "ret_2_the_caller_too";
    "T-21" AsItIs => "mig_1_forced_migrations";
    "T-22" Translated("no stack is switched in the kernel, so the reservation is a user's, held across a yield")
        => "mig_3_a_reservation_does_not_outlive_a_switch";
    "T-23" NotExpressible("maintenance by a user is a call, which is complete when it returns; what of it is left to instructions of user mode is ordered by the writer's own `sync` after it")
        => "ret_2_a_writer_that_moves";
    "T-24" AsItIs => "mig_2_a_stuck_cpu" "mig_2_an_idle_cpu_takes_from_a_stuck_one";
    "T-25" Translated("what adopts is a kernel task, with interrupts off from the stores to the load; a flush finds the switch and waits") => "tlb_3_a_flush_waits_for_a_task_that_adopts" "tlb_3_a_task_that_adopted";
    "T-26" NotExpressible("there is no exec: an mm is new when its process starts, and is installed by the same switch as any other") => "ctx_7_first_entry" "ctx_5_bar_4_bar_5_the_words_at_every_hook" "switch-forgets-what-it-leaves";
    "T-27" Translated("hooks want a token that interrupts are off, so what would be asserted does not compile") => "ctx_1_no_switch_without_the_token" "ctx_9_only_a_lazy_cpu_is_dropped" "m22";
    "T-28" AsItIs => "tlb_3_a_flush_waits_for_a_switch" "tlb_3_a_cpu_in_the_switching_window" "m23" "m24" "m25" "flush-no-barrier";
    "T-29" AsItIs => "tlb_3_tables_are_freed_while_lazy" "tlb_3_a_lazy_cpu_is_asked_when_tables_are_freed" "tlb_3_a_freed_table_is_forgotten_before_the_space_is_loaded";
    "T-30" AsItIs => "tlb_3_a_remote_unmap_faults" "tlb_2_the_cpu_that_unmaps";
    "T-31" AsItIs => "ctx_9_a_cpu_goes_off_while_lazy" "smp_3_ids_are_reused_while_a_cpu_is_off" "smp_3_off_and_on";
    "T-32" AsItIs => "ctx_9_teardown_while_lazy_everywhere" "ctx_9_several_end_at_once" "ctx_9_a_teardown_ends_when_no_cpu_holds_it";
    "T-33" Translated("x86_64 counts such an interrupt and does nothing else, so there is no handler that could ask; user memory is reached through a window, which cannot be had without the token of the upcall; ppc64le ends the run")
        => "usr_1_a_window_stays_on_its_cpu" "trap_3_a_token_is_not_made_safely";
    "T-34" Translated("for fork and exec, the start of processes") => "ctx_4_ids_are_reused" "ctx_12_ids_roll_over" "smp_3_ids_are_reused_while_a_cpu_is_off";
    "T-35" Translated("pages are taken away, since no protection of a mapped page is lowered; flushes of one mm are ordered by its lock") => "tlb_4_two_flushers" "tlb_4_many_flushes_while_lazy" "tlb_2_the_cpu_that_unmaps";
    "T-36" AsItIs => "tlb_4_flushed_while_lazy" "tlb_4_many_flushes_while_lazy" "tlb_3_a_lazy_cpu_is_skipped_and_catches_up";
    "T-37" NotExpressible("the kernel's own mappings are made before other CPUs run and never change; a frame is reached through the physical map, which maps all RAM for good") => "tlb_2_the_cpu_that_unmaps" "tlb_3_a_remote_unmap_faults";
    "T-38" Translated("the arguments of the call, on the host; a broadcast that needs no help of other CPUs, on the simulated machine; nothing here depends on whether a virtual CPU is preempted") => "hv_2_rpt_invalidate_of_a_range" "hv_2_rpt_invalidate_of_a_process" "tlb_3_a_broadcast_reaches_every_cpu";
    "T-39" AsItIs => "ctx_7_the_same_steps_everywhere" "ctx_7_random_steps_keep_the_grammar" "i6_the_grammar_of_lazy_episodes";
    "T-40" AsItIs => "ctx_7_an_episode_ends_in_another_process" "ctx_10_what_was_left_may_be_gone";
    "T-41" AsItIs => "ctx_6_kernel_tasks_in_a_row" "ctx_7_kernel_tasks_reload_nothing";
    "T-42" Translated("for the first exec, the first entry of the first process") => "ctx_7_first_entry";
    "T-43" AsItIs => "an_unlisted_one_a_second_one_and_one_elsewhere_are_found" "a_declared_one_that_is_missing_is_found" "ret_1_an_undeclared_way";
    "T-44" Translated("the code is written by one address and executed by another, since no page allows both; a core that fetches what is stale is the simulated machine's, and that each CPU serialized, the watcher's") => "code_2_cross_modifying_code" "code_2_what_can_be_executed_is_published" "ret_2_a_writer_that_moves" "code-unpublished" "m41" "core-sync-empty";
    "T-45" AsItIs => "ret_2_a_writer_that_moves" "ret_2_entered_after_the_sample" "ret_2_a_request_before_the_store";
    "T-46" Translated("loading an mm is always put off until user mode or a task wants it; a window opens only after that") => "usr_1_no_window_no_access" "ret_1_every_call_passes_the_return_hook" "ctx_5_bar_4_bar_5_the_words_at_every_hook";
    "T-47" NotExpressible("there is no template of a port yet; a hook that is missing says so by its clause, as a value that callers must look at")
        => "smp_3_off_and_on";
    "T-48" Translated("all CPUs but one are turned off") => "smp_2_alone_nobody_is_interrupted";
    "T-49" AsItIs => "bar_3_store_buffering" "tlb_2_a_forgotten_flush_shows" "i5_each_cpu_serializes" "local-flush-does-nothing";
    "T-50" AsItIs => "ctx_7_the_same_steps_everywhere" "tlb_3_what_flushes_cost" "ctx_7_kernel_tasks_reload_nothing";
    "m1" AsItIs => "m1";
    "m2" AsItIs => "m2";
    "m3" AsItIs => "m3";
    "m4" AsItIs => "m4";
    "m5" AsItIs => "m5";
    "m6" AsItIs => "m6";
    "m7" AsItIs => "m7";
    "m8" AsItIs => "m8";
    "m9" AsItIs => "m9";
    "m10" AsItIs => "m10";
    "m11" AsItIs => "m11";
    "m12" AsItIs => "m12";
    "m13" AsItIs => "m13";
    "m14" AsItIs => "m14";
    "m15" AsItIs => "m15";
    "m16" Translated("the generation is compared too early by some steps, not by the reordering of two loads") => "m16";
    "m17" AsItIs => "m17";
    "m18" AsItIs => "m18";
    "m19" Translated("one word says whose user code may run, whoever brought it: the mutant leaves a task's use unsaid") => "m19";
    "m20" Translated("the registration returns without waiting for the CPUs that run the process") => "m20";
    "m21" Translated("exec is the start of a process: the new one has its maker's registrations") => "m21";
    "m22" Translated("requests are served in the switch, as an interrupt there would") => "m22";
    "m23" AsItIs => "m23";
    "m24" Translated("the barrier is (e), which serves membarrier too: it stands before the store that flushers read") => "m24";
    "m25" AsItIs => "m25";
    "m26" AsItIs => "m26";
    "m27" AsItIs => "m27";
    "m28" AsItIs => "m28";
    "m29" Translated("no set is trimmed; what is asked of a CPU that still has a user is to let go of the mm") => "m29";
    "m30" AsItIs => "m30";
    "m31" AsItIs => "m31";
    "m32" AsItIs => "m32";
    "m33" Translated("by the rollover, which makes every CPU forget everything") => "m33" "slot-keeps-what-was-there";
    "m34" NotExpressible("what is left out is an instruction: `tools/x mutants` takes it out of the image, as `ppc64le/without/radix.rs set_process_root/1 ptesync`")
        => "ctx_4_ids_are_reused" "id-for-two";
    "m35" NotExpressible("what is left out is an instruction: `tools/x mutants` takes it out of the image, as `ppc64le/without/context.rs load/2 isync`")
        => "ctx_7_an_episode_ends_in_another_process";
    "m36" NotExpressible("what is left out are instructions: `tools/x mutants` takes each out of the image, as `ppc64le/without/broadcast.rs complete/3 ptesync`")
        => "tlb_3_a_broadcast_reaches_every_cpu" "m37";
    "m37" Translated("the flush invalidates on its own CPU only") => "m37";
    "m38" AsItIs => "m38";
    "m39" NotExpressible("what clears the reservation is an instruction of assembly: `tools/x mutants` takes it out of the image, as `ppc64le/without/spandrel_return_full/1 stcx.`")
        => "mig_3_a_reservation_does_not_outlive_a_switch";
    "m40" AsItIs => "m40";
    "m41" AsItIs => "m41";
    "m42" AsItIs => "m42";
    "m43" AsItIs => "m43";
    "m44" AsItIs => "m44";
}
