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
const FEW: u64 = 6;
const MANY: u64 = 48;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value}: a number")))
}

/// A case that is not for schedules: its sequences are started over at pauses only, and a schedule
/// has interrupts elsewhere.
const LEFT_OUT: &str = "trap_6_restarted_anywhere";

/// Whether a run could have shown what its case is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shown {
    Something,
    /// What must not happen did not happen in the control either.
    Nothing,
}

/// Runs a case under `seed`. An error says what went wrong.
fn run_under(id: &str, seed: u64) -> Result<Shown, String> {
    let profile = Profile::ALL[seed as usize % Profile::ALL.len()];
    let policy = POLICIES[seed as usize % POLICIES.len()];
    let lines = match schedule::run(Setting::seed(seed), || run(id, profile, policy, CPUS)) {
        Ok(lines) => lines,
        Err(panic) => return Err(format!("{profile:?}, {policy:?}: {panic}")),
    };
    match lines.last().map_or("", String::as_str) {
        verdict if verdict.ends_with(": PASS") || verdict.contains(": SKIP: ") => Ok(Shown::Something),
        verdict if verdict.contains(": INCONCLUSIVE: ") => Ok(Shown::Nothing),
        _ => Err(format!("{profile:?}, {policy:?}: {lines:?}")),
    }
}

/// Runs a case under schedules. It has to pass; to be skipped is to say why.
pub(super) fn everywhere(id: &str) {
    let usual = if std::env::var_os(mutant::VARIABLE).is_some() { MANY } else { FEW };
    let seeds = match variable(SEED) {
        Some(seed) => seed..seed + 1,
        None => 0..variable(COUNT).unwrap_or(usual),
    };
    if id == LEFT_OUT {
        return;
    }
    let run =
        |seed| run_under(id, seed).unwrap_or_else(|wrong| panic!("{id}: {SEED}={seed} replays it\n{wrong}"));
    let shown = seeds.fold(Shown::Nothing, |shown, seed| match run(seed) {
        Shown::Something => Shown::Something,
        Shown::Nothing => shown,
    });
    assert_eq!(shown, Shown::Something, "{id}: inconclusive under every schedule");
}
