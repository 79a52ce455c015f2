//! The conformance suite under random schedules, on weak memory: see [`schedule`].
//!
//! Each case runs under some seeds, under the profiles and the policies in turn; with a mutant,
//! which is to be found, under more. A failure prints its seed, and [`SEED`] replays it.

use super::conformance::{CPUS, POLICIES};
use super::threads::run;
use arch_contract::mutant;
use arch_model::profile::Profile;
use schedule::Setting;
use std::format;
use std::string::String;

/// Runs one seed only.
const SEED: &str = "SPANDREL_SEED";
/// How many schedules of each case, if it is to be another number than [`FEW`] or [`MANY`].
const COUNT: &str = "SPANDREL_SCHEDULES";
const FEW: u64 = 12;
const MANY: u64 = 120;

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

/// Runs a case under schedules. It has to pass; to be skipped is to say why.
pub(super) fn everywhere(id: &str) {
    let usual = if std::env::var_os(mutant::VARIABLE).is_some() { MANY } else { FEW };
    let seeds = match variable(SEED) {
        Some(seed) => seed..seed + 1,
        None => 0..variable(COUNT).unwrap_or(usual),
    };
    for seed in seeds {
        if let Some(wrong) = wrong(id, seed) {
            panic!("{id}: {SEED}={seed} replays it\n{wrong}");
        }
    }
}
