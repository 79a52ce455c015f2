//! The conformance suite under many schedules, on weak memory: see [`schedule`].
//!
//! Each case runs under as many seeds as [`COUNT`] says, under the profiles and the policies in
//! turn. A failure prints its seed; [`SEED`] replays it.

use super::threads::run;
use crate::sched::lifetime::Policy;
use arch_model::profile::Profile;
use schedule::Setting;
use std::format;
use std::string::String;

/// Runs one seed only.
const SEED: &str = "SPANDREL_SEED";
/// How many schedules of each case; without it, [`FEW`].
const COUNT: &str = "SPANDREL_SCHEDULES";
const FEW: u64 = 12;

const CPUS: u32 = 4;
const POLICIES: [Policy; 3] = [Policy::Hazard, Policy::Refcount, Policy::Shootdown];

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value}: a number")))
}

/// What went wrong under `seed`, if anything.
fn wrong(id: &str, seed: u64) -> Option<String> {
    let profile = Profile::ALL[seed as usize % Profile::ALL.len()];
    let policy = POLICIES[seed as usize % POLICIES.len()];
    let lines = match schedule::run(Setting::seed(seed), || run(id, profile, policy, CPUS)) {
        Ok(lines) => lines,
        Err(panic) => return Some(format!("{profile:?}, {policy:?}: {panic}")),
    };
    let verdict = lines.last().map_or("", String::as_str);
    let passed = verdict.ends_with(": PASS") || verdict.contains(": SKIP: ");
    (!passed).then(|| format!("{profile:?}, {policy:?}: {lines:?}"))
}

fn under_schedules(id: &str) {
    let seeds = match variable(SEED) {
        Some(seed) => seed..seed + 1,
        None => 0..variable(COUNT).unwrap_or(FEW),
    };
    for seed in seeds {
        if let Some(wrong) = wrong(id, seed) {
            panic!("{id}: replay with {SEED}={seed}\n{wrong}");
        }
    }
}

macro_rules! cases {
    ($($id:ident)*) => {
        $(#[test] fn $id() { under_schedules(stringify!($id)); })*
    };
}

cases! {
    bar_2_errors_are_those_of_linux
    bar_2_a_new_process_starts_unregistered
    bar_2_registering_under_switches
    bar_3_commands_reach_the_cpus_that_run_the_process
    bar_3_global_expedited_reaches_the_registered
    bar_3_store_buffering
    bar_4_bar_5_a_round_trip_between_sample_and_start
    ret_2_an_adopted_mm_hides_no_request
    ret_2_a_sibling_that_left_by_a_call
    ret_2_the_caller_too
    ctx_7_an_episode_ends_in_another_process
    ctx_7_kernel_tasks_reload_nothing
    ctx_9_teardown_while_lazy_everywhere
    ctx_9_a_cpu_goes_off_while_lazy
    tlb_3_a_remote_unmap_faults
    tlb_3_tables_are_freed_while_lazy
    tlb_3_a_task_that_adopted
    tlb_3_a_cpu_in_the_switching_window
    tlb_4_flushed_while_lazy
    tlb_4_two_flushers
    smp_2_wake_ups
    smp_3_off_and_on
    mig_1_forced_migrations
    mig_2_a_stuck_cpu
    ctx_4_ids_are_reused
}
