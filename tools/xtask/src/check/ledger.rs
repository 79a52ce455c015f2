//! The ledger: every instruction of the image that a contract speaks of, by where it is written.
//!
//! An emulator hides most of what these instructions are for, so no run of it misses one that was
//! deleted. The table `arch/<arch>/instructions.toml` and the image are therefore compared both ways:
//! an instruction that no row has is new and must be argued for; a row whose instructions are not
//! there was weakened. Inlining does not matter: the line table knows the functions that each
//! instruction was inlined from, and a row is about one of them, in every place that it got to.
//!
//! What the compiler makes of Rust's atomic operations needs no row, but of a fence that a port asks
//! for by itself.
//!
//! A sequence that is whole keeps nothing where it is not called. So a row also names the functions
//! that call its function, whether it was inlined there or not.

use crate::arch::Arch;
use crate::check::calls;
use crate::check::image::{code_sections, parse};
use crate::error::{Context, Result};
use crate::sites::{self, Site};
use crate::symbols::{Frame, Names};
use crate::toolchain::root;
use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSymbol, SymbolKind};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use stream::Instruction;

/// The declared table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    #[serde(rename = "site")]
    pub rows: Vec<Row>,
}

/// One place in the source.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// A file of the port and a function in it, `context.rs load`, or `*` for those of the file that
    /// have no row; or a symbol of assembly, with as much of its path as it takes.
    pub at: String,
    /// The functions that call it. None for assembly, which is entered in many ways.
    #[serde(default)]
    pub from: BTreeSet<String>,
    /// What stands there, in this order, wherever the function was inlined.
    #[serde(default)]
    pub sequence: Vec<Step>,
    /// Or what may stand there, in any order and number, each of it at least once.
    #[serde(default)]
    pub any: Vec<Name>,
    /// What the sequence keeps.
    pub keeps: String,
    /// The case that notices, in the executed instructions, if one of them is missing. Without one,
    /// this comparison does.
    #[serde(default)]
    pub stream: Option<String>,
}

/// An instruction, by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(pub Instruction);

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(name: String) -> std::result::Result<Self, String> {
        let known = Instruction::from_name(&name).map(Self);
        known.ok_or_else(|| format!("`{name}` is no instruction that is known"))
    }
}

/// An instruction of a sequence; `hlt @1` stands one byte behind where the last one begins, so that
/// nothing, or just what is meant, lies between.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Step {
    pub instruction: Instruction,
    pub behind: Option<u64>,
}

impl TryFrom<String> for Step {
    type Error = String;

    fn try_from(step: String) -> std::result::Result<Self, String> {
        let (name, behind) = match step.split_once(" @") {
            Some((name, bytes)) => (name, Some(bytes.parse().map_err(|_| format!("`{bytes}` bytes"))?)),
            None => (step.as_str(), None),
        };
        Ok(Self { instruction: Name::try_from(name.to_owned())?.0, behind })
    }
}

impl Ledger {
    pub fn read(arch: Arch) -> Result<Self> {
        let path = root().join(format!("arch/{arch}/instructions.toml"));
        let text = std::fs::read_to_string(&path).context(|| path.display().to_string())?;
        Self::parse(&text).context(|| path.display().to_string())
    }

    fn parse(text: &str) -> std::result::Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The full barriers that stand for their own sake.
    pub fn barriers(&self, found: &Found) -> Vec<Site> {
        let row = self.rows.iter().position(|row| row.at == "barrier.rs full_barrier");
        row.map_or(Vec::new(), |row| found.of_rows[row].values().flatten().copied().collect())
    }

    /// The row about an instruction with these frames: that of the innermost function that has one,
    /// and which of the frames it is.
    fn row_of(&self, frames: &[Frame]) -> Option<(usize, usize)> {
        let find = |about: &dyn Fn(&Row) -> bool| self.rows.iter().position(about);
        frames.iter().enumerate().find_map(|(depth, frame)| {
            let row =
                find(&|row| row.is_about(frame)).or_else(|| find(&|row| row.is_about_the_file_of(frame)));
            Some((row?, depth))
        })
    }
}

impl Row {
    fn is_about(&self, frame: &Frame) -> bool {
        match self.at.split_once(' ') {
            Some((file, function)) => frame.name() == function && frame.is_in(file),
            None => {
                let path = frame.path();
                path.strip_suffix(self.at.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with("::"))
            }
        }
    }

    fn is_about_the_file_of(&self, frame: &Frame) -> bool {
        self.at.strip_suffix(" *").is_some_and(|file| frame.is_in(file))
    }

    /// What stands there.
    pub fn instructions(&self) -> impl Iterator<Item = Instruction> {
        let sequence = self.sequence.iter().map(|step| step.instruction);
        sequence.chain(self.any.iter().map(|name| name.0))
    }

