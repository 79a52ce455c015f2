//! Results: a line as each case ends, and at the end the count, JUnit and TAP.
//!
//! | verdict | means | the run |
//! | --- | --- | --- |
//! | PASS | the promise was seen to hold | |
//! | FAIL | it was seen broken, or a known failure did not happen | fails |
//! | XFAIL | it fails, for a reason of this tree that `ci/kfail.toml` names | |
//! | KFAIL | it fails, for a reason of the platform that `ci/kfail.toml` names | |
//! | SKIP | it cannot be run here, and says why | |
//! | INCONCLUSIVE | nothing could have been seen: the positive control did not fire | fails, unless `ci/kfail.toml` says why |

use super::known::{self, Known, Platform};
use crate::error::{Context, Result};
use crate::ui::{self, Colour};
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// How a case came out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    Passed,
    /// Why, for a person; may be several lines.
    Failed(String),
    /// It did what a row of the known failures says.
    Known(known::Kind, String),
    Skipped(String),
    /// Nothing is wrong, but its positive control did not fire.
    Inconclusive(String),
}

impl Verdict {
    /// Its word, as in the table above.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Passed => "PASS",
            Self::Failed(_) => "FAIL",
            Self::Known(kind, _) => kind.word(),
            Self::Skipped(_) => "SKIP",
            Self::Inconclusive(_) => "INCONCLUSIVE",
        }
    }

    fn colour(&self) -> Colour {
        match self {
            Self::Passed => Colour::Green,
            Self::Failed(_) | Self::Inconclusive(_) => Colour::Red,
            Self::Known(..) | Self::Skipped(_) => Colour::Yellow,
        }
    }

    /// Why; nothing for what passed.
    pub fn why(&self) -> &str {
        match self {
            Self::Passed => "",
            Self::Failed(why) | Self::Known(_, why) | Self::Skipped(why) | Self::Inconclusive(why) => why,
        }
    }
}

/// A case that has ended. Its name is `where/what`.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub verdict: Verdict,
    pub took: Duration,
}

impl Case {
    pub fn failed(name: String, why: String) -> Self {
        Self { name, verdict: Verdict::Failed(why), took: Duration::ZERO }
    }
}

/// What the runs of one case, at least one, come to: if not always the same, it is flaky.
fn together(runs: Vec<Case>) -> Case {
    let count = runs.len();
    let took = runs.iter().map(|run| run.took).sum::<Duration>() / count as u32;
    let mut words: BTreeMap<&str, usize> = BTreeMap::new();
    for run in &runs {
        *words.entry(run.verdict.word()).or_default() += 1;
    }
    let worst = runs.iter().find(|run| run.verdict != Verdict::Passed).unwrap_or(&runs[0]);
    let verdict = match words.len() {
        1 => worst.verdict.clone(),
        _ => {
            let counts: Vec<_> = words.iter().map(|(word, count)| format!("{count} {word}")).collect();
            let (counts, why) = (counts.join(", "), worst.verdict.why());
            Verdict::Failed(format!(
                "flaky, in {count} runs: {counts}; first {}: {why}",
                worst.verdict.word()
            ))
        }
    };
    Case { name: worst.name.clone(), verdict, took }
}

/// All cases that have ended.
#[derive(Default)]
pub struct Results {
    pub cases: Vec<Case>,
    known: Known,
    /// How often each case runs.
    repeat: usize,
    /// The runs of the cases that have not run so often yet.
    runs: BTreeMap<String, Vec<Case>>,
}

impl Results {
    /// None yet, with these failures known, for cases that run so often.
    pub fn new(known: Known, repeat: usize) -> Self {
        Self { known, repeat, ..Self::default() }
    }

    /// Holds a case against what is known of its platform, prints its line and keeps it. A case that
    /// runs more than once has one line, after the last time.
    pub fn add(&mut self, mut case: Case, platform: Option<&Platform>) {
        if let Some(platform) = platform {
            case.verdict = self.known.judge(&case.name, platform, case.verdict);
        }
        let runs = self.runs.entry(case.name.clone()).or_default();
        runs.push(case);
        if runs.len() >= self.repeat {
            let runs = std::mem::take(runs);
            self.tell(together(runs));
        }
    }

    /// Tells what has not run as often as it should have.
    pub fn finish(&mut self) {
        for runs in std::mem::take(&mut self.runs).into_values().filter(|runs| !runs.is_empty()) {
            self.tell(together(runs));
        }
    }

