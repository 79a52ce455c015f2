//! The boot archive: a cpio `newc` file, checked once as a whole and then read in place.
//!
//! [`Archive::new`] walks every entry and refuses the archive at the first thing that is wrong,
//! with the offset and the entry. After that, lookups walk the same bytes again and have no
//! errors left to report. Nothing is copied: names and files are slices of the input.
//!
//! The walk is written here rather than taken from a crate because the crates that read cpio
//! without std end quietly at the first bad header, which to the kernel looks like a program
//! that was never packed; and they guess between four formats where exactly one is wanted.
//!
//! The format: an entry is a header of 110 bytes (the magic `070701` and 13 numbers of 8
//! hexadecimal digits), the name with a terminating zero, and the file, the latter two each
//! padded with zeros to a multiple of 4. An entry named `TRAILER!!!` ends the archive. Source:
//! Linux, Documentation/driver-api/early-userspace/buffer-format.rst.

use core::fmt;

const HEADER_BYTES: usize = 110;
const MAGIC: &[u8; 6] = b"070701";
/// cpio with checksums, and the two older formats: named in the message when they turn up.
const OTHER_MAGICS: [(&[u8], &str); 3] =
    [(b"070702", "newc with checksums"), (b"070707", "old character"), (b"\xc7\x71", "old binary")];
const TRAILER: &[u8] = b"TRAILER!!!";

/// Entries an archive may have, directories included.
pub const MAX_ENTRIES: usize = 512;

/// Positions of the numbers in a header that matter here.
#[derive(Clone, Copy)]
enum Field {
    Mode = 1,
    Links = 4,
    FileSize = 6,
    NameSize = 11,
}

const ALL_FIELDS: usize = 13;
const TYPE_MASK: u32 = 0o170_000;
const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_REGULAR: u32 = 0o100_000;

/// A checked archive.
#[derive(Clone, Copy, Debug)]
pub struct Archive<'a> {
    bytes: &'a [u8],
    files: usize,
}

/// A regular file in an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// Without a leading `./`. Not empty, at most [`abi::MAX_NAME`] bytes.
    pub name: &'a str,
    pub file: &'a [u8],
}

impl<'a> Archive<'a> {
    /// Checks all of `bytes`.
    ///
    /// Accepted: regular files and directories (which are skipped), then the trailer, then
    /// nothing but zeros.
    pub fn new(bytes: &'a [u8]) -> Result<Self, ArchiveError<'a>> {
        let mut archive = Self { bytes, files: 0 };
        let mut walk = Walk { bytes, at: 0, entry: 0 };
        while let Some(found) = walk.next()? {
            if walk.entry > MAX_ENTRIES {
                return Err(found.error(Problem::TooManyEntries));
            }
            let Item::File(file) = found.item else { continue };
            if archive.entries().any(|earlier| earlier.name == file.name) {
                return Err(found.error(Problem::Duplicate));
            }
            archive.files += 1;
        }
        let rest = bytes.get(walk.at..).unwrap_or_default();
        match rest.iter().position(|&byte| byte != 0) {
            None => Ok(archive),
            Some(index) => Err(ArchiveError {
                offset: walk.at + index,
                entry: walk.entry,
                name: None,
                problem: Problem::AfterTrailer,
            }),
        }
    }

    /// The files, in the order of the archive.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let mut walk = Walk { bytes: self.bytes, at: 0, entry: 0 };
        // Errors were ruled out by `new`. While `new` itself is asking for duplicates, the count
        // keeps this walk among the entries it has already passed.
        core::iter::from_fn(move || {
            loop {
                match walk.next() {
                    Ok(Some(Found { item: Item::File(file), .. })) => return Some(file),
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return None,
                }
            }
        })
        .take(self.files)
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files == 0
    }

    /// The contents of the file with exactly this name.
    pub fn find(&self, name: &str) -> Option<&'a [u8]> {
        self.entries().find(|entry| entry.name == name).map(|entry| entry.file)
    }

    /// The name of the `index`-th file.
    pub fn name(&self, index: usize) -> Option<&'a str> {
        self.entries().nth(index).map(|entry| entry.name)
    }
}

enum Item<'a> {
    File(Entry<'a>),
    Directory,
}

