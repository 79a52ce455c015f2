//! Address spaces: what is refused, what is charged, what is flushed, and that nothing is lost.

use crate::cpu::Cpu;
use crate::mm::budget::Budget;
use crate::mm::space::{AttachmentId, Progress, Region, Space, SpaceError, UserRange};
use crate::mm::testing::{irqs_off, kernel_cpu};
use crate::object::Ref;
use crate::sched::context;
use arch_contract::addr::{PAGE_SIZE, VirtAddr};
use arch_contract::context::ContextId;
use arch_contract::pte::{Paging, Protection};
use arch_contract::tlb::{Freed, Tlb};
use arch_current::Current;
use arch_model::{Config, Event};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

const START: VirtAddr = Current::USER_START;
const END: VirtAddr = Current::USER_END;
/// Where tests map things that they choose themselves.
const HERE: VirtAddr = VirtAddr(0x40_0000);
const PC: VirtAddr = VirtAddr(0x1_0000);

fn at(page: u64) -> VirtAddr {
    VirtAddr(HERE.0 + page * PAGE_SIZE)
}

/// A kernel with an address space and a budget for it.
pub(super) struct World {
    pub(super) cpu: &'static Cpu,
    pub(super) budget: Ref<Budget>,
    pub(super) space: Space,
}

pub(super) fn world() -> World {
    world_with(u64::MAX)
}

/// As [`world`], on a machine with so much RAM.
pub(super) fn world_with_ram(ram: u64) -> World {
    world_on(kernel_cpu(Config { ram, ..Config::default() }), u64::MAX)
}

fn world_with(limit: u64) -> World {
    world_on(kernel_cpu(Config::default()), limit)
}

fn world_on(cpu: &'static Cpu, limit: u64) -> World {
    let memory = cpu.kernel.memory;
    let budget = Budget::child(memory, &cpu.kernel.root, limit).unwrap();
    let space = Space::new(cpu, memory, budget.clone(), ContextId::new(1).unwrap(), &irqs_off()).unwrap();
    World { cpu, budget, space }
}

impl World {
    fn reserve(&self, start: VirtAddr, pages: u64) -> Result<Region, SpaceError> {
        self.space.reserve(self.cpu, Some(start), pages * PAGE_SIZE, Protection::ReadWrite)
    }

    fn map(&self, start: VirtAddr, pages: u64, protection: Protection) -> Region {
        let region = self.space.reserve(self.cpu, Some(start), pages * PAGE_SIZE, protection).unwrap();
        populate(&self.space, self.cpu, &region).unwrap();
        region
    }

    fn release(&self, start: VirtAddr, pages: u64) {
        while self.release_step(start, pages, 3) == Ok(Progress::More) {}
    }

    fn release_step(&self, start: VirtAddr, pages: u64, step: u64) -> Result<Progress, SpaceError> {
        self.space.release(self.cpu, UserRange::new(start, pages * PAGE_SIZE)?, step, &irqs_off())
    }

    pub(super) fn detach(&self, id: AttachmentId, region: &Region) -> Progress {
        self.space.detach(self.cpu, id, (*region).into(), 3, &irqs_off())
    }

    pub(super) fn teardown(&self) {
        context::leave(self.cpu, &irqs_off());
        context::drop_when_lazy(self.cpu, &irqs_off());
        while self.space.teardown_step(self.cpu, 5) == Progress::More {}
    }

    /// Loads the space on the CPU, as on the way to user mode.
    pub(super) fn enter(&self) {
        // SAFETY: the tests tear the space down, off every CPU, before it goes.
        unsafe { context::enter(self.cpu, &self.space, &irqs_off()) };
    }

    pub(super) fn load(&self, address: VirtAddr) -> Option<u8> {
        self.cpu.arch().user_load(PC, address).ok()
    }
}

pub(super) fn populate(space: &Space, cpu: &Cpu, region: &Region) -> Result<(), crate::mm::NoMemory> {
    let mut done = 0;
    while done * PAGE_SIZE < region.len() {
        done += space.populate(cpu, region, done, 4, &irqs_off())?;
    }
    Ok(())
}

