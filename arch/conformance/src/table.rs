//! All cases, one row each.

use crate::{
    Os, Outcome, World, bar, boot, cap, code, ctx, fault, fpu, hv, ipc, mig, pte, ret, smp, time, tlb, trap,
    usr,
};
use core::marker::PhantomData;

/// Where a case can show anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Machines {
    Every,
    /// Where memory is real, or as weak: orderings between CPUs.
    Real,
}

impl Machines {
    pub(crate) fn has<O: Os>(self) -> bool {
        self == Self::Every || O::REORDERS
    }
}

/// One case.
pub struct Case<O: 'static> {
    /// Clause id first, as in the names of tests.
    pub id: &'static str,
    /// The level of a port at which it should pass.
    pub level: u8,
    /// CPUs it needs.
    pub cpus: u32,
    pub machines: Machines,
    pub run: fn(&World<O>) -> Outcome,
    /// What its child processes do, by number; gives their exit status.
    pub role: Option<fn(&World<O>, u64) -> u8>,
}

/// The row with this id.
pub fn find<O: Os>(id: &str) -> Option<&'static Case<O>> {
    table().iter().find(|case| case.id == id)
}

/// Every case, family by family.
pub fn table<O: Os>() -> &'static [Case<O>] {
    Rows::<O>::ALL
}

struct Rows<O>(PhantomData<O>);

macro_rules! rows {
    ($($file:ident :: $case:ident $(role $role:ident)? level $level:literal cpus $cpus:literal $machines:ident;)*) => {
        /// The ids of all cases, for those who only name them.
        pub const IDS: &[&str] = &[$(stringify!($case)),*];

        impl<O: Os> Rows<O> {
            const ALL: &'static [Case<O>] = &[$(Case {
            id: stringify!($case),
            level: $level,
            cpus: $cpus,
            machines: Machines::$machines,
            run: $file::$case,
            role: { #[allow(unused_mut, unused_assignments)] {
                let mut role: Option<fn(&World<O>, u64) -> u8> = None;
                $(role = Some($file::$role);)?
                role
            } },
        }),*];
        }
    };
}

