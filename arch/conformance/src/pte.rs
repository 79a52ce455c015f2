//! `PTE`: what is mapped is there, as it should be, and nothing else.

use crate::outcome::{OrFail, Outcome, ensure, ensure_eq};
use crate::probe::Touch;
use crate::world::{Stop, World};
use crate::{ARENA, Not, Os, Word};
use abi::exception::FaultKind;
use abi::testing::Point;
use abi::{Ending, Error, PAGE_BYTES, Protection};

/// Where pages come and go.
const PAGES: Word = Word::new(ARENA + (128 << 20));

/// Bytes of a large page, on every machine so far.
const LARGE: u64 = 2 << 20;

/// Pages at distances that make a table of their own on each level: each holds its own address, and
/// its neighbours are not touched by that. `PTE-1`
pub fn pte_1_every_page_is_its_own<O: Os>(world: &World<O>) -> Outcome {
    let distances = (0..19).map(|shift| PAGE_BYTES << shift);
    let pages: alloc::vec::Vec<Word> =
        core::iter::once(PAGES).chain(distances.map(|far| PAGES.plus(far))).collect();
    for page in &pages {
        world.map(*page, 1)?;
    }
    for page in &pages {
        ensure_eq!(world.load(*page), 0, "a new page at {:#x}", page.address());
        world.store(*page, page.address());
        world.store(page.plus(PAGE_BYTES - 8), !page.address());
    }
    for page in &pages {
        let words = [world.load(*page), world.load(page.plus(PAGE_BYTES - 8))];
        ensure_eq!(words, [page.address(), !page.address()], "the page at {:#x}", page.address());
    }
    Ok(())
}

/// The first and the last pages of the user range can be mapped and used, those before and after
/// cannot. `PTE-1`
pub fn pte_1_the_ends_of_the_user_range<O: Os>(world: &World<O>) -> Outcome {
    let user = world.os.addresses().user;
    for at in [user.start, user.end - PAGE_BYTES] {
        let mapped = world.map_as(at, PAGE_BYTES, Protection::ReadWrite as u64);
        ensure_eq!(mapped, Ok(at), "mapping the page at {at:#x}");
        let child = world.child("pte_1_the_ends_of_the_user_range", at)?;
        ensure_eq!(world.wait(child)?.status(), 0, "what a process finds at {at:#x}");
    }
    // At 0 the kernel chooses.
    for at in [user.start - PAGE_BYTES, user.end, user.end - PAGE_BYTES].into_iter().filter(|&at| at != 0) {
        let mapped = world.map_as(at, 2 * PAGE_BYTES, Protection::ReadWrite as u64);
        ensure_eq!(mapped, Err(Error::BadAddress), "mapping two pages at {at:#x}");
    }
    Ok(())
}

pub fn uses_a_page<O: Os>(world: &World<O>, at: u64) -> u8 {
    let mapped = world.map_as(at, PAGE_BYTES, Protection::ReadWrite as u64);
    if mapped != Ok(at) {
        return 1;
    }
    for word in [at, at + PAGE_BYTES - 8] {
        // SAFETY: a page that this process has just mapped, and nothing else is in it.
        unsafe {
            world.os.touch(word, Touch::Write);
            world.os.touch(word, Touch::Read);
        }
    }
    0
}

/// A page that takes the place of another, or takes its memory, is zero. `PTE-2`, `PTE-4`
pub fn pte_2_new_pages_are_zero<O: Os>(world: &World<O>) -> Outcome {
    let pages = 24;
    for round in 0..4 {
        world.map(PAGES, pages)?;
        for word in (0..pages * PAGE_BYTES).step_by(if O::SIMULATED { 1024 } else { 64 }) {
            let at = PAGES.plus(word);
            ensure_eq!(world.load(at), 0, "round {round}: a new page at {:#x}", at.address());
            world.store(at, u64::MAX);
        }
        world.unmap(PAGES, pages)?;
    }
    Ok(())
}