/// `USR-3`: nothing outside the user range is granted, whatever the arithmetic would make of it.
#[test]
fn usr_3_bad_ranges_are_refused() {
    let w = world();
    let used = w.budget.used();
    let cases = [
        (HERE.0, 0, SpaceError::BadRange),
        (HERE.0 + 1, PAGE_SIZE, SpaceError::Misaligned),
        (HERE.0, PAGE_SIZE + 1, SpaceError::Misaligned),
        (0, PAGE_SIZE, SpaceError::BadRange),
        (START.0 - PAGE_SIZE, 2 * PAGE_SIZE, SpaceError::BadRange),
        (END.0 - PAGE_SIZE, 2 * PAGE_SIZE, SpaceError::BadRange),
        (END.0, PAGE_SIZE, SpaceError::BadRange),
        (0xffff_8000_0000_0000, PAGE_SIZE, SpaceError::BadRange),
        (u64::MAX - PAGE_SIZE + 1, PAGE_SIZE, SpaceError::BadRange),
        (HERE.0, u64::MAX - PAGE_SIZE + 1, SpaceError::BadRange),
        (HERE.0, 0u64.wrapping_sub(HERE.0), SpaceError::BadRange),
    ];
    for (start, len, error) in cases {
        let refused = w.space.reserve(w.cpu, Some(VirtAddr(start)), len, Protection::Read);
        assert_eq!(refused, Err(error), "{start:#x} + {len:#x}");
    }
    assert_eq!(w.space.reserve(w.cpu, None, 0, Protection::Read), Err(SpaceError::BadRange));
    for len in [END.0, !(PAGE_SIZE - 1)] {
        assert_eq!(w.space.reserve(w.cpu, None, len, Protection::Read), Err(SpaceError::NoMemory));
    }
    assert_eq!(w.budget.used(), used);
    assert_eq!(UserRange::new(END, PAGE_SIZE), Err(SpaceError::BadRange));
    assert_eq!(w.space.write_bytes(w.cpu, VirtAddr(u64::MAX), &[1, 2]), Err(SpaceError::BadRange));

    // The first and the last page are the user's.
    assert!(w.reserve(START, 1).is_ok());
    assert!(w.reserve(VirtAddr(END.0 - PAGE_SIZE), 1).is_ok());
}

#[test]
fn regions_do_not_overlap() {
    let w = world();
    w.reserve(at(10), 5).unwrap();
    w.reserve(at(20), 5).unwrap();
    for (page, pages) in [(10, 1), (14, 1), (8, 3), (8, 20), (14, 2), (24, 10), (12, 1), (9, 2)] {
        assert_eq!(w.reserve(at(page), pages), Err(SpaceError::Taken), "{page} + {pages}");
    }
    for (page, pages) in [(9, 1), (15, 5), (25, 1)] {
        w.reserve(at(page), pages).unwrap();
    }
    assert_eq!(w.space.protection_at(w.cpu, at(26)), None);
    assert_eq!(w.space.protection_at(w.cpu, at(8)), None);
    for page in 9..26 {
        assert_eq!(w.space.protection_at(w.cpu, at(page)), Some(Protection::ReadWrite), "{page}");
    }
}

/// The kernel's choice fills the first gap that fits, and never takes what is taken.
#[test]
fn the_kernel_chooses_gaps() {
    let w = world();
    let choose = |pages| w.space.reserve(w.cpu, None, pages * PAGE_SIZE, Protection::Read).unwrap().start();
    let a = choose(2);
    let b = choose(3);
    let c = choose(1);
    assert_eq!((b.0 - a.0, c.0 - b.0), (2 * PAGE_SIZE, 3 * PAGE_SIZE));
    w.release(b, 3);
    let d = choose(4);
    assert!(d > c);
    assert_eq!(choose(1), b);
    assert_eq!(choose(2).0, b.0 + PAGE_SIZE);
    // A region that begins below where the search does, and reaches into it.
    let w = world();
    w.reserve(VirtAddr((1 << 32) - PAGE_SIZE), 2).unwrap();
    let start = w.space.reserve(w.cpu, None, PAGE_SIZE, Protection::Read).unwrap().start();
    assert_eq!(start.0, (1 << 32) + PAGE_SIZE);
}

