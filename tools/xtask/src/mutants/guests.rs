//! Killers that boot a machine.

use super::probe::{Finding, Probe};
use crate::arch::Arch;
use crate::build::{self, Built};
use crate::error::{Error, Result};
use crate::executed;
use crate::guest::{self, Ending, Input, Output, Report};
use crate::oracle::Oracle;
use crate::pictures;
use crate::qemu::{self, Machine};
use crate::run::describe;
use crate::test::known::Platform;
use crate::test::report::Verdict;
use crate::test::{self, conformance, runner};
use crate::toolchain::{Toolchain, root};
use crate::trace::rules;
use crate::variant::Variant;
use ::trace::{Trace, check};
use arch_contract::mutant::ALL;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// What boots, for each machine.
pub struct Guests {
    built: BTreeMap<Arch, Result<Built>>,
    qemu: BTreeMap<Arch, std::path::PathBuf>,
    /// The plugin that records executed instructions, where a probe wants it.
    oracles: BTreeMap<Arch, Result<Oracle>>,
}

impl Guests {
    /// Builds the kernels for testing of the machines that the probes need: one each, in which every
    /// mutant sleeps.
    pub fn build(probes: &[Probe], qemu: Option<&Path>) -> Result<Self> {
        let needed = |arch: &Arch| probes.iter().any(|probe| probe.arch() == Some(*arch));
        let toolchain = Toolchain::find()?;
        let kernel = Variant::default().for_testing();
        let build = |arch| (arch, build::variant(&toolchain, arch, kernel));
        let recorded = |arch: &Arch| {
            probes.iter().any(|probe| matches!(probe, Probe::Stream(machine, _) if machine == arch))
        };
        let oracle = |arch| (arch, Oracle::build(qemu::program(qemu, arch)));
        Ok(Self {
            built: Arch::ALL.into_iter().filter(needed).map(build).collect(),
            qemu: Arch::ALL.into_iter().map(|arch| (arch, qemu::program(qemu, arch))).collect(),
            oracles: Arch::ALL.into_iter().filter(recorded).map(oracle).collect(),
        })
    }

    /// What the guests run on, with a QEMU of this version.
    pub fn platform(&self, arch: Arch, version: (u32, u32)) -> Platform {
        Platform::of(&Machine::new(arch, Path::new("")), version)
    }

    /// Runs a guest case of `tools/x test`, which has a limit of its own.
    fn row(&self, arch: Arch, name: &str, mutant: Option<&str>, stop: &AtomicBool) -> Result<Finding> {
        let full = format!("{arch}/{name}");
        let case = test::rows(arch).into_iter().find(|case| case.name == full);
        let case = case.ok_or_else(|| Error::new(format!("there is no guest case {full}")))?.broken(mutant);
        let common = runner::Common::prepare(arch, self.qemu[&arch].clone(), std::slice::from_ref(&case))?;
        let files = format!("{full}-{}", mutant.unwrap_or("none")).replace('/', "-");
        runner::alone(&case, &common, &runner::folder()?.join(files), stop).map(of_row)
    }

    /// Boots the machine of `probe` with this mutant, or none, and judges.
    ///
    /// # Errors
    /// It cannot be built or started.
    pub fn run(
        &self,
        probe: Probe,
        mutant: Option<&str>,
        limit: Duration,
        stop: &AtomicBool,
    ) -> Result<Finding> {
        let arch = probe.arch().ok_or_else(|| Error::new(format!("{probe} boots no machine")))?;
        if let Probe::Row(_, name) = probe {
            return self.row(arch, name, mutant, stop);
        }
        let built = match self.built.get(&arch) {
            Some(Ok(built)) => built,
            Some(Err(error)) => return Err(Error::new(error.to_string())),
            None => return Err(Error::new(format!("no kernel was built for {arch}"))),
        };
        let mut machine = Machine::new(arch, &built.kernel);
        machine.qemu = self.qemu[&arch].clone();
        machine.cpus = conformance::CPUS;
        machine.initrd = Some(built.initrd.clone());
        machine.options.extend(mutant.map(|id| format!("mutant={id}")));
        if matches!(probe, Probe::Trace(..)) {
            machine.options.push("trace=on".into());
        }
        machine.init_arguments = match probe {
            Probe::Case(_, id) | Probe::Trace(_, id) | Probe::Stream(_, id) => {
                vec!["conformance".into(), "each".into(), id.into()]
            }
            Probe::Row(..) | Probe::Test(..) => Vec::new(),
        };
        if let Probe::Stream(_, id) = probe {
            let oracle = match self.oracles.get(&arch) {
                Some(Ok(oracle)) => oracle,
                Some(Err(error)) => return Err(Error::new(error.to_string())),
                None => return Err(Error::new(format!("no plugin was built for {arch}"))),
            };
            machine.options.extend(executed::options(arch, id).map(String::from));
            let out = root().join(format!("target/stream-{arch}-{id}-{}", mutant.unwrap_or("none")));
            let (report, verdict) = executed::watch(oracle, built, machine, &out, limit, stop)?;
            let finding = stream(id, mutant, &report, verdict);
            return Ok(match finding {
                // What the case itself sees with such an option is not what is asked here.
                Finding::Red { ref how, .. } if how == "fails" && executed::options(arch, id).is_some() => {
                    Finding::Green
                }
                finding => finding,
            });
        }
        let report = guest::run(&machine, Input::None, Output::Keep, Some(limit), stop)?;
        Ok(match probe {
            Probe::Trace(_, id) => trace(arch, id, &report, &picture(probe, mutant)),
            Probe::Case(_, id) => case(id, &report),
            _ => ending(&report),
        })
    }
}

