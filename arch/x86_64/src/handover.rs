//! The PVH hand-over block: `hvm_start_info`, as Xen's `public/arch-x86/hvm/start_info.h` defines
//! it and QEMU, Firecracker and Cloud Hypervisor fill it in.
//!
//! It lies below 1 MiB, in memory that the map calls free, so everything is copied out here,
//! before the first frame is handed out (`BOOT-3`). Bad input is refused with a reason.

use crate::firmware::{Source, u32_at, u64_at};
use arch_contract::addr::PhysAddr;
use arch_contract::boot::{MAX_COMMAND_LINE, MAX_RANGES, PhysRange};
use arch_contract::mutant::{self, Mutant};
use arrayvec::{ArrayString, ArrayVec};
use core::fmt;

const MAGIC: u32 = 0x336e_c578;
const START_INFO_LEN: usize = 56;
const MEMMAP_ENTRY_LEN: usize = 24;
const MODULE_ENTRY_LEN: usize = 32;
/// `XEN_HVM_MEMMAP_TYPE_RAM`, the same number as in an e820 map.
const TYPE_RAM: u32 = 1;
/// More entries than any firmware makes; a bound on a corrupt count.
const MAX_MEMMAP_ENTRIES: u32 = 1024;

/// What the block said.
pub struct Handover {
    /// RAM, as it stood in the map: neither sorted nor aligned.
    pub ram: ArrayVec<PhysRange, MAX_RANGES>,
    pub command_line: ArrayString<MAX_COMMAND_LINE>,
    pub initrd: Option<PhysRange>,
    /// Where the ACPI root pointer lies, if the firmware said.
    pub rsdp: Option<PhysAddr>,
}

/// Why the block is unusable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bad {
    Unreadable { what: &'static str, at: u64 },
    Magic(u32),
    Version(u32),
    NoMemoryMap,
    TooManyRanges,
    Wraps { what: &'static str, at: u64, len: u64 },
    CommandLineTooLong,
    CommandLineNotUtf8,
    InitrdNotInRam { at: u64, len: u64 },
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unreadable { what, at } => write!(f, "the {what} at {at:#x} is outside readable memory"),
            Self::Magic(magic) => {
                write!(
                    f,
                    "no PVH start info: magic {magic:#x}. Start the kernel with `-kernel`, not by a boot loader"
                )
            }
            Self::Version(version) => {
                write!(
                    f,
                    "PVH start info version {version} has no memory map; a loader of version 1 is needed"
                )
            }
            Self::NoMemoryMap => f.write_str("the PVH memory map is empty"),
            Self::TooManyRanges => write!(f, "the memory map has more than {MAX_RANGES} ranges of RAM"),
            Self::Wraps { what, at, len } => {
                write!(f, "the {what} at {at:#x} with {len:#x} bytes wraps around")
            }
            Self::CommandLineTooLong => {
                write!(f, "the command line is longer than {MAX_COMMAND_LINE} bytes; shorten `-append`")
            }
            Self::CommandLineNotUtf8 => f.write_str("the command line is not UTF-8; correct `-append`"),
            Self::InitrdNotInRam { at, len } => {
                write!(
                    f,
                    "the initrd at {at:#x} with {len:#x} bytes is not inside RAM; give the machine more memory"
                )
            }
        }
    }
}

/// Reads the block at `start_info`.
pub fn parse(memory: &impl Source, start_info: u64) -> Result<Handover, Bad> {
    let unreadable = |what, at| Bad::Unreadable { what, at };
    let block = memory.bytes(start_info, START_INFO_LEN).ok_or(unreadable("PVH start info", start_info))?;
    let word = |offset| u32_at(block, offset).unwrap_or(0);
    let long = |offset| u64_at(block, offset).unwrap_or(0);
    if word(0) != MAGIC {
        return Err(Bad::Magic(word(0)));
    }
    if word(4) < 1 {
        return Err(Bad::Version(word(4)));
    }
    let (modules, modules_at, command_line_at) = (word(12), long(16), long(24));
    let (rsdp, memmap_at, memmap_entries) = (long(32), long(40), word(48));

    let ram = memory_map(memory, memmap_at, memmap_entries)?;
    let initrd = match modules {
        0 => None,
        _ => {
            let entry =
                memory.bytes(modules_at, MODULE_ENTRY_LEN).ok_or(unreadable("module list", modules_at))?;
            let (at, len) = (u64_at(entry, 0).unwrap_or(0), u64_at(entry, 8).unwrap_or(0));
            let end = at.checked_add(len).ok_or(Bad::Wraps { what: "initrd", at, len })?;
            if !ram.iter().any(|range| range.start.0 <= at && end <= range.end().0) {
                return Err(Bad::InitrdNotInRam { at, len });
            }
            Some(PhysRange { start: PhysAddr(at), len })
        }
    };
    let command_line = match command_line_at {
        0 => ArrayString::new(),
        at => string(memory, at)?,
    };
    Ok(Handover { ram, command_line, initrd, rsdp: (rsdp != 0).then_some(PhysAddr(rsdp)) })
}

