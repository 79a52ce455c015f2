//! `tools/x mutants`: every way of breaking a promise, against those that must notice.
//!
//! A mutant sleeps in every kernel built for testing and in every host test until it is selected, so
//! a mutant costs a run and not a build. First each killer runs without one, and must find nothing:
//! who complains of a healthy kernel proves nothing by complaining of a broken one. How long it took
//! sets the limit after which a mutant counts as one that hangs. Then each mutant runs against each of
//! its killers. One that is not noticed has survived; one that is noticed otherwise than the golden
//! matrix ([`golden`]) says is a difference; both fail the run. A broken race may end in a way that
//! nobody has seen yet, so a difference is one only if it shows [`TRIES`] times; a survivor is one at
//! once, for a killer that notices now and then is a bad one.
//!
//! Then come the images in which one instruction that a contract speaks of does nothing ([`patched`]).

mod golden;
pub mod guests;
mod host;
mod patched;
pub mod probe;
mod table;

use crate::arch::Arch;
use crate::build;
use crate::error::Result;
use crate::guest;
use crate::oracle::Oracle;
use crate::pool;
use crate::qemu;
use crate::test::glob;
use crate::toolchain::Toolchain;
use crate::ui::{self, Colour, Progress};
use crate::variant::Variant;
use arch_contract::mutant::{ALL, Row};
use clap::ValueEnum;
use golden::{Difference, Kills};
use patched::Patch;
use probe::{Finding, Probe};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Where killers run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Scope {
    #[value(name = "x86_64")]
    X86_64,
    #[value(name = "ppc64le")]
    Ppc64le,
    /// Those that need no machine.
    #[value(name = "model")]
    Model,
    #[value(name = "all")]
    All,
}

impl Scope {
    fn has(self, arch: Option<Arch>) -> bool {
        match self {
            Self::All => true,
            Self::X86_64 => arch == Some(Arch::X86_64),
            Self::Ppc64le => arch == Some(Arch::Ppc64le),
            Self::Model => arch.is_none(),
        }
    }
}

/// Break each promise, and see that its killers notice.
///
/// A mutant is a kernel with one promise of the contract broken. Each of its killers (cases in a
/// guest, the checker of event traces, host tests) has to notice it, in the way that stands in
/// ci/kills.toml. Status 0: all of them did.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only the killers of one machine, or those that need none (`model`).
    #[arg(long, value_enum, default_value = "all")]
    arch: Scope,
    /// Only the mutants with such an id, or the killers with such a name; `*` stands for any
    /// characters.
    #[arg(long, value_name = "GLOB")]
    filter: Option<String>,
    /// Print the mutants and their killers and run nothing.
    #[arg(long)]
    list: bool,
    /// Write what was seen into ci/kills.toml.
    #[arg(long)]
    update: bool,
    /// Killers that run at the same time.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// Also write kills.md, the matrix as a table, into this folder.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// The QEMU to use, if not the one on the PATH: a program, or a folder of them.
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,
}

/// A mutant and one of its killers.
#[derive(Clone, Copy)]
struct Pair {
    row: &'static Row,
    probe: Probe,
}

impl Pair {
    fn names(&self) -> (String, String) {
        (self.row.id.into(), self.probe.to_string())
    }
}

/// How long a killer may take if nothing is known of it.
const HEALTHY_LIMIT: Duration = Duration::from_secs(180);

/// How long a guest may take whose image was patched.
const PATCHED_LIMIT: Duration = Duration::from_secs(60);

/// How many times a mutant may be noticed in a way that is not in the golden matrix.
const TRIES: usize = 3;

/// How long it may take with a mutant, after it took `healthy` without.
fn limit(healthy: Duration) -> Duration {
    Duration::from_secs(10) + 8 * healthy
}

/// What all probes run on.
struct Lab<'a> {
    guests: guests::Guests,
    tests: host::Tests,
    stop: &'a AtomicBool,
}

impl Lab<'_> {
    fn run(&self, probe: Probe, mutant: Option<&str>, limit: Duration) -> Finding {
        let found = match probe {
            Probe::Test(suite, test) => self.tests.run(suite, test, mutant, limit, self.stop),
            _ => self.guests.run(probe, mutant, limit, self.stop),
        };
        found.unwrap_or_else(|error| Finding::Unable(error.to_string()))
    }
}

