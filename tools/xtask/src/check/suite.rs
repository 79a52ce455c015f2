//! The gates that hold the suite together: clauses, tests, mutants and the catalogue name one another,
//! and every name is one of something that exists.

use super::ledger::Ledger;
use super::{CHECKS, Finding, image, source};
use crate::arch::Arch;
use crate::error::Result;
use crate::matrix::place;
use crate::test;
use arch_contract::clauses;
use arch_contract::mutant::{ALL, Killer};
use std::collections::{BTreeMap, BTreeSet};

/// The tests of the host, each with the folders that have one of its name; the source text that is
/// not the table of mutants.
struct Tree {
    tests: BTreeMap<String, Vec<String>>,
    packages: BTreeMap<String, String>,
    /// Everything that asks for a mutant: `Mutant::M1`.
    asked: BTreeSet<String>,
    /// The names of the mutants in their table.
    variants: Vec<String>,
}

/// The table of mutants.
const TABLE: &str = "arch/contract/src/mutants.rs";

impl Tree {
    fn read() -> Result<Self> {
        let mut tree = Self {
            tests: BTreeMap::new(),
            packages: BTreeMap::new(),
            asked: BTreeSet::new(),
            variants: Vec::new(),
        };
        source::each(&mut |file| tree.file(&file.path, &file.text))?;
        Ok(tree)
    }

    fn file(&mut self, path: &str, text: &str) {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name == "Cargo.toml" {
            let package = text.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
            if let Some(package) = package {
                self.packages.insert(package.into(), format!("{folder}/"));
            }
        } else if path == TABLE {
            self.variants.extend(text.lines().filter_map(variant).map(Into::into));
        } else if name.ends_with(".rs") {
            self.asked.extend(asked(text).map(Into::into));
            for test in tests(text).chain(made(text)) {
                self.tests.entry(test.into()).or_default().push(path.into());
            }
        }
    }

    /// Whether a package has a test of this name; its last part counts.
    fn has_test(&self, package: Option<&str>, test: &str) -> bool {
        let last = test.rsplit("::").next().unwrap_or(test);
        // Those are written by a macro, one for each case.
        if package == Some("kernel") && conformance::IDS.contains(&last) {
            return true;
        }
        let folder = match package.map(|package| self.packages.get(package)) {
            None => "",
            Some(Some(folder)) => folder,
            Some(None) => return false,
        };
        self.tests.get(last).is_some_and(|files| files.iter().any(|file| file.starts_with(folder)))
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.tests.keys().map(String::as_str)
    }
}

/// The names that a macro makes tests of, if a file has such a macro: those that begin a line and name
/// a clause.
fn made(text: &str) -> impl Iterator<Item = &str> {
    let makes = text.contains("#[test]") && text.contains("fn $");
    text.lines().filter(move |_| makes).filter_map(|line| {
        let name = line.trim_start().split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()?;
        (!place::named(name).is_empty()).then_some(name)
    })
}

/// The functions marked as tests.
fn tests(text: &str) -> impl Iterator<Item = &str> {
    let mut marked = false;
    text.lines().filter_map(move |line| {
        let line = line.trim_start();
        if line.starts_with("#[test]") {
            marked = true;
        }
        let (_, name) = line.split_once("fn ").filter(|(before, _)| {
            marked && before.split_whitespace().all(|word| matches!(word, "pub" | "unsafe" | "#[test]"))
        })?;
        marked = false;
        name.split(['(', '<']).next()
    })
}

/// What a text asks for by `Mutant::NAME`.
fn asked(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("Mutant::").filter_map(|(at, word)| {
        text[at + word.len()..].split(|c: char| !c.is_alphanumeric()).next().filter(|name| !name.is_empty())
    })
}

/// The name that a line of the table begins with: `M1 "m1" Bar4 …`.
fn variant(line: &str) -> Option<&str> {
    let (name, rest) = line.trim_start().split_once(' ')?;
    let is_name =
        name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(char::is_alphanumeric);
    (is_name && rest.starts_with('"')).then_some(name)
}

/// Every clause has a test whose name says so, and a mutant; every case says its clauses.
pub fn clauses_are_held() -> Result<Finding> {
    let tree = Tree::read()?;
    let named =
        |names: &mut dyn Iterator<Item = &str>| -> BTreeSet<&str> { names.flat_map(place::named).collect() };
    let mut tested = named(&mut tree.names());
    tested.extend(named(&mut conformance::IDS.iter().copied()));
    tested.extend(named(&mut image::CLAUSES.iter().map(|(name, _)| *name)));
    tested.extend(place::elsewhere());
    let mut broken: BTreeSet<&str> = ALL.iter().map(|row| row.clause.id()).collect();
    // Of each instruction of a ledger there is an image without it, and of what no image may hold one
    // with it: `tools/x mutants`.
    let ledgers = Arch::ALL.into_iter().map(Ledger::read).collect::<Result<Vec<_>>>()?;
    let kept =
        |clause: &&str| ledgers.iter().flat_map(|ledger| &ledger.rows).any(|row| row.keeps.contains(*clause));
    broken.extend(clauses::ALL.iter().map(|clause| clause.id).filter(kept));
    broken.insert("FPU-3");
    let mut complaints = Vec::new();
    for clause in clauses::ALL {
        if !tested.contains(clause.id) {
            complaints.push(format!("{}: no test has it in its name", clause.id));
        }
        if !broken.contains(clause.id) {
            complaints.push(format!("{}: no mutant breaks it ({TABLE})", clause.id));
        }
    }
    let nameless = conformance::IDS.iter().filter(|id| place::named(id).is_empty());
    complaints.extend(nameless.map(|id| format!("case {id}: its name begins with no clause")));
    Ok(complaints.into())
}

