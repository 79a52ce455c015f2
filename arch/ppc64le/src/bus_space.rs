//! Which addresses of a DMA window are in use, and how they are entered into its table.
//!
//! The window is divided into equal parts, a bit for each. What is mapped takes as many neighbours as it
//! needs. There are far more addresses than memory to map, so nothing is lost by rounding up.

use arch_contract::addr::PAGE_SIZE;
use arch_contract::boot::PhysRange;
use arch_contract::device::{NotMapped, StillMapped};

const WORDS: usize = 64;
const PARTS: usize = 64 * WORDS;

/// Part `n` is in use if bit `n % 64` of word `n / 64` is set.
pub struct BusSpace {
    used: [u64; WORDS],
    /// How many parts there are, and bytes in each.
    parts: usize,
    part: u64,
}

/// The table of a window, as its owner lets it be changed: up to [`AT_ONCE`] entries at a time.
pub trait Table {
    /// Enters `count` frames from the address `start` on, `offset` bytes into the window. If it fails, some may
    /// have been entered.
    fn put(&mut self, offset: u64, start: u64, count: usize) -> Result<(), Refused>;

    /// Takes `count` entries out, from `offset` bytes into the window on.
    fn clear(&mut self, offset: u64, count: usize) -> Result<(), Refused>;
}

/// The table's owner does not do it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused;

impl BusSpace {
    /// Enters `frames` into `table`, at an offset nobody has: which that is.
    pub fn enter(&mut self, table: &mut impl Table, frames: PhysRange) -> Result<u64, NotMapped> {
        let at = self.take(frames.len).ok_or(NotMapped::Refused)?;
        for (from, count) in pieces(frames.len) {
            if table.put(at + from, frames.start.0 + from, count).is_err() {
                let undone = self.take_out(table, at, frames.len);
                return Err(undone.map_or(NotMapped::InDoubt, |()| NotMapped::Refused));
            }
        }
        Ok(at)
    }

    /// Undoes [`enter`](Self::enter). If an entry may have stayed nobody else gets its offset. `DEV-3`
    pub fn take_out(&mut self, table: &mut impl Table, at: u64, len: u64) -> Result<(), StillMapped> {
        let mut cleared = Ok(());
        for (from, count) in pieces(len) {
            cleared = table.clear(at + from, count).map_err(|Refused| StillMapped).and(cleared);
        }
        cleared.inspect(|()| self.give(at, len))
    }

    /// A free window of `len` bytes, which are whole pages. What is left after dividing is not used.
    pub const fn new(len: u64) -> Self {
        let pages = len / PAGE_SIZE;
        let pages_in_part = if pages == 0 { 1 } else { pages.div_ceil(PARTS as u64) };
        Self { used: [0; WORDS], parts: (pages / pages_in_part) as usize, part: pages_in_part * PAGE_SIZE }
    }

    /// Takes `len` bytes: the offset of the first in the window, a multiple of a page.
    fn take(&mut self, len: u64) -> Option<u64> {
        let wanted = usize::try_from(len.div_ceil(self.part)).ok()?.max(1);
        let mut run = 0;
        for part in 0..self.parts {
            run = if self.is_used(part) { 0 } else { run + 1 };
            if run == wanted {
                let first = part + 1 - wanted;
                self.set(first..part + 1, true);
                return Some(first as u64 * self.part);
            }
        }
        None
    }

    /// Gives back what `take` returned for `len` bytes.
    fn give(&mut self, offset: u64, len: u64) {
        let first = (offset / self.part) as usize;
        let count = len.div_ceil(self.part).max(1) as usize;
        self.set(first..(first + count).min(self.parts), false);
    }

    fn is_used(&self, part: usize) -> bool {
        self.used[part / 64] & 1 << (part % 64) != 0
    }

    fn set(&mut self, parts: core::ops::Range<usize>, used: bool) {
        for part in parts {
            let bit = 1 << (part % 64);
            let word = &mut self.used[part / 64];
            *word = if used { *word | bit } else { *word & !bit };
        }
    }
}

/// How many table entries one call to the hypervisor puts or takes (PAPR §14.5.4.2, H_STUFF_TCE).
pub const AT_ONCE: usize = 512;