struct Found<'a> {
    offset: usize,
    entry: usize,
    name: &'a str,
    item: Item<'a>,
}

impl<'a> Found<'a> {
    fn error(&self, problem: Problem) -> ArchiveError<'a> {
        ArchiveError { offset: self.offset, entry: self.entry, name: Some(self.name), problem }
    }
}

/// One pass over an archive. `at` is the offset of the next header, `entry` how many were read.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    entry: usize,
}

impl<'a> Walk<'a> {
    /// The next entry, or `None` at the trailer.
    fn next(&mut self) -> Result<Option<Found<'a>>, ArchiveError<'a>> {
        let offset = self.at;
        let entry = self.entry;
        let error = |name, problem| ArchiveError { offset, entry, name, problem };

        let rest = self.bytes.get(offset..).unwrap_or_default();
        if rest.is_empty() {
            let problem = if offset == 0 { Problem::Empty } else { Problem::NoTrailer };
            return Err(error(None, problem));
        }
        if !rest.starts_with(&MAGIC[..rest.len().min(MAGIC.len())]) {
            let other = OTHER_MAGICS.iter().find(|(magic, _)| rest.starts_with(magic));
            return Err(error(
                None,
                other.map_or(Problem::BadMagic, |(_, format)| Problem::OtherFormat(format)),
            ));
        }
        let Some(header) = rest.get(..HEADER_BYTES) else {
            return Err(error(None, Problem::ShortHeader { remain: rest.len() }));
        };
        let mut numbers = [0u32; ALL_FIELDS];
        for (index, number) in numbers.iter_mut().enumerate() {
            let start = MAGIC.len() + 8 * index;
            *number =
                hex(&header[start..start + 8]).ok_or_else(|| error(None, Problem::BadNumber { index }))?;
        }
        let number = |field: Field| numbers[field as usize];

        let name_bytes = number(Field::NameSize) as usize;
        let stored = rest.get(HEADER_BYTES..).and_then(|rest| rest.get(..name_bytes)).ok_or_else(|| {
            error(None, Problem::ShortName { says: name_bytes, remain: rest.len() - HEADER_BYTES })
        })?;
        let Some((0, stored)) = stored.split_last() else {
            return Err(error(None, Problem::NameNotTerminated));
        };
        let full = core::str::from_utf8(stored).map_err(|_| error(None, Problem::NameNotText))?;
        if full.contains('\0') {
            return Err(error(None, Problem::NameNotTerminated));
        }

        let file_bytes = number(Field::FileSize) as usize;
        // Everything is relative to the start of the archive, as far as padding goes. The sums
        // cannot wrap: `usize` has 64 bits and the numbers 32.
        let file_start = padded(offset + HEADER_BYTES + name_bytes);
        let remain = self.bytes.len().saturating_sub(file_start);
        let file = match file_bytes {
            // Nothing follows the name, so not even its padding need be there.
            0 => &[],
            _ => self
                .bytes
                .get(file_start..)
                .and_then(|rest| rest.get(..file_bytes))
                .ok_or_else(|| error(Some(full), Problem::ShortFile { says: file_bytes, remain }))?,
        };
        // The padding of the last entry may be cut off.
        self.at = padded(file_start + file_bytes).min(self.bytes.len());

        if stored == TRAILER {
            if file_bytes != 0 {
                return Err(error(None, Problem::TrailerWithData));
            }
            return Ok(None);
        }
        self.entry += 1;

        let name = full.strip_prefix("./").unwrap_or(full);
        let item = match number(Field::Mode) & TYPE_MASK {
            TYPE_DIRECTORY => Item::Directory,
            TYPE_REGULAR => {
                if name.is_empty() {
                    return Err(error(None, Problem::NoName));
                }
                if name.len() > abi::MAX_NAME {
                    return Err(error(Some(name), Problem::NameTooLong));
                }
                // Only the last of several hard links carries the data.
                if number(Field::Links) > 1 && file_bytes == 0 {
                    return Err(error(Some(name), Problem::HardLink));
                }
                Item::File(Entry { name, file })
            }
            other => return Err(error(Some(name), Problem::NotAFile { mode: other })),
        };
        Ok(Some(Found { offset, entry, name, item }))
    }
}

/// The next multiple of 4.
const fn padded(offset: usize) -> usize {
    offset.next_multiple_of(4)
}