    /// What is wrong with what was found.
    pub fn complaint(&self, found: &OfRow) -> Option<String> {
        let all: Vec<_> = found.values().flatten().collect();
        if self.sequence.is_empty() {
            let missing = |Name(name): &&Name| all.iter().all(|site| site.instruction != *name);
            let other = all.iter().find(|site| !self.any.contains(&Name(site.instruction)));
            return match (self.any.iter().find(missing), other) {
                (Some(Name(missing)), _) => Some(format!("{} is missing", missing.name())),
                (_, Some(site)) => Some(format!("{:#x}: {} is new", site.at, site.instruction.name())),
                _ => None,
            };
        }
        match found.len() {
            0 => Some("nothing of it is in the image".into()),
            _ => found.values().find_map(|sites| self.complaint_of_one(sites)),
        }
    }

    /// What is wrong with who calls it.
    fn complaint_of_callers(&self, callers: &BTreeSet<String>) -> Option<String> {
        if self.from.is_empty() {
            return None;
        }
        let missing = self.from.difference(callers).next().map(|name| format!("{name} does not call it"));
        missing.or_else(|| callers.difference(&self.from).next().map(|name| format!("{name} calls it, too")))
    }

    /// The same of one place that it was inlined into, in the order of addresses: a whole number of
    /// sequences, since the compiler may have doubled code.
    fn complaint_of_one(&self, found: &[Site]) -> Option<String> {
        let mut before = 0;
        for (site, wanted) in found.iter().zip(self.sequence.iter().cycle()) {
            let name = site.instruction.name();
            if site.instruction != wanted.instruction {
                return Some(format!(
                    "{:#x}: {name}, where {} should be",
                    site.at,
                    wanted.instruction.name()
                ));
            }
            if let Some(behind) = wanted.behind.filter(|behind| site.at - before != *behind) {
                let is = site.at - before;
                return Some(format!("{:#x}: {name} is {is} bytes behind, should be {behind}", site.at));
            }
            before = site.at;
        }
        let over = found.len() % self.sequence.len();
        (over != 0).then(|| format!("{} is missing at its end", self.sequence[over].instruction.name()))
    }
}

/// What the compiler makes of atomic operations and of the kernel's fences: only ports have assembly,
/// and fences that order what no other CPU of the language sees.
fn is_generated(site: &Site, frames: &[Frame]) -> bool {
    use Instruction::*;
    let by_atomics = matches!(site.instruction, Locked | Mfence | Sync | Lwsync | Isync | Larx | Stcx);
    let plain = match frames.iter().find(|frame| frame.has_line()) {
        Some(written) => written.is_plain_rust(),
        // What the compiler merged has no line, as assembly has none, which only ports have.
        None => frames.iter().any(|frame| frame.function.starts_with("kernel::")),
    };
    let ours = frames.iter().find(|frame| frame.is_ours());
    let by_itself = |frame: &Frame| matches!(frame.name(), "fence" | "mfence");
    let fence_of_a_port = frames.iter().any(by_itself) && ours.is_some_and(|frame| !frame.is_plain_rust());
    by_atomics && plain && !fence_of_a_port
}

/// The instructions of a row, by the place that its function was inlined into: the functions, and
/// their lines, outside it.
pub type OfRow = BTreeMap<Vec<(String, u32)>, Vec<Site>>;

/// The instructions of an image by the rows that they belong to, and those that no row has.
pub struct Found {
    pub of_rows: Vec<OfRow>,
    /// The functions that call the function of each row.
    pub callers: Vec<BTreeSet<String>>,
    pub others: Vec<Site>,
}

/// Sorts the instructions of an image.
pub fn find(arch: Arch, ledger: &Ledger, bytes: &[u8], frames: &dyn Fn(u64) -> Vec<Frame>) -> Result<Found> {
    let file = parse(bytes)?;
    let rows = ledger.rows.len();
    let mut found =
        Found { of_rows: vec![OfRow::new(); rows], callers: vec![BTreeSet::new(); rows], others: Vec::new() };
    let code = code_sections(&file, "the image")?;
    for &(code, base) in &code {
        for site in sites::instructions(arch, code, base) {
            let frames = frames(site.at);
            if is_generated(&site, &frames) {
                continue;
            }
            match ledger.row_of(&frames) {
                Some((row, depth)) => {
                    let outside = frames[depth + 1..].iter();
                    let place = outside.map(|frame| (frame.function.clone(), frame.line)).collect();
                    found.of_rows[row].entry(place).or_default().push(site);
                }
                None => found.others.push(site),
            }
        }
    }
    for (row, callers) in found.of_rows.iter().zip(&mut found.callers) {
        for (place, sites) in row {
            match place.first() {
                Some((function, line)) => {
                    callers.insert(Frame::parse(&format!("{function} at x:{line}")).caller().to_owned());
                }
                None => callers.extend(sites.first().into_iter().flat_map(|site| {
                    let start = function_start(&file, site.at);
                    let calls = code.iter().flat_map(move |(code, base)| calls::to(arch, code, *base, start));
                    calls.filter_map(|at| frames(at).first().map(|frame| frame.caller().to_owned()))
                })),
            }
        }
    }
    Ok(found)
}

