//! Runs guest cases, two at a time, and judges them.

use super::cases::{Case, Expect, Initrd, Judge};
use super::known::Platform;
use super::report::{self, Results, Verdict};
use crate::arch::Arch;
use crate::build::{self, Built};
use crate::error::{Context, Error, Result};
use crate::executed;
use crate::guest::{self, Ending, Input, Output, Report};
use crate::oracle::{self, Oracle, Writes};
use crate::pool;
use crate::qemu::{Machine, Threads};
use crate::run::describe;
use crate::symbols::{self, Names};
use crate::toolchain::{Toolchain, read, root};
use crate::variant::Variant;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Guests that run at the same time.
const AT_ONCE: usize = 2;
/// How much of a failed guest's console is shown.
const SHOWN_LINES: usize = 40;

/// What all cases of a run have in common.
pub struct Common {
    pub arch: Arch,
    /// Each kernel that some case boots, or why there is none.
    pub builds: BTreeMap<Variant, Result<Built>>,
    /// The plugin, or why there is none; nothing if no case is watched.
    pub oracle: Option<Result<Oracle>>,
    /// CPUs, if the cases are not to choose.
    pub smp: Option<u32>,
    /// TCG's threads, the same.
    pub threads: Threads,
    pub qemu: PathBuf,
    /// Its version, as far as it says.
    pub version: (u32, u32),
    /// How often each case runs.
    pub repeat: usize,
}

impl Common {
    /// Builds what these cases need. What does not build fails the cases that need it, and no others.
    pub fn prepare(arch: Arch, qemu: PathBuf, cases: &[Case]) -> Result<Self> {
        let toolchain = Toolchain::find()?;
        let kernels: BTreeSet<Variant> = cases.iter().map(|case| case.kernel).collect();
        let build = |kernel| (kernel, build::variant(&toolchain, arch, kernel));
        let builds = kernels.into_iter().map(build).collect();
        let watched = cases.iter().any(|case| case.judge.is_some());
        let oracle = watched.then(|| Oracle::build(qemu.clone()));
        let version = oracle::qemu_version(&qemu).unwrap_or_default();
        Ok(Self { arch, builds, oracle, smp: None, threads: Threads::Multi, qemu, version, repeat: 1 })
    }

    fn built(&self, kernel: Variant) -> Result<&Built> {
        let built = self.builds.get(&kernel).ok_or_else(|| Error::new("this kernel was not built"))?;
        built.as_ref().map_err(|error| Error::new(error.to_string()))
    }

    fn oracle(&self) -> Result<&Oracle> {
        let oracle = self.oracle.as_ref().ok_or_else(|| Error::new("the plugin was not built"))?;
        oracle.as_ref().map_err(|error| Error::new(error.to_string()))
    }
}