/// A region is charged as a whole before anything is mapped, and a refused one not at all.
#[test]
fn a_region_is_charged_up_front() {
    let w = world_with(64 * PAGE_SIZE);
    let before = w.budget.used();
    w.reserve(at(0), 1).unwrap();
    let used = w.budget.used();
    // What the region itself takes.
    let region = used - before - PAGE_SIZE;
    let free = w.cpu.kernel.memory.free_bytes();
    assert_eq!(w.reserve(at(1), 64), Err(SpaceError::NoMemory));
    assert_eq!(w.budget.used(), used);
    assert!(w.space.protection_at(w.cpu, at(1)).is_none());
    w.reserve(at(1), 32).unwrap();
    assert_eq!(w.budget.used(), used + 32 * PAGE_SIZE + region);
    assert_eq!(w.cpu.kernel.memory.free_bytes(), free, "frames before they are asked for");
    w.release(at(1), 32);
    assert_eq!(w.budget.used(), used);
}

#[test]
fn pages_are_zero_and_allow_what_was_asked() {
    let w = world();
    w.map(at(0), 9, Protection::ReadWrite);
    w.map(at(9), 1, Protection::Read);
    w.map(at(10), 1, Protection::ReadExecute);
    w.enter();
    let cpu = w.cpu.arch();
    for page in 0..11 {
        assert_eq!(w.load(at(page)), Some(0), "{page}");
        assert_eq!(cpu.user_store(PC, at(page), 7).is_ok(), page < 9, "{page}");
        assert_eq!(cpu.user_fetch(at(page)).is_ok(), page == 10, "{page}");
    }
    assert_eq!(w.load(at(11)), None);
    w.teardown();
}

/// The frame of one space holds nothing of another's when it is used again.
#[test]
fn frames_are_cleared_between_owners() {
    let w = world();
    w.map(at(0), 8, Protection::ReadWrite);
    w.space.write_bytes(w.cpu, at(0), &[0xa5; 8 * PAGE_SIZE as usize]).unwrap();
    w.release(at(0), 8);
    w.map(at(0), 8, Protection::ReadWrite);
    w.enter();
    for offset in (0..8 * PAGE_SIZE).step_by(512) {
        assert_eq!(w.load(VirtAddr(HERE.0 + offset)), Some(0));
    }
    w.teardown();
}

/// The loader's writes go through any protection, and become visible as instructions where they
/// can be executed (`CODE-2`).
#[test]
fn code_2_the_loader_writes_any_page() {
    let w = world();
    w.map(at(0), 2, Protection::ReadExecute);
    w.map(at(2), 1, Protection::Read);
    w.cpu.machine().events();
    let bytes: Vec<u8> = (0..PAGE_SIZE + 200).map(|n| n as u8 | 1).collect();
    let from = VirtAddr(at(1).0 - 100);
    w.space.write_bytes(w.cpu, from, &bytes).unwrap();
    let published: usize = (w.cpu.machine().events().iter())
        .map(|logged| if let Event::PublishCode { len } = logged.event { len } else { 0 })
        .sum();
    assert_eq!(published, 100 + PAGE_SIZE as usize);
    w.enter();
    for (index, byte) in bytes.iter().enumerate() {
        assert_eq!(w.load(VirtAddr(from.0 + index as u64)), Some(*byte));
    }
    assert_eq!(w.load(VirtAddr(from.0 - 1)), Some(0));
    let end = VirtAddr(at(3).0 - 2);
    assert_eq!(w.space.write_bytes(w.cpu, end, &[1, 2, 3]), Err(SpaceError::NotMapped));
    assert_eq!(w.space.write_bytes(w.cpu, at(3), &[]), Ok(()));
    w.teardown();
}

