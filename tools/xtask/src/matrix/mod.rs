//! The matrix: each clause, on each machine, by each oracle, and which tests say so.
//!
//! A whole run of `tools/x test` makes one from its results and holds it against the one in the tree:
//! what was green there must be green here, or the run fails. So a test that is deleted, renamed or
//! skipped does not go unnoticed. What is newly green is only mentioned; `tools/x matrix --update`
//! takes it over.

pub mod place;
mod render;

use crate::error::{Context, Error, Result};
use crate::test::report::{Case, Verdict};
use crate::toolchain::root;
use crate::ui;
use arch_contract::clauses;
use place::Column;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The file that is compared; the others are for people.
const FILE: &str = "matrix.toml";
const UPDATE: &str = "tools/x matrix --update";

/// Show the matrix of the last whole run, or take it over.
///
/// A whole run of `tools/x test` writes it to target/report. Status 0: everything that is green in
/// ci/matrix.toml is green in it.
#[derive(clap::Args)]
pub struct Arguments {
    /// Copy it to ci/, to be committed.
    #[arg(long)]
    update: bool,
}

/// What the tests of a cell say together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// All that said something passed, and something did.
    Green,
    /// A test failed or could see nothing.
    Red,
    /// None passed: skipped, or known to fail.
    Open,
}

/// A test as a cell names it: its verdict's word and its name behind the place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Entry {
    pub test: String,
    pub word: String,
}

impl TryFrom<String> for Entry {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let (word, test) = text.split_once(' ').ok_or_else(|| format!("`{text}` is no verdict and test"))?;
        Ok(Self { test: test.into(), word: word.into() })
    }
}

/// The cells that have tests, by clause id and column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Matrix(BTreeMap<String, BTreeMap<String, Vec<Entry>>>);