/// Eight hexadecimal digits, and nothing but digits (no sign, which `from_str_radix` takes).
fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
}

/// Where an archive is wrong, and how. Entries count from 1 in the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArchiveError<'a> {
    /// Bytes from the start of the archive to the entry's header.
    pub offset: usize,
    /// Index of the entry, directories counted.
    pub entry: usize,
    /// Its name, where that could be read.
    pub name: Option<&'a str>,
    pub problem: Problem,
}

/// What can be wrong with an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    Empty,
    BadMagic,
    OtherFormat(&'static str),
    ShortHeader { remain: usize },
    BadNumber { index: usize },
    ShortName { says: usize, remain: usize },
    ShortFile { says: usize, remain: usize },
    NameNotTerminated,
    NameNotText,
    NameTooLong,
    NoName,
    Duplicate,
    HardLink,
    NotAFile { mode: u32 },
    TooManyEntries,
    NoTrailer,
    TrailerWithData,
    AfterTrailer,
}

impl fmt::Display for ArchiveError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, entry, .. } = *self;
        let number = entry + 1;
        let named = Named(*self);
        match self.problem {
            Problem::Empty => write!(f, "empty: a cpio archive in `newc` format is wanted"),
            Problem::BadMagic if offset == 0 => {
                write!(f, "not a cpio archive: it does not start with `070701` (compressed? pack it plain)")
            }
            Problem::BadMagic => {
                write!(
                    f,
                    "corrupt: no header (`070701`) at offset {offset:#x}, where entry {number} should start"
                )
            }
            Problem::OtherFormat(format) => {
                write!(
                    f,
                    "a cpio archive in {format} format at offset {offset:#x}: pack with `cpio -o -H newc`"
                )
            }
            Problem::ShortHeader { remain } => {
                write!(
                    f,
                    "truncated: the header of entry {number} at offset {offset:#x} has {HEADER_BYTES} bytes, {remain} remain"
                )
            }
            Problem::BadNumber { index } => {
                let at = offset + MAGIC.len() + 8 * index;
                write!(
                    f,
                    "corrupt: the header of entry {number} holds no hexadecimal number at offset {at:#x}"
                )
            }
            Problem::ShortName { says, remain } => {
                write!(f, "truncated: entry {number} says its name has {says} bytes, {remain} remain")
            }
            Problem::ShortFile { says, remain } => {
                write!(f, "truncated: {named} says {says} bytes, {remain} remain")
            }
            Problem::NameNotTerminated => {
                write!(
                    f,
                    "corrupt: the name of entry {number} at offset {offset:#x} is not ended by its one zero byte"
                )
            }
            Problem::NameNotText => {
                write!(f, "corrupt: the name of entry {number} at offset {offset:#x} is not UTF-8")
            }
            Problem::NameTooLong => {
                write!(f, "the name of {named} is longer than {} bytes", abi::MAX_NAME)
            }
            Problem::NoName => write!(f, "corrupt: {named} at offset {offset:#x} is a file without a name"),
            Problem::Duplicate => write!(f, "{named} has the name of an earlier entry"),
            Problem::HardLink => write!(f, "{named} is a hard link: pack a copy of the file"),
            Problem::NotAFile { mode } => {
                write!(f, "{named} is neither a file nor a directory (type {mode:#o})")
            }
            Problem::TooManyEntries => write!(f, "more than {MAX_ENTRIES} entries"),
            Problem::NoTrailer => {
                write!(
                    f,
                    "truncated: it ends after {entry} entries at offset {offset:#x}, without `TRAILER!!!`"
                )
            }
            Problem::TrailerWithData => write!(f, "corrupt: the trailer at offset {offset:#x} has data"),
            Problem::AfterTrailer => {
                write!(f, "data after the trailer at offset {offset:#x}: only one archive is read")
            }
        }
    }
}

impl core::error::Error for ArchiveError<'_> {}

/// An entry as a person finds it.
struct Named<'a>(ArchiveError<'a>);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {}", self.0.entry + 1)?;
        match self.0.name {
            // Escaped: a name may hold anything, and this goes to a terminal.
            Some(name) => write!(f, " (`{}`)", name.escape_debug()),
            None => Ok(()),
        }
    }
}
