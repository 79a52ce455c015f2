//! A program: an ELF executable, checked as a whole, as a list of segments to map.
//!
//! The `elf` crate decodes the headers; everything a loader must be able to rely on is checked
//! here, before the first page is mapped. What comes out is at most [`MAX_SEGMENTS`] segments in
//! ascending order, each inside the user range, each on pages of its own, none writable and
//! executable, and an entry point inside an executable one.

use arch_contract::pte::Protection;
use arrayvec::ArrayVec;
use core::fmt;
use core::ops::Range;
use elf::abi as number;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::parse::ParseError;
use elf::segment::{ProgramHeader, SegmentTable};

/// Loadable segments a program may have.
pub const MAX_SEGMENTS: usize = 16;
/// Program headers of any kind a file may have.
const MAX_HEADERS: usize = 64;

const IDENT_BYTES: usize = 16;
const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const PAGE: u64 = abi::PAGE_BYTES;

/// What a program must be made for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// `e_machine` in the ELF header. For 21, which is 64-bit Power, ELF ABI version 2 is meant.
    pub machine: u16,
    /// The machine's name, for messages.
    pub name: &'static str,
    /// The addresses segments may lie at; both ends multiples of the page size.
    pub user: Range<u64>,
}

/// A part of memory to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment<'a> {
    /// First byte; not necessarily on a page boundary.
    pub at: u64,
    /// What goes there. The rest, up to `mem_len`, and what its first and last page have left
    /// over, is zero.
    pub file: &'a [u8],
    /// Bytes in memory, at least one and at least those of `file`.
    pub mem_len: u64,
    pub protection: Protection,
}

impl Segment<'_> {
    /// The pages it lies on, as addresses: both ends multiples of the page size.
    pub const fn pages(&self) -> Range<u64> {
        // `parse` has checked that the end lies in the user range, well below the wrap.
        self.at & !(PAGE - 1)..(self.at + self.mem_len).next_multiple_of(PAGE)
    }
}

/// A checked program.
#[derive(Clone, Debug)]
pub struct Program<'a> {
    entry: u64,
    segments: ArrayVec<Segment<'a>, MAX_SEGMENTS>,
}

impl<'a> Program<'a> {
    /// Checks all of `bytes` as a program for `target`.
    pub fn parse(bytes: &'a [u8], target: &Target) -> Result<Self, ProgramError> {
        let header = file_header(bytes, target)?;
        let mut segments = ArrayVec::<Segment<'a>, MAX_SEGMENTS>::new();
        let mut found_any = false;
        for (index, raw) in program_headers(bytes, &header)?.iter().enumerate() {
            match raw.p_type {
                number::PT_LOAD => {}
                number::PT_INTERP | number::PT_DYNAMIC => return Err(ProgramError::Dynamic),
                number::PT_TLS => return Err(ProgramError::ThreadLocal),
                _ => continue,
            }
            found_any = true;
            let Some(segment) = segment(bytes, index, &raw, &target.user)? else { continue };
            if let Some(previous) = segments.last()
                && segment.pages().start < previous.pages().end
            {
                return Err(ProgramError::Overlap { index, at: segment.at, before: previous.pages().end });
            }
            segments.try_push(segment).map_err(|_| ProgramError::TooManySegments)?;
        }
        if !found_any || segments.is_empty() {
            return Err(ProgramError::NoSegments);
        }
        let entry = header.e_entry;
        let entered = segments.iter().find(|s| s.at <= entry && entry - s.at < s.file.len() as u64);
        if entered.is_none_or(|s| s.protection != Protection::ReadExecute) {
            return Err(ProgramError::Entry { at: entry });
        }
        // The Power ISA has no instruction off a multiple of 4: the low bits would be dropped.
        if target.machine == number::EM_PPC64 && !entry.is_multiple_of(4) {
            return Err(ProgramError::Entry { at: entry });
        }
        Ok(Self { entry, segments })
    }

    /// Address of the first instruction, inside an executable segment.
    pub const fn entry(&self) -> u64 {
        self.entry
    }

    /// The segments, in ascending order of address, no two on one page.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = Segment<'a>> + '_ {
        self.segments.iter().copied()
    }
}

