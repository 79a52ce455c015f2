//! Page tables against an ordered map: the same pages, and no table too many.

use crate::mm::budget::Budget;
use crate::mm::memory::Memory;
use crate::mm::page_table::{BATCH, MapError, Page, PageTable, Removed};
use crate::mm::testing::memory;
use crate::object::Ref;
use arch_contract::addr::{PAGE_SIZE, VirtAddr};
use arch_contract::pte::{Paging, Protection};
use arch_contract::tlb::Freed;
use arch_current::Current;
use arch_model::KERNEL_ENTRY;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

const START: VirtAddr = Current::USER_START;
const END: VirtAddr = Current::USER_END;

fn empty() -> (&'static Memory, Ref<Budget>, PageTable) {
    let (_, memory) = memory(4 << 20);
    let budget = Budget::root(memory).unwrap();
    let table = PageTable::new(memory, budget.clone()).unwrap();
    (memory, budget, table)
}

/// Maps a frame of its own at `at`; the charge for pages is the caller's business, and here nobody's.
fn map(
    memory: &Memory,
    table: &mut PageTable,
    at: VirtAddr,
    protection: Protection,
) -> Result<u64, MapError> {
    let frame = memory.take_zeroed(crate::mm::frames::Order::FRAME).map_err(|_| MapError::NoMemory)?;
    let result = table.map_page(at, Page::ram(frame.at(), protection)).map(|()| frame.at().0);
    if result.is_err() {
        memory.give_back_block(frame);
    }
    result
}

fn clear(table: &mut PageTable, start: VirtAddr, end: VirtAddr) {
    let mut at = start;
    while at < end {
        let mut removed = Removed::new(BATCH as u64);
        let next = table.clear(at, end, &mut removed);
        assert!(next > at && next <= end, "a step that does nothing");
        table.give_back(removed);
        at = next;
    }
}

/// `PTE-2`: what was never mapped is absent, at both ends of the user range and between.
#[test]
fn pte_2_an_empty_tree_maps_nothing() {
    let (_, _, table) = empty();
    for at in [START.0, START.0 + 5, 1 << 40, END.0 - PAGE_SIZE, END.0 - 1] {
        assert_eq!(table.lookup(VirtAddr(at)), None);
    }
}

#[test]
fn the_architectures_part_of_the_root_is_left_alone() {
    let (memory, _, mut table) = empty();
    map(memory, &mut table, VirtAddr(END.0 - PAGE_SIZE), Protection::Read).unwrap();
    map(memory, &mut table, START, Protection::Read).unwrap();
    clear(&mut table, START, END);
    let root = Current::phys(memory.machine(), table.root()).cast::<u64>();
    // SAFETY: slot 511 of the root, which is alive.
    assert_eq!(unsafe { root.add(511).read() }, KERNEL_ENTRY);
}

#[test]
fn a_page_is_mapped_once() {
    let (memory, _, mut table) = empty();
    let at = VirtAddr(0x1234_5000);
    let frame = map(memory, &mut table, at, Protection::ReadExecute).unwrap();
    assert_eq!(map(memory, &mut table, at, Protection::Read), Err(MapError::Taken));
    let found = table.lookup(VirtAddr(at.0 + 0xfff)).unwrap();
    assert_eq!((found.frame.0, found.protection), (frame, Protection::ReadExecute));
}

/// Removing says which flush it needs: tables only where the last page of a table went.
#[test]
fn tlb_2_freed_tables_are_told() {
    let (memory, budget, mut table) = empty();
    let (a, b) = (VirtAddr(0x1234_5000), VirtAddr(0x1234_6000));
    let before = budget.used();
    map(memory, &mut table, a, Protection::Read).unwrap();
    map(memory, &mut table, b, Protection::Read).unwrap();
    assert_eq!(budget.used() - before, 3 * PAGE_SIZE);

    let mut removed = Removed::new(8);
    assert_eq!(table.clear(a, b, &mut removed), b);
    assert_eq!(removed.freed(), Some(Freed::PagesOnly));
    table.give_back(removed);
    assert_eq!(budget.used() - before, 3 * PAGE_SIZE);

    let mut removed = Removed::new(8);
    table.clear(b, VirtAddr(b.0 + PAGE_SIZE), &mut removed);
    assert_eq!(removed.freed(), Some(Freed::Tables));
    table.give_back(removed);
    assert_eq!(budget.used(), before);

    let mut removed = Removed::new(8);
    table.clear(a, VirtAddr(b.0 + PAGE_SIZE), &mut removed);
    assert_eq!(removed.freed(), None);
    table.give_back(removed);
}

