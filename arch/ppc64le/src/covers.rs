//! What an invalidation of translations, or a publication of code, covers.
//!
//! Plain arithmetic, since QEMU forgets more than it is asked to and needs no publication: what is left
//! out shows on a processor only, and in the tests here.

use arch_contract::addr::{PAGE_SIZE, VirtAddr};
use arch_contract::tlb::Freed;

/// See [`Tlb::FLUSH_CEILING`](arch_contract::tlb::Tlb::FLUSH_CEILING).
pub const FLUSH_CEILING: u64 = 33;
/// Bytes of the smallest cache block that any implementation has.
const BLOCK: usize = 32;

/// The pages to forget one by one; nothing where all of the process must go: a range of more pages than
/// the ceiling may have been one large leaf, which an invalidation of small pages would miss, and a
/// freed table needs the page-walk cache gone.
#[inline(always)]
pub fn pages(start: VirtAddr, pages: u64, freed: Freed) -> Option<impl Iterator<Item = u64>> {
    let first = start.0 & !(PAGE_SIZE - 1);
    let one_by_one = pages <= FLUSH_CEILING && freed == Freed::PagesOnly;
    one_by_one.then(|| (0..pages).map(move |page| first.wrapping_add(page * PAGE_SIZE)))
}

/// Does `act` for each cache block that has some of the `len` bytes at `start`, of which there is one
/// at least.
#[inline(always)]
pub fn each_block(start: usize, len: usize, mut act: impl FnMut(usize)) {
    let last = start + len - 1;
    let mut block = start & !(BLOCK - 1);
    // The first is there, so nothing is skipped: the sequence has one shape only.
    loop {
        act(block);
        if last - block < BLOCK {
            return;
        }
        block += BLOCK;
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn of(start: u64, count: u64, freed: Freed) -> Option<Vec<u64>> {
        pages(VirtAddr(start), count, freed).map(Iterator::collect)
    }

    /// `TLB-2`: every page of a range, and all of the process for a freed table or what may have been a
    /// large page.
    #[test]
    fn tlb_2_every_page_or_all_of_the_process() {
        assert_eq!(of(0x1234, 3, Freed::PagesOnly), Some(std::vec![0x1000, 0x2000, 0x3000]));
        assert_eq!(of(0x1000, FLUSH_CEILING, Freed::PagesOnly).map(|pages| pages.len()), Some(33));
        assert_eq!(of(0x1000, FLUSH_CEILING + 1, Freed::PagesOnly), None);
        assert_eq!(of(0x1000, 1, Freed::Tables), None);
    }

    /// `CODE-2`: every block that a byte lies in, once.
    #[test]
    fn code_2_every_block_is_published() {
        for (start, len) in [(0, 1), (31, 1), (31, 2), (64, 64), (7, 100), (100, 4096)] {
            let mut blocks = Vec::new();
            each_block(start, len, |block| blocks.push(block));
            let mut wanted: Vec<usize> = (start..start + len).map(|byte| byte / 32 * 32).collect();
            wanted.dedup();
            assert_eq!(blocks, wanted, "{len} bytes at {start}");
        }
    }
}