/// `TLB-2`: after a release no access goes through, though every page was used before and is in
/// the translation cache; and before that the flush said what was freed.
#[test]
fn tlb_2_released_pages_are_forgotten() {
    for pages in [1, 8, Current::FLUSH_CEILING + 10] {
        let w = world();
        w.map(at(0), pages, Protection::ReadWrite);
        w.map(at(1000), 1, Protection::ReadWrite);
        w.enter();
        let all = || (0..pages).map(at).chain([at(1000)]);
        assert!(all().all(|page| w.load(page).is_some()));
        w.cpu.machine().events();
        while w.release_step(at(0), pages, u64::MAX) == Ok(Progress::More) {}
        let events = w.cpu.machine().events();
        assert!(
            events.iter().any(|logged| matches!(
                logged.event,
                Event::Flush { freed: Freed::Tables, .. } | Event::FlushMm(_)
            )),
            "a table was freed, and no flush said so: {events:?}"
        );
        assert!((0..pages).all(|page| w.load(at(page)).is_none()));
        assert!(w.load(at(1000)).is_some());
        w.teardown();
    }
}

/// Holes, ends and middles of regions, in slices: the rest stays as it was.
#[test]
fn a_release_splits_and_trims() {
    let w = world();
    w.map(at(0), 20, Protection::ReadWrite);
    w.map(at(30), 5, Protection::Read);
    let used = w.budget.used();
    w.reserve(at(100), 1).unwrap();
    // What a region itself takes.
    let region = w.budget.used() - used - PAGE_SIZE;
    w.release(at(100), 10);
    assert_eq!(w.budget.used(), used);
    w.enter();
    let mapped = |w: &World| (0..40).filter(|page| w.load(at(*page)).is_some()).collect::<Vec<_>>();
    assert_eq!(mapped(&w), (0..20).chain(30..35).collect::<Vec<_>>());

    w.release(at(5), 4);
    assert_eq!(mapped(&w), (0..5).chain(9..20).chain(30..35).collect::<Vec<_>>());
    assert_eq!(w.budget.used(), used - 4 * PAGE_SIZE + region);
    w.release(at(18), 14);
    assert_eq!(mapped(&w), (0..5).chain(9..18).chain(32..35).collect::<Vec<_>>());
    assert_eq!(w.budget.used(), used - 8 * PAGE_SIZE + region);
    assert_eq!(w.space.protection_at(w.cpu, at(18)), None);
    assert_eq!(w.space.protection_at(w.cpu, at(17)), Some(Protection::ReadWrite));
    assert_eq!(w.space.protection_at(w.cpu, at(32)), Some(Protection::Read));
    assert_eq!(w.release_step(at(100), 10, 4), Ok(Progress::Done));
    w.teardown();
}

/// Splitting needs memory; without it, nothing happens at all.
#[test]
fn a_refused_split_changes_nothing() {
    let w = world();
    w.map(at(0), 4, Protection::ReadWrite);
    // Fill the list of regions up to where it must grow.
    let memory = w.cpu.kernel.memory;
    let mut page = 100;
    loop {
        memory.refusal.refuse(1);
        if w.reserve(at(page), 1) == Err(SpaceError::NoMemory) {
            break;
        }
        page += 2;
    }
    let used = w.budget.used();
    memory.refusal.refuse(1);
    assert_eq!(w.release_step(at(1), 2, 8), Err(SpaceError::NoMemory));
    memory.refusal.refuse(0);
    w.enter();
    assert!((0..4).all(|page| w.load(at(page)).is_some()));
    assert_eq!(w.budget.used(), used);
    w.teardown();
}

/// Someone releases a region that someone else is still filling: no page is left without a region.
#[test]
fn populate_trusts_nothing_from_before() {
    let w = world();
    let region = w.reserve(at(0), 12).unwrap();
    assert_eq!(w.space.populate(w.cpu, &region, 0, 4, &irqs_off()), Ok(4));
    w.release(at(2), 6);
    w.map(at(4), 1, Protection::Read);
    assert_eq!(w.space.populate(w.cpu, &region, 4, 4, &irqs_off()), Ok(4));
    assert_eq!(w.space.populate(w.cpu, &region, 8, 100, &irqs_off()), Ok(4));
    assert_eq!(w.space.populate(w.cpu, &region, 12, 100, &irqs_off()), Ok(0));
    w.enter();
    let mapped: Vec<u64> = (0..20).filter(|page| w.load(at(*page)).is_some()).collect();
    assert_eq!(mapped, [0, 1, 4, 8, 9, 10, 11]);
    assert!(w.cpu.arch().user_store(PC, at(4), 1).is_err(), "the old region's protection");
    w.teardown();
}