rows! {
    boot::boot_1_every_listed_cpu_runs_threads level 1 cpus 2 Every;
    boot::boot_1_the_archive_is_whole level 1 cpus 1 Every;
    boot::boot_2_memory_is_handed_out_once role takes_all level 3 cpus 1 Every;
    boot::boot_3_the_archive_outlives_the_memory role runs level 3 cpus 1 Every;
    trap::trap_1_registers_over_calls level 2 cpus 2 Every;
    trap::trap_1_registers_over_preemption level 4 cpus 2 Every;
    trap::trap_1_registers_over_migration level 8 cpus 2 Every;
    trap::trap_1_registers_over_requests level 7 cpus 2 Every;
    trap::trap_1_calls_that_do_not_exist level 2 cpus 1 Every;
    trap::trap_1_faults_name_kind_and_address role touches_badly level 2 cpus 1 Every;
    trap::trap_2_a_new_thread_finds_nothing level 2 cpus 1 Every;
    trap::trap_3_no_interrupt_inside_a_call level 7 cpus 2 Every;
    trap::trap_5_a_non_maskable_interrupt role occupies level 7 cpus 2 Real;
    trap::trap_6_deadly_instructions role does_a_deed level 5 cpus 1 Real;
    trap::trap_6_threads_started_anywhere role starts_a_thread level 5 cpus 1 Every;
    trap::trap_6_restarted_anywhere role restarts level 5 cpus 1 Real;
    time::time_1_the_clock_does_not_go_back level 4 cpus 1 Every;
    time::time_1_ping_pong level 7 cpus 2 Every;
    time::time_1_over_migration level 8 cpus 2 Every;
    time::time_1_over_off_and_on level 8 cpus 2 Every;
    time::time_2_no_sleep_is_short level 4 cpus 1 Every;
    time::time_2_many_sleepers level 4 cpus 2 Every;
    time::time_3_the_past_does_not_wait level 4 cpus 1 Every;
    time::time_3_deadlines_that_pass_while_they_are_armed level 4 cpus 2 Every;
    time::time_3_sleepers_of_a_cpu_that_goes_off level 8 cpus 2 Every;
    time::time_4_a_wake_up_before_the_halt level 7 cpus 2 Every;
    time::time_4_a_deadline_before_the_halt level 4 cpus 2 Every;
    pte::pte_1_every_page_is_its_own level 3 cpus 1 Every;
    pte::pte_1_the_ends_of_the_user_range role uses_a_page level 3 cpus 1 Every;
    pte::pte_2_new_pages_are_zero level 3 cpus 1 Every;
    pte::pte_3_pages_allow_what_they_should role touches_a_page level 3 cpus 1 Every;
    pte::pte_3_nothing_else_can_be_asked_for level 3 cpus 1 Every;
    pte::pte_3_another_protection_in_the_same_place role writes_what_was_writable level 3 cpus 1 Every;
    pte::pte_4_contents_before_the_entry level 7 cpus 2 Every;
    pte::pte_7_large_pages_allow_what_they_should role uses_a_large_page level 3 cpus 1 Every;
    usr::usr_2_pages_that_are_not_there level 5 cpus 1 Every;
    usr::usr_2_a_page_that_comes_and_goes level 7 cpus 2 Every;
    usr::usr_3_addresses_that_are_not_the_users level 5 cpus 1 Every;
    usr::usr_3_lengths level 5 cpus 1 Every;
    usr::usr_3_ranges_of_memory_calls level 5 cpus 1 Every;
    fpu::fpu_1_vectors_over_calls level 5 cpus 2 Every;
    fpu::fpu_1_vectors_over_preemption level 5 cpus 2 Every;
    fpu::fpu_1_vectors_over_migration level 8 cpus 2 Every;
    fpu::fpu_1_vectors_over_a_cpu_that_goes_off level 8 cpus 2 Every;
    fpu::fpu_2_a_new_thread_finds_nobodys_vectors level 5 cpus 2 Every;
    fpu::fpu_2_nothing_of_a_dead_process role dies_with_vectors level 5 cpus 1 Every;
    cap::cap_1_a_copy_is_never_more level 5 cpus 1 Every;
    cap::cap_2_a_revocation_reaches_every_process role loses_its_timer level 5 cpus 1 Every;
    cap::cap_3_moved_and_left level 5 cpus 1 Every;
    cap::cap_4_copies_do_not_outrun_a_revocation level 7 cpus 2 Every;
    cap::cap_6_a_mapping_is_never_more level 7 cpus 1 Every;
    cap::cap_6_a_revocation_unmaps role uses_what_it_was_lent level 7 cpus 1 Every;
    cap::cap_7_a_copy_writes_what_could_be_written level 5 cpus 1 Every;
    ipc::ipc_1_messages_arrive_as_they_were_sent level 5 cpus 1 Every;
    ipc::ipc_2_the_best_first level 5 cpus 1 Every;
    ipc::ipc_3_a_call_that_is_not_answered_in_time level 5 cpus 1 Every;
    ipc::ipc_4_a_server_that_ends level 5 cpus 1 Every;
    ipc::ipc_5_capabilities_with_the_rights_that_were_given level 5 cpus 1 Every;
    ipc::ipc_6_a_late_reply_answers_nothing level 5 cpus 1 Every;
    ipc::ipc_7_nobody_overtakes_a_call level 5 cpus 1 Every;
    ipc::ipc_9_bits_stay level 5 cpus 1 Every;
    ipc::ipc_9_a_signal_between_look_and_stand level 7 cpus 2 Every;
    ipc::ipc_9_two_bind_at_once level 7 cpus 2 Every;
    ipc::ipc_3_a_wait_that_ends_while_its_alarm_moves level 7 cpus 3 Every;
    fault::ipc_10_a_fault_is_a_call level 5 cpus 1 Every;
    fault::ipc_13_pages_come_from_a_pager level 5 cpus 1 Every;
    hv::hv_1_with_what_there_is level 9 cpus 1 Every;
    hv::hv_1_every_door level 9 cpus 1 Every;
    hv::hv_2_refusals level 9 cpus 2 Every;
    bar::bar_2_errors_are_those_of_linux level 7 cpus 1 Every;
    bar::bar_2_a_new_process_starts_unregistered role unregistered level 7 cpus 1 Every;
    bar::bar_2_the_query_mask_is_the_truth level 7 cpus 1 Every;
    bar::bar_2_each_registration_allows_one_command role registers_one level 7 cpus 1 Every;
    bar::bar_2_registering_under_switches role registers level 7 cpus 2 Every;
    bar::bar_2_a_registration_waits_for_every_cpu level 7 cpus 3 Every;
    bar::bar_1_store_buffering_in_the_kernel level 7 cpus 2 Real;
    bar::bar_3_commands_reach_the_cpus_that_run_the_process level 7 cpus 2 Every;
    bar::bar_3_global_expedited_reaches_the_registered role receiver level 7 cpus 2 Every;
    bar::bar_3_one_cpu_and_no_other role receiver level 7 cpus 3 Every;
    bar::bar_3_a_sequence_is_started_over level 7 cpus 2 Every;
    bar::bar_3_a_task_that_adopted_is_asked level 7 cpus 3 Every;
    bar::bar_3_a_cpu_in_a_switch_is_asked level 7 cpus 3 Every;
    bar::bar_3_sampling_while_threads_end role visits level 7 cpus 3 Every;
    bar::bar_3_store_buffering level 7 cpus 2 Real;
    bar::bar_3_message_passing level 7 cpus 2 Real;
    bar::bar_4_bar_5_every_edge role visits level 7 cpus 3 Every;
    bar::bar_4_a_thread_ends_before_the_sample level 7 cpus 3 Every;
    bar::bar_4_a_task_is_through_before_the_sample level 7 cpus 3 Every;
    bar::bar_4_bar_5_a_round_trip_between_sample_and_start level 7 cpus 3 Every;
    ret::ret_2_an_adopted_mm_hides_no_request level 7 cpus 3 Every;
    ret::ret_2_a_sibling_that_left_by_a_call level 7 cpus 2 Every;
    ret::ret_2_the_caller_too level 7 cpus 2 Every;
    ret::ret_2_a_sibling_that_goes_before level 7 cpus 3 Every;
    ret::ret_2_a_request_before_the_store level 7 cpus 3 Every;
    ret::ret_2_entered_after_the_sample level 7 cpus 3 Every;
    ret::ret_2_a_caller_that_is_moved level 7 cpus 3 Every;
    ret::ret_2_a_writer_that_moves level 7 cpus 3 Every;
    code::code_2_cross_modifying_code level 7 cpus 2 Every;
    ctx::ctx_7_an_episode_ends_in_another_process role short level 6 cpus 2 Every;
    ctx::ctx_7_kernel_tasks_reload_nothing level 6 cpus 3 Every;
    ctx::ctx_7_the_same_steps_everywhere role sleeps_there level 6 cpus 3 Every;
    ctx::ctx_7_random_steps_keep_the_grammar role sleeps_there level 6 cpus 3 Every;
    ctx::ctx_6_kernel_tasks_in_a_row level 6 cpus 3 Every;
    ctx::ctx_5_a_switch_holds_what_it_leaves role sleeps_there level 7 cpus 3 Every;
    ctx::ctx_10_what_was_left_may_be_gone role sleeps_there level 7 cpus 3 Every;
    ctx::ctx_9_several_end_at_once role sleeps_there level 7 cpus 2 Every;
    ctx::ctx_9_teardown_while_lazy_everywhere role lazy_everywhere level 7 cpus 3 Every;
    ctx::ctx_2_a_switch_to_the_same level 6 cpus 1 Every;
    ctx::ctx_9_a_cpu_goes_off_while_lazy role lazy_on_the_last level 8 cpus 3 Every;
    tlb::tlb_2_the_cpu_that_unmaps level 6 cpus 1 Every;
    tlb::tlb_3_a_remote_unmap_faults role reads_what_is_unmapped level 7 cpus 2 Every;
    tlb::tlb_3_tables_are_freed_while_lazy level 7 cpus 3 Every;
    tlb::tlb_3_a_task_that_adopted level 7 cpus 3 Every;
    tlb::tlb_3_a_cpu_in_the_switching_window level 7 cpus 3 Every;
    tlb::tlb_3_a_flush_waits_for_a_switch role sleeps_there level 7 cpus 3 Every;
    tlb::tlb_3_a_flush_waits_for_a_task_that_adopts role sleeps_there level 7 cpus 3 Every;
    tlb::tlb_3_what_flushes_cost level 7 cpus 3 Every;
    tlb::tlb_4_flushed_while_lazy level 7 cpus 3 Every;
    tlb::tlb_4_many_flushes_while_lazy level 7 cpus 3 Every;
    tlb::tlb_4_two_flushers level 7 cpus 3 Every;
    smp::smp_2_wake_ups level 7 cpus 2 Every;
    smp::smp_2_requests_merge level 7 cpus 2 Every;
    smp::smp_2_everyone_asks_everyone level 7 cpus 2 Every;
    smp::smp_2_alone_nobody_is_interrupted level 8 cpus 2 Every;
    smp::smp_3_off_and_on level 8 cpus 2 Every;
    mig::mig_1_forced_migrations level 8 cpus 2 Every;
    mig::mig_2_a_stuck_cpu level 8 cpus 3 Every;
    mig::mig_2_an_idle_cpu_takes_from_a_stuck_one level 8 cpus 3 Every;
    mig::mig_3_a_reservation_does_not_outlive_a_switch level 8 cpus 1 Every;
    // Last: the machine is short of ids from then on.
    smp::smp_3_ids_are_reused_while_a_cpu_is_off role visits level 8 cpus 2 Every;
    ctx::ctx_4_ids_are_reused role page_of_its_own level 6 cpus 1 Every;
}