/// Where cases put files of their own.
pub fn folder() -> Result<PathBuf> {
    let folder = root().join("target/test-images");
    std::fs::create_dir_all(&folder).context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Runs the cases of one machine; each one's line is printed as it ends.
pub fn run(cases: Vec<Case>, common: Common, stop: &AtomicBool, results: &mut Results) -> Result<()> {
    let folder = folder()?;
    let runs: Vec<(usize, &Case)> =
        (0..common.repeat).flat_map(|run| cases.iter().map(move |case| (run, case))).collect();
    pool::each(
        AT_ONCE,
        &runs,
        stop,
        |&(run, case)| {
            let machine = machine(case, &common);
            // A run's files are its own: others of the same case may go on beside it.
            let files = folder.join(format!("{}-{run}", case.name.replace('/', "-")));
            let verdict = one(case, machine.clone(), &common, &files, stop);
            let platform = Platform::of(&machine, common.version);
            (verdict.unwrap_or_else(|error| Verdict::Failed(error.to_string())), platform)
        },
        |(_, case), (verdict, platform), took| {
            results.add(report::Case { name: case.name.clone(), verdict, took }, Some(&platform));
        },
    );
    Ok(())
}

/// Runs one case by itself. `files` is where its own files go, without their endings.
pub fn alone(case: &Case, common: &Common, files: &std::path::Path, stop: &AtomicBool) -> Result<Verdict> {
    one(case, machine(case, common), common, files, stop)
}

/// The machine of a case, but for what has to be built.
fn machine(case: &Case, common: &Common) -> Machine {
    let mut machine = Machine::new(common.arch, std::path::Path::new(""));
    machine.init_arguments = case.program.clone();
    machine.qemu = common.qemu.clone();
    if let Some(cpus) = common.smp {
        machine.cpus = cpus;
    }
    machine.threads = common.threads;
    (case.adjust)(&mut machine);
    machine
}

/// Runs one case. `files` is where its own files go, without their endings.
fn one(
    case: &Case,
    mut machine: Machine,
    common: &Common,
    files: &std::path::Path,
    stop: &AtomicBool,
) -> Result<Verdict> {
    if let Some(why) = &case.skip {
        return Ok(Verdict::Skipped(why.clone()));
    }
    let built = common.built(case.kernel)?;
    machine.kernel = built.kernel.clone();
    machine.initrd = initrd(built, case, files)?;
    let seen = files.with_extension("seen");
    if let Some(judge) = &case.judge {
        let writes = match judge {
            Judge::Counts(_) => Writes::Counts,
            Judge::Stream => Writes::Stream,
        };
        let plugin = common.oracle()?.argument(built, &seen, writes)?;
        machine.extra.extend(["-plugin".into(), plugin.into()]);
    }
    let script = Mutex::new(case.script.clone());
    let input = match std::mem::take(&mut *script.lock().unwrap_or_else(|poison| poison.into_inner())) {
        steps if steps.is_empty() => Input::None,
        steps => Input::Script(steps),
    };
    let limit = Duration::from_secs(case.limit);
    let report = match guest::run(&machine, input, Output::Keep, Some(limit), stop) {
        Ok(report) => report,
        // A machine that cannot even be started is an ending too, if that is what is expected.
        Err(error) if case.expect == Expect::DidNotStart => {
            let text = error.to_string();
            return Ok(missing(&text, &case.prints).map_or(Verdict::Passed, Verdict::Failed));
        }
        Err(error) => return Err(error),
    };
    if let Some(complaint) = complaint(case, &report) {
        return Ok(Verdict::Failed(format!("{complaint}\n{}", evidence(built, &report))));
    }
    let judged = match &case.judge {
        None => return Ok(Verdict::Passed),
        Some(Judge::Counts(judge)) => judge(&oracle::read_observed(&seen)?, &Names::read(&built.kernel)?),
        Some(Judge::Stream) => {
            let verdict = executed::judge(built.arch, &built.kernel, &seen);
            let _ = std::fs::remove_file(&seen);
            match verdict? {
                executed::Verdict::Kept(_) => Ok(()),
                executed::Verdict::Broken { why, .. } => Err(why),
            }
        }
    };
    Ok(judged.map_or_else(Verdict::Failed, |()| Verdict::Passed))
}

/// What speaks against a run, if anything does.
fn complaint(case: &Case, report: &Report) -> Option<String> {
    let agrees = match (&case.expect, &report.ending) {
        (Expect::Status(wanted), Ending::Exited(status)) => wanted == status,
        (Expect::GuestFails, Ending::Failed)
        | (Expect::TimeLimit, Ending::TimeLimit(_))
        | (Expect::DidNotStart, Ending::DidNotStart(_)) => true,
        _ => false,
    };
    if !agrees {
        let got = match &report.ending {
            Ending::Exited(status) => format!("status {status}"),
            other => describe(other).unwrap_or_else(|| "interrupted".into()),
        };
        return Some(format!("expected {}, got {got}", case.expect));
    }
    let text = match &report.ending {
        Ending::DidNotStart(words) => words,
        _ => &report.console,
    };
    if let Some(complaint) = missing(text, &case.prints) {
        return Some(complaint);
    }
    let lower = text.to_lowercase();
    let found = case.never_prints.iter().find(|word| lower.contains(&word.to_lowercase()));
    found.map(|word| format!("the console must not show `{word}`"))
}

/// Which of the words is not in the text, whatever the case of its letters. `a|b` is either.
fn missing(text: &str, words: &[String]) -> Option<String> {
    let lower = text.to_lowercase();
    let word =
        words.iter().find(|word| !word.split('|').any(|either| lower.contains(&either.to_lowercase())))?;
    Some(format!("the console does not show `{word}`"))
}

/// What a person needs to see why.
pub(super) fn evidence(built: &Built, report: &Report) -> String {
    let mut text = String::new();
    let lines: Vec<_> = report.console.lines().collect();
    if lines.len() > SHOWN_LINES {
        text.push_str(&format!("| [{} lines above]\n", lines.len() - SHOWN_LINES));
    }
    for line in &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
        text.push_str(&format!("| {line}\n"));
    }
    for line in symbols::backtrace(&built.kernel, &report.frames) {
        text.push_str(&format!("{line}\n"));
    }
    if !report.warnings.is_empty() {
        text.push_str(&format!("QEMU said: {}\n", report.warnings));
    }
    text
}

/// The archive a case boots, written to a file of its own if it is not the ordinary one.
fn initrd(built: &Built, case: &Case, files: &std::path::Path) -> Result<Option<PathBuf>> {
    let bytes = match &case.initrd {
        Initrd::Built => return Ok(Some(built.initrd.clone())),
        Initrd::None => return Ok(None),
        Initrd::Made(make) => make(built, read(&built.initrd)?)?,
    };
    let path = files.with_extension("cpio");
    std::fs::write(&path, bytes).context(|| format!("cannot write {}", path.display()))?;
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ending: Ending, console: &str) -> Report {
        Report {
            ending,
            console: console.into(),
            line_times: vec![],
            frames: vec![],
            trace: vec![],
            warnings: String::new(),
        }
    }

    #[test]
    fn the_ending_must_be_the_expected_one() {
        let case = Case::new(Arch::X86_64, "a").status(7);
        assert_eq!(complaint(&case, &report(Ending::Exited(7), "")), None);
        assert!(
            complaint(&case, &report(Ending::Exited(0), ""))
                .unwrap()
                .contains("expected status 7, got status 0")
        );
        assert!(complaint(&case, &report(Ending::TimeLimit(Duration::ZERO), "")).is_some());
        let hang = Case::new(Arch::X86_64, "a").expect(Expect::TimeLimit);
        assert_eq!(complaint(&hang, &report(Ending::TimeLimit(Duration::ZERO), "")), None);
        assert!(complaint(&hang, &report(Ending::Unexplained("x".into()), "")).is_some());
    }

    #[test]
    fn the_console_must_show_what_is_expected() {
        let case = Case::new(Arch::X86_64, "a").prints(&["Hello|hi", "x86"]).never_prints(&["panic"]);
        assert_eq!(complaint(&case, &report(Ending::Exited(0), "HI from x86")), None);
        assert!(complaint(&case, &report(Ending::Exited(0), "hi")).unwrap().contains("x86"));
        assert!(complaint(&case, &report(Ending::Exited(0), "hi x86 PANIC")).unwrap().contains("panic"));
    }
}