/// Every killer exists, every mutant is asked for somewhere, and one that no machine shows says why.
pub fn mutants_are_held() -> Result<Finding> {
    let tree = Tree::read()?;
    let rows = Arch::ALL.into_iter().flat_map(test::rows);
    let rows: BTreeSet<String> =
        rows.filter_map(|case| Some(case.name.split_once('/')?.1.to_owned())).collect();
    let mut complaints = Vec::new();
    for row in ALL {
        for killer in row.killers {
            let exists = match killer {
                Killer::Case(_, id) | Killer::Trace(_, id) | Killer::Stream(_, id) => {
                    conformance::IDS.contains(id)
                }
                Killer::Row(_, name) => rows.contains(*name),
                Killer::Host(package, test) => tree.has_test(Some(package), test),
                Killer::Loom(test) | Killer::Schedules(test) => tree.has_test(None, test),
            };
            if !exists {
                complaints.push(format!("{TABLE}: {}: there is no {killer:?}", row.id));
            }
        }
    }
    let silent = ALL.iter().filter(|row| !row.seen_on_a_machine() && row.why_unseen().is_none());
    complaints.extend(silent.map(|row| {
        format!("{TABLE}: {}: no killer boots a machine, and nothing says why: `unseen \"…\"`", row.id)
    }));
    let unused = tree.variants.iter().filter(|name| !tree.asked.contains(*name));
    complaints.extend(unused.map(|name| format!("{TABLE}: no code asks for Mutant::{name}")));
    if tree.variants.len() != ALL.len() {
        complaints.push(format!("{TABLE}: {} rows were read of {}", tree.variants.len(), ALL.len()));
    }
    Ok(complaints.into())
}

/// The catalogue has each scenario and each mutant of the list once, and all that it names exists.
pub fn catalogue() -> Result<Finding> {
    let tree = Tree::read()?;
    let rows = conformance::catalogue::ALL;
    let mut complaints = Vec::new();
    let wanted = (1..=50).map(|n| format!("T-{n:02}")).chain((1..=44).map(|n| format!("m{n}")));
    for from in wanted.clone() {
        match rows.iter().filter(|row| row.from == from).count() {
            1 => {}
            count => complaints.push(format!("{from}: {count} rows, not one")),
        }
    }
    for row in rows {
        if !wanted.clone().any(|from| from == row.from) {
            complaints.push(format!("{}: the list has no such row", row.from));
        }
        if row.held_by.is_empty() {
            complaints.push(format!("{}: nothing holds it", row.from));
        }
        for name in row.held_by {
            let exists = conformance::IDS.contains(name)
                || ALL.iter().any(|row| row.id == *name)
                || CHECKS.iter().any(|(gate, _)| gate == name)
                || tree.has_test(None, name);
            if !exists {
                complaints.push(format!("{}: there is no case, test, mutant or gate {name}", row.from));
            }
        }
    }
    let found =
        complaints.into_iter().map(|complaint| format!("arch/conformance/src/catalogue.rs: {complaint}"));
    Ok(found.collect::<Vec<_>>().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_by_their_mark() {
        let text = "#[test]\nfn ctx_7_a() {}\nfn helper() {}\n    #[test]\n    #[should_panic]\n    fn b<T>() {}\n#[test] fn c() {}\n";
        assert_eq!(tests(text).collect::<Vec<_>>(), ["ctx_7_a", "b", "c"]);
    }

    #[test]
    fn tests_of_a_macro_are_found_by_their_clause() {
        let text = "$(#[test] fn $name() {})*\nrefused! {\n    ctx_1_a, \"E1\",\n    right: \"x\";\n}\n";
        assert_eq!(made(text).collect::<Vec<_>>(), ["ctx_1_a"]);
        assert_eq!(made("ctx_1_a\n").count(), 0);
    }

    #[test]
    fn mutants_are_found_by_their_use_and_in_their_table() {
        assert_eq!(
            asked("if mutant::is(Mutant::M1) { x(Mutant::NoBarrier); }").collect::<Vec<_>>(),
            ["M1", "NoBarrier"]
        );
        assert_eq!(variant("    NoBarrier \"no-barrier\" Tlb1 \"A\" by ["), Some("NoBarrier"));
        assert_eq!(variant("        Loom(\"x\")];"), None);
    }

    #[test]
    fn a_test_belongs_to_its_package() {
        let mut tree = Tree {
            tests: BTreeMap::new(),
            packages: BTreeMap::new(),
            asked: BTreeSet::new(),
            variants: Vec::new(),
        };
        tree.file("kernel/Cargo.toml", "[package]\nname = \"kernel\"\n");
        tree.file("kernel/src/tests/a.rs", "#[test]\nfn b() {}\n");
        assert!(tree.has_test(Some("kernel"), "a::b") && tree.has_test(None, "b"));
        assert!(!tree.has_test(Some("kernel"), "c") && !tree.has_test(Some("other"), "b"));
    }
}
