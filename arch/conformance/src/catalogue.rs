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
    "T-44" Translated("a page is writable or executable, never both, so code is written, made executable, and reached through a pointer; pages are used again")
        => "code_2_code_that_is_written_again" "code_2_what_can_be_executed_is_published";
    "T-45" AsItIs => "ret_2_a_writer_that_moves" "ret_2_entered_after_the_sample" "ret_2_a_request_before_the_store";
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
    "m39" Translated("the way to user mode with a whole frame clears the reservation; it is assembly, so the mutant is a changed image") => "m39";
    "m40" AsItIs => "m40";
    "m41" AsItIs => "m41";
    "m42" AsItIs => "m42";
    "m43" AsItIs => "m43";
    "m44" AsItIs => "m44";
}