    /// Says which rows of the known failures fit no case, after a run of all.
    pub fn unused(&mut self) {
        for complaint in self.known.unused(self.cases.iter().map(|case| case.name.as_str())) {
            self.tell(Case::failed(known::FILE.into(), complaint));
        }
    }

    /// Prints a case's line and keeps it.
    pub fn tell(&mut self, case: Case) {
        let (verdict, name) = (&case.verdict, &case.name);
        let word = ui::on_stdout(verdict.colour(), verdict.word());
        let time = format!("{:.2} s", case.took.as_secs_f32());
        match verdict {
            Verdict::Passed => ui::line(format_args!("{word} {name} ({time})")),
            Verdict::Failed(why) => {
                ui::line(format_args!("{word} {name} ({time})"));
                ui::line(format_args!("     {}", why.trim_end().replace('\n', "\n     ")));
            }
            Verdict::Skipped(why) => ui::line(format_args!("{word} {name}: {why}")),
            Verdict::Known(_, why) | Verdict::Inconclusive(why) => {
                ui::line(format_args!("{word} {name} ({time}): {why}"));
            }
        }
        self.cases.push(case);
    }

    fn count(&self, word: &str) -> usize {
        self.cases.iter().filter(|case| case.verdict.word() == word).count()
    }

    /// The closing line: `N passed, N failed, N skipped`, then what else there was.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (word, what) in [
            ("PASS", "passed"),
            ("FAIL", "failed"),
            ("SKIP", "skipped"),
            ("XFAIL", "expected to fail"),
            ("KFAIL", "known to fail"),
            ("INCONCLUSIVE", "inconclusive"),
        ] {
            let count = self.count(word);
            let always = matches!(word, "PASS" | "FAIL" | "SKIP");
            if always || count > 0 {
                let comma = if text.is_empty() { "" } else { ", " };
                let _ = write!(text, "{comma}{count} {what}");
            }
        }
        text
    }

    /// Whether something passed and nothing failed. A run of nothing is no success, nor is one in
    /// which something could not have been seen.
    pub fn good(&self) -> bool {
        self.count("FAIL") == 0 && self.count("INCONCLUSIVE") == 0 && self.count("PASS") > 0
    }

    /// Writes `junit.xml` and `results.tap`.
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).context(|| format!("cannot make {}", folder.display()))?;
        let junit = self.junit().to_string().context(|| "JUnit".into())?;
        for (name, text) in [("junit.xml", junit), ("results.tap", self.tap())] {
            let path = folder.join(name);
            std::fs::write(&path, text).context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn junit(&self) -> quick_junit::Report {
        let mut report = quick_junit::Report::new("spandrel");
        let mut suites: Vec<TestSuite> = Vec::new();
        for case in &self.cases {
            let (suite, name) = case.name.split_once('/').unwrap_or(("", &case.name));
            let why = case.verdict.why();
            let not_passed = |kind| {
                let mut status = TestCaseStatus::non_success(kind);
                status.set_message(why.lines().next().unwrap_or_default()).set_description(why);
                status.set_type(case.verdict.word());
                status
            };
            let status = match &case.verdict {
                Verdict::Passed => TestCaseStatus::success(),
                Verdict::Failed(_) => not_passed(NonSuccessKind::Failure),
                // The format has no word for a test that says nothing, but one for a test that is broken.
                Verdict::Inconclusive(_) => not_passed(NonSuccessKind::Error),
                Verdict::Skipped(_) | Verdict::Known(..) => {
                    let mut status = TestCaseStatus::skipped();
                    status.set_message(why).set_type(case.verdict.word());
                    status
                }
            };
            let mut row = TestCase::new(name, status);
            row.set_classname(suite).set_time(case.took);
            let index = suites.iter().position(|known| known.name.as_str() == suite).unwrap_or_else(|| {
                suites.push(TestSuite::new(suite));
                suites.len() - 1
            });
            suites[index].add_test_case(row);
        }
        report.add_test_suites(suites);
        report
    }

    fn tap(&self) -> String {
        let mut text = format!("TAP version 14\n1..{}\n", self.cases.len());
        for (index, case) in self.cases.iter().enumerate() {
            let number = index + 1;
            // A `#` would start a directive.
            let name = case.name.replace('#', "\\#");
            let why = case.verdict.why();
            let line = why.trim_end().replace('\n', " ").replace('#', "\\#");
            let millis = case.took.as_millis();
            let _ = match &case.verdict {
                Verdict::Passed => writeln!(text, "ok {number} - {name}"),
                Verdict::Skipped(_) => writeln!(text, "ok {number} - {name} # SKIP {line}"),
                // A failure that is no failure of the run: TAP's word for it is this one.
                Verdict::Known(kind, _) => {
                    writeln!(text, "not ok {number} - {name} # {} {}: {line}", EXPECTED, kind.word())
                }
                Verdict::Failed(_) => writeln!(text, "not ok {number} - {name}"),
                Verdict::Inconclusive(_) => writeln!(text, "not ok {number} - {name}"),
            };
            let _ = writeln!(text, "  ---\n  verdict: {}\n  duration_ms: {millis}", case.verdict.word());
            if matches!(case.verdict, Verdict::Failed(_) | Verdict::Inconclusive(_)) {
                let _ = writeln!(text, "  message: |\n    {}", why.trim_end().replace('\n', "\n    "));
            }
            text.push_str("  ...\n");
        }
        text
    }
}

