//! Cases whose event trace is what counts: each runs in a guest of its own that records events, and
//! the checker of invariants judges them. They are those that the table of mutants names as killers
//! by their trace: what is worth breaking is worth watching.

use super::report::{Case, Results, Verdict};
use crate::arch::Arch;
use crate::error::Result;
use crate::mutants::guests::Guests;
use crate::mutants::probe::{Finding, Probe};
use crate::oracle::qemu_version;
use crate::{pool, qemu};
use arch_contract::mutant::ALL;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Guests that run at the same time.
const AT_ONCE: usize = 2;
const LIMIT: Duration = Duration::from_secs(120);

/// Those that are wanted, on one machine.
pub fn wanted(arch: Arch, wanted: &dyn Fn(&str) -> bool) -> Vec<Probe> {
    let killers = ALL.iter().flat_map(|row| row.killers).flat_map(|&killer| Probe::all(killer));
    let traced = |probe: &Probe| matches!(probe, Probe::Trace(on, _) if *on == arch);
    let probes: BTreeSet<Probe> = killers.filter(traced).collect();
    probes.into_iter().filter(|probe| wanted(&probe.to_string())).collect()
}

/// Runs them, each so many times.
pub fn run(
    probes: &[Probe],
    repeat: usize,
    mutant: Option<&str>,
    given: Option<&Path>,
    stop: &AtomicBool,
    results: &mut Results,
) -> Result<()> {
    if probes.is_empty() {
        return Ok(());
    }
    let guests = Guests::build(probes, given)?;
    let runs: Vec<Probe> = (0..repeat).flat_map(|_| probes).copied().collect();
    pool::each(
        AT_ONCE,
        &runs,
        stop,
        |&probe| guests.run(probe, mutant, LIMIT, stop),
        |probe, finding, took| {
            let verdict = match finding {
                Ok(Finding::Green) => Verdict::Passed,
                Ok(Finding::Inconclusive(why)) => Verdict::Inconclusive(why),
                Ok(other) => Verdict::Failed(other.says()),
                Err(error) => Verdict::Failed(error.to_string()),
            };
            let platform = probe.arch().map(|arch| {
                let version = qemu_version(&qemu::program(given, arch)).unwrap_or_default();
                guests.platform(arch, version)
            });
            results.add(Case { name: probe.to_string(), verdict, took }, platform.as_ref());
        },
    );
    Ok(())
}
