//! The program checker: a good program, each way to be bad, and damage.

use arch_contract::pte::Protection;
use boot_image::pack::Machine::{self, Ppc64le, X86_64};
use boot_image::program::{Program, ProgramError};
use proptest::prelude::*;

const USER: std::ops::Range<u64> = boot_image::pack::USER_ADDRESSES;
const R: u32 = 4;
const W: u32 = 2;
const X: u32 = 1;

struct Load {
    offset: u64,
    at: u64,
    file: u64,
    mem: u64,
    flags: u32,
}

/// A file of 0x3000 bytes with these segments, entered at 0x401010.
fn build(machine: u16, loads: &[Load]) -> Vec<u8> {
    let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [2u16, machine] {
        out.extend(half.to_le_bytes());
    }
    out.extend(1u32.to_le_bytes());
    for word in [0x401010u64, 64, 0] {
        out.extend(word.to_le_bytes());
    }
    out.extend(0u32.to_le_bytes());
    for half in [64u16, 56, loads.len() as u16, 0, 0, 0] {
        out.extend(half.to_le_bytes());
    }
    for load in loads {
        out.extend(1u32.to_le_bytes());
        out.extend(load.flags.to_le_bytes());
        for word in [load.offset, load.at, load.at, load.file, load.mem, 0x1000] {
            out.extend(word.to_le_bytes());
        }
    }
    out.resize(0x3000, 0x5a);
    out
}

fn parse(bytes: &[u8], machine: Machine) -> Result<Program<'_>, ProgramError> {
    Program::parse(bytes, &machine.target())
}

fn good() -> Vec<Load> {
    vec![
        Load { offset: 0, at: 0x400000, file: 0x200, mem: 0x200, flags: R },
        Load { offset: 0x1000, at: 0x401000, file: 0x800, mem: 0x800, flags: R | X },
        Load { offset: 0x2010, at: 0x402010, file: 0x10, mem: 0x2000, flags: R | W },
    ]
}

fn refused(change: impl FnOnce(&mut Vec<Load>)) -> ProgramError {
    let mut loads = good();
    change(&mut loads);
    parse(&build(62, &loads), X86_64).unwrap_err()
}

#[test]
fn a_good_program() {
    let bytes = build(62, &good());
    let program = parse(&bytes, X86_64).unwrap();
    assert_eq!(program.entry(), 0x401010);
    let segments: Vec<_> = program.segments().collect();
    assert_eq!(segments.len(), 3);
    assert_eq!(segments[1].protection, Protection::ReadExecute);
    assert_eq!(segments[1].file.len(), 0x800);
    assert_eq!(segments[2].protection, Protection::ReadWrite);
    assert_eq!(segments[2].pages(), 0x402000..0x405000);
    assert!(parse(&build(21, &good()), Ppc64le).is_ok());
}

#[test]
fn each_way_to_be_bad() {
    let error = parse(&build(21, &good()), X86_64).unwrap_err();
    assert_eq!(error.to_string(), "an ELF file for ppc64le, this machine is x86_64");

    let error = refused(|loads| loads[2].flags = R | W | X);
    assert_eq!(error.to_string(), "segment 2 is writable and executable (0x402000..0x405000)");

    assert!(matches!(refused(|loads| loads[2].at = 0x401010), ProgramError::Overlap { index: 2, .. }));
    assert!(matches!(refused(|loads| loads.swap(0, 2)), ProgramError::Overlap { index: 1, .. }));
    assert!(matches!(refused(|loads| loads[2].at = 0xffff_ffff_8000_0010), ProgramError::OutsideUser { .. }));
    assert!(matches!(refused(|loads| loads[2].at = 0x7fff_ffff_e010), ProgramError::OutsideUser { .. }));
    assert!(matches!(refused(|loads| loads[2].mem = u64::MAX), ProgramError::OutsideUser { .. }));
    assert!(matches!(refused(|loads| loads[0].at = 0), ProgramError::OutsideUser { index: 0, .. }));
    assert!(matches!(refused(|loads| loads[2].mem = 8), ProgramError::FileBeyondMemory { .. }));
    assert!(matches!(refused(|loads| loads[2].offset = 0x2000), ProgramError::Misaligned { .. }));
    assert!(matches!(refused(|loads| loads[1].offset = 0x8000), ProgramError::SegmentTruncated { .. }));
    assert!(matches!(refused(|loads| loads[1].flags = R), ProgramError::Entry { at: 0x401010 }));
    assert!(matches!(refused(|loads| loads[1].at = 0x40000000), ProgramError::Overlap { .. }));
    assert!(matches!(refused(|loads| loads.truncate(1)), ProgramError::Entry { .. }));
    assert_eq!(refused(Vec::clear), ProgramError::NoSegments);
    let many = |loads: &mut Vec<Load>| {
        *loads = (0..17)
            .map(|n| Load { offset: 0, at: 0x10000 + n * 0x1000, file: 1, mem: 1, flags: R })
            .collect();
    };
    assert_eq!(refused(many), ProgramError::TooManySegments);
}

#[test]
fn other_kinds_of_file() {
    let with = |at: usize, byte: u8| {
        let mut bytes = build(62, &good());
        bytes[at] = byte;
        parse(&bytes, X86_64).unwrap_err()
    };
    assert_eq!(with(0, b'x'), ProgramError::NotElf);
    assert_eq!(with(4, 1), ProgramError::Not64Bit);
    assert_eq!(with(5, 2), ProgramError::BigEndian);
    assert_eq!(with(16, 3), ProgramError::Dynamic);
    assert_eq!(with(16, 1), ProgramError::NotLinked);
    assert_eq!(with(16, 4), ProgramError::NotExecutable);
    assert_eq!(with(54, 32), ProgramError::BadHeaderSize { says: 32 });
    assert_eq!(with(64, 3), ProgramError::Dynamic);
    assert_eq!(with(64, 7), ProgramError::ThreadLocal);
}

#[test]
fn every_truncation_is_refused() {
    let bytes = build(62, &good());
    for len in 0..0x2020 {
        assert!(parse(&bytes[..len], X86_64).is_err(), "cut to {len} bytes");
    }
}

proptest! {
    /// What survives damage still keeps every promise the loader relies on.
    #[test]
    fn damage_is_survived(changes in proptest::collection::vec((0usize..240, any::<u8>()), 1..6)) {
        let mut bytes = build(62, &good());
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        if let Ok(program) = parse(&bytes, X86_64) {
            let mut end = USER.start;
            for segment in program.segments() {
                prop_assert!(end <= segment.pages().start && segment.pages().end <= USER.end);
                prop_assert!(segment.file.len() as u64 <= segment.mem_len);
                end = segment.pages().end;
            }
        }
    }
}
