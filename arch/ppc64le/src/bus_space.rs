//! Which addresses of a DMA window are in use, and by how many calls they are entered into its table.
//!
//! The window is divided into equal parts, a bit for each. What is mapped takes as many neighbours as it
//! needs. There are far more addresses than memory to map, so nothing is lost by rounding up.

use arch_contract::addr::PAGE_SIZE;

const WORDS: usize = 64;
const PARTS: usize = 64 * WORDS;

/// Part `n` is in use if bit `n % 64` of word `n / 64` is set.
pub struct BusSpace {
    used: [u64; WORDS],
    /// How many parts there are, and bytes in each.
    parts: usize,
    part: u64,
}

impl BusSpace {
    /// A free window of `len` bytes, which are whole pages. What is left after dividing is not used.
    pub const fn new(len: u64) -> Self {
        let pages = len / PAGE_SIZE;
        let pages_in_part = if pages == 0 { 1 } else { pages.div_ceil(PARTS as u64) };
        Self { used: [0; WORDS], parts: (pages / pages_in_part) as usize, part: pages_in_part * PAGE_SIZE }
    }

    /// Takes `len` bytes: the offset of the first in the window, a multiple of a page.
    pub fn take(&mut self, len: u64) -> Option<u64> {
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
    pub fn give(&mut self, offset: u64, len: u64) {
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
pub fn pieces(len: u64) -> impl Iterator<Item = (u64, usize)> {
    const BYTES: u64 = AT_ONCE as u64 * PAGE_SIZE;
    (0..len)
        .step_by(BYTES as usize)
        .map(move |from| (from, (len - from).min(BYTES).div_ceil(PAGE_SIZE) as usize))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
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
