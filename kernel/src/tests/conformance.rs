//! The conformance suite on the simulated machine: every case under every profile, with the policies
//! for lazily loaded address spaces in turn. In builds for schedules, every case under many of them:
//! see [`schedules`](super::schedules).

#[cfg(not(spandrel_schedule))]
use super::threads::run;
use crate::sched::lifetime::Policy;
#[cfg(not(spandrel_schedule))]
use arch_model::profile::Profile;
#[cfg(not(spandrel_schedule))]
use std::string::String;

/// CPUs of the machine.
pub(super) const CPUS: u32 = 4;
pub(super) const POLICIES: [Policy; 3] = [Policy::Hazard, Policy::Refcount, Policy::Shootdown];

/// Runs a case everywhere. It has to pass; to be skipped is to say why.
#[cfg(not(spandrel_schedule))]
fn everywhere(id: &str) {
    for (profile, policy) in Profile::ALL.into_iter().zip(POLICIES.into_iter().cycle()) {
        let lines = match run(id, profile, policy, CPUS) {
            Ok(lines) => lines,
            Err(panic) => panic!("{id}, {profile:?}, {policy:?}: {panic}"),
        };
        let verdict = lines.last().map_or("it said nothing", String::as_str);
        let passed = verdict.ends_with(": PASS") || verdict.contains(": SKIP: ");
        assert!(passed, "{profile:?}, {policy:?}: {lines:?}");
    }
}

