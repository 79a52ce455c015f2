//! Memory the port keeps for itself: cut out of the free map at boot, never given back.

use arch_contract::addr::PhysAddr;
use arch_contract::boot::{MAX_RANGES, PhysRange, reserve};
use arch_contract::mutant::{self, Mutant};
use arrayvec::ArrayVec;

/// Firmware's arguments are words of 32 bits, so what is named to it must lie below; the rest may
/// as well.
const LIMIT: u64 = 1 << 32;

/// `bytes` bytes, a multiple of a page, aligned to `alignment` (a power of two, a page at least):
/// from the end of the highest range that has them. Not zeroed. `None`: there is no such range, or
/// the map has become too long.
pub(crate) fn keep(
    free: &mut ArrayVec<PhysRange, MAX_RANGES>,
    bytes: u64,
    alignment: u64,
) -> Option<PhysRange> {
    let place = |range: &PhysRange| {
        let start = range.end().0.min(LIMIT).checked_sub(bytes)? & !(alignment - 1);
        (start >= range.start.0).then_some(PhysRange { start: PhysAddr(start), len: bytes })
    };
    let kept = free.iter().rev().find_map(place)?;
    if !mutant::is(Mutant::KeptStaysFree) {
        reserve(free, kept).ok()?;
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(ranges: &[(u64, u64)]) -> ArrayVec<PhysRange, MAX_RANGES> {
        ranges.iter().map(|&(start, len)| PhysRange { start: PhysAddr(start), len }).collect()
    }

    /// `BOOT-2`: what is kept is no longer free; it is aligned and lies below the limit.
    #[test]
    fn boot_2_kept_memory_is_not_free() {
        let mut free = map(&[(0x1_0000, 0x3_0000), (0xffff_0000, 0x4_0000)]);
        let kept = keep(&mut free, 0x3000, 0x1000).unwrap();
        assert_eq!(kept, PhysRange { start: PhysAddr(0xffff_d000), len: 0x3000 });
        assert_eq!(keep(&mut free, 0x1_0000, 0x1_0000).unwrap().start, PhysAddr(0x3_0000));
        assert_eq!(keep(&mut free, 0x1000, 0x1_0000).unwrap().start, PhysAddr(0xffff_0000));
        assert!(keep(&mut free, 0x10_0000, 0x1000).is_none());
        assert!(free.iter().all(|range| !range.overlaps(&kept)));
    }
}
