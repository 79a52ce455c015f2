//! The known failures: `ci/kfail.toml`.
//!
//! A row names cases and a platform, and why they cannot pass there. What a row says must happen:
//! a case that passes although a row fits it has failed, so that no row outlives its reason, unless
//! the row says that it fails only sometimes, as a race of the platform does; and a row that fits no
//! case of a whole run is a mistake.

use super::glob;
use crate::arch::Arch;
use crate::error::{Context, Error, Result};
use crate::qemu::{Accel, Machine, Threads};
use crate::toolchain::root;
use serde::Deserialize;

use super::report::Verdict;

/// Where the rows lie, from the top.
pub const FILE: &str = "ci/kfail.toml";

/// Whose fault it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub enum Kind {
    /// A defect of the platform.
    #[serde(rename = "KFAIL")]
    Platform,
    /// Something that this tree does not do.
    #[serde(rename = "XFAIL")]
    Tree,
    /// The platform cannot show what the case looks for: its positive control does not fire there.
    #[serde(rename = "INCONCLUSIVE")]
    Blind,
}

impl Kind {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Platform => "KFAIL",
            Self::Tree => "XFAIL",
            // Known to be: it does not fail the run, so it is counted as what it comes to.
            Self::Blind => "SKIP",
        }
    }
}

/// How often the cases of a row fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Fails {
    #[default]
    Always,
    /// It is a matter of timing: a pass is one.
    Sometimes,
}

/// What a guest ran on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Platform {
    pub arch: Arch,
    pub accel: Accel,
    pub threads: Threads,
    /// QEMU's, as (major, minor).
    pub version: (u32, u32),
}

impl Platform {
    pub fn of(machine: &Machine, version: (u32, u32)) -> Self {
        Self { arch: machine.arch, accel: machine.accel, threads: machine.threads, version }
    }
}

/// A range of versions: `<9.1`, `>=7.2 <9.1`, `*`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Versions {
    from: (u32, u32),
    below: (u32, u32),
}

impl TryFrom<String> for Versions {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let bad = || format!("`{text}` is no range of versions such as `>=7.2 <9.1`, `<9.1` or `*`");
        let mut range = Self { from: (0, 0), below: (u32::MAX, 0) };
        for word in text.split_whitespace().filter(|&word| word != "*") {
            let pair = |text: &str| {
                let (major, minor) = text.split_once('.')?;
                Some((major.parse().ok()?, minor.parse().ok()?))
            };
            if let Some(version) = word.strip_prefix(">=") {
                range.from = pair(version).ok_or_else(bad)?;
            } else if let Some(version) = word.strip_prefix('<') {
                range.below = pair(version).ok_or_else(bad)?;
            } else {
                return Err(bad());
            }
        }
        if text.trim().is_empty() { Err(bad()) } else { Ok(range) }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// Which cases, as with `--filter`.
    cases: String,
    verdict: Kind,
    /// The machine; all if it is not said, as with what follows.
    machine: Option<Arch>,
    accelerator: Option<Accel>,
    /// TCG's.
    threads: Option<Threads>,
    qemu: Versions,
    #[serde(default)]
    fails: Fails,
    /// For a person.
    reason: String,
    /// Where that was found out: a commit, a thread, a manual.
    reference: String,
}

impl Row {
    fn fits(&self, case: &str, on: &Platform) -> bool {
        glob::matches(&self.cases, case)
            && self.machine.is_none_or(|arch| arch == on.arch)
            && self.accelerator.is_none_or(|accel| accel == on.accel)
            && self.threads.is_none_or(|threads| threads == on.threads)
            && (self.qemu.from..self.qemu.below).contains(&on.version)
    }

    fn because(&self) -> String {
        format!("{} ({})", self.reason, self.reference)
    }
}

/// All rows.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    #[serde(default, rename = "known")]
    rows: Vec<Row>,
}

impl Known {
    pub fn read() -> Result<Self> {
        let text = std::fs::read_to_string(root().join(FILE)).context(|| format!("cannot read {FILE}"))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        let known: Self = toml::from_str(text).context(|| FILE.into())?;
        match known.rows.iter().find(|row| row.reason.is_empty() || row.reference.is_empty()) {
            Some(row) => Err(Error::new(format!("{FILE}: {} has no reason or no reference", row.cases))),
            None => Ok(known),
        }
    }

