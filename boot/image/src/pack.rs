//! Builds a boot archive, on the host.
//!
//! The same input gives the same bytes: times are 0, inode numbers count up, owners are root.
//! What is packed is checked with the readers the kernel uses, so a program that cannot be
//! loaded is found while the person who built it is still looking.

use crate::archive::{Archive, ArchiveError, MAX_ENTRIES};
use crate::program::{Program, ProgramError, Target};
use core::fmt;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

/// User addresses that every supported machine has. The kernel checks against its own.
pub const USER_ADDRESSES: core::ops::Range<u64> = 0x1_0000..0x7fff_ffff_f000;

/// Which machine programs are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Machine {
    X86_64,
    /// Little-endian, ELF ABI version 2.
    Ppc64le,
}

impl Machine {
    /// The machine with the name that [`name`](Self::name) gives.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::X86_64, Self::Ppc64le].into_iter().find(|machine| machine.name() == name)
    }

    /// As it is written everywhere.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Ppc64le => "ppc64le",
        }
    }

    /// What its programs must be.
    pub fn target(self) -> Target {
        let machine = match self {
            Self::X86_64 => elf::abi::EM_X86_64,
            Self::Ppc64le => elf::abi::EM_PPC64,
        };
        Target { machine, name: self.name(), user: USER_ADDRESSES }
    }
}

/// Whether files must be programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contents {
    /// Every file is a program for this machine, but those that have a dot in their names.
    Programs(Machine),
    /// Anything goes, for tests of bad input.
    Raw,
}

/// Why files cannot be packed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PackError {
    BadName { name: String, why: String },
    BadProgram { name: String, why: ProgramError },
    TooLarge { name: String },
    TooMany,
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName { name, why } => write!(f, "initrd: `{}`: {why}", name.escape_debug()),
            Self::BadProgram { name, why: why @ ProgramError::WritableAndExecutable { .. } } => write!(
                f,
                "initrd: program `{name}`: {why}\n       \
                 Spandrel maps no page both ways. Link with `-z separate-code`, or with boot/user/link.ld"
            ),
            Self::BadProgram { name, why } => write!(f, "initrd: program `{name}`: {why}"),
            Self::TooLarge { name } => {
                write!(f, "initrd: `{name}` is larger than a cpio archive can hold (4 GiB)")
            }
            Self::TooMany => write!(f, "initrd: more than {MAX_ENTRIES} files"),
        }
    }
}

impl std::error::Error for PackError {}

/// Packs programs for `machine`, and data under names with a dot, in the order given.
pub fn pack(files: &[(&str, &[u8])], machine: Machine) -> Result<Vec<u8>, PackError> {
    pack_as(files, Contents::Programs(machine))
}

/// Packs `files` in the order given.
pub fn pack_as(files: &[(&str, &[u8])], contents: Contents) -> Result<Vec<u8>, PackError> {
    if files.len() > MAX_ENTRIES {
        return Err(PackError::TooMany);
    }
    let mut out = Vec::new();
    for (index, &(name, file)) in files.iter().enumerate() {
        let bad_name = |why: &str| PackError::BadName { name: name.into(), why: why.into() };
        if name.contains('\0') || name.starts_with('/') || name.starts_with("./") {
            return Err(bad_name("a name holds no zero byte and starts with neither `/` nor `./`"));
        }
        if name == "TRAILER!!!" {
            return Err(bad_name("this name ends a cpio archive"));
        }
        let Ok(len) = u32::try_from(file.len()) else {
            return Err(PackError::TooLarge { name: name.into() });
        };
        if let Contents::Programs(machine) = contents
            && !name.contains('.')
        {
            Program::parse(file, &machine.target())
                .map_err(|why| PackError::BadProgram { name: name.into(), why })?;
        }
        let inode = u32::try_from(index + 1).map_err(|_| PackError::TooMany)?;
        entry(&mut out, Header { inode, mode: 0o100_755, len }, name, file);
    }
    entry(&mut out, Header { inode: 0, mode: 0, len: 0 }, "TRAILER!!!", &[]);
    // Whole blocks, as cpio itself writes them.
    out.resize(out.len().next_multiple_of(512), 0);

    let problem =
        Archive::new(&out).err().map(|ArchiveError { name, problem, entry, .. }| PackError::BadName {
            name: name.unwrap_or_default().to_string(),
            why: ArchiveError { name, problem, entry, offset: 0 }.to_string(),
        });
    match problem {
        Some(problem) => Err(problem),
        None => Ok(out),
    }
}

struct Header {
    inode: u32,
    mode: u32,
    len: u32,
}

fn entry(out: &mut Vec<u8>, header: Header, name: &str, file: &[u8]) {
    let Header { inode, mode, len } = header;
    // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    let numbers = [inode, mode, 0, 0, 1, 0, len, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    out.extend_from_slice(b"070701");
    for number in numbers {
        out.extend_from_slice(format!("{number:08x}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(file);
    out.resize(out.len().next_multiple_of(4), 0);
}
