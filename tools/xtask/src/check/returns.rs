//! `RET-1`: the return instructions in the image are those that the port declares.
//!
//! A path to user mode that nobody listed is a path that nobody proved; so the table
//! `arch/<arch>/returns.toml` and the image are compared both ways, by instruction and place.

use super::image::{Place, code_sections, parse};
use crate::arch::Arch;
use crate::error::{Context, Result};
use crate::toolchain::root;
use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use serde::Deserialize;
use stream::UserReturn;

/// The declared table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    #[serde(rename = "return")]
    rows: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    instruction: String,
    at: String,
    pub to: To,
    serializes: Serializes,
    /// Whether it may go to the thread that made the call that it ends.
    #[serde(default)]
    thread: Thread,
    why: String,
}

/// To whom a return to user mode goes.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Thread {
    /// The thread that entered the kernel, or another.
    #[serde(rename = "maybe the same")]
    MaybeTheSame,
    #[default]
    Any,
}

impl Row {
    /// What the rules of the instruction stream make of it.
    pub fn user_return(&self) -> UserReturn {
        match self.thread {
            Thread::MaybeTheSame => UserReturn::MaybeToTheCaller,
            Thread::Any => UserReturn::ToAnyThread,
        }
    }
}

/// Where a return goes.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum To {
    User,
    Kernel,
    Firmware,
}

/// What the manual says of the instruction.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Serializes {
    Yes,
    No,
}

impl Table {
    pub fn read(arch: Arch) -> Result<Self> {
        let path = root().join(format!("arch/{arch}/returns.toml"));
        let text = std::fs::read_to_string(&path).context(|| path.display().to_string())?;
        Self::parse(&text).context(|| path.display().to_string())
    }

    /// The row of an instruction at a place.
    pub fn find(&self, instruction: &str, place: &Place) -> Option<&Row> {
        self.rows.iter().find(|row| row.instruction == instruction && place.is_in(&row.at))
    }

    fn parse(text: &str) -> std::result::Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

/// Compares the table with an image, each against the other.
pub fn compare(
    arch: Arch,
    name: &str,
    bytes: &[u8],
    table: &Table,
    places: &dyn Fn(u64) -> Place,
) -> Result<Vec<String>> {
    let file = parse(bytes)?;
    let mut open: Vec<&Row> = table.rows.iter().collect();
    let mut complaints = Vec::new();
    for (code, base) in code_sections(&file, name)? {
        for (at, instruction) in returns(arch, code, base) {
            let place = places(at);
            let fits = |row: &&Row| row.instruction == instruction && place.is_in(&row.at);
            match open.iter().position(fits) {
                Some(index) => drop(open.remove(index)),
                None => complaints.push(format!(
                    "{name}: {at:#x}: {instruction} in {place}: not in arch/{arch}/returns.toml"
                )),
            }
        }
    }
    complaints.extend(open.into_iter().map(|row| {
        let Row { instruction, at, to, serializes, why, thread: _ } = row;
        let to = match to {
            To::User => "user mode",
            To::Kernel => "the kernel",
            To::Firmware => "the firmware",
        };
        let serializes = match serializes {
            Serializes::Yes => "serializing",
            Serializes::No => "not serializing",
        };
        format!("{name}: no {instruction} in {at} (to {to}, {serializes}: {why}), though arch/{arch}/returns.toml has it")
    }));
    Ok(complaints)
}

/// The return instructions in `code`: where, and which.
fn returns(arch: Arch, code: &[u8], base: u64) -> Vec<(u64, &'static str)> {
    match arch {
        Arch::X86_64 => Decoder::with_ip(64, code, base, DecoderOptions::NONE)
            .into_iter()
            .filter_map(|instruction| {
                let name = match instruction.mnemonic() {
                    Mnemonic::Iretq => "iretq",
                    Mnemonic::Iretd => "iretd",
                    Mnemonic::Iret => "iret",
                    Mnemonic::Sysretq => "sysretq",
                    Mnemonic::Sysret => "sysretl",
                    Mnemonic::Sysexit | Mnemonic::Sysexitq => "sysexit",
                    _ => return None,
                };
                Some((instruction.ip(), name))
            })
            .collect(),
        Arch::Ppc64le => code
            .chunks_exact(4)
            .enumerate()
            .filter_map(|(index, bytes)| {
                // Power ISA Book III: XL-form, primary opcode 19.
                let name = match u32::from_le_bytes(bytes.try_into().ok()?) {
                    0x4c00_0024 => "rfid",
                    0x4c00_0224 => "hrfid",
                    0x4c00_00a4 => "rfscv",
                    0x4c00_0124 => "rfebb",
                    _ => return None,
                };
                Some((base + 4 * index as u64, name))
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::image::tests::with_code;
    use super::*;

    const TABLE: &str = r#"
        [[return]]
        instruction = "sysretq"
        at = "entry"
        to = "user"
        serializes = "no"
        why = "quick"
    "#;

    fn complaints(code: &[u8], symbol: &str) -> Vec<String> {
        let table = Table::parse(TABLE).unwrap();
        let place = |_| Place::at_symbol(symbol);
        compare(Arch::X86_64, "k", &with_code(code), &table, &place).unwrap()
    }

    #[test]
    fn a_listed_return_is_fine() {
        assert_eq!(complaints(&[0x90, 0x48, 0x0f, 0x07], "port::entry"), [""; 0]);
    }

    #[test]
    fn an_unlisted_one_a_second_one_and_one_elsewhere_are_found() {
        let more = complaints(&[0x48, 0x0f, 0x07, 0x48, 0xcf], "port::entry");
        assert_eq!(more, ["k: 0x1003: iretq in port::entry: not in arch/x86_64/returns.toml"]);
        let twice = complaints(&[0x48, 0x0f, 0x07, 0x48, 0x0f, 0x07], "port::entry");
        assert_eq!(twice.len(), 1);
        let elsewhere = complaints(&[0x48, 0x0f, 0x07], "port::other");
        assert_eq!(elsewhere.len(), 2, "one that is not listed, and one that is missing: {elsewhere:?}");
    }

    #[test]
    fn a_declared_one_that_is_missing_is_found() {
        assert_eq!(complaints(&[0x90], "port::entry").len(), 1);
    }

    #[test]
    fn power_returns_are_known_by_their_words() {
        let words = [0x4c00_0024u32, 0x6000_0000, 0x4c00_00a4].map(u32::to_le_bytes).concat();
        assert_eq!(returns(Arch::Ppc64le, &words, 0x100), [(0x100, "rfid"), (0x108, "rfscv")]);
    }
}
