//! The full barriers of the generic kernel, by the function that asks for them.
//!
//! Which barrier pairs with which is argued beside the code; that each is there is seen here. The
//! table `kernel/barriers.toml` and the image are compared both ways: as many lines of a function call
//! for a full barrier as the table says.

use crate::error::{Context, Result};
use crate::sites::Site;
use crate::symbols::Frame;
use crate::toolchain::root;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The one way to a full barrier, on every layer.
const FULL_BARRIER: &str = "full_barrier";
const TABLE: &str = "kernel/barriers.toml";

/// The table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    #[serde(rename = "caller")]
    rows: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// A file and a function in it: `words.rs claim`; closures have no name but `closure`.
    at: String,
    /// How many of its lines ask for one.
    lines: usize,
    /// What they are, for whoever reads a complaint.
    keeps: String,
}

impl Table {
    pub fn read() -> Result<Self> {
        let path = root().join(TABLE);
        let text = std::fs::read_to_string(&path).context(|| path.display().to_string())?;
        toml::from_str(&text).context(|| path.display().to_string())
    }
}

/// Compares the table with the full barriers of an image.
pub fn compare(
    name: &str,
    table: &Table,
    barriers: &[Site],
    frames: &dyn Fn(u64) -> Vec<Frame>,
) -> Vec<String> {
    let mut found: BTreeMap<(String, String), Vec<u32>> = BTreeMap::new();
    let mut complaints = Vec::new();
    for site in barriers {
        let frames = frames(site.at);
        let caller = frames.iter().rposition(|frame| frame.name() == FULL_BARRIER);
        let Some(caller) = caller.and_then(|inner| frames.get(inner + 1)) else {
            complaints.push(format!("{name}: {:#x}: a full barrier that was not inlined", site.at));
            continue;
        };
        let lines = found.entry((caller.file().into(), caller.caller().into())).or_default();
        if !lines.contains(&caller.line) {
            lines.push(caller.line);
        }
    }
    for ((file, function), lines) in &found {
        let about = |row: &&Row| {
            row.at.split_once(' ').is_some_and(|(in_file, of)| of == function && ends(file, in_file))
        };
        match table.rows.iter().find(about) {
            None => complaints.push(format!("{name}: a full barrier in {function} ({file}): not in {TABLE}")),
            Some(row) if row.lines != lines.len() => complaints.push(format!(
                "{name}: {}: full barriers on {} lines, {TABLE} has {} ({})",
                row.at,
                lines.len(),
                row.lines,
                row.keeps
            )),
            Some(_) => {}
        }
    }
    let missing = table.rows.iter().filter(|row| {
        !found.keys().any(|(file, function)| {
            row.at.split_once(' ').is_some_and(|(in_file, of)| of == function && ends(file, in_file))
        })
    });
    complaints.extend(missing.map(|row| {
        format!("{name}: {}: no full barrier, though {TABLE} has one there ({})", row.at, row.keeps)
    }));
    complaints
}

/// Whether a path ends in these words.
fn ends(path: &str, file: &str) -> bool {
    path.strip_suffix(file).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stream::Instruction;

    const TEXT: &str = "[[caller]]\nat = \"words.rs claim\"\nlines = 1\nkeeps = \"(d)\"\n";

    /// The complaints about an image that has full barriers with these callers.
    fn complaints(callers: &[&str]) -> Vec<String> {
        let table: Table = toml::from_str(TEXT).unwrap();
        let site = |at| Site { at: at as u64, bytes: 4, instruction: Instruction::Sync };
        let sites: Vec<_> = (0..callers.len()).map(site).collect();
        let frames = |at: u64| {
            let inner = ["full_barrier at arch/p/src/barrier.rs:3", "full_barrier at kernel/src/cpu.rs:4"];
            let caller = callers[at as usize];
            inner.into_iter().chain((!caller.is_empty()).then_some(caller)).map(Frame::parse).collect()
        };
        compare("k", &table, &sites, &frames)
    }

    #[test]
    fn as_many_lines_as_the_table_says() {
        const CLAIM: &str = "claim at kernel/protocol/src/words.rs:7";
        assert_eq!(complaints(&[CLAIM]), [""; 0]);
        assert_eq!(complaints(&[CLAIM, CLAIM]), [""; 0], "inlined twice");
        assert!(complaints(&[CLAIM, "claim at kernel/protocol/src/words.rs:9"])[0].contains("on 2 lines"));
        assert!(complaints(&[])[0].contains("no full barrier"));
        assert!(complaints(&[CLAIM, "raise at kernel/src/flush.rs:1"])[0].contains("raise"));
        assert!(complaints(&[CLAIM, "claim at kernel/src/other_words.rs:7"])[0].contains("other_words"));
        assert!(complaints(&[CLAIM, ""])[0].contains("not inlined"));
    }
}