    /// The verdict in the light of the rows.
    pub fn judge(&self, case: &str, on: &Platform, verdict: Verdict) -> Verdict {
        let Some(row) = self.rows.iter().find(|row| row.fits(case, on)) else { return verdict };
        match (verdict, row.verdict) {
            (Verdict::Failed(_), Kind::Platform | Kind::Tree) | (Verdict::Inconclusive(_), Kind::Blind) => {
                Verdict::Known(row.verdict, row.because())
            }
            (Verdict::Passed, _) if row.fails == Fails::Always => Verdict::Failed(format!(
                "unexpected pass: {FILE} says of `{}`: {}; if that is over, the row goes, or its range ends",
                row.cases,
                row.because()
            )),
            (other, _) => other,
        }
    }

    /// A complaint for each row that fits the name of none of the cases.
    pub fn unused<'a>(&self, cases: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
        let fits_none = |row: &&Row| !cases.clone().any(|case| glob::matches(&row.cases, case));
        let complain =
            |row: &Row| format!("no case has a name like `{}`: the row goes, or is corrected", row.cases);
        self.rows.iter().filter(fits_none).map(complain).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        [[known]]
        cases = "ppc64le/broadcast/*"
        verdict = "KFAIL"
        accelerator = "tcg"
        threads = "multi"
        qemu = "<9.1"
        reason = "late"
        reference = "a commit"

        [[known]]
        cases = "*/conformance/bar_3_*"
        verdict = "INCONCLUSIVE"
        threads = "single"
        qemu = "*"
        reason = "one CPU at a time"
        reference = "a manual"
    "#;

    fn on(version: (u32, u32), threads: Threads) -> Platform {
        Platform { arch: Arch::Ppc64le, accel: Accel::Tcg, threads, version }
    }

    #[test]
    fn a_row_turns_what_it_names_and_no_more() {
        let known = Known::parse(TEXT).unwrap();
        let judge = |case, on, verdict| known.judge(case, &on, verdict).word();
        let failed = || Verdict::Failed("x".into());
        let case = "ppc64le/broadcast/a";
        assert_eq!(judge(case, on((7, 2), Threads::Multi), failed()), "KFAIL");
        assert_eq!(judge(case, on((9, 1), Threads::Multi), failed()), "FAIL");
        assert_eq!(judge(case, on((7, 2), Threads::Single), failed()), "FAIL");
        assert_eq!(judge("ppc64le/a", on((7, 2), Threads::Multi), failed()), "FAIL");
        assert_eq!(judge(case, on((7, 2), Threads::Multi), Verdict::Skipped("x".into())), "SKIP");
        let bar = "ppc64le/conformance/bar_3_a";
        let calm = || Verdict::Inconclusive("x".into());
        assert_eq!(judge(bar, on((7, 2), Threads::Single), calm()), "SKIP");
        assert_eq!(judge(bar, on((7, 2), Threads::Multi), calm()), "INCONCLUSIVE");
        assert_eq!(judge(bar, on((7, 2), Threads::Single), failed()), "FAIL");
    }

    #[test]
    fn a_row_that_is_not_needed_is_reported() {
        let known = Known::parse(TEXT).unwrap();
        let passed = known.judge("ppc64le/broadcast/a", &on((7, 2), Threads::Multi), Verdict::Passed);
        assert!(passed.why().starts_with("unexpected pass"), "{passed:?}");
        let racy = Known::parse(&TEXT.replace("\"late\"", "\"late\"\nfails = \"sometimes\"")).unwrap();
        let passed = racy.judge("ppc64le/broadcast/a", &on((7, 2), Threads::Multi), Verdict::Passed);
        assert_eq!(passed, Verdict::Passed);
        let unused = known.unused(["x86_64/conformance/bar_3_x"].into_iter());
        assert_eq!(unused.len(), 1);
        assert!(unused[0].contains("ppc64le/broadcast/*"));
    }

    #[test]
    fn a_row_without_a_reason_or_with_a_strange_range_is_refused() {
        assert!(Known::parse(&TEXT.replace("\"late\"", "\"\"")).is_err());
        assert!(Known::parse(&TEXT.replace("<9.1", "9.1")).is_err());
        assert!(Known::parse(&TEXT.replace("<9.1", "")).is_err());
        assert!(Known::parse(&TEXT.replace("threads = \"multi\"", "thread = \"multi\"")).is_err());
    }

    #[test]
    fn the_rows_of_this_tree_can_be_read() {
        Known::read().unwrap();
    }
}