macro_rules! cases {
    ($($id:ident)*) => {
        #[cfg(not(spandrel_schedule))]
        mod profiles {
            $(#[test] fn $id() { super::everywhere(stringify!($id)); })*
        }

        #[cfg(spandrel_schedule)]
        mod schedules {
            $(#[test] fn $id() { super::super::schedules::everywhere(stringify!($id)); })*
        }

        /// No case is missing here, nor has too much.
        #[test]
        fn every_case_of_the_suite_runs_on_the_model() {
            let sorted = |ids: &[&'static str]| {
                let mut ids = ids.to_vec();
                ids.sort_unstable();
                ids
            };
            assert_eq!(sorted(conformance::IDS), sorted(&[$(stringify!($id)),*]));
        }
    };
}

cases! {
    boot_1_every_listed_cpu_runs_threads
    boot_1_the_archive_is_whole
    boot_2_memory_is_handed_out_once
    boot_3_the_archive_outlives_the_memory
    trap_1_registers_over_calls
    trap_1_registers_over_preemption
    trap_1_registers_over_migration
    trap_1_registers_over_requests
    trap_1_calls_that_do_not_exist
    trap_1_faults_name_kind_and_address
    trap_2_a_new_thread_finds_nothing
    trap_3_no_interrupt_inside_a_call
    trap_5_a_non_maskable_interrupt
    trap_6_deadly_instructions
    trap_6_threads_started_anywhere
    trap_6_restarted_anywhere
    time_1_the_clock_does_not_go_back
    time_1_ping_pong
    time_1_over_migration
    time_1_over_off_and_on
    time_2_no_sleep_is_short
    time_2_many_sleepers
    time_3_the_past_does_not_wait
    time_3_deadlines_that_pass_while_they_are_armed
    time_3_sleepers_of_a_cpu_that_goes_off
    time_4_a_wake_up_before_the_halt
    time_4_a_deadline_before_the_halt
    pte_1_every_page_is_its_own
    pte_1_the_ends_of_the_user_range
    pte_2_new_pages_are_zero
    pte_3_pages_allow_what_they_should
    pte_3_nothing_else_can_be_asked_for
    pte_3_another_protection_in_the_same_place
    pte_4_contents_before_the_entry
    pte_7_large_pages_allow_what_they_should
    usr_2_pages_that_are_not_there
    usr_2_a_page_that_comes_and_goes
    usr_3_addresses_that_are_not_the_users
    usr_3_lengths
    usr_3_ranges_of_memory_calls
    fpu_1_vectors_over_calls
    fpu_1_vectors_over_preemption
    fpu_1_vectors_over_migration
    fpu_1_vectors_over_a_cpu_that_goes_off
    fpu_2_a_new_thread_finds_nobodys_vectors
    fpu_2_nothing_of_a_dead_process
    ipc_1_messages_arrive_as_they_were_sent
    ipc_2_the_best_first
    ipc_3_a_call_that_is_not_answered_in_time
    ipc_4_a_server_that_ends
    ipc_5_capabilities_with_the_rights_that_were_given
    ipc_6_a_late_reply_answers_nothing
    ipc_7_nobody_overtakes_a_call
    ipc_9_bits_stay
    ipc_9_a_signal_between_look_and_stand
    ipc_9_two_bind_at_once
    ipc_3_a_wait_that_ends_while_its_alarm_moves
    ipc_10_a_fault_is_a_call
    ipc_13_pages_come_from_a_pager
    cap_1_a_copy_is_never_more
    cap_2_a_revocation_reaches_every_process
    cap_3_moved_and_left
    cap_4_copies_do_not_outrun_a_revocation
    cap_6_a_mapping_is_never_more
    cap_6_a_revocation_unmaps
    cap_7_a_copy_writes_what_could_be_written
    hv_1_with_what_there_is
    hv_1_every_door
    hv_2_refusals
    bar_2_errors_are_those_of_linux
    bar_2_a_new_process_starts_unregistered
    bar_2_the_query_mask_is_the_truth
    bar_2_each_registration_allows_one_command
    bar_2_registering_under_switches
    bar_2_a_registration_waits_for_every_cpu
    bar_1_store_buffering_in_the_kernel
    bar_3_commands_reach_the_cpus_that_run_the_process
    bar_3_global_expedited_reaches_the_registered
    bar_3_one_cpu_and_no_other
    bar_3_a_sequence_is_started_over
    bar_3_a_task_that_adopted_is_asked
    bar_3_a_cpu_in_a_switch_is_asked
    bar_3_sampling_while_threads_end
    bar_3_store_buffering
    bar_3_message_passing
    bar_4_bar_5_every_edge
    bar_4_a_thread_ends_before_the_sample
    bar_4_a_task_is_through_before_the_sample
    bar_4_bar_5_a_round_trip_between_sample_and_start
    ret_2_an_adopted_mm_hides_no_request
    ret_2_a_sibling_that_left_by_a_call
    ret_2_the_caller_too
    ret_2_a_sibling_that_goes_before
    ret_2_a_request_before_the_store
    ret_2_entered_after_the_sample
    ret_2_a_caller_that_is_moved
    ret_2_a_writer_that_moves
    ctx_7_an_episode_ends_in_another_process
    ctx_7_kernel_tasks_reload_nothing
    ctx_7_the_same_steps_everywhere
    ctx_7_random_steps_keep_the_grammar
    ctx_6_kernel_tasks_in_a_row
    ctx_5_a_switch_holds_what_it_leaves
    ctx_10_what_was_left_may_be_gone
    code_2_cross_modifying_code
    ctx_9_several_end_at_once
    ctx_9_teardown_while_lazy_everywhere
    ctx_2_a_switch_to_the_same
    ctx_9_a_cpu_goes_off_while_lazy
    tlb_2_the_cpu_that_unmaps
    tlb_3_a_remote_unmap_faults
    tlb_3_tables_are_freed_while_lazy
    tlb_3_a_task_that_adopted
    tlb_3_a_cpu_in_the_switching_window
    tlb_3_a_flush_waits_for_a_switch
    tlb_3_a_flush_waits_for_a_task_that_adopts
    tlb_3_what_flushes_cost
    tlb_4_flushed_while_lazy
    tlb_4_many_flushes_while_lazy
    tlb_4_two_flushers
    smp_2_wake_ups
    smp_2_requests_merge
    smp_2_everyone_asks_everyone
    smp_2_alone_nobody_is_interrupted
    smp_3_off_and_on
    mig_1_forced_migrations
    mig_2_a_stuck_cpu
    smp_3_ids_are_reused_while_a_cpu_is_off
    mig_2_an_idle_cpu_takes_from_a_stuck_one
    mig_3_a_reservation_does_not_outlive_a_switch
    ctx_4_ids_are_reused
}