/// What `len` bytes, which are whole pages, are to the calls: where each piece begins, and its pages. One
/// piece for all that a holder maps at once (`abi::MAX_DMA`).
fn pieces(len: u64) -> impl Iterator<Item = (u64, usize)> {
    const BYTES: u64 = AT_ONCE as u64 * PAGE_SIZE;
    (0..len)
        .step_by(BYTES as usize)
        .map(move |from| (from, (len - from).min(BYTES).div_ceil(PAGE_SIZE) as usize))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use arch_contract::addr::PhysAddr;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    const PART: u64 = 256 << 10;

    /// `DEV-3`: what is taken is nobody else's until it is given back.
    #[test]
    fn dev_3_addresses_are_given_once() {
        let mut space = BusSpace::new(1 << 30);
        assert_eq!(space.take(PAGE_SIZE), Some(0));
        assert_eq!(space.take(PART + 1), Some(PART));
        assert_eq!(space.take(PART), Some(3 * PART));
        space.give(PART, PART + 1);
        // Too large for the gap, then one that fits it.
        assert_eq!(space.take(3 * PART), Some(4 * PART));
        assert_eq!(space.take(2 * PART), Some(PART));
        assert_eq!(space.take(PAGE_SIZE), Some(7 * PART));
    }

    /// `DEV-3`: a window is used to its last part, and not beyond.
    #[test]
    fn dev_3_a_window_has_an_end() {
        for (len, part) in [(1 << 30, PART), (3 * PAGE_SIZE, PAGE_SIZE), (4097 * PAGE_SIZE, 2 * PAGE_SIZE)] {
            let mut space = BusSpace::new(len);
            let mut next = 0;
            while let Some(offset) = space.take(part) {
                assert_eq!(offset, next);
                next += part;
            }
            assert_eq!(next, len / part * part);
            space.give(0, part);
            assert_eq!(space.take(2 * part), None);
            assert_eq!(space.take(part), Some(0));
        }
        assert_eq!(BusSpace::new(0).take(1), None);
        assert_eq!(BusSpace::new(1 << 30).take(u64::MAX), None);
    }

    /// A table whose owner refuses some calls.
    #[derive(Default)]
    struct Refusing {
        entered: BTreeMap<u64, u64>,
        put: Option<u64>,
        clear: Option<u64>,
    }

    impl Table for Refusing {
        fn put(&mut self, offset: u64, start: u64, count: usize) -> Result<(), Refused> {
            let refused = self.put == Some(offset);
            // Half of them, if it is refused.
            let count = count as u64 >> u32::from(refused);
            self.entered.extend((0..count).map(|page| (offset + page * PAGE_SIZE, start + page * PAGE_SIZE)));
            if refused { Err(Refused) } else { Ok(()) }
        }

        fn clear(&mut self, offset: u64, count: usize) -> Result<(), Refused> {
            if self.clear == Some(offset) {
                return Err(Refused);
            }
            self.entered.retain(|at, _| !(offset..offset + count as u64 * PAGE_SIZE).contains(at));
            Ok(())
        }
    }

    /// `DEV-3`: what is entered is taken out again, of a call that was refused as well; where the owner refuses
    /// that too, the offset is not given to anybody else, and whoever asked is told.
    #[test]
    fn dev_3_what_stays_entered_is_not_given_again() {
        const PIECE: u64 = AT_ONCE as u64 * PAGE_SIZE;
        let frames = PhysRange { start: PhysAddr(64 << 20), len: 3 * PIECE };
        let (mut space, mut table) = (BusSpace::new(1 << 30), Refusing::default());
        assert_eq!(space.enter(&mut table, frames), Ok(0));
        assert_eq!(table.entered.len(), 3 * AT_ONCE);
        assert!(table.entered.iter().all(|(offset, frame)| *frame == frames.start.0 + offset));
        assert_eq!(space.take_out(&mut table, 0, frames.len), Ok(()));
        table.put = Some(PIECE);
        assert_eq!(space.enter(&mut table, frames), Err(NotMapped::Refused));
        assert_eq!(table.entered.len(), 0);

        table.clear = Some(PIECE);
        assert_eq!(space.enter(&mut table, frames), Err(NotMapped::InDoubt));
        assert_eq!(table.entered.len(), AT_ONCE / 2, "the rest was taken out");
        table.put = None;
        assert_eq!(space.enter(&mut table, frames), Ok(3 * PIECE));
        table.clear = Some(3 * PIECE);
        assert_eq!(space.take_out(&mut table, 3 * PIECE, frames.len), Err(StillMapped));
        table.clear = None;
        assert_eq!(space.enter(&mut table, frames), Ok(6 * PIECE));
    }

    /// `DEV-3`: every page is in one piece, and no piece is larger than a call takes.
    #[test]
    fn dev_3_entries_are_taken_many_at_a_time() {
        for (pages, calls) in [(0, 0), (1, 1), (511, 1), (512, 1), (513, 2), (1024, 2), (16384, 32)] {
            let pieces: Vec<_> = pieces(pages * PAGE_SIZE).collect();
            assert_eq!(pieces.len(), calls, "{pages} pages");
            let mut next = 0;
            for (from, count) in pieces {
                assert_eq!(from, next);
                assert!((1..=AT_ONCE).contains(&count));
                next += count as u64 * PAGE_SIZE;
            }
            assert_eq!(next, pages * PAGE_SIZE);
        }
    }
}