/// What a guest case of `tools/x test` comes to with this mutant, or none.
fn of_row(verdict: Verdict) -> Finding {
    match verdict {
        Verdict::Passed => Finding::Green,
        Verdict::Failed(why) => Finding::red("fails", why),
        other => Finding::Unable(format!("{other:?}")),
    }
}

/// What the picture of a broken trace is called.
fn picture(probe: Probe, mutant: Option<&str>) -> String {
    mutant.map_or_else(|| probe.to_string(), |id| format!("{id}/{probe}"))
}

/// What a guest's run of one case comes to: its verdict, unless the guest did not get that far.
fn case(id: &str, report: &Report) -> Finding {
    match conformance::verdict(&report.console, id) {
        Some(Verdict::Failed(why)) => Finding::red("fails", why),
        Some(Verdict::Inconclusive(why)) => Finding::Inconclusive(why),
        Some(Verdict::Skipped(why)) => Finding::Unable(format!("skipped: {why}")),
        Some(_) => ending(report),
        None => match ending(report) {
            Finding::Green => Finding::Unable("the guest says nothing of it".into()),
            other => other,
        },
    }
}

/// The same with the events that the kernel printed: what they break comes first.
fn trace(arch: Arch, id: &str, report: &Report, picture: &str) -> Finding {
    let events = match Trace::from_lines(report.trace.iter().map(String::as_str)) {
        Ok(trace) => trace,
        Err(error) => return Finding::red("tears the trace", error.to_string()),
    };
    if let Some(violation) = check(&events, &rules(arch)).first() {
        let mut why = violation.what.clone();
        if let Some(file) = pictures::draw(&events, violation, picture) {
            why.push_str(&format!("; drawn in {}", file.display()));
        }
        return Finding::red(format!("breaks {:?}", violation.invariant), why);
    }
    match case(id, report) {
        Finding::Green if events.events.is_empty() => Finding::Unable("the kernel printed no events".into()),
        other => other,
    }
}

/// The same with the rules for executed instructions: what they say comes first. Of several that are
/// broken, the one about the mutant's own clause is named, or else the first by name.
fn stream(id: &str, mutant: Option<&str>, report: &Report, verdict: Option<executed::Verdict>) -> Finding {
    let Some(executed::Verdict::Broken { clauses, why }) = verdict else { return case(id, report) };
    let own = ALL.iter().find(|row| Some(row.id) == mutant).map(|row| row.clause.id());
    let named = own.filter(|own| clauses.contains(own)).or(clauses.first().copied());
    Finding::red(format!("breaks {}", named.unwrap_or_default()), why)
}

/// What the way a guest ended says.
fn ending(report: &Report) -> Finding {
    let why = describe(&report.ending).unwrap_or_default();
    match &report.ending {
        Ending::Exited(0) => Finding::Green,
        Ending::Exited(status) => Finding::red("fails", format!("status {status}")),
        Ending::Failed => {
            let panic = report.console.lines().find(|line| line.to_lowercase().contains("panic"));
            Finding::red("panics", panic.unwrap_or_default().trim())
        }
        Ending::TimeLimit(_) => Finding::red("hangs", why),
        Ending::Unexplained(_) => Finding::red("resets", why),
        Ending::DidNotStart(_) => Finding::Unable(why),
        Ending::Interrupted => Finding::Unable("interrupted".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::conformance as conformance_ids;

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

    fn how(finding: Finding) -> String {
        match finding {
            Finding::Red { how, .. } => how,
            other => format!("{other:?}"),
        }
    }

    const ID: &str = conformance_ids::IDS[0];

    fn says(ending: Ending, said: &str) -> Report {
        report(ending, &format!("conformance: {ID}: {said}\n"))
    }

    #[test]
    fn a_verdict_counts_before_the_ending() {
        assert_eq!(how(case(ID, &says(Ending::Exited(1), "FAIL: is 1"))), "fails");
        assert_eq!(case(ID, &says(Ending::Exited(0), "PASS")), Finding::Green);
        assert_eq!(how(case(ID, &says(Ending::Failed, "PASS"))), "panics");
        let hang = Ending::TimeLimit(Duration::from_secs(1));
        assert_eq!(how(case(ID, &report(hang, ""))), "hangs");
    }

    #[test]
    fn what_shows_nothing_is_no_kill() {
        let inconclusive = says(Ending::Exited(1), "INCONCLUSIVE: calm");
        assert_eq!(case(ID, &inconclusive), Finding::Inconclusive("calm".into()));
        let skipped = says(Ending::Exited(0), "SKIP: no");
        assert!(matches!(case(ID, &skipped), Finding::Unable(_)));
        assert!(matches!(case(ID, &report(Ending::Exited(0), "")), Finding::Unable(_)));
        let no_events = says(Ending::Exited(0), "PASS");
        assert!(matches!(trace(Arch::X86_64, ID, &no_events, ""), Finding::Unable(_)));
    }
}