/// Everything a space can need, refused at every single allocation: each time the error comes
/// back, and when the space is gone, so is every byte it had.
#[test]
fn refusing_the_nth_allocation_leaks_nothing() {
    let cpu = kernel_cpu(Config::default());
    let (memory, root) = (cpu.kernel.memory, &cpu.kernel.root);
    let (free, used) = (memory.free_bytes(), root.used());
    let mut nth = 1;
    loop {
        memory.refusal.refuse(nth);
        let result = life(cpu, ContextId::new(nth).unwrap());
        let came = memory.refusal.came();
        memory.refusal.refuse(0);
        assert_eq!(result.is_err(), came, "allocation {nth}");
        assert_eq!((memory.free_bytes(), root.used()), (free, used), "allocation {nth}");
        assert_eq!(cpu.machine().live_contexts(), 0, "allocation {nth}");
        if !came {
            break;
        }
        nth += 1;
    }
    assert!(nth > 25, "the life of a space takes more than {nth} allocations");
}

/// A budget, a space, pages far apart, a split, and the end. It is torn down if it was made.
fn life(cpu: &Cpu, id: ContextId) -> Result<(), SpaceError> {
    let memory = cpu.kernel.memory;
    let budget = Budget::child(memory, &cpu.kernel.root, u64::MAX)?;
    let space = Space::new(cpu, memory, budget.clone(), id, &irqs_off())?;
    let work = || -> Result<(), SpaceError> {
        for start in [HERE, VirtAddr(1 << 40), VirtAddr(END.0 - 4 * PAGE_SIZE)] {
            let region = space.reserve(cpu, Some(start), 4 * PAGE_SIZE, Protection::ReadWrite)?;
            populate(&space, cpu, &region)?;
            space.write_bytes(cpu, start, &[1; 100])?;
            let middle = VirtAddr(start.0 + PAGE_SIZE);
            while space.release(cpu, UserRange::new(middle, PAGE_SIZE)?, 1, &irqs_off())? == Progress::More {}
        }
        space.reserve(cpu, None, PAGE_SIZE, Protection::Read).map(|_| ())
    };
    let result = work();
    while space.teardown_step(cpu, 3) == Progress::More {}
    result
}

/// A space that was never loaded may just be dropped.
#[test]
fn dropping_an_unused_space_gives_all_back() {
    let cpu = kernel_cpu(Config::default());
    let (memory, root) = (cpu.kernel.memory, &cpu.kernel.root);
    let (free, used) = (memory.free_bytes(), root.used());
    for n in 1..=2 * u64::from(cpu.machine().config().hardware_ids) {
        let space = Space::new(cpu, memory, root.clone(), ContextId::new(n).unwrap(), &irqs_off()).unwrap();
        let region = space.reserve(cpu, None, 3 * PAGE_SIZE, Protection::Read).unwrap();
        populate(&space, cpu, &region).unwrap();
        drop(space);
        assert_eq!((memory.free_bytes(), root.used()), (free, used));
    }
    assert_eq!(cpu.machine().live_contexts(), 0);
}

