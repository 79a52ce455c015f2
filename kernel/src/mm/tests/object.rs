//! Memory objects below the calls on them: what a device's registers are mapped as, and whose they are.

use super::space::{World, populate, world, world_with_ram};
use crate::mm::frames::{Block, Order};
use crate::mm::heap::Charged;
use crate::mm::object::MemoryObject;
use crate::mm::page_table::LARGE;
use crate::mm::space::{AttachmentId, Progress, UserRange};
use crate::mm::testing::irqs_off;
use crate::mm::tree::testing::visits;
use crate::object::Ref;
use arch_contract::addr::{PAGE_SIZE, PhysAddr, VirtAddr};
use arch_contract::boot::PhysRange;
use arch_contract::pte::{MemoryType, Protection};
use std::vec::Vec;

/// Where tests map.
const HERE: VirtAddr = VirtAddr(1 << 40);
/// A device, far above the RAM of the model.
const REGISTERS: PhysRange = PhysRange { start: PhysAddr(0xfe00_0000_0000), len: 4 * PAGE_SIZE };

fn charged(world: &World) -> Charged {
    Charged { memory: world.cpu.kernel.memory, budget: world.budget.clone() }
}

/// A device's registers are mapped as such, in the order in which they lie; neither mapping nor ending
/// charges, clears or frees what is no RAM. `PTE-6`
#[test]
fn pte_6_a_devices_registers_are_mapped_as_such() {
    let world = world();
    let used = || world.cpu.kernel.root.used();
    // What was charged after the first round: lists are as large as they get.
    let mut before = None;
    for round in 1..=2 {
        let object = MemoryObject::device(charged(&world), REGISTERS).shared().unwrap();
        assert_eq!((object.length(), object.frame(REGISTERS.len)), (REGISTERS.len, None));
        let id = AttachmentId::new(round).unwrap();
        let (len, what) = (3 * PAGE_SIZE, (id, object.clone(), PAGE_SIZE));
        let region = world.space.attach(world.cpu, Some(HERE), len, Protection::ReadWrite, what).unwrap();
        populate(&world.space, world.cpu, &region).unwrap();
        for page in 0..3 {
            let at = page * PAGE_SIZE;
            let found = world.space.page_at(world.cpu, VirtAddr(HERE.0 + at)).expect("a page");
            assert_eq!(found.frame, PhysAddr(REGISTERS.start.0 + PAGE_SIZE + at));
            assert_eq!((found.memory, found.protection), (MemoryType::Device, Protection::ReadWrite));
        }
        // Neither the loader's bytes nor fetched instructions are in there.
        assert!(world.space.write_bytes(world.cpu, HERE, b"no RAM").is_err());
        assert_eq!(world.space.publish_range(world.cpu, HERE, PAGE_SIZE), Ok(()));
        while world.detach(id, &region) == Progress::More {}
        assert_eq!(world.space.page_at(world.cpu, HERE), None);
        assert_eq!(Ref::count(&object), 1);
        drop(object);
        assert_eq!(*before.get_or_insert(used()), used());
    }
    world.teardown();
}

/// What one more attachment costs in visits of regions: to choose its place, to map it, to unmap it
/// and to forget it.
fn cost_of_one_more(world: &World, id: u64) -> u64 {
    let object = MemoryObject::device(charged(world), REGISTERS).shared().unwrap();
    let before = visits();
    let (id, len) = (AttachmentId::new(id).unwrap(), 2 * PAGE_SIZE);
    let what = (id, object, 0);
    let region = world.space.attach(world.cpu, None, len, Protection::Read, what).unwrap();
    populate(&world.space, world.cpu, &region).unwrap();
    assert_eq!(world.space.protection_at(world.cpu, region.start()), Some(Protection::Read));
    while world.detach(id, &region) == Progress::More {}
    visits() - before
}

/// Work under the lock of a space does not grow with what is attached there: with ten thousand
/// attachments in the way, one more visits a few regions more than with ten.
#[test]
fn ten_thousand_attachments_cost_as_ten() {
    let world = world_with_ram(32 << 20);
    let object = MemoryObject::device(charged(&world), REGISTERS).shared().unwrap();
    let mut costs = Vec::new();
    for number in 1..=10_000 {
        // A page before each is too little for another one.
        let at = VirtAddr((1 << 32) + (2 * number - 1) * PAGE_SIZE);
        let what = (AttachmentId::new(number).unwrap(), object.clone(), 0);
        world.space.attach(world.cpu, Some(at), PAGE_SIZE, Protection::Read, what).unwrap();
        if [10, 100, 1_000, 10_000].contains(&number) {
            costs.push(cost_of_one_more(&world, number + 100_000));
        }
    }
    assert!(costs[3] < 4 * costs[0] && costs[3] < 250, "{costs:?} visits");
    // What is the space's own is found among them as fast.
    let before = visits();
    let own = VirtAddr((1 << 32) + 2 * 9_999 * PAGE_SIZE);
    world.space.reserve(world.cpu, Some(own), PAGE_SIZE, Protection::Read).unwrap();
    let all = UserRange::new(VirtAddr(1 << 32), 1 << 32).unwrap();
    while world.space.release(world.cpu, all, 16, &irqs_off()) == Ok(Progress::More) {}
    assert!(visits() - before < 200, "{} visits", visits() - before);
    assert_eq!(world.space.protection_at(world.cpu, own), None);
    world.teardown();
}