fn file_header(bytes: &[u8], target: &Target) -> Result<FileHeader<LittleEndian>, ProgramError> {
    let truncated =
        ProgramError::Truncated { part: "header", needs: HEADER_BYTES as u64, has: bytes.len() as u64 };
    if !bytes.starts_with(&number::ELFMAGIC) {
        return Err(ProgramError::NotElf);
    }
    let ident = bytes.get(..IDENT_BYTES).ok_or(truncated)?;
    let ident = parse_ident::<LittleEndian>(ident).map_err(|error| match error {
        ParseError::UnsupportedElfEndianness(_) => ProgramError::BigEndian,
        _ => ProgramError::Not64Bit,
    })?;
    if ident.1 != Class::ELF64 {
        return Err(ProgramError::Not64Bit);
    }
    let tail = bytes.get(IDENT_BYTES..HEADER_BYTES).ok_or(truncated)?;
    let header = FileHeader::parse_tail(ident, tail).map_err(|_| truncated)?;
    if header.e_machine != target.machine {
        return Err(ProgramError::OtherMachine { is: header.e_machine, wanted: target.name });
    }
    // e_flags bits 0-1 are the ABI version (64-Bit ELF V2 ABI, §4.1); 0 is "not said".
    if target.machine == number::EM_PPC64 && !matches!(header.e_flags & 3, 0 | 2) {
        return Err(ProgramError::OtherAbi);
    }
    match header.e_type {
        number::ET_EXEC => Ok(header),
        number::ET_DYN => Err(ProgramError::Dynamic),
        number::ET_REL => Err(ProgramError::NotLinked),
        _ => Err(ProgramError::NotExecutable),
    }
}

fn program_headers<'a>(
    bytes: &'a [u8],
    header: &FileHeader<LittleEndian>,
) -> Result<SegmentTable<'a, LittleEndian>, ProgramError> {
    let count = usize::from(header.e_phnum);
    if count == 0 {
        return Err(ProgramError::NoSegments);
    }
    if count > MAX_HEADERS {
        return Err(ProgramError::TooManySegments);
    }
    if usize::from(header.e_phentsize) != PROGRAM_HEADER_BYTES {
        return Err(ProgramError::BadHeaderSize { says: header.e_phentsize });
    }
    let len = count * PROGRAM_HEADER_BYTES;
    let table = slice(bytes, header.e_phoff, len as u64).ok_or(ProgramError::Truncated {
        part: "program header table",
        needs: header.e_phoff.saturating_add(len as u64),
        has: bytes.len() as u64,
    })?;
    Ok(SegmentTable::new(header.endianness, header.class, table))
}

/// Checks one loadable segment by itself. An empty one is `None`.
fn segment<'a>(
    bytes: &'a [u8],
    index: usize,
    raw: &ProgramHeader,
    user: &Range<u64>,
) -> Result<Option<Segment<'a>>, ProgramError> {
    let ProgramHeader { p_vaddr: at, p_memsz: mem_len, p_filesz: file_len, .. } = *raw;
    if file_len > mem_len {
        return Err(ProgramError::FileBeyondMemory { index, file_len, mem_len });
    }
    if mem_len == 0 {
        return Ok(None);
    }
    let file = slice(bytes, raw.p_offset, file_len).ok_or(ProgramError::SegmentTruncated {
        index,
        needs: raw.p_offset.saturating_add(file_len),
        has: bytes.len() as u64,
    })?;
    let end = at.checked_add(mem_len).and_then(|end| end.checked_next_multiple_of(PAGE));
    let outside = ProgramError::OutsideUser { index, at, mem_len, start: user.start, end: user.end };
    let end = end.filter(|&end| user.start <= at & !(PAGE - 1) && end <= user.end).ok_or(outside)?;
    let aligned =
        raw.p_align <= 1 || raw.p_align.is_power_of_two() && at % raw.p_align == raw.p_offset % raw.p_align;
    if !aligned {
        return Err(ProgramError::Misaligned { index, at, offset: raw.p_offset, align: raw.p_align });
    }
    let protection = match (raw.p_flags & number::PF_W != 0, raw.p_flags & number::PF_X != 0) {
        (true, true) => {
            return Err(ProgramError::WritableAndExecutable { index, start: at & !(PAGE - 1), end });
        }
        (true, false) => Protection::ReadWrite,
        (false, true) => Protection::ReadExecute,
        (false, false) => Protection::Read,
    };
    Ok(Some(Segment { at, file, mem_len, protection }))
}