/// Where the function starts that an address lies in.
fn function_start(file: &ElfFile64<'_, Endianness>, at: u64) -> u64 {
    let starts =
        file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text).map(|symbol| symbol.address());
    starts.filter(|start| *start <= at).max().unwrap_or(at)
}

/// Compares the table with an image, each against the other.
pub fn compare(arch: Arch, name: &str, ledger: &Ledger, found: &Found, names: &Names) -> Vec<String> {
    let table = format!("arch/{arch}/instructions.toml");
    let mut complaints = Vec::new();
    for site in &found.others {
        let (what, place) = (site.instruction.name(), names.place(site.at));
        complaints.push(format!(
            "{name}: {:#x}: {what} in {place}: not in {table}: add it to the row of its function, or a row",
            site.at
        ));
    }
    for ((row, sites), callers) in ledger.rows.iter().zip(&found.of_rows).zip(&found.callers) {
        if let Some(complaint) = row.complaint(sites).or_else(|| row.complaint_of_callers(callers)) {
            let wanted: Vec<_> = row.instructions().map(Instruction::name).collect();
            complaints.push(format!(
                "{name}: {}: {complaint}. {table} has there: {}, which keeps: {}",
                row.at,
                wanted.join("; "),
                row.keeps
            ));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::super::image::tests::with_code;
    use super::*;
    use Instruction::*;

    const TABLE: &str = r#"
        [[site]]
        at = "context.rs load"
        sequence = ["mtspr pidr", "isync", "ptesync"]
        keeps = "CTX-4"

        [[site]]
        at = "apic.rs command"
        sequence = ["lfence", "wrmsr"]
        keeps = "SMP-1"

        [[site]]
        at = "apic.rs *"
        any = ["wrmsr", "cpuid"]
        keeps = "SMP-2"

        [[site]]
        at = "idt::stubs"
        sequence = ["iretq"]
        keeps = "TRAP-1"
    "#;

    fn ledger() -> Ledger {
        Ledger::parse(TABLE).unwrap()
    }

    fn step(instruction: Instruction) -> Step {
        Step { instruction, behind: None }
    }

    fn sites(found: &[Instruction]) -> Vec<Site> {
        let site = |(index, &instruction)| Site { at: index as u64, bytes: 4, instruction };
        found.iter().enumerate().map(site).collect()
    }

    fn complaint(row: usize, found: &[Instruction]) -> Option<String> {
        let found = if found.is_empty() { OfRow::new() } else { OfRow::from([(Vec::new(), sites(found))]) };
        ledger().rows[row].complaint(&found)
    }

    /// Two halves are no whole.
    #[test]
    fn each_place_has_its_own_sequence() {
        let place = |line, found: &[Instruction]| (vec![("caller".to_owned(), line)], sites(found));
        let twice = |found: &[Instruction]| {
            ledger().rows[1].complaint(&OfRow::from([place(1, found), place(2, found)]))
        };
        assert_eq!(twice(&[Lfence, Wrmsr]), None);
        let same = Row { sequence: vec![step(Wrmsr), step(Wrmsr)], ..ledger().rows.remove(1) };
        assert!(same.complaint(&OfRow::from([place(1, &[Wrmsr]), place(2, &[Wrmsr])])).is_some());
    }

    #[test]
    fn a_sequence_stands_whole_as_often_as_it_was_inlined() {
        assert_eq!(complaint(0, &[MtPidr, Isync, Ptesync]), None);
        assert_eq!(complaint(0, &[MtPidr, Isync, Ptesync, MtPidr, Isync, Ptesync]), None);
        assert_eq!(complaint(0, &[]).unwrap(), "nothing of it is in the image");
        assert_eq!(complaint(0, &[MtPidr, Ptesync]).unwrap(), "0x1: ptesync, where isync should be");
        assert_eq!(complaint(0, &[MtPidr, Isync]).unwrap(), "ptesync is missing at its end");
        let one_of_two = [MtPidr, Isync, Ptesync, MtPidr, Ptesync];
        assert_eq!(complaint(0, &one_of_two).unwrap(), "0x4: ptesync, where isync should be");
    }

    /// `sti` holds interrupts back over one instruction, so what that is matters.
    #[test]
    fn a_step_may_say_how_far_behind_it_stands() {
        let table = "[[site]]\nat = \"f\"\nsequence = [\"sti\", \"hlt @1\", \"cli\"]\nkeeps = \"x\"";
        let row = &Ledger::parse(table).unwrap().rows[0];
        let at = |places: [u64; 3]| {
            let site = |(&instruction, at)| Site { at, bytes: 1, instruction };
            let found = [Sti, Hlt, Cli].iter().zip(places).map(site).collect();
            row.complaint(&OfRow::from([(Vec::new(), found)]))
        };
        assert_eq!(at([8, 9, 12]), None);
        assert_eq!(at([8, 10, 11]).unwrap(), "0xa: hlt is 2 bytes behind, should be 1");
        assert!(Ledger::parse(&table.replace("@1", "@x")).is_err());
    }

    #[test]
    fn as_many_functions_call_it_as_the_table_says() {
        let row = Row { from: ["switch".into(), "drop".into()].into(), ..ledger().rows.remove(0) };
        let complaint =
            |callers: &[&str]| row.complaint_of_callers(&callers.iter().map(|&name| name.into()).collect());
        assert_eq!(complaint(&["drop", "switch"]), None);
        assert_eq!(complaint(&["switch"]).unwrap(), "drop does not call it");
        assert_eq!(complaint(&["drop", "switch", "boot"]).unwrap(), "boot calls it, too");
    }

    #[test]
    fn of_any_each_is_there_and_nothing_else() {
        assert_eq!(complaint(2, &[Wrmsr, Cpuid, Wrmsr]), None);
        assert_eq!(complaint(2, &[Wrmsr]).unwrap(), "cpuid is missing");
        assert_eq!(complaint(2, &[Wrmsr, Cpuid, Hlt]).unwrap(), "0x2: hlt is new");
    }

    #[test]
    fn the_row_is_that_of_the_innermost_function_that_has_one() {
        let row = |places: &[&str]| {
            let found = ledger().row_of(&places.iter().map(|place| Frame::parse(place)).collect::<Vec<_>>());
            found.map(|(row, _)| row)
        };
        assert_eq!(row(&["isync at arch/p/src/spr.rs:1", "load at arch/p/src/context.rs:2"]), Some(0));
        assert_eq!(row(&["command at arch/p/src/apic.rs:1", "send at arch/p/src/apic.rs:2"]), Some(1));
        assert_eq!(row(&["write at arch/p/src/apic.rs:1"]), Some(2));
        assert_eq!(row(&["arch_p::idt::stubs::<kernel::Upcall>"]), Some(3));
        assert_eq!(row(&["load at some_crate/src/context.rs:2"]), None, "not a file of ours");
        assert_eq!(row(&["unload at arch/p/src/context.rs:2"]), None);
        assert_eq!(row(&["midt::stubs"]), None);
    }

    #[test]
    fn only_what_assembly_makes_needs_a_row() {
        // lock or dword ptr [rsp], 0; iretq
        let image = with_code(&[0xf0, 0x83, 0x0c, 0x24, 0x00, 0x48, 0xcf]);
        let others_in = |places: &[&str]| {
            let frames = |_| places.iter().map(|place| Frame::parse(place)).collect();
            let found = find(Arch::X86_64, &ledger(), &image, &frames).unwrap();
            let rows = found.of_rows.iter().flat_map(|row| row.values().flatten());
            rows.chain(&found.others).map(|site| site.instruction).collect::<Vec<_>>()
        };
        let others = |place| others_in(&[place]);
        assert_eq!(others("add at library/core/src/sync/atomic.rs:9"), [Iretq]);
        assert_eq!(others("lock at kernel/src/sync.rs:9"), [Iretq]);
        assert_eq!(others("kernel::sync::lock"), [Iretq], "of several lines, none");
        let fence = "fence at /rust/library/core/src/sync/atomic.rs:9";
        assert_eq!(others_in(&[fence, "command at arch/p/src/apic.rs:1"]), [Locked, Iretq]);
        assert_eq!(others_in(&[fence, "raise at kernel/src/flush.rs:1"]), [Iretq]);
        assert_eq!(others("full_barrier at arch/x86_64/src/barrier.rs:9"), [Locked, Iretq]);
        assert_eq!(others("assembly"), [Locked, Iretq]);
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        assert!(Ledger::parse("[[site]]\nat = \"f\"\nsequence = [\"nop\"]\nkeeps = \"x\"").is_err());
    }

    #[test]
    fn the_tables_of_the_ports_are_read() {
        for arch in Arch::ALL {
            assert!(
                Ledger::read(arch)
                    .unwrap()
                    .rows
                    .iter()
                    .all(|row| { row.sequence.is_empty() != row.any.is_empty() && !row.keeps.is_empty() })
            );
        }
    }
}