/// The end of a large object takes no longer than that of a small one: its frames go in slices, however
/// many objects wait for that, and then all of it is back.
#[test]
fn a_large_object_ends_in_slices() {
    const PAGES: u64 = 3 << 8;
    let world = world_with_ram(32 << 20);
    let memory = world.cpu.kernel.memory;
    let used = world.cpu.kernel.root.used();
    let objects: Vec<_> = (0..3)
        .map(|_| {
            let mut object = MemoryObject::new(charged(&world));
            while object.grow(PAGES, 16).unwrap() == Progress::More {}
            assert_eq!(object.length(), PAGES * PAGE_SIZE);
            object.shared().unwrap()
        })
        .collect();
    assert!(!memory.has_remains());
    let free = memory.free_bytes();
    drop(objects);
    assert!(memory.free_bytes() < free + 16 * PAGE_SIZE, "freed at once");
    let mut slices = 0;
    loop {
        let before = memory.free_bytes();
        let progress = memory.bury(16);
        slices += 1;
        let freed = memory.free_bytes() - before;
        // The memory of the list may go with its last frame.
        assert!(freed <= 32 * PAGE_SIZE, "{freed} bytes in one slice");
        if progress == Progress::Done {
            break;
        }
    }
    assert!(slices >= 3 * PAGES / 16 && !memory.has_remains());
    assert_eq!(world.cpu.kernel.root.used(), used);
    world.teardown();
}

/// A memory object of so many pages.
fn made(world: &World, pages: u64) -> Ref<MemoryObject> {
    let mut object = MemoryObject::new(charged(world));
    while object.grow(pages, 16).unwrap() == Progress::More {}
    object.shared().unwrap()
}

/// What lies in a large page is mapped in one leaf, where it fits, and else, and beside it, in small ones: what is
/// found at each address is the same, and whatever is mapped and unmapped, nothing of it stays. `PTE-7`
#[test]
fn pte_7_a_large_page_goes_as_a_whole() {
    let world = world_with_ram(24 << 20);
    let pages = LARGE / PAGE_SIZE;
    let object = made(&world, 2 * pages + 3);
    // A neighbour in the same tables, so that only what is unmapped is forgotten.
    let other = made(&world, 1);
    let id = AttachmentId::new(1).unwrap();
    let what = (id, other.clone(), 0);
    let beside = VirtAddr(HERE.0 + 8 * LARGE);
    let neighbour = world.space.attach(world.cpu, Some(beside), PAGE_SIZE, Protection::Read, what).unwrap();
    populate(&world.space, world.cpu, &neighbour).unwrap();
    let mut tables = Vec::new();
    // Both large pages fit; none; the second.
    for (round, (at, offset)) in
        [(0, 0), (PAGE_SIZE, 0), (5 * PAGE_SIZE, 5 * PAGE_SIZE)].into_iter().enumerate()
    {
        let id = AttachmentId::new(2 + round as u64).unwrap();
        let (at, len) = (VirtAddr(HERE.0 + at), object.length() - offset);
        let used = world.budget.used();
        let what = (id, object.clone(), offset);
        let region = world.space.attach(world.cpu, Some(at), len, Protection::ReadWrite, what).unwrap();
        populate(&world.space, world.cpu, &region).unwrap();
        tables.push((world.budget.used() - used) / PAGE_SIZE);
        world.enter();
        for page in (0..len / PAGE_SIZE).step_by(7) {
            let at = VirtAddr(at.0 + page * PAGE_SIZE);
            let frame = world.space.page_at(world.cpu, at).expect("a page").frame;
            assert_eq!(Some(frame), object.frame(offset + page * PAGE_SIZE), "{at}");
            assert!(world.load(at).is_some());
        }
        while world.detach(id, &region) == Progress::More {}
        for page in 0..len / PAGE_SIZE {
            let at = VirtAddr(at.0 + page * PAGE_SIZE);
            assert_eq!((world.space.page_at(world.cpu, at), world.load(at)), (None, None), "{at}");
        }
        assert_eq!(world.budget.used(), used);
    }
    // The rest of three pages has a table in each round.
    assert_eq!(tables, [1, 3, 2]);
    while world.detach(AttachmentId::new(1).unwrap(), &neighbour) == Progress::More {}
    world.teardown();
}

/// Where there is no block for a large page there are small ones, and nobody notices. `PTE-7`
#[test]
fn pte_7_memory_in_pieces_is_memory() {
    let world = world_with_ram(16 << 20);
    let memory = world.cpu.kernel.memory;
    // Every block of that size is cut.
    let mut cut = Vec::new();
    while let Ok(block) = memory.alloc_large(&world.budget) {
        // SAFETY: a frame of its own, which nobody else has.
        memory.free_block(&world.budget, unsafe { Block::from_owned(block.start, Order::FRAME) });
        cut.push(block);
    }
    for block in &cut {
        for frame in (block.start.0..block.end().0).step_by(2 * PAGE_SIZE as usize).skip(1) {
            // SAFETY: as above.
            memory.free_block(&world.budget, unsafe { Block::from_owned(PhysAddr(frame), Order::FRAME) });
        }
    }
    let object = made(&world, LARGE / PAGE_SIZE);
    let id = AttachmentId::new(1).unwrap();
    let region =
        world.space.attach(world.cpu, Some(HERE), LARGE, Protection::Read, (id, object.clone(), 0)).unwrap();
    populate(&world.space, world.cpu, &region).unwrap();
    world.enter();
    assert!((0..LARGE / PAGE_SIZE).all(|page| world.load(VirtAddr(HERE.0 + page * PAGE_SIZE)).is_some()));
    while world.detach(id, &region) == Progress::More {}
    world.teardown();
}