/// `bytes[offset..offset + len]`, where that exists.
fn slice(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    bytes.get(start..)?.get(..usize::try_from(len).ok()?)
}

/// Why a file is not a program for this machine, as a message that follows its name and a colon.
/// `index` counts program headers from 0, as `readelf -l` lists them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProgramError {
    NotElf,
    Not64Bit,
    BigEndian,
    OtherMachine { is: u16, wanted: &'static str },
    OtherAbi,
    NotLinked,
    Dynamic,
    ThreadLocal,
    NotExecutable,
    Truncated { part: &'static str, needs: u64, has: u64 },
    SegmentTruncated { index: usize, needs: u64, has: u64 },
    BadHeaderSize { says: u16 },
    NoSegments,
    TooManySegments,
    FileBeyondMemory { index: usize, file_len: u64, mem_len: u64 },
    OutsideUser { index: usize, at: u64, mem_len: u64, start: u64, end: u64 },
    Misaligned { index: usize, at: u64, offset: u64, align: u64 },
    WritableAndExecutable { index: usize, start: u64, end: u64 },
    Overlap { index: usize, at: u64, before: u64 },
    Entry { at: u64 },
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotElf => write!(f, "not an ELF file"),
            Self::Not64Bit => write!(f, "not a 64-bit ELF file"),
            Self::BigEndian => write!(f, "a big-endian ELF file, little-endian is wanted"),
            Self::OtherMachine { is, wanted } => {
                write!(f, "an ELF file for ")?;
                match is {
                    number::EM_X86_64 => write!(f, "x86_64")?,
                    number::EM_PPC64 => write!(f, "ppc64le")?,
                    number::EM_AARCH64 => write!(f, "aarch64")?,
                    number::EM_RISCV => write!(f, "riscv")?,
                    other => write!(f, "machine number {other}")?,
                }
                write!(f, ", this machine is {wanted}")
            }
            Self::OtherAbi => write!(f, "built for ELF ABI version 1, version 2 is wanted"),
            Self::NotLinked => write!(f, "an object file: link it first"),
            Self::Dynamic => {
                write!(f, "dynamically linked or position-independent: link with `-static -no-pie`")
            }
            Self::ThreadLocal => write!(f, "it has a thread-local segment, which is not supported"),
            Self::NotExecutable => write!(f, "not an executable ELF file"),
            Self::Truncated { part, needs, has } => {
                write!(f, "truncated: the {part} ends at byte {needs}, the file has {has}")
            }
            Self::SegmentTruncated { index, needs, has } => {
                write!(f, "truncated: segment {index} ends at byte {needs} of the file, the file has {has}")
            }
            Self::BadHeaderSize { says } => {
                write!(f, "corrupt: program headers of {says} bytes, not {PROGRAM_HEADER_BYTES}")
            }
            Self::NoSegments => write!(f, "it has no segment to load"),
            Self::TooManySegments => write!(
                f,
                "it has more than {MAX_SEGMENTS} segments to load, or more than {MAX_HEADERS} program headers"
            ),
            Self::FileBeyondMemory { index, file_len, mem_len } => {
                write!(f, "segment {index} has {file_len} bytes in the file, but {mem_len} in memory")
            }
            Self::OutsideUser { index, at, mem_len, start, end } => write!(
                f,
                "segment {index} ({at:#x}, {mem_len:#x} bytes) is not inside the user addresses {start:#x}..{end:#x}"
            ),
            Self::Misaligned { index, at, offset, align } => write!(
                f,
                "segment {index} is misaligned: address {at:#x} and file offset {offset:#x} differ modulo {align:#x}"
            ),
            Self::WritableAndExecutable { index, start, end } => {
                write!(f, "segment {index} is writable and executable ({start:#x}..{end:#x})")
            }
            Self::Overlap { index, at, before } => write!(
                f,
                "segment {index} at {at:#x} overlaps, or does not follow, the pages of the one before, which end at {before:#x}"
            ),
            Self::Entry { at } => write!(f, "the entry point {at:#x} is not inside an executable segment"),
        }
    }
}

impl core::error::Error for ProgramError {}
