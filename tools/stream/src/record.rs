//! What the plugin writes: one record of 24 bytes for each event, in the order of their happening on
//! all CPUs.

use crate::{Instruction, Mark};
use std::fmt;

/// What a CPU did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// It is about to execute this instruction of the kernel.
    Executes(Instruction),
    /// It is about to execute the first instruction of the kernel since it was in user mode.
    EntersKernel,
    /// It is about to execute the first user instruction since it was in the kernel, in this page of
    /// memory, which tells processes apart.
    EntersUser { page: u64 },
    /// It is about to execute this mark.
    Marks(Mark),
    /// It has stored to the register of a device that interrupts a CPU.
    Interrupts,
    /// It has stored to this line of memory, by its first byte, in a page that user code was executed
    /// from. Once until it enters or leaves the kernel.
    StoresCode { line: u64 },
    /// It has written this line of such a page back to memory (`dcbst`).
    WritesBack { line: u64 },
    /// It has invalidated this line of such a page in the instruction caches (`icbi`).
    Invalidates { line: u64 },
    /// It is about to execute user code in this page, which was stored to. Once until it enters or
    /// leaves the kernel, or there was another store.
    Fetches { page: u64 },
}

/// One event on one CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    pub cpu: u8,
    pub event: Event,
    /// The address of the instruction.
    pub at: u64,
}

/// Bytes of a record.
pub const BYTES: usize = 24;

const EXECUTES: u8 = 0;
const ENTERS_KERNEL: u8 = 1;
const ENTERS_USER: u8 = 2;
const MARKS: u8 = 3;
const INTERRUPTS: u8 = 4;
const STORES_CODE: u8 = 5;
const WRITES_BACK: u8 = 6;
const INVALIDATES: u8 = 7;
const FETCHES: u8 = 8;

impl Record {
    /// As it stands in a file: kind, CPU, what; then two words.
    pub fn bytes(&self) -> [u8; BYTES] {
        let (kind, what, more) = match self.event {
            Event::Executes(instruction) => (EXECUTES, instruction as u32, 0),
            Event::EntersKernel => (ENTERS_KERNEL, 0, 0),
            Event::EntersUser { page } => (ENTERS_USER, 0, page),
            Event::Marks(mark) => (MARKS, mark.code(), 0),
            Event::Interrupts => (INTERRUPTS, 0, 0),
            Event::StoresCode { line } => (STORES_CODE, 0, line),
            Event::WritesBack { line } => (WRITES_BACK, 0, line),
            Event::Invalidates { line } => (INVALIDATES, 0, line),
            Event::Fetches { page } => (FETCHES, 0, page),
        };
        let mut bytes = [0; BYTES];
        (bytes[0], bytes[1]) = (kind, self.cpu);
        bytes[4..8].copy_from_slice(&what.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.at.to_le_bytes());
        bytes[16..24].copy_from_slice(&more.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; BYTES]) -> Option<Self> {
        let [kind, cpu, _, _, w0, w1, w2, w3, rest @ ..] = *bytes;
        let what = u32::from_le_bytes([w0, w1, w2, w3]);
        let (at, more) = rest.split_at(8);
        let word = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
        let event = match kind {
            EXECUTES => Event::Executes(Instruction::from_number(what.try_into().ok()?)?),
            ENTERS_KERNEL => Event::EntersKernel,
            ENTERS_USER => Event::EntersUser { page: word(more) },
            MARKS => Event::Marks(Mark::from_code(what)?),
            INTERRUPTS => Event::Interrupts,
            STORES_CODE => Event::StoresCode { line: word(more) },
            WRITES_BACK => Event::WritesBack { line: word(more) },
            INVALIDATES => Event::Invalidates { line: word(more) },
            FETCHES => Event::Fetches { page: word(more) },
            _ => return None,
        };
        Some(Self { cpu, event, at: word(at) })
    }
}

/// A file that is no stream: the number of the first record that is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed(pub usize);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} of the instruction stream is none", self.0)
    }
}

impl std::error::Error for Malformed {}

/// The records of a file.
///
/// # Errors
/// A record that is none, or a file that ends in the middle of one.
pub fn read(bytes: &[u8]) -> Result<Vec<Record>, Malformed> {
    let (records, rest) = bytes.as_chunks::<BYTES>();
    let read = |(number, bytes)| Record::from_bytes(bytes).ok_or(Malformed(number));
    let records = records.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    if rest.is_empty() { Ok(records) } else { Err(Malformed(records.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back() {
        let events = [
            Event::Executes(Instruction::Stcx),
            Event::EntersKernel,
            Event::EntersUser { page: 0x7_f001_2345 },
            Event::Marks(Mark::from_code(63).unwrap()),
            Event::Interrupts,
            Event::StoresCode { line: 0x1080 },
            Event::WritesBack { line: 0x1100 },
            Event::Invalidates { line: 0x1180 },
            Event::Fetches { page: 1 },
        ];
        let record = |event| Record { cpu: 3, event, at: 0xffff_ffff_8010_0000 };
        let bytes: Vec<u8> = events.iter().flat_map(|&event| record(event).bytes()).collect();
        assert_eq!(read(&bytes).unwrap(), events.map(record));
        assert_eq!(read(&bytes[..bytes.len() - 1]), Err(Malformed(events.len() - 1)));
        let mut wrong = bytes;
        wrong[BYTES] = 99;
        assert_eq!(read(&wrong), Err(Malformed(1)));
    }
}
