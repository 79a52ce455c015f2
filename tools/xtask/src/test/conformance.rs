//! The conformance suite on the machines: one guest runs all cases that are wanted, and what it
//! prints about each is the case's verdict. A case of which it says nothing has failed.

use super::known::Platform;
use super::report::{Case, Results, Verdict};
use super::runner;
use crate::arch::Arch;
use crate::build::{self, Built};
use crate::error::Result;
use crate::guest::{self, Ending, Input, Output, Report};
use crate::oracle::qemu_version;
use crate::qemu::{Machine, Threads};
use crate::toolchain::Toolchain;
use crate::ui::Progress;
use crate::variant::Variant;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// CPUs, if nobody says: what the most demanding case needs, and one more.
pub const CPUS: u32 = 4;
/// For a guest that runs every case.
const LIMIT: Duration = Duration::from_secs(900);
/// For a case, on average, of a guest that runs many of them often.
const EACH: Duration = Duration::from_secs(10);

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

/// On what, and how often.
pub struct Options {
    pub cpus: u32,
    pub threads: Threads,
    /// What is broken.
    pub mutant: Option<&'static str>,
    pub qemu: PathBuf,
    pub repeat: usize,
}

/// Runs the cases that are wanted on one machine.
pub fn run(
    arch: Arch,
    wanted: &dyn Fn(&str) -> bool,
    options: Options,
    stop: &AtomicBool,
    results: &mut Results,
) {
    let ids: Vec<&str> = ids(arch, wanted).collect();
    if ids.is_empty() {
        return;
    }
    let version = qemu_version(&options.qemu).unwrap_or_default();
    match guest(arch, &ids, &options, stop) {
        Ok((built, machine, report)) => {
            let platform = Platform::of(&machine, version);
            let said = said(&report);
            for id in ids {
                let name = || name(arch, id);
                let mut runs = 0;
                for (_, verdict, took) in said.iter().filter(|(of, ..)| *of == id) {
                    runs += 1;
                    let case = Case { name: name(), verdict: verdict.clone(), took: *took };
                    results.add(case, Some(&platform));
                }
                for _ in runs..options.repeat {
                    let case = Case::failed(name(), "the guest says nothing of it".into());
                    results.add(case, Some(&platform));
                }
            }
            if !matches!(report.ending, Ending::Exited(0 | 1)) {
                let why = format!("{:?}\n{}", report.ending, runner::evidence(&built, &report));
                results.tell(Case::failed(name(arch, "the-guest-ends"), why));
            }
        }
        Err(error) => results.tell(Case::failed(name(arch, "guest"), error.to_string())),
    }
}

fn guest(arch: Arch, ids: &[&str], options: &Options, stop: &AtomicBool) -> Result<(Built, Machine, Report)> {
    let built = build::variant(&Toolchain::find()?, arch, Variant::default().for_testing())?;
    let mut machine = Machine::new(arch, &built.kernel);
    machine.qemu = options.qemu.clone();
    machine.cpus = options.cpus;
    machine.threads = options.threads;
    machine.initrd = Some(built.initrd.clone());
    machine.options.extend(options.mutant.map(|id| format!("mutant={id}")));
    let what = match options.repeat {
        1 => vec!["each".into()],
        many => vec!["repeat".into(), many.to_string()],
    };
    // All of them would be more than a kernel's command line holds.
    let named = if ids.len() == conformance::IDS.len() { &[] } else { ids };
    let named = named.iter().map(|&word| word.into());
    machine.init_arguments = std::iter::once("conformance".into()).chain(what).chain(named).collect();
    let _progress = Progress::start(format!("{} conformance cases on {arch}", ids.len()));
    let limit = LIMIT.max(EACH * (ids.len() * options.repeat) as u32);
    let report = guest::run(&machine, Input::None, Output::Keep, Some(limit), stop)?;
    Ok((built, machine, report))
}

/// Every verdict on the console, in its order, with how long the case took: since the one before, or
/// since the program could have begun.
fn said(report: &Report) -> Vec<(&str, Verdict, Duration)> {
    let mut before = None;
    let mut all = Vec::new();
    for (line, &time) in report.console.lines().zip(&report.line_times) {
        if let Some((id, verdict)) = spoken(line) {
            all.push((id, verdict, time - before.unwrap_or(time)));
            before = Some(time);
        } else if all.is_empty() {
            before = Some(time);
        }
    }
    all
}

/// What the console says of a case, if it does.
pub fn verdict(console: &str, id: &str) -> Option<Verdict> {
    console.lines().filter_map(spoken).find(|(of, _)| *of == id).map(|(_, verdict)| verdict)
}

/// The case and the verdict of a line that has one.
fn spoken(line: &str) -> Option<(&str, Verdict)> {
    let (id, said) = line.trim_end().strip_prefix("conformance: ")?.split_once(": ")?;
    let verdict = match said.split_once(": ") {
        None if said == "PASS" => Verdict::Passed,
        Some(("SKIP", why)) => Verdict::Skipped(why.into()),
        Some(("INCONCLUSIVE", why)) => Verdict::Inconclusive(why.into()),
        Some(("FAIL", why)) => Verdict::Failed(why.into()),
        _ => Verdict::Failed(said.into()),
    };
    conformance::IDS.contains(&id).then_some((id, verdict))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: [&str; 2] = [conformance::IDS[0], conformance::IDS[1]];

    #[test]
    fn what_the_console_says_of_a_case() {
        let spoken = |said: &str| spoken(said).map(|(_, verdict)| verdict);
        let line = |said: &str| format!("conformance: {}: {said}", IDS[0]);
        assert_eq!(spoken(&line("PASS\r")), Some(Verdict::Passed));
        assert_eq!(spoken(&line("FAIL: a: is 1")), Some(Verdict::Failed("a: is 1".into())));
        assert_eq!(spoken(&line("SKIP: no")), Some(Verdict::Skipped("no".into())));
        assert_eq!(spoken(&line("INCONCLUSIVE: calm")), Some(Verdict::Inconclusive("calm".into())));
        assert_eq!(spoken(&line("what")), Some(Verdict::Failed("what".into())));
        assert_eq!(spoken("conformance: 1 passed: yes"), None);
        assert_eq!(verdict(&format!("x\n{}\n", line("PASS")), IDS[1]), None);
    }

    #[test]
    fn a_case_takes_the_time_since_the_one_before() {
        let console = format!("boot\nconformance: {}: PASS\nx\nconformance: {}: PASS\n", IDS[0], IDS[1]);
        let line_times = [1, 3, 4, 8].map(Duration::from_secs).to_vec();
        let report = Report {
            ending: Ending::Exited(0),
            console,
            line_times,
            frames: vec![],
            trace: vec![],
            warnings: String::new(),
        };
        let times: Vec<_> = said(&report).iter().map(|(id, _, took)| (*id, took.as_secs())).collect();
        assert_eq!(times, [(IDS[0], 2), (IDS[1], 5)]);
    }
}
