//! Cases of the conformance suite while the plugin records what their CPUs execute: the rules must be
//! kept (`tools/stream`).
//!
//! One guest for each, so that what a rule finds broken names the case. A row is here if a rule speaks
//! of what the case does; that the case passes, too, is what `*/conformance/*` is for.

use super::cases::Case;
use crate::arch::Arch;
use crate::variant::Variant;

const CPUS: u32 = 4;
/// Seconds: the plugin slows a guest down.
const LIMIT: u64 = 120;

/// The cases, and where they run: on ppc64le, where every return serializes, some are skipped.
const CASES: [(&str, &[Arch]); 11] = [
    ("bar_3_commands_reach_the_cpus_that_run_the_process", &Arch::ALL),
    ("bar_4_bar_5_a_round_trip_between_sample_and_start", &Arch::ALL),
    ("ret_2_an_adopted_mm_hides_no_request", &[Arch::X86_64]),
    ("ret_2_the_caller_too", &[Arch::X86_64]),
    ("ctx_7_an_episode_ends_in_another_process", &Arch::ALL),
    ("ctx_9_teardown_while_lazy_everywhere", &Arch::ALL),
    ("tlb_3_tables_are_freed_while_lazy", &Arch::ALL),
    ("smp_3_off_and_on", &Arch::ALL),
    ("ctx_4_ids_are_reused", &[Arch::Ppc64le]),
    ("code_2_cross_modifying_code", &Arch::ALL),
    ("tlb_3_a_remote_unmap_faults", &[Arch::X86_64]),
];

/// The rows.
pub fn all(arch: Arch) -> Vec<Case> {
    let here = CASES.iter().filter(|(_, machines)| machines.contains(&arch));
    here.map(|(id, _)| {
        Case::new(arch, &format!("stream/{id}"))
            .program(&["conformance", id])
            .kernel(Variant::default().for_testing())
            .machine(|machine| machine.cpus = CPUS)
            .limit(LIMIT)
            .keeps_the_rules()
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_names_a_case_that_exists() {
        for (id, machines) in CASES {
            assert!(conformance::IDS.contains(&id) && !machines.is_empty(), "{id}");
        }
    }
}
