//! Results: a line as each case ends, and at the end the count, JUnit and TAP.

use crate::error::{Context, Result};
use crate::ui::{self, Colour};
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// How a case came out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    Passed,
    /// Why, for a person; may be several lines.
    Failed(String),
    Skipped(String),
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

/// All cases that have ended.
#[derive(Default)]
pub struct Results {
    cases: Vec<Case>,
}

impl Results {
    /// Prints a case's line and keeps it.
    pub fn add(&mut self, case: Case) {
        let time = format!("{:.2} s", case.took.as_secs_f32());
        match &case.verdict {
            Verdict::Passed => {
                ui::line(format_args!("{} {} ({time})", ui::on_stdout(Colour::Green, "PASS"), case.name));
            }
            Verdict::Failed(why) => {
                ui::line(format_args!("{} {} ({time})", ui::on_stdout(Colour::Red, "FAIL"), case.name));
                ui::line(format_args!("     {}", why.trim_end().replace('\n', "\n     ")));
            }
            Verdict::Skipped(why) => {
                ui::line(format_args!("{} {}: {why}", ui::on_stdout(Colour::Yellow, "SKIP"), case.name));
            }
        }
        self.cases.push(case);
    }

    fn count(&self, of: fn(&Verdict) -> bool) -> usize {
        self.cases.iter().filter(|case| of(&case.verdict)).count()
    }

    /// The closing line.
    pub fn summary(&self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.count(|verdict| matches!(verdict, Verdict::Passed)),
            self.count(|verdict| matches!(verdict, Verdict::Failed(_))),
            self.count(|verdict| matches!(verdict, Verdict::Skipped(_))),
        )
    }

    /// Whether something passed and nothing failed. A run of nothing is no success.
    pub fn good(&self) -> bool {
        self.count(|verdict| matches!(verdict, Verdict::Failed(_))) == 0
            && self.count(|verdict| matches!(verdict, Verdict::Passed)) > 0
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
            let status = match &case.verdict {
                Verdict::Passed => TestCaseStatus::success(),
                Verdict::Failed(why) => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                    status.set_message(why.lines().next().unwrap_or_default()).set_description(why.as_str());
                    status
                }
                Verdict::Skipped(why) => {
                    let mut status = TestCaseStatus::skipped();
                    status.set_message(why.as_str());
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
            let _ = match &case.verdict {
                Verdict::Passed => writeln!(text, "ok {number} - {name}"),
                Verdict::Skipped(why) => {
                    writeln!(text, "ok {number} - {name} # SKIP {}", why.replace('\n', " "))
                }
                Verdict::Failed(why) => {
                    writeln!(text, "not ok {number} - {name}\n# {}", why.trim_end().replace('\n', "\n# "))
                }
            };
        }
        text
    }
}

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
            ],
        }
    }

    #[test]
    fn one_failure_is_enough_and_nothing_is_no_success() {
        assert_eq!(results().summary(), "1 passed, 1 failed, 1 skipped");
        assert!(!results().good());
        assert!(!Results::default().good());
    }

    #[test]
    fn tap_counts_and_escapes() {
        let text = results().tap();
        assert!(text.starts_with(
            "TAP version 14\n1..3\nok 1 - x86_64/hello\nnot ok 2 - x86_64/a\\#b\n# expected 0\n# got 1\n"
        ));
        assert!(text.ends_with("ok 3 - host/c # SKIP no tool\n"));
    }

    #[test]
    fn junit_has_a_suite_per_place() {
        let text = results().junit().to_string().unwrap();
        assert!(text.contains("<testsuite name=\"x86_64\" tests=\"2\""), "{text}");
        assert!(text.contains("expected 0"), "{text}");
    }
}