/// What is read while a page is being mapped, by a CPU that does not wait for the call to return: the
/// page's contents are there before its entry is. `PTE-4`
pub fn pte_4_contents_before_the_entry<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let mapper = world.others().next().unwrap_or(0);
    // A neighbour keeps the tables, which are zero when they are given back.
    world.map(PAGES.plus(PAGE_BYTES), 1)?;
    for round in 0..if O::SIMULATED { 2 } else { 5 } {
        // Whatever memory the page is given, somebody has used it.
        let others = PAGES.plus(2 * PAGE_BYTES);
        world.map(others, 64)?;
        for page in 1..=64 {
            // Not the first words, where a kernel may keep free memory in a list.
            world.store(others.plus(page * PAGE_BYTES - 8), u64::MAX);
        }
        world.unmap(others, 64)?;
        world.arm(Point::PageMapped, mapper, Stop::Serving)?;
        let maps = world.spawn(1 << mapper, |world| {
            let mapped = world.map(PAGES, 1);
            world.store(world.flag(0), if mapped.is_ok() { 1 } else { 2 });
        })?;
        world.wait_stopped(mapper)?;
        let seen = world.load(PAGES.plus(PAGE_BYTES - 8));
        world.release(mapper)?;
        world.join(maps)?;
        ensure_eq!(world.load(world.flag(0)), 1, "whether the page was mapped");
        ensure_eq!(seen, 0, "round {round}: a new page, as soon as its entry is there");
        world.unmap(PAGES, 1)?;
    }
    Ok(())
}

/// What each kind of page does not allow, and how the fault is called.
const FORBIDDEN: &[(Protection, Touch, FaultKind)] = &[
    (Protection::Read, Touch::Write, FaultKind::PageWrite),
    (Protection::Read, Touch::Execute, FaultKind::PageExecute),
    (Protection::ReadWrite, Touch::Execute, FaultKind::PageExecute),
    (Protection::ReadExecute, Touch::Write, FaultKind::PageWrite),
];

/// Pages allow what they were mapped for and nothing else; none is writable and executable. `PTE-3`
pub fn pte_3_pages_allow_what_they_should<O: Os>(world: &World<O>) -> Outcome {
    for (number, (protection, how, kind)) in (0..).zip(FORBIDDEN) {
        let found = world.fault_of("pte_3_pages_allow_what_they_should", number)?;
        let what = alloc::format!("{how:?} of a page for {protection:?}");
        ensure_eq!(found.kind, Some(*kind), "{what}");
        ensure_eq!(found.address, Some(PAGES.address()), "the address of {what}");
    }
    // Zeroes are executed: they are no instruction, or lead beyond the end of the page.
    let found = world.fault_of("pte_3_pages_allow_what_they_should", FORBIDDEN.len() as u64)?;
    let last = PAGES.address() + PAGE_BYTES - 16;
    let ran = found.kind == Some(FaultKind::Undefined) || found.pc > last;
    ensure!(ran, "executing a page for ReadExecute ended by {found:x?}");
    Ok(())
}

pub fn touches_a_page<O: Os>(world: &World<O>, number: u64) -> u8 {
    let case = FORBIDDEN.get(number as usize);
    let protection = case.map_or(Protection::ReadExecute, |(protection, ..)| *protection);
    if world.map_as(PAGES.address(), PAGE_BYTES, protection as u64) != Ok(PAGES.address()) {
        return 1;
    }
    // SAFETY: it faults, sooner or later, and the process is there for nothing else.
    unsafe {
        world.os.touch(PAGES.address(), Touch::Read);
        match case {
            Some((_, how, _)) => world.os.touch(PAGES.address(), *how),
            None => world.os.touch(PAGES.address() + PAGE_BYTES - 16, Touch::Execute),
        }
    }
    0
}

/// There is no way to ask for a page that is writable and executable, nor for one that is neither.
/// `PTE-3`
pub fn pte_3_nothing_else_can_be_asked_for<O: Os>(world: &World<O>) -> Outcome {
    for protection in [0, 4, 5, 6, 7, 8, 1 << 32 | 1, u64::MAX] {
        let mapped = world.map_as(PAGES.address(), PAGE_BYTES, protection);
        ensure_eq!(mapped, Err(Error::BadArgument), "mapping with protection {protection:#x}");
    }
    // Nothing is left of that.
    world.map(PAGES, 1)?;
    ensure_eq!(world.load(PAGES), 0, "a page where none was mapped");
    Ok(())
}

/// A page that is mapped again under another protection has that one, and the memory of the first is
/// gone. `PTE-3`, `PTE-2`
pub fn pte_3_another_protection_in_the_same_place<O: Os>(world: &World<O>) -> Outcome {
    world.map(PAGES, 1)?;
    world.store(PAGES, 1);
    world.unmap(PAGES, 1)?;
    let at = PAGES.address();
    world.map_as(at, PAGE_BYTES, Protection::Read as u64).or_fail("memory_map")?;
    ensure_eq!(world.load(PAGES), 0, "a page for reading, where one for writing was");
    world.unmap(PAGES, 1)?;
    world.map(PAGES, 1)?;
    world.store(PAGES, 2);
    ensure_eq!(world.load(PAGES), 2, "a page for writing, where one for reading was");
    let child = world.child("pte_3_another_protection_in_the_same_place", 0)?;
    ensure_eq!(world.wait(child)?.ending(), Some(Ending::Fault), "a write to what is read-only now");
    Ok(())
}

