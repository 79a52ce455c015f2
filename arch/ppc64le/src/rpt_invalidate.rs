//! What H_RPT_INVALIDATE is asked (PAPR, "H_RPT_INVALIDATE"): the call by which a guest that may
//! not broadcast `tlbie` has the hypervisor do it.
//!
//! Six arguments: process id, target, what to forget, page sizes, first address, end. Plain
//! arithmetic, since QEMU has no such call: what can be tested of it is tested on a host.

use arch_contract::addr::PAGE_SIZE;
use arch_contract::mutant::{self, Mutant};

/// Targets: all virtual processors of the partition.
const ALL_PROCESSORS: u64 = 1;
/// What to forget.
const TRANSLATIONS: u64 = 2;
const PAGE_WALK_CACHE: u64 = 4;
const PROCESS_TABLE_CACHE: u64 = 8;
/// Page sizes.
const PAGE_4K: u64 = 1;
const ANY_PAGE: u64 = u64::MAX;

/// Forget `pages` small pages of `pid` from `start`.
pub fn pages(pid: u64, start: u64, pages: u64) -> [u64; 6] {
    let start = start & !(PAGE_SIZE - 1);
    let last = if mutant::is(Mutant::RangeEndsEarly) { 1 } else { 0 };
    [pid, ALL_PROCESSORS, TRANSLATIONS, PAGE_4K, start, start + (pages - last) * PAGE_SIZE]
}

/// Forget everything of `pid`.
pub const fn process(pid: u64) -> [u64; 6] {
    let all = TRANSLATIONS | PAGE_WALK_CACHE | PROCESS_TABLE_CACHE;
    [pid, ALL_PROCESSORS, all, ANY_PAGE, 0, u64::MAX]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `HV-2`: a range is asked for by its own page size, whole pages, end exclusive.
    #[test]
    fn hv_2_rpt_invalidate_of_a_range() {
        assert_eq!(pages(7, 0x1234_5678, 3), [7, 1, 2, 1, 0x1234_5000, 0x1234_8000]);
    }

    /// `HV-2`: a whole process takes the page-walk and process-table caches along.
    #[test]
    fn hv_2_rpt_invalidate_of_a_process() {
        assert_eq!(process(9), [9, 1, 14, u64::MAX, 0, u64::MAX]);
    }
}