pub fn main(arguments: Arguments) -> Result<ExitCode> {
    let folder = report_folder();
    let matrix = Matrix::read(&folder)?
        .ok_or_else(|| Error::new("there has been no whole run yet").hint("Run `tools/x test` first."))?;
    if arguments.update {
        matrix.write(&root().join("ci"))?;
        ui::note("ci/matrix.toml, ci/matrix.md and ci/matrix.html are written");
    }
    print!("{}", render::markdown(&matrix));
    let complaints = matrix.against_the_tree(&|_| true)?;
    complaints.iter().for_each(|complaint| ui::error(complaint));
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where whole runs leave what they found.
pub fn report_folder() -> PathBuf {
    root().join("target/report")
}

impl Matrix {
    /// What these results come to.
    pub fn of(cases: &[Case]) -> Self {
        let mut matrix = Self::default();
        for case in cases {
            let Some(column) = place::column(&case.name) else { continue };
            let mut test = case.name.split_once('/').map_or("", |(_, rest)| rest);
            // The column says these already.
            for place in ["conformance/", "trace/", "stream/", "image/"] {
                test = test.strip_prefix(place).unwrap_or(test);
            }
            for id in place::clauses(&case.name) {
                let entry = Entry { test: test.into(), word: case.verdict.word().into() };
                let cells = matrix.0.entry(id.into()).or_default();
                cells.entry(column.to_string()).or_default().push(entry);
            }
        }
        matrix.0.values_mut().flat_map(BTreeMap::values_mut).for_each(|entries| {
            entries.sort_unstable();
            entries.dedup();
        });
        matrix
    }

    /// Reads the one in a folder, if there is one.
    fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map(Some).context(|| path.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes it, for the ratchet and for people.
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).context(|| format!("cannot make {}", folder.display()))?;
        for (name, text) in [
            (FILE, self.to_text()),
            ("matrix.md", render::markdown(self)),
            ("matrix.html", render::html(self)),
        ] {
            let path = folder.join(name);
            std::fs::write(&path, text).context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn to_text(&self) -> String {
        let mut text = format!(
            "# Which tests say that a clause holds, by machine and oracle. Generated by `{UPDATE}` from a\n\
             # whole run of `tools/x test`, which fails if a cell that is green here is not there.\n"
        );
        for clause in clauses::ALL {
            let Some(cells) = self.0.get(clause.id) else { continue };
            let _ = writeln!(text, "\n[{}]", clause.id);
            for (column, entries) in cells {
                let _ = writeln!(text, "{column:?} = [");
                for Entry { test, word } in entries {
                    let _ = writeln!(text, "  {:?},", format!("{word} {test}"));
                }
                text.push_str("]\n");
            }
        }
        text
    }

    /// The tests of a cell.
    pub fn cell(&self, clause: &str, column: Column) -> &[Entry] {
        self.by_name(clause, &column.to_string())
    }

    fn by_name(&self, clause: &str, column: &str) -> &[Entry] {
        self.0.get(clause).and_then(|cells| cells.get(column)).map_or(&[], Vec::as_slice)
    }

    /// What no longer is green, against the matrix in the tree, in the columns that `ran`. Mentions
    /// what newly is.
    pub fn against_the_tree(&self, ran: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
        let Some(golden) = Self::read(&root().join("ci"))? else {
            return Ok(vec![format!("there is no ci/{FILE}; make one with `{UPDATE}`")]);
        };
        let new = golden.losses_in(&Self::default(), ran).len();
        let gained = self.losses_in(&golden, ran).len();
        if gained > 0 && new > 0 {
            ui::note(&format!(
                "{gained} cells of the matrix are newly green; take them over with `{UPDATE}`"
            ));
        }
        Ok(golden.losses_in(self, ran))
    }

    /// The cells that are green here and not in `other`.
    fn losses_in(&self, other: &Self, ran: &dyn Fn(&str) -> bool) -> Vec<String> {
        let mut losses = Vec::new();
        for (clause, cells) in &self.0 {
            for (column, entries) in cells.iter().filter(|(column, _)| ran(column)) {
                let now = other.by_name(clause, column);
                if mark(entries) == Some(Mark::Green) && mark(now) != Some(Mark::Green) {
                    let tests: Vec<_> = entries.iter().map(|entry| entry.test.as_str()).collect();
                    let now: Vec<_> = now.iter().map(|now| format!("{} {}", now.word, now.test)).collect();
                    let now = if now.is_empty() { "no test says anything".into() } else { now.join(", ") };
                    losses.push(format!(
                        "{clause} on {column} was green by {}, and now {now}; mend it, or `{UPDATE}`",
                        tests.join(", ")
                    ));
                }
            }
        }
        losses
    }
}

/// What the tests of a cell come to; nothing if there are none.
pub fn mark(entries: &[Entry]) -> Option<Mark> {
    let any = |words: &[&str]| entries.iter().any(|entry| words.contains(&entry.word.as_str()));
    match entries.is_empty() {
        true => None,
        false
            if any(&[Verdict::Failed(String::new()).word(), Verdict::Inconclusive(String::new()).word()]) =>
        {
            Some(Mark::Red)
        }
        false if any(&[Verdict::Passed.word()]) => Some(Mark::Green),
        false => Some(Mark::Open),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn case(name: &str, verdict: Verdict) -> Case {
        Case { name: name.into(), verdict, took: Duration::ZERO }
    }

    fn passed() -> Matrix {
        Matrix::of(&[
            case("x86_64/conformance/bar_4_bar_5_a", Verdict::Passed),
            case("x86_64/conformance/bar_4_b", Verdict::Skipped("x".into())),
            case("host/kernel/tests::ctx_7_c", Verdict::Passed),
            case("host/kernel/tests::no_clause", Verdict::Passed),
        ])
    }

    #[test]
    fn cells_are_filled_by_name_and_place() {
        let matrix = passed();
        let on_x86 = Column::On(crate::arch::Arch::X86_64, place::Seen::Behaviour);
        assert_eq!(mark(matrix.cell("BAR-4", on_x86)), Some(Mark::Green));
        assert_eq!(matrix.cell("BAR-4", on_x86).len(), 2);
        assert_eq!(mark(matrix.cell("CTX-7", Column::Model)), Some(Mark::Green));
        assert_eq!(mark(matrix.cell("CTX-7", Column::Host)), None);
        assert_eq!(toml::from_str::<Matrix>(&matrix.to_text()).unwrap(), matrix);
    }

    #[test]
    fn green_never_becomes_anything_else() {
        let all = |_: &str| true;
        let without = Matrix::of(&[case("host/kernel/tests::ctx_7_c", Verdict::Passed)]);
        let losses = passed().losses_in(&without, &all);
        assert_eq!(losses.len(), 2, "{losses:?}");
        assert!(losses[0].starts_with("BAR-4 on x86_64 behaviour was green by bar_4_b, bar_4_bar_5_a"));
        assert_eq!(passed().losses_in(&without, &|column| column == "model"), [""; 0]);
        assert_eq!(without.losses_in(&passed(), &all), [""; 0]);
        for verdict in
            [Verdict::Failed("".into()), Verdict::Skipped("".into()), Verdict::Inconclusive("".into())]
        {
            let worse = Matrix::of(&[case("host/kernel/tests::ctx_7_c", verdict)]);
            assert_eq!(without.losses_in(&worse, &all).len(), 1);
        }
    }
}