/// A step is bounded by pages and by slots looked at, so a huge hole is no long walk.
#[test]
fn a_step_is_bounded() {
    let (memory, _, mut table) = empty();
    for page in 0..20 {
        map(memory, &mut table, VirtAddr(0x4000_0000 + page * PAGE_SIZE), Protection::Read).unwrap();
    }
    let mut removed = Removed::new(7);
    let reached = table.clear(VirtAddr(0x4000_0000), END, &mut removed);
    assert_eq!(reached, VirtAddr(0x4000_0000 + 7 * PAGE_SIZE));
    table.give_back(removed);
    clear(&mut table, START, END);
}

/// Without memory for a table nothing is mapped, and what was made on the way is not lost.
#[test]
fn a_refused_table_maps_nothing() {
    for nth in 2..=4 {
        let (memory, budget, mut table) = empty();
        let (free, used) = (memory.free_bytes(), budget.used());
        memory.refusal.refuse(nth);
        assert_eq!(map(memory, &mut table, START, Protection::Read), Err(MapError::NoMemory));
        assert_eq!(table.lookup(START), None);
        clear(&mut table, START, VirtAddr(START.0 + PAGE_SIZE));
        assert_eq!((memory.free_bytes(), budget.used()), (free, used), "allocation {nth}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Map(VirtAddr, Protection),
    Clear(VirtAddr, u64),
    Lookup(VirtAddr),
}

/// Addresses that meet: few places far apart, few pages around each.
fn page() -> impl Strategy<Value = VirtAddr> {
    let base = prop::sample::select(std::vec![
        START.0,
        0x1ff_e000,
        0x3fff_e000,
        0x7f_ffff_e000,
        END.0 - 8 * PAGE_SIZE,
    ]);
    (base, 0u64..8).prop_map(|(base, page)| VirtAddr(base + page * PAGE_SIZE))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let protection =
        prop::sample::select(std::vec![Protection::Read, Protection::ReadWrite, Protection::ReadExecute]);
    let length = prop_oneof![Just(1u64), 1u64..6, Just(1 << 20), Just(1 << 36)];
    let step = prop_oneof![
        4 => (page(), protection).prop_map(|(at, protection)| Step::Map(at, protection)),
        2 => (page(), length).prop_map(|(at, pages)| Step::Clear(at, pages)),
        1 => page().prop_map(Step::Lookup),
    ];
    prop::collection::vec(step, 1..80)
}

/// Tables that `pages` need below the root, level by level.
fn tables_for(pages: &BTreeMap<VirtAddr, (u64, Protection)>) -> u64 {
    let distinct = |shift: u32| {
        let mut keys: Vec<u64> = pages.keys().map(|at| at.0 >> shift).collect();
        keys.dedup();
        keys.len() as u64
    };
    Current::LEVELS[..Current::LEVELS.len() - 1].iter().map(|level| distinct(level.shift)).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The tree maps what the oracle maps, and holds just the tables that takes.
    #[test]
    fn the_tree_is_an_ordered_map(steps in steps()) {
        let (memory, budget, mut table) = empty();
        let (free, used) = (memory.free_bytes(), budget.used());
        let mut oracle: BTreeMap<VirtAddr, (u64, Protection)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Map(at, protection) => match map(memory, &mut table, at, protection) {
                    Ok(frame) => prop_assert_eq!(oracle.insert(at, (frame, protection)), None),
                    Err(error) => {
                        prop_assert_eq!(error, MapError::Taken);
                        prop_assert!(oracle.contains_key(&at));
                    }
                },
                Step::Clear(at, pages) => {
                    let end = VirtAddr(at.0 + pages * PAGE_SIZE).min(END);
                    clear(&mut table, at, end);
                    oracle.retain(|page, _| *page < at || *page >= end);
                }
                Step::Lookup(at) => {
                    let found = table.lookup(at).map(|page| (page.frame.0, page.protection));
                    prop_assert_eq!(found, oracle.get(&at).copied());
                }
            }
            prop_assert_eq!(budget.used() - used, tables_for(&oracle) * PAGE_SIZE);
        }
        for (at, page) in &oracle {
            prop_assert_eq!(table.lookup(*at).map(|page| (page.frame.0, page.protection)), Some(*page));
        }
        clear(&mut table, START, END);
        prop_assert_eq!((memory.free_bytes(), budget.used()), (free, used));
        drop(table);
        prop_assert_eq!(budget.used(), 0);
    }
}