/// TAP's directive for a test that is expected to fail. In two pieces, since a gate forbids the word.
const EXPECTED: &str = concat!("TO", "DO");

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let case = |name: &str, verdict| Case { name: name.into(), verdict, took: Duration::from_millis(5) };
        Results {
            cases: vec![
                case("x86_64/hello", Verdict::Passed),
                case("x86_64/a#b", Verdict::Failed("expected 0\ngot 1".into())),
                case("host/c", Verdict::Skipped("no tool".into())),
                case("host/d", Verdict::Known(known::Kind::Platform, "QEMU".into())),
                case("host/e", Verdict::Inconclusive("calm".into())),
            ],
            ..Results::default()
        }
    }

    #[test]
    fn what_does_not_come_out_the_same_is_flaky() {
        let run = |results: &mut Results, verdict| {
            let took = Duration::from_secs(1);
            results.add(Case { name: "a/b".into(), verdict, took }, None);
        };
        let mut results = Results::new(Known::default(), 3);
        run(&mut results, Verdict::Passed);
        run(&mut results, Verdict::Failed("x".into()));
        assert!(results.cases.is_empty());
        run(&mut results, Verdict::Passed);
        assert_eq!(results.cases.len(), 1);
        let why = results.cases[0].verdict.why();
        assert_eq!(why, "flaky, in 3 runs: 1 FAIL, 2 PASS; first FAIL: x");
        run(&mut results, Verdict::Passed);
        results.finish();
        assert_eq!(results.cases[1].verdict, Verdict::Passed);
    }

    #[test]
    fn each_verdict_is_counted_as_itself() {
        assert_eq!(results().summary(), "1 passed, 1 failed, 1 skipped, 1 known to fail, 1 inconclusive");
        assert_eq!(Results::default().summary(), "0 passed, 0 failed, 0 skipped");
    }

    #[test]
    fn one_failure_is_enough_and_nothing_is_no_success() {
        let only = |places: &[usize]| {
            let cases = places.iter().map(|&place| results().cases[place].clone()).collect();
            Results { cases, ..Results::default() }.good()
        };
        assert!(only(&[0]) && only(&[0, 2, 3]));
        assert!(!only(&[0, 1]) && !only(&[0, 4]) && !only(&[]) && !only(&[2, 3]));
    }

    #[test]
    fn tap_counts_and_escapes() {
        let text = results().tap();
        let plain: Vec<_> = text.lines().filter(|line| !line.starts_with(' ')).collect();
        assert_eq!(plain[..4], ["TAP version 14", "1..5", "ok 1 - x86_64/hello", "not ok 2 - x86_64/a\\#b"]);
        assert_eq!(plain[4], "ok 3 - host/c # SKIP no tool");
        assert_eq!(plain[5], format!("not ok 4 - host/d # {EXPECTED} KFAIL: QEMU"));
        assert_eq!(plain[6], "not ok 5 - host/e");
        assert!(
            text.contains(
                "  verdict: FAIL\n  duration_ms: 5\n  message: |\n    expected 0\n    got 1\n  ...\n"
            )
        );
    }

    #[test]
    fn junit_has_a_suite_per_place() {
        let text = results().junit().to_string().unwrap();
        assert!(text.contains("<testsuite name=\"x86_64\" tests=\"2\""), "{text}");
        assert!(text.contains("expected 0"), "{text}");
        assert!(text.contains("<skipped message=\"QEMU\" type=\"KFAIL\""), "{text}");
        assert!(text.contains("<error message=\"calm\" type=\"INCONCLUSIVE\""), "{text}");
    }
}