pub fn main(arguments: Arguments) -> Result<ExitCode> {
    let stop = guest::stop_flag()?;
    let all = pairs();
    let wanted = |pair: &&Pair| {
        let (mutant, killer) = pair.names();
        let named = |glob: &String| glob::matches(glob, &mutant) || glob::matches(glob, &killer);
        arguments.scope_has(pair.probe) && arguments.filter.as_ref().is_none_or(named)
    };
    let chosen: Vec<Pair> = all.iter().filter(wanted).copied().collect();
    if arguments.list {
        for patch in arguments.patches()? {
            ui::line(format_args!("{patch}"));
        }
        for arch in arguments.planted() {
            ui::line(format_args!("{}", patched::planted(arch)));
        }
        for Pair { row, probe } in &chosen {
            ui::line(format_args!("{} {} {probe}", row.id, row.clause.id()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let whole = chosen.len() == all.len();
    let mut outcome = Outcome { killed: 0, bad: 0, seen: BTreeMap::new() };
    let (patches, planted) = (arguments.patches()?, arguments.planted());
    if chosen.is_empty() && patches.is_empty() && planted.is_empty() {
        ui::error(&"no mutant has such an id, and no killer such a name; `--list` shows them");
        return Ok(ExitCode::FAILURE);
    }
    let mut probes: Vec<Probe> = chosen.iter().map(|pair| pair.probe).collect();
    probes.sort_unstable();
    probes.dedup();
    let lab = Lab {
        guests: guests::Guests::build(&probes, arguments.qemu.as_deref())?,
        tests: host::Tests::build(probes.iter().filter_map(|probe| match probe {
            Probe::Test(suite, _) => Some(*suite),
            _ => None,
        })),
        stop: &stop,
    };
    let healthy = outcome.healthy(&lab, &probes, arguments.jobs.into());
    let ready: Vec<Pair> = chosen.into_iter().filter(|pair| healthy.contains_key(&pair.probe)).collect();
    let mut kills = Kills::read()?;
    outcome.broken(&lab, &ready, &healthy, arguments.jobs.into(), (!arguments.update).then_some(&kills));
    if stop.load(Ordering::Relaxed) {
        ui::line(format_args!("interrupted"));
        return Ok(ExitCode::from(crate::run::INTERRUPTED));
    }
    outcome.patched(&patches, &planted, arguments.qemu.as_deref(), &stop)?;
    let stale = if whole { kills.beyond(&all.iter().map(Pair::names).collect()) } else { Vec::new() };
    if arguments.update {
        outcome.seen.iter().for_each(|((mutant, killer), how)| kills.add(mutant, killer, how));
        stale.iter().for_each(|pair| kills.remove(pair));
        kills.write()?;
        table::write(&crate::toolchain::root().join("ci"), &kills)?;
    } else {
        for (mutant, killer) in stale {
            outcome.complain(&format!(
                "{}: {mutant} by {killer} is in no table of mutants any more; run `{}`",
                golden::FILE,
                golden::UPDATE
            ));
        }
    }
    if let Some(folder) = &arguments.report {
        table::write(folder, &kills)?;
    }
    ui::line(format_args!("{} killed, {} failed", outcome.killed, outcome.bad));
    Ok(if outcome.bad == 0 && outcome.killed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Arguments {
    fn scope_has(&self, probe: Probe) -> bool {
        self.arch.has(probe.arch())
    }

    /// The images with one instruction less that are wanted.
    fn patches(&self) -> Result<Vec<Patch>> {
        let mut patches = Vec::new();
        for arch in Arch::ALL.into_iter().filter(|arch| self.arch.has(Some(*arch))) {
            patches.extend(patched::all(arch)?);
        }
        let filter = self.filter.as_ref();
        patches.retain(|patch| filter.is_none_or(|filter| glob::matches(filter, &patch.to_string())));
        Ok(patches)
    }

    /// The machines whose image with an instruction too many is wanted.
    fn planted(&self) -> Vec<Arch> {
        let wanted = |arch: &Arch| {
            let named =
                self.filter.as_ref().is_none_or(|filter| glob::matches(filter, &patched::planted(*arch)));
            named && self.arch.has(Some(*arch))
        };
        Arch::ALL.into_iter().filter(wanted).collect()
    }
}

/// Every mutant with every place of its killers.
fn pairs() -> Vec<Pair> {
    let of = |row: &'static Row| {
        row.killers.iter().flat_map(|&killer| Probe::all(killer)).map(move |probe| Pair { row, probe })
    };
    ALL.iter().flat_map(of).collect()
}

/// Runs a mutant until it survives, or is noticed in a way that the golden matrix has, [`TRIES`] times
/// at the most. The last finding counts.
fn as_known(
    pair: &Pair,
    golden: Option<&Kills>,
    stop: &AtomicBool,
    mut run: impl FnMut() -> Finding,
) -> Finding {
    let (mutant, killer) = pair.names();
    let otherwise = |finding: &Finding| {
        let Finding::Red { how, .. } = finding else { return false };
        let difference = golden.and_then(|golden| golden.difference(&mutant, &killer, how));
        matches!(difference, Some(Difference::OtherWay(_)))
    };
    let mut finding = run();
    for _ in 1..TRIES {
        if !otherwise(&finding) || stop.load(Ordering::Relaxed) {
            break;
        }
        finding = run();
    }
    finding
}

/// What has come of the run so far.
struct Outcome {
    killed: usize,
    bad: usize,
    /// How each kill showed.
    seen: BTreeMap<(String, String), String>,
}

impl Outcome {
    fn complain(&mut self, what: &str) {
        self.bad += 1;
        ui::line(format_args!("{} {what}", ui::on_stdout(Colour::Red, "FAIL")));
    }

    /// Runs the killers without a mutant. Gives how long those took that found nothing.
    fn healthy(&mut self, lab: &Lab<'_>, probes: &[Probe], jobs: usize) -> BTreeMap<Probe, Duration> {
        let _progress = Progress::start(format!("{} killers without a mutant", probes.len()));
        let mut healthy = BTreeMap::new();
        pool::each(
            jobs,
            probes,
            lab.stop,
            |&probe| lab.run(probe, None, HEALTHY_LIMIT),
            |&probe, finding, took| match finding {
                Finding::Green => drop(healthy.insert(probe, took)),
                _ if lab.stop.load(Ordering::Relaxed) => {}
                other => {
                    self.complain(&format!("{probe} proves nothing, without a mutant it {}", other.says()))
                }
            },
        );
        healthy
    }

    /// Runs the mutants against their killers.
    fn broken(
        &mut self,
        lab: &Lab<'_>,
        pairs: &[Pair],
        healthy: &BTreeMap<Probe, Duration>,
        jobs: usize,
        golden: Option<&Kills>,
    ) {
        let mut left = pairs.len();
        pool::each(
            jobs,
            pairs,
            lab.stop,
            |pair| {
                let run = || lab.run(pair.probe, Some(pair.row.id), limit(healthy[&pair.probe]));
                as_known(pair, golden, lab.stop, run)
            },
            |pair, finding, took| {
                left -= 1;
                if !lab.stop.load(Ordering::Relaxed) {
                    self.judge(pair, finding, took, golden, left);
                }
            },
        );
    }

    /// Runs the images in which one instruction does nothing, and looks at those with one too many.
    fn patched(
        &mut self,
        patches: &[Patch],
        planted: &[Arch],
        qemu: Option<&Path>,
        stop: &AtomicBool,
    ) -> Result<()> {
        for arch in Arch::ALL {
            let planted = planted.contains(&arch);
            let patches: Vec<_> = patches.iter().filter(|patch| patch.arch == arch).collect();
            if patches.is_empty() && !planted {
                continue;
            }
            let toolchain = Toolchain::find()?;
            let image = |kernel| patched::Image::read(build::variant(&toolchain, arch, kernel)?);
            let compared = image(Variant::default())?;
            let watched = image(Variant::default().for_testing())?;
            let oracle = Oracle::build(qemu::program(qemu, arch))?;
            if planted {
                self.noticed(&patched::planted(arch), compared.look_for_planted()?);
            }
            let mut healthy = BTreeMap::new();
            for patch in patches {
                if stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let finding = match &patch.stream {
                    None => compared.compare_without(patch)?,
                    Some(case) => {
                        let watch = |patch| watched.watch_without(patch, case, &oracle, PATCHED_LIMIT, stop);
                        if !healthy.contains_key(case) {
                            healthy.insert(case, watch(None)?);
                        }
                        match &healthy[case] {
                            Finding::Green => watch(Some(patch))?,
                            other => Finding::Unable(format!("the whole image {}", other.says())),
                        }
                    }
                };
                self.noticed(&patch.to_string(), finding);
            }
        }
        Ok(())
    }

    /// Counts what was found of an image that was changed.
    fn noticed(&mut self, image: &str, finding: Finding) {
        match finding {
            Finding::Red { how, .. } => {
                self.killed += 1;
                ui::line(format_args!("{} {image}: {how}", ui::on_stdout(Colour::Green, "killed")));
            }
            other => self.complain(&format!("{image} SURVIVED: {}", other.says())),
        }
    }

    fn judge(&mut self, pair: &Pair, finding: Finding, took: Duration, golden: Option<&Kills>, left: usize) {
        let (mutant, killer) = pair.names();
        let Finding::Red { how, why } = finding else {
            let what = format!(
                "{mutant} SURVIVED {killer}: {} ({}: {})",
                finding.says(),
                pair.row.clause.id(),
                pair.row.change
            );
            return self.complain(&what);
        };
        match golden.and_then(|golden| golden.difference(&mutant, &killer, &how)) {
            None => {
                self.killed += 1;
                ui::line(format_args!(
                    "{} {mutant} by {killer}: {how} ({:.1} s, {left} to go)",
                    ui::on_stdout(Colour::Green, "killed"),
                    took.as_secs_f32()
                ));
            }
            Some(Difference::New) => self.complain(&format!(
                "{mutant} by {killer} is not in {}: it {how} ({why}); add it by `{}`",
                golden::FILE,
                golden::UPDATE
            )),
            Some(Difference::OtherWay(ways)) => self.complain(&format!(
                "{mutant} by {killer}: it {how} ({why}), and {} says it {}; find out why, then `{}`",
                golden::FILE,
                ways.join(" or "),
                golden::UPDATE
            )),
        }
        self.seen.insert((mutant, killer), how);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn outcome() -> Outcome {
        Outcome { killed: 0, bad: 0, seen: BTreeMap::new() }
    }

    #[test]
    fn only_what_is_red_as_expected_is_a_kill() {
        let pair = pairs()[0];
        let (mutant, killer) = pair.names();
        let mut golden = Kills::default();
        golden.add(&mutant, &killer, "fails");
        let empty = Kills::default();
        let judge = |finding, golden| {
            let mut outcome = outcome();
            outcome.judge(&pair, finding, Duration::ZERO, golden, 0);
            (outcome.killed, outcome.bad)
        };
        assert_eq!(judge(Finding::red("fails", ""), Some(&golden)), (1, 0));
        assert_eq!(judge(Finding::red("hangs", ""), Some(&golden)), (0, 1));
        assert_eq!(judge(Finding::red("fails", ""), Some(&empty)), (0, 1));
        assert_eq!(judge(Finding::red("hangs", ""), None), (1, 0));
        for finding in [Finding::Green, Finding::Inconclusive("".into()), Finding::Unable("".into())] {
            assert_eq!(judge(finding, None), (0, 1));
        }
    }

    #[test]
    fn a_way_that_is_not_known_has_to_show_again() {
        let pair = pairs()[0];
        let (mutant, killer) = pair.names();
        let mut golden = Kills::default();
        golden.add(&mutant, &killer, "breaks I4");
        let runs = |ways: &[&str], golden| {
            let mut left = ways.iter().map(|&way| match way {
                "nothing" => Finding::Green,
                way => Finding::red(way, ""),
            });
            let found = as_known(&pair, golden, &AtomicBool::new(false), || left.next().unwrap());
            (found, left.count())
        };
        let ways = ["fails", "breaks I4", "hangs"];
        assert_eq!(runs(&ways, Some(&golden)), (Finding::red("breaks I4", ""), 1));
        assert_eq!(runs(&["fails"; TRIES], Some(&golden)), (Finding::red("fails", ""), 0));
        assert_eq!(runs(&["fails", "nothing", "breaks I4"], Some(&golden)), (Finding::Green, 1));
        for unknown in [None, Some(&Kills::default())] {
            assert_eq!(runs(&ways, unknown), (Finding::red("fails", ""), 2));
        }
    }

    #[test]
    fn every_mutant_is_run() {
        let pairs = pairs();
        let run: BTreeSet<_> = pairs.iter().map(|pair| pair.row.id).collect();
        assert!(ALL.iter().all(|row| run.contains(row.id)));
    }
}
