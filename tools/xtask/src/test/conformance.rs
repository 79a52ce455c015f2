//! The conformance suite on the machines: one guest runs all cases that are wanted, and what it
//! prints about each is the case's verdict. A case of which it says nothing has failed.

use super::report::{Case, Results, Verdict};
use super::runner;
use crate::arch::Arch;
use crate::build::{self, Built};
use crate::error::Result;
use crate::guest::{self, Ending, Input, Output, Report};
use crate::qemu::{self, Machine};
use crate::toolchain::Toolchain;
use crate::ui::Progress;
use crate::variant::Variant;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// CPUs, if nobody says: what the most demanding case needs, and one more.
const CPUS: u32 = 4;
/// Seconds for a guest that runs every case.
const LIMIT: u64 = 900;

/// The names of the cases that are wanted.
pub fn names<'a>(arch: Arch, wanted: &'a dyn Fn(&str) -> bool) -> impl Iterator<Item = String> + 'a {
    ids(arch, wanted).map(move |id| name(arch, id))
}

fn ids<'a>(arch: Arch, wanted: &'a dyn Fn(&str) -> bool) -> impl Iterator<Item = &'static str> + 'a {
    conformance::IDS.iter().copied().filter(move |id| wanted(&name(arch, id)))
}

fn name(arch: Arch, id: &str) -> String {
    format!("{arch}/conformance/{id}")
}

/// Runs the cases that are wanted on one machine.
pub fn run(
    arch: Arch,
    wanted: &dyn Fn(&str) -> bool,
    cpus: Option<u32>,
    given: Option<&Path>,
    stop: &AtomicBool,
    results: &mut Results,
) {
    let ids: Vec<&str> = ids(arch, wanted).collect();
    if ids.is_empty() {
        return;
    }
    let begin = Instant::now();
    match guest(arch, &ids, cpus, given, stop) {
        Ok((built, report)) => {
            let took = begin.elapsed() / ids.len() as u32;
            for id in ids {
                let verdict = verdict(&report.console, id)
                    .unwrap_or_else(|| Verdict::Failed("the guest says nothing of it".into()));
                results.add(Case { name: name(arch, id), verdict, took });
            }
            if !matches!(report.ending, Ending::Exited(0 | 1)) {
                let why = format!("{:?}\n{}", report.ending, runner::evidence(&built, &report));
                results.add(Case::failed(name(arch, "the-guest-ends"), why));
            }
        }
        Err(error) => results.add(Case::failed(name(arch, "guest"), error.to_string())),
    }
}

fn guest(
    arch: Arch,
    ids: &[&str],
    cpus: Option<u32>,
    given: Option<&Path>,
    stop: &AtomicBool,
) -> Result<(Built, Report)> {
    let built = build::variant(&Toolchain::find()?, arch, Variant::default().for_testing())?;
    let mut machine = Machine::new(arch, &built.kernel);
    machine.qemu = qemu::program(given, arch);
    machine.cpus = cpus.unwrap_or(CPUS);
    machine.initrd = Some(built.initrd.clone());
    // All of them would be more than a kernel's command line holds.
    let named = if ids.len() == conformance::IDS.len() { &[] } else { ids };
    machine.init_arguments = ["conformance", "each"].iter().chain(named).map(|&word| word.into()).collect();
    let _progress = Progress::start(format!("{} conformance cases on {arch}", ids.len()));
    let limit = Duration::from_secs(LIMIT);
    let report = guest::run(&machine, Input::None, Output::Keep, Some(limit), stop)?;
    Ok((built, report))
}

/// What the console says of a case.
fn verdict(console: &str, id: &str) -> Option<Verdict> {
    let said = console.lines().find_map(|line| {
        let rest = line.trim_end().strip_prefix("conformance: ")?.strip_prefix(id)?;
        rest.strip_prefix(": ")
    })?;
    Some(match said.split_once(": ") {
        None if said == "PASS" => Verdict::Passed,
        Some(("SKIP", why)) => Verdict::Skipped(why.into()),
        Some(("INCONCLUSIVE", why)) => Verdict::Skipped(format!("inconclusive: {why}")),
        Some(("FAIL", why)) => Verdict::Failed(why.into()),
        _ => Verdict::Failed(said.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_console_says_of_a_case() {
        let console = "x\nconformance: a_1: PASS\r\nconformance: a_12: FAIL: a: is 1\nconformance: b: SKIP: no\nconformance: c: INCONCLUSIVE: calm\nconformance: d: what\n";
        assert_eq!(verdict(console, "a_1"), Some(Verdict::Passed));
        assert_eq!(verdict(console, "a_12"), Some(Verdict::Failed("a: is 1".into())));
        assert_eq!(verdict(console, "b"), Some(Verdict::Skipped("no".into())));
        assert_eq!(verdict(console, "c"), Some(Verdict::Skipped("inconclusive: calm".into())));
        assert_eq!(verdict(console, "d"), Some(Verdict::Failed("what".into())));
        assert_eq!(verdict(console, "a"), None);
    }
}
