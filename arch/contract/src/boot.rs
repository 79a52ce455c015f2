//! Hand-over: what the firmware told, in one shape for every machine.
//!
//! The architecture's entry code copies all of it out of the firmware's memory before that is
//! reused, checks it, and refuses bad input with a message. The generic kernel trusts this
//! structure and nothing else about the machine.

use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::mutant::{self, Mutant};
use arrayvec::{ArrayString, ArrayVec};

/// Ranges a memory map may have after sorting and merging.
pub const MAX_RANGES: usize = 64;
/// CPUs that can be named.
pub const MAX_CPUS: usize = 64;
/// Bytes of the command line.
pub const MAX_COMMAND_LINE: usize = 1024;

/// `start..start + len` of physical memory, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PhysRange {
    pub start: PhysAddr,
    pub len: u64,
}

impl PhysRange {
    /// One past the last byte. The constructor of a map has checked that it does not wrap.
    pub const fn end(&self) -> PhysAddr {
        PhysAddr(self.start.0 + self.len)
    }
    /// Whether the two have a byte in common.
    pub const fn overlaps(&self, other: &PhysRange) -> bool {
        self.start.0 < other.end().0 && other.start.0 < self.end().0
    }
}

/// The name the hardware has for a CPU: an APIC id, an interrupt-server number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HardwareCpu(pub u32);

/// Everything the firmware handed over. Clauses `BOOT-1` to `BOOT-4`.
pub struct BootInfo {
    /// RAM that is free for the kernel: page-aligned, sorted, disjoint. The kernel image, boot
    /// stacks, the initrd, firmware that is still in use and the architecture's own tables are
    /// already cut out (`BOOT-2`).
    pub free: ArrayVec<PhysRange, MAX_RANGES>,
    /// All RAM of the machine, in bytes, before anything was cut out.
    pub total: u64,
    /// The kernel's command line.
    pub command_line: ArrayString<MAX_COMMAND_LINE>,
    /// The boot archive, if one was given: reserved, not yet looked into.
    pub initrd: Option<PhysRange>,
    /// The CPUs that can be started, the boot CPU first.
    pub cpus: ArrayVec<HardwareCpu, MAX_CPUS>,
}

/// Why a range could not be cut out of a map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooManyRanges;

/// Cuts `hole`, widened to whole pages, out of `map`. For entry code that builds
/// [`BootInfo::free`].
pub fn reserve(map: &mut ArrayVec<PhysRange, MAX_RANGES>, hole: PhysRange) -> Result<(), TooManyRanges> {
    let inner = if mutant::is(Mutant::HolesCutShort) { PAGE_SIZE - 1 } else { 0 };
    let start = (hole.start.0 + inner) & !(PAGE_SIZE - 1);
    let end = hole.end().0.saturating_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1);
    let mut index = 0;
    while index < map.len() {
        let range = map[index];
        let (low, high) = (range.start.0, range.end().0);
        if end <= low || high <= start {
            index += 1;
            continue;
        }
        let below = (low < start).then(|| PhysRange { start: PhysAddr(low), len: start - low });
        let above = (end < high).then(|| PhysRange { start: PhysAddr(end), len: high - end });
        map.remove(index);
        for piece in [below, above].into_iter().flatten() {
            map.try_insert(index, piece).map_err(|_| TooManyRanges)?;
            index += 1;
        }
    }
    Ok(())
}

/// Sorts `map`, shrinks every range to whole pages, drops empty ones and merges neighbours and
/// overlaps. Firmware maps promise none of this.
pub fn normalize(map: &mut ArrayVec<PhysRange, MAX_RANGES>) {
    for range in map.iter_mut() {
        let end = range.start.0.saturating_add(range.len) & !(PAGE_SIZE - 1);
        let start = range.start.0.saturating_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1);
        *range = PhysRange { start: PhysAddr(start), len: end.saturating_sub(start) };
    }
    map.retain(|range| range.len != 0);
    map.sort_unstable_by_key(|range| range.start);
    let mut merged: ArrayVec<PhysRange, MAX_RANGES> = ArrayVec::new();
    for range in map.iter() {
        match merged.last_mut() {
            Some(last) if range.start <= last.end() && !mutant::is(Mutant::OverlapsNotMerged) => {
                let end = last.end().0.max(range.end().0);
                last.len = end - last.start.0;
            }
            _ => merged.push(*range),
        }
    }
    *map = merged;
}

/// The hooks.
pub trait Boot: crate::Base {
    /// The ELF machine number (`e_machine`) of this architecture's programs.
    const ELF_MACHINE: u16;

    /// Writes one line about what was found (CPU, features, firmware, clock) for the boot log.
    fn describe(machine: &Self::Machine, out: &mut dyn core::fmt::Write) -> core::fmt::Result;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(ranges: &[(u64, u64)]) -> ArrayVec<PhysRange, MAX_RANGES> {
        ranges.iter().map(|&(start, len)| PhysRange { start: PhysAddr(start), len }).collect()
    }

    /// `BOOT-2`: a hole splits, trims or swallows what it meets, in whole pages.
    #[test]
    fn boot_2_reserve_cuts_whole_pages() {
        let mut m = map(&[(0x1000, 0x9000), (0x20000, 0x1000)]);
        reserve(&mut m, PhysRange { start: PhysAddr(0x3800), len: 0x900 }).unwrap();
        assert_eq!(m, map(&[(0x1000, 0x2000), (0x5000, 0x5000), (0x20000, 0x1000)]));
        reserve(&mut m, PhysRange { start: PhysAddr(0x20000), len: 1 }).unwrap();
        reserve(&mut m, PhysRange { start: PhysAddr(0), len: 0x2000 }).unwrap();
        assert_eq!(m, map(&[(0x2000, 0x1000), (0x5000, 0x5000)]));
    }

    /// `BOOT-1`: an unsorted, overlapping, unaligned map becomes sorted, disjoint and aligned.
    #[test]
    fn boot_1_normalize() {
        let mut m = map(&[(0x9000, 0x2000), (0x1800, 0x2000), (0xa000, 0x4000), (0x100, 0x200)]);
        normalize(&mut m);
        assert_eq!(m, map(&[(0x2000, 0x1000), (0x9000, 0x5000)]));
    }
}