fn memory_map(memory: &impl Source, at: u64, entries: u32) -> Result<ArrayVec<PhysRange, MAX_RANGES>, Bad> {
    if entries == 0 || entries > MAX_MEMMAP_ENTRIES {
        return Err(if entries == 0 { Bad::NoMemoryMap } else { Bad::TooManyRanges });
    }
    let bytes = memory
        .bytes(at, entries as usize * MEMMAP_ENTRY_LEN)
        .ok_or(Bad::Unreadable { what: "memory map", at })?;
    let mut ram = ArrayVec::new();
    for entry in bytes.chunks_exact(MEMMAP_ENTRY_LEN) {
        let (start, len) = (u64_at(entry, 0).unwrap_or(0), u64_at(entry, 8).unwrap_or(0));
        let is_ram = u32_at(entry, 16) == Some(TYPE_RAM) || mutant::is(Mutant::AllIsRam);
        if !is_ram || len == 0 {
            continue;
        }
        if start.checked_add(len).is_none() {
            return Err(Bad::Wraps { what: "memory map range", at: start, len });
        }
        ram.try_push(PhysRange { start: PhysAddr(start), len }).map_err(|_| Bad::TooManyRanges)?;
    }
    if ram.is_empty() { Err(Bad::NoMemoryMap) } else { Ok(ram) }
}

/// A string that ends with a zero byte.
fn string(memory: &impl Source, at: u64) -> Result<ArrayString<MAX_COMMAND_LINE>, Bad> {
    let unreadable = Bad::Unreadable { what: "command line", at };
    let mut raw: ArrayVec<u8, MAX_COMMAND_LINE> = ArrayVec::new();
    loop {
        let next = at.checked_add(raw.len() as u64).ok_or(unreadable)?;
        match memory.bytes(next, 1).ok_or(unreadable)?[0] {
            0 => break,
            byte => raw.try_push(byte).map_err(|_| Bad::CommandLineTooLong)?,
        }
    }
    let text = core::str::from_utf8(&raw).map_err(|_| Bad::CommandLineNotUtf8)?;
    ArrayString::from(text).map_err(|_| Bad::CommandLineTooLong)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::firmware::Slice;
    use std::string::ToString;

    const BASE: u64 = 0x9000;

    /// A block with two ranges of RAM, an initrd and a command line, all in one page.
    fn page() -> [u8; 4096] {
        let mut page = [0; 4096];
        let mut put = |offset: usize, bytes: &[u8]| page[offset..offset + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC.to_le_bytes());
        put(4, &1u32.to_le_bytes());
        put(12, &1u32.to_le_bytes());
        put(16, &(BASE + 0x100).to_le_bytes());
        put(24, &(BASE + 0x200).to_le_bytes());
        put(32, &0xf_5ad0u64.to_le_bytes());
        put(40, &(BASE + 0x300).to_le_bytes());
        put(48, &3u32.to_le_bytes());
        put(0x100, &0x10_0000u64.to_le_bytes());
        put(0x108, &0x1234u64.to_le_bytes());
        put(0x200, b"init=hello -- a\0");
        for (index, (start, len, kind)) in
            [(0u64, 0x9_fc00u64, 1u32), (0xf_0000, 0x1_0000, 2), (0x10_0000, 0x700_0000, 1)]
                .iter()
                .enumerate()
        {
            put(0x300 + index * 24, &start.to_le_bytes());
            put(0x308 + index * 24, &len.to_le_bytes());
            put(0x310 + index * 24, &kind.to_le_bytes());
        }
        page
    }

    fn parse_page(page: &[u8]) -> Result<Handover, Bad> {
        parse(&Slice { base: BASE, data: page }, BASE)
    }

    /// `BOOT-1`: everything arrives; what is not RAM does not.
    #[test]
    fn boot_1_complete() {
        let got = parse_page(&page()).map_err(|bad| bad.to_string()).expect("a good block");
        assert_eq!(got.ram.len(), 2);
        assert_eq!(&got.command_line[..], "init=hello -- a");
        assert_eq!(got.initrd, Some(PhysRange { start: PhysAddr(0x10_0000), len: 0x1234 }));
        assert_eq!(got.rsdp, Some(PhysAddr(0xf_5ad0)));
    }

    /// `BOOT-5`: each kind of nonsense is named, and none panics.
    #[test]
    fn boot_5_refused() {
        let with = |offset: usize, bytes: &[u8]| {
            let mut page = page();
            page[offset..offset + bytes.len()].copy_from_slice(bytes);
            parse_page(&page).err()
        };
        assert!(matches!(with(0, &[0; 4]), Some(Bad::Magic(0))));
        assert!(matches!(with(4, &[0; 4]), Some(Bad::Version(0))));
        assert!(matches!(with(48, &[0; 4]), Some(Bad::NoMemoryMap)));
        assert!(matches!(with(48, &[0xff; 4]), Some(Bad::TooManyRanges)));
        assert!(matches!(with(40, &[0xff; 8]), Some(Bad::Unreadable { .. })));
        assert!(matches!(with(0x108, &[0xff; 8]), Some(Bad::Wraps { .. })));
        assert!(with(0x100, &[0; 8]).is_none());
        assert!(matches!(with(0x105, &[1]), Some(Bad::InitrdNotInRam { .. })));
        assert!(matches!(with(0x200, &[0xff]), Some(Bad::CommandLineNotUtf8)));
        let mut long = page();
        long[0x400..].fill(b'x');
        long[24..32].copy_from_slice(&(BASE + 0x400).to_le_bytes());
        assert!(matches!(parse_page(&long), Err(Bad::CommandLineTooLong)));
    }

    /// A block cut off anywhere is refused, not read past.
    #[test]
    fn boot_5_truncated() {
        let page = page();
        for len in 0..0x348 {
            assert!(parse_page(&page[..len]).is_err(), "{len}");
        }
    }
}