pub fn writes_what_was_writable<O: Os>(world: &World<O>, _: u64) -> u8 {
    let run = || -> Outcome {
        world.map(PAGES, 1)?;
        world.store(PAGES, 1);
        world.unmap(PAGES, 1)?;
        world.map_as(PAGES.address(), PAGE_BYTES, Protection::Read as u64).or_fail("memory_map")?;
        world.store(PAGES, 2);
        Err(Not::Failed("a page for reading was written".into()))
    };
    run().map_or_else(|not| not.status(), |()| 0)
}

/// Memory that is mapped in large pages, where they fit, is the same as in small ones, and so are the faults:
/// of a write where reading is allowed, and of any access when it has gone. `PTE-7`
pub fn pte_7_large_pages_allow_what_they_should<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    let (pages, step) = (LARGE / PAGE_BYTES, 16 * PAGE_BYTES + 8);
    let memory = world.memory(pages).or_fail("memory_create")?;
    // Its neighbours in the same table above: what they take is taken before.
    let beside = PAGES.plus(4 * LARGE);
    world.map(beside, 1)?;
    let mut charged = [0; 2];
    // Where a large page fits, and where none does.
    for (at, charged) in [PAGES, PAGES.plus(LARGE + PAGE_BYTES)].into_iter().zip(&mut charged) {
        let before = world.own_memory().or_fail("process_info")?;
        let read = world.attach(memory, at, pages, Protection::Read).or_fail("memory_attach")?;
        *charged = world.own_memory().or_fail("process_info")? - before;
        world.close(read).or_fail("handle_close")?;
    }
    // The memory was made in one go, when there was much: so one page, and no table, has it all.
    if !O::SIMULATED {
        ensure_eq!(charged[1] - charged[0], 2 * PAGE_BYTES, "what small pages cost more, two tables");
    }
    let write = world.attach(memory, PAGES, pages, Protection::ReadWrite).or_fail("memory_attach")?;
    for word in (0..LARGE).step_by(step as usize) {
        ensure_eq!(world.load(PAGES.plus(word)), 0, "new memory at {word:#x}");
        world.store(PAGES.plus(word), word + 1);
    }
    let small = PAGES.plus(LARGE + PAGE_BYTES);
    let read = world.attach(memory, small, pages, Protection::Read).or_fail("memory_attach")?;
    for word in (0..LARGE).step_by(step as usize) {
        ensure_eq!(world.load(small.plus(word)), word + 1, "the same memory in small pages at {word:#x}");
    }
    world.close(write).or_fail("handle_close")?;
    world.close(read).or_fail("handle_close")?;
    world.close(memory).or_fail("handle_close")?;
    // Small pages where a large one was.
    world.map(PAGES.plus(PAGE_BYTES), 1)?;
    ensure_eq!(world.load(PAGES.plus(PAGE_BYTES)), 0, "a new page where a large one was");
    world.unmap(PAGES.plus(PAGE_BYTES), 1)?;
    for (role, (kind, what)) in (0..).zip(LARGE_FAULTS) {
        let found = world.fault_of("pte_7_large_pages_allow_what_they_should", role)?;
        ensure_eq!(found.kind, Some(*kind), "{what}");
        ensure_eq!(found.address, Some(PAGES.address() + LARGE / 2), "the address of {what}");
    }
    Ok(())
}

/// What its roles end by.
const LARGE_FAULTS: &[(FaultKind, &str)] = &[
    (FaultKind::PageWrite, "a write to a large page for reading"),
    (FaultKind::PageExecute, "a jump into a large page for writing"),
    (FaultKind::PageRead, "a load from where a large page was"),
];

pub fn uses_a_large_page<O: Os>(world: &World<O>, number: u64) -> u8 {
    let run = || -> Outcome {
        let memory = world.memory(LARGE / PAGE_BYTES).or_fail("memory_create")?;
        let protection = if number == 0 { Protection::Read } else { Protection::ReadWrite };
        let attached =
            world.attach(memory, PAGES, LARGE / PAGE_BYTES, protection).or_fail("memory_attach")?;
        let middle = PAGES.address() + LARGE / 2;
        // SAFETY: the first access is allowed; the next one faults, and the process is there for nothing else.
        unsafe {
            world.os.touch(middle, Touch::Read);
            match number {
                0 => world.os.touch(middle, Touch::Write),
                1 => world.os.touch(middle, Touch::Execute),
                _ => {
                    world.close(attached).or_fail("handle_close")?;
                    world.os.touch(middle, Touch::Read);
                }
            }
        }
        Err(Not::Failed("a large page allowed what it should not".into()))
    };
    run().map_or_else(|not| not.status(), |()| 0)
}