/// Teardown comes in slices of the asked size, and retires the port's part before it frees
/// anything (`CTX-9`).
#[test]
fn ctx_9_teardown_retires_first_and_is_bounded() {
    let w = world();
    w.map(at(0), 64, Protection::ReadWrite);
    w.enter();
    assert!((0..64).all(|page| w.load(at(page)).is_some()));
    context::leave(w.cpu, &irqs_off());
    context::drop_when_lazy(w.cpu, &irqs_off());
    w.cpu.machine().events();
    let memory = w.cpu.kernel.memory;
    let mut steps = 0;
    loop {
        let free = memory.free_bytes();
        let progress = w.space.teardown_step(w.cpu, 4);
        if steps == 0 {
            let events = w.cpu.machine().events();
            assert_eq!(events[0].event, Event::RetireMm(w.space.id()));
        }
        assert!(memory.free_bytes() - free <= 8 * PAGE_SIZE, "more than a slice");
        steps += 1;
        if progress == Progress::Done {
            break;
        }
    }
    assert!(steps >= 16);
    assert_eq!(w.space.teardown_step(w.cpu, 4), Progress::Done);
}

#[test]
fn running_out_of_hardware_ids_is_an_error() {
    let cpu = kernel_cpu(Config { hardware_ids: 2, ..Config::default() });
    let (memory, root) = (cpu.kernel.memory, &cpu.kernel.root);
    let new = |n| Space::new(cpu, memory, root.clone(), ContextId::new(n).unwrap(), &irqs_off());
    let spaces = (new(1).unwrap(), new(2).unwrap());
    let used = root.used();
    assert_eq!(new(3).err(), Some(SpaceError::NoMemory));
    assert_eq!(root.used(), used);
    drop(spaces);
    assert!(new(4).is_ok());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Map { page: u64, pages: u64, protection: Protection },
    Release { page: u64, pages: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let protection =
        prop::sample::select(std::vec![Protection::Read, Protection::ReadWrite, Protection::ReadExecute]);
    let step = prop_oneof![
        (0u64..48, 1u64..12, protection).prop_map(|(page, pages, protection)| Step::Map {
            page,
            pages,
            protection
        }),
        (0u64..48, 1u64..20).prop_map(|(page, pages)| Step::Release { page, pages }),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is mapped and released in whatever order, the user sees just what the oracle says,
    /// through a translation cache that forgets nothing by itself; regions and tables agree; the
    /// charge is exact; and in the end all of it comes back.
    #[test]
    fn the_user_sees_what_was_granted(steps in steps()) {
        // 512 pages from here straddle a last-level table.
        let base = |page: u64| VirtAddr(0x3fff_0000 + page * PAGE_SIZE);
        let cpu = kernel_cpu(Config::default());
        let (memory, root) = (cpu.kernel.memory, &cpu.kernel.root);
        let (free, used) = (memory.free_bytes(), root.used());
        let w = world_on(cpu, u64::MAX);
        w.enter();
        let mut oracle: BTreeMap<u64, Protection> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Map { page, pages, protection } => {
                    let taken = oracle.range(page..page + pages).next().is_some();
                    match w.space.reserve(w.cpu, Some(base(page)), pages * PAGE_SIZE, protection) {
                        Ok(region) => {
                            prop_assert!(!taken);
                            populate(&w.space, w.cpu, &region).unwrap();
                            oracle.extend((page..page + pages).map(|page| (page, protection)));
                        }
                        Err(error) => {
                            prop_assert_eq!(error, SpaceError::Taken);
                            prop_assert!(taken);
                        }
                    }
                }
                Step::Release { page, pages } => {
                    w.release(base(page), pages);
                    oracle.retain(|at, _| !(page..page + pages).contains(at));
                }
            }
            for page in 0..70 {
                let allowed = oracle.get(&page).copied();
                prop_assert_eq!(w.space.protection_at(w.cpu, base(page)), allowed, "page {}", page);
                prop_assert_eq!(w.load(base(page)).is_some(), allowed.is_some(), "page {}", page);
                let stored = w.cpu.arch().user_store(PC, base(page), page as u8).is_ok();
                prop_assert_eq!(stored, allowed == Some(Protection::ReadWrite), "page {}", page);
            }
        }
        w.teardown();
        let World { budget, space, .. } = w;
        drop(space);
        prop_assert_eq!(budget.used(), 0);
        drop(budget);
        prop_assert_eq!((memory.free_bytes(), root.used()), (free, used));
        prop_assert_eq!(cpu.machine().live_contexts(), 0);
    }
}
