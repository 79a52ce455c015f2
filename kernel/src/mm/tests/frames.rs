//! Frames: nothing is given out twice, all of it comes back and joins again.

use crate::mm::frames::{Block, Frames, Order};
use crate::mm::{Machine, NoMemory};
use arch_contract::addr::{PAGE_SIZE, PhysAddr};
use arch_contract::boot::PhysRange;
use arch_contract::pte::Paging;
use arch_current::Current;
use arch_model::{Config, RAM_BASE};
use proptest::prelude::*;
use std::vec::Vec;

const RAM: u64 = 1 << 20;

fn range(page: u64, pages: u64) -> PhysRange {
    PhysRange { start: PhysAddr(RAM_BASE.0 + page * PAGE_SIZE), len: pages * PAGE_SIZE }
}

fn frames(ranges: &[PhysRange], limit: u64) -> (&'static Machine, Frames) {
    let (machine, _) = Machine::new(Config { ram: RAM, ..Config::default() });
    // SAFETY: the ranges are RAM of a machine that nothing else uses.
    (machine, unsafe { Frames::new(machine, ranges, limit) })
}

/// A hole, an odd start, an odd length, and a range too short to hold more than its own bytes.
const RANGES: [(u64, u64); 4] = [(3, 90), (100, 1), (101, 64), (180, 70)];

fn ranges() -> Vec<PhysRange> {
    RANGES.iter().map(|&(page, pages)| range(page, pages)).collect()
}

#[test]
fn every_frame_once_and_all_of_them_back() {
    let ranges = ranges();
    let (_, mut frames) = frames(&ranges, u64::MAX);
    let total = frames.total_bytes();
    // One frame of each usable range holds the range's bytes.
    assert_eq!(total, (89 + 63 + 69) * PAGE_SIZE);
    let largest = largest_of(&mut frames);

    let mut taken: Vec<Block> = Vec::new();
    while let Ok(block) = frames.take(Order::FRAME) {
        taken.push(block);
    }
    assert_eq!(taken.len() as u64 * PAGE_SIZE, total);
    assert_eq!(frames.free_bytes(), 0);
    taken.sort_by_key(Block::at);
    for (index, block) in taken.iter().enumerate() {
        assert!(index == 0 || taken[index - 1].at() < block.at(), "{block:?} twice");
        assert!(ranges.iter().any(|range| range.start <= block.at() && block.at() < range.end()));
    }

    // Every second one first, so that nothing joins before the rest comes.
    let (odd, even): (Vec<_>, Vec<_>) = taken.into_iter().enumerate().partition(|(index, _)| index % 2 == 1);
    odd.into_iter().chain(even).for_each(|(_, block)| frames.give_back(block));
    assert_eq!(frames.free_bytes(), total);
    assert_eq!(largest_of(&mut frames), largest, "neighbours did not join");
}

/// The largest order that can be had.
fn largest_of(frames: &mut Frames) -> Order {
    let mut bytes = RAM;
    loop {
        let order = Order::holding(bytes).expect("not larger than the largest");
        if let Ok(block) = frames.take(order) {
            frames.give_back(block);
            return order;
        }
        bytes /= 2;
    }
}

#[test]
fn orders_round_up() {
    assert_eq!(Order::holding(1), Some(Order::FRAME));
    assert_eq!(Order::holding(PAGE_SIZE), Some(Order::FRAME));
    assert_eq!(Order::holding(PAGE_SIZE + 1).map(Order::bytes), Some(2 * PAGE_SIZE));
    assert_eq!(Order::holding(5 * PAGE_SIZE).map(Order::bytes), Some(8 * PAGE_SIZE));
    assert_eq!(Order::holding(1 << 30), Some(Order::MAX));
    assert_eq!(Order::holding((1 << 30) + 1), None);
    assert_eq!(Order::holding(u64::MAX), None);
}

#[test]
fn too_large_is_refused_and_changes_nothing() {
    let (_, mut frames) = frames(&ranges(), u64::MAX);
    let before = frames.free_bytes();
    assert_eq!(frames.take(Order::MAX), Err(NoMemory));
    assert_eq!(frames.free_bytes(), before);
}

#[test]
fn a_limit_keeps_the_lowest() {
    let (_, mut frames) = frames(&ranges(), 100 * PAGE_SIZE);
    // 90 pages of the first range, 1 useless one, 9 of the third.
    assert_eq!(frames.total_bytes(), (89 + 8) * PAGE_SIZE);
    let end = range(101 + 9, 0).start;
    while let Ok(block) = frames.take(Order::FRAME) {
        assert!(block.at() < end, "{block:?} is beyond the limit");
    }
}

#[test]
#[should_panic(expected = "not given out")]
fn giving_back_twice_is_found() {
    let (_, mut frames) = frames(&ranges(), u64::MAX);
    let block = frames.take(Order::FRAME).unwrap();
    // SAFETY: none: this is the mistake that the allocator has to find.
    let again = unsafe { Block::from_owned(block.at(), block.order()) };
    frames.give_back(block);
    frames.give_back(again);
}

#[test]
#[should_panic(expected = "not a frame of this allocator")]
fn giving_back_something_else_is_found() {
    let (_, mut frames) = frames(&ranges(), u64::MAX);
    // SAFETY: as above. The page lies in a hole of the map.
    frames.give_back(unsafe { Block::from_owned(range(95, 0).start, Order::FRAME) });
}

fn fill(machine: &Machine, block: &Block, value: u8) {
    // SAFETY: the block is the test's own.
    unsafe { Current::phys(machine, block.at()).write_bytes(value, block.bytes() as usize) };
}

fn is_filled(machine: &Machine, block: &Block, value: u8) -> bool {
    let at = Current::phys(machine, block.at());
    // SAFETY: as above.
    let bytes = unsafe { core::slice::from_raw_parts(at.as_ptr(), block.bytes() as usize) };
    bytes.iter().all(|byte| *byte == value)
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Take(u64),
    GiveBack(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u32..6).prop_map(|order| Step::Take(PAGE_SIZE << order)),
        any::<usize>().prop_map(Step::GiveBack),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is taken and given back in whatever order: blocks are aligned and whole, nobody
    /// else writes to them, and in the end everything is there again.
    #[test]
    fn blocks_are_their_owners_alone(steps in steps()) {
        let (machine, mut frames) = frames(&ranges(), u64::MAX);
        let largest = largest_of(&mut frames);
        let mut owned: Vec<(Block, u8)> = Vec::new();
        let mut bytes = 0;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Take(size) => {
                    let order = Order::holding(size).unwrap();
                    let Ok(block) = frames.take(order) else { continue };
                    prop_assert!(block.at().is_aligned(block.bytes()));
                    prop_assert_eq!(block.bytes(), size);
                    fill(machine, &block, number as u8);
                    bytes += size;
                    owned.push((block, number as u8));
                }
                Step::GiveBack(which) if !owned.is_empty() => {
                    let (block, value) = owned.swap_remove(which % owned.len());
                    prop_assert!(is_filled(machine, &block, value));
                    bytes -= block.bytes();
                    frames.give_back(block);
                }
                Step::GiveBack(_) => {}
            }
            prop_assert_eq!(frames.free_bytes() + bytes, frames.total_bytes());
        }
        for (block, value) in owned {
            prop_assert!(is_filled(machine, &block, value));
            frames.give_back(block);
        }
        prop_assert_eq!(frames.free_bytes(), frames.total_bytes());
        prop_assert_eq!(largest_of(&mut frames), largest);
    }
}
