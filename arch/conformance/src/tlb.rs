//! `TLB`: after an unmap has returned, nobody uses what was there.

pub use crate::ctx::sleeps_there;
use crate::ctx::two;
use crate::outcome::{Outcome, ensure, ensure_eq};
use crate::world::{Loaded, Stop, Uses, World};
use crate::{ARENA, Announcement, Not, Os, Word};
use abi::testing::{Counter, Point};
use abi::{Ending, PAGE_BYTES};

/// Where the pages that come and go lie: alone in what one last-level table covers, so that the
/// table goes with them.
const PAGES: Word = Word::new(ARENA + (64 << 20));

/// What is in a page before it goes.
const OLD: u64 = 0x0123_4567_89ab_cdef;

/// What the child ends with if its reader was not stopped by a fault.
const READ_STALE: u8 = 99;

/// A thread reads a page in a loop; another unmaps it and then says so: the reader faults before it
/// reads the page once more. `TLB-3`
pub fn tlb_3_a_remote_unmap_faults<O: Os>(world: &World<O>) -> Outcome {
    let rounds = if O::SIMULATED { 3 } else { 10 };
    let cpu = world.others().next().unwrap_or(0);
    for round in 0..rounds {
        let child = world.child("tlb_3_a_remote_unmap_faults", cpu.into())?;
        let report = world.wait(child)?;
        ensure_eq!(
            (report.ending(), report.status()),
            (Some(Ending::Fault), abi::FAULT_STATUS),
            "how the child ended in round {round} ({READ_STALE}: it read the page after the unmap)"
        );
    }
    Ok(())
}

pub fn reads_what_is_unmapped<O: Os>(world: &World<O>, cpu: u64) -> u8 {
    let run = || -> Outcome {
        world.move_to(0)?;
        world.flags()?;
        world.map(PAGES, 1)?;
        world.spawn_unwatched(1 << cpu, |world| {
            loop {
                let unmapped = world.load(world.flag(0));
                let _ = world.load(PAGES);
                world.store(world.flag(1), 1);
                if unmapped == 1 {
                    world.exit(READ_STALE);
                }
                world.os.pause();
            }
        })?;
        world.wait_for(world.flag(1), 1);
        world.os.announce(Announcement::AsksForUnmapping);
        world.unmap(PAGES, 1)?;
        world.os.announce(Announcement::WasToldOfUnmapping);
        world.store(world.flag(0), 1);
        loop {
            world.os.pause();
        }
    };
    run().map_or_else(|not| not.status(), |()| 0)
}

/// How far behind a page lies the one that gets its frame when it is replaced.
const SPARE: u64 = 256 * PAGE_BYTES;

/// Puts fresh pages in the place of `pages` pages at `at`, on other frames: whoever uses the old
/// translations finds what lies in the old frames.
fn replace<O: Os>(world: &World<O>, at: Word, pages: u64) -> Outcome {
    replace_beside(world, at, pages, pages)
}

/// As [`replace`], where `others` other pages get frames meanwhile. Twice as many as are replaced leave none of
/// those over: a frame that comes back may lie behind its neighbour, with which it makes one block.
fn replace_beside<O: Os>(world: &World<O>, at: Word, pages: u64, others: u64) -> Outcome {
    world.unmap(at, pages)?;
    world.map(at.plus(SPARE), others)?;
    fill(world, at.plus(SPARE), others);
    world.map(at, pages)?;
    world.unmap(at.plus(SPARE), others)
}

/// The first words of `pages` pages, or'ed.
fn any<O: Os>(world: &World<O>, at: Word, pages: u64) -> u64 {
    (0..pages).fold(0, |any, page| any | world.load(at.plus(page * PAGE_BYTES)))
}

fn fill<O: Os>(world: &World<O>, at: Word, pages: u64) {
    for page in 0..pages {
        world.store(at.plus(page * PAGE_BYTES), OLD);
    }
}

/// A thread on `cpu` that has `PAGES` in its CPU's cache, blocks, and tells in flag 2 what it reads
/// (plus 1) after flag 0 is 1. When this returns its CPU holds the process lazily.
fn lazy_reader<O: Os>(world: &World<O>, cpu: u32, elsewhere: u32, pages: u64) -> Result<O::Thread, Not> {
    let reader = world.spawn(1 << cpu, move |world| {
        let cached = any(&world, PAGES, pages);
        let told = world.spawn(1 << elsewhere, |world| world.wait_for(world.flag(0), 1));
        world.store(world.flag(1), cached);
        let told = told.and_then(|told| world.wait_end(&told).map(|()| told));
        // Before anything is unmapped here, which would have this CPU catch up.
        let now = any(&world, PAGES, pages);
        let joined = told.and_then(|told| world.join(told));
        world.store(world.flag(2), if joined.is_ok() { now + 1 } else { u64::MAX });
    })?;
    world.wait_until(|world| world.load(world.flag(1)) == OLD);
    world.wait_loaded(cpu, Loaded::Lazy(world.context()?))?;
    Ok(reader)
}

/// Whatever `while_lazy` does on CPU 0 while a CPU that has `pages` pages cached is lazy, the reader
/// there then reads zeroes.
fn reads_fresh<O: Os>(world: &World<O>, pages: u64, while_lazy: impl FnOnce(u32) -> Outcome) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    once(world, pages, while_lazy)
}

/// As [`reads_fresh`], on CPU 0 and with the flags mapped.
fn once<O: Os>(world: &World<O>, pages: u64, while_lazy: impl FnOnce(u32) -> Outcome) -> Outcome {
    let [cpu, elsewhere] = two(world)?;
    (0..3).for_each(|flag| world.store(world.flag(flag), 0));
    world.map(PAGES, pages)?;
    fill(world, PAGES, pages);
    let reader = lazy_reader(world, cpu, elsewhere, pages)?;
    while_lazy(cpu)?;
    world.store(world.flag(0), 1);
    world.join(reader)?;
    ensure_eq!(world.load(world.flag(2)) - 1, 0, "what the reader found in a fresh page");
    Ok(())
}

/// One page goes while its CPU is lazy; it was not interrupted for that, perhaps, and flushes before
/// its thread goes on. `TLB-4`
pub fn tlb_4_flushed_while_lazy<O: Os>(world: &World<O>) -> Outcome {
    // A neighbour keeps the table alive.
    world.map(PAGES.plus(PAGE_BYTES), 1)?;
    reads_fresh(world, 1, |_| replace(world, PAGES, 1))
}

/// Page after page goes while its CPU is lazy, fewer times than the log of flushes is long and more:
/// all are forgotten, not those of the last flush. `TLB-4`
pub fn tlb_4_many_flushes_while_lazy<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    for pages in [2, 7, 8, 9, 20] {
        // A neighbour keeps the table alive.
        let neighbour = PAGES.plus(pages * PAGE_BYTES);
        world.map(neighbour, 1)?;
        once(world, pages, |_| {
            (0..pages).try_for_each(|page| replace(world, PAGES.plus(page * PAGE_BYTES), 1))
        })?;
        world.unmap(PAGES, pages + 1)?;
    }
    Ok(())
}

/// The CPU that unmaps pages does not use them any more itself: one page, as many as are forgotten
/// one by one, and more. `TLB-2`
pub fn tlb_2_the_cpu_that_unmaps<O: Os>(world: &World<O>) -> Outcome {
    world.map(PAGES.plus(200 * PAGE_BYTES), 1)?;
    for pages in [1, 2, 31, 32, 33, 34, 100] {
        world.map(PAGES, pages)?;
        fill(world, PAGES, pages);
        ensure_eq!(any(world, PAGES, pages), OLD, "what this CPU caches");
        replace_beside(world, PAGES, pages, 2 * pages)?;
        ensure_eq!(any(world, PAGES, pages), 0, "what it found in {pages} fresh pages");
        world.unmap(PAGES, pages)?;
    }
    Ok(())
}

/// What one flush of a page costs: an interrupt for a CPU that runs the process, nothing for CPUs
/// that have it lazily, ran it once or never did. `TLB-3`
pub fn tlb_3_what_flushes_cost<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let [cpu, elsewhere] = two(world)?;
    world.map(PAGES, 2)?;
    let sent = |world: &World<O>| world.count(0, Counter::InterruptsSent);
    fill(world, PAGES, 1);
    let reader = lazy_reader(world, cpu, elsewhere, 1)?;
    // One CPU has it lazily, one runs it.
    let before = sent(world)?;
    world.unmap(PAGES, 1)?;
    let cost = sent(world)? - before;
    world.map(PAGES, 1)?;
    world.store(world.flag(0), 1);
    world.join(reader)?;
    ensure!(cost <= 1, "{cost} interrupts for one flush, of which one CPU runs the process");
    for cpu in [cpu, elsewhere] {
        while matches!(world.loaded(cpu)?, Loaded::Active(_)) || !world.idles(cpu)? {
            world.yield_now();
        }
    }
    let before = sent(world)?;
    world.unmap(PAGES, 1)?;
    ensure_eq!(sent(world)? - before, 0, "interrupts for a flush that concerns lazy CPUs only");
    Ok(())
}

/// The last page of a table goes while its CPU is lazy: no walk uses the freed table. `TLB-3`
pub fn tlb_3_tables_are_freed_while_lazy<O: Os>(world: &World<O>) -> Outcome {
    reads_fresh(world, 4, |_| {
        world.unmap(PAGES, 4)?;
        // Takes the table's frame, if it was freed, and writes to it.
        let elsewhere = PAGES.plus(64 << 20);
        world.map(elsewhere, 64)?;
        fill(world, elsewhere, 64);
        world.map(PAGES, 4)
    })
}

/// A page goes while a kernel task has the process adopted. `TLB-3`
pub fn tlb_3_a_task_that_adopted<O: Os>(world: &World<O>) -> Outcome {
    reads_fresh(world, 1, |cpu| {
        world.arm(Point::TaskUsesMm, cpu, Stop::Serving)?;
        world.task(cpu, Uses::MyMm, 10)?;
        world.wait_stopped(cpu)?;
        replace(world, PAGES, 1)?;
        world.release(cpu)
    })
}

/// A page goes while a CPU is between the store that says it switches to the process and the load of
/// its tables. `TLB-3`, `CTX-5`
pub fn tlb_3_a_cpu_in_the_switching_window<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    // This thread may have begun on a CPU, which then has the process loaded: no switch lies before it.
    let mine = world.context()?;
    let [first, second] = two(world)?;
    let [cpu, helper] = match world.loaded(first)? {
        Loaded::Lazy(id) | Loaded::Active(id) if id == mine => [second, first],
        _ => [first, second],
    };
    world.map(PAGES, 1)?;
    fill(world, PAGES, 1);
    let script = world.spawn(1 << helper, move |world| {
        world.wait_for(world.flag(0), 1);
        // Time for the unmap to get to where it waits for the stopped CPU, if it has to.
        let released = world.sleep(20_000_000).and_then(|()| world.release(cpu));
        world.store(world.flag(1), 1 + u64::from(released.is_err()));
    })?;
    world.arm(Point::Switching, cpu, Stop::Deaf)?;
    let reader = world.spawn(1 << cpu, |world| {
        // The page is not there for a moment, which this thread does not look into.
        world.wait_for(world.flag(3), 1);
        world.store(world.flag(2), 1 + world.load(PAGES));
    })?;
    world.wait_stopped(cpu)?;
    let held = world.loaded(cpu)?;
    world.store(world.flag(0), 1);
    replace(world, PAGES, 1)?;
    world.store(world.flag(3), 1);
    world.join(reader)?;
    world.join(script)?;
    ensure_eq!(held, Loaded::Switching, "what the stopped CPU held");
    ensure_eq!(world.load(world.flag(1)), 1, "the script");
    ensure_eq!(world.load(world.flag(2)), 1, "what the reader found in a fresh page, plus 1");
    Ok(())
}

/// A flush comes while a CPU is in a switch to the process, has read the generation of before the
/// flush, and still has the page cached from an earlier visit: the flush waits for it. `TLB-3`,
/// `CTX-5`
pub fn tlb_3_a_flush_waits_for_a_switch<O: Os>(world: &World<O>) -> Outcome {
    flush_in_a_switch(world, "tlb_3_a_flush_waits_for_a_switch", Enters::Thread)
}

/// As [`tlb_3_a_flush_waits_for_a_switch`]; what makes the CPU switch is a kernel task that adopts
/// the process. `TLB-3`, `CTX-8`
pub fn tlb_3_a_flush_waits_for_a_task_that_adopts<O: Os>(world: &World<O>) -> Outcome {
    flush_in_a_switch(world, "tlb_3_a_flush_waits_for_a_task_that_adopts", Enters::Task)
}

/// Who brings a CPU back to the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Enters {
    Thread,
    Task,
}

fn flush_in_a_switch<O: Os>(world: &World<O>, case: &str, enters: Enters) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let [cpu, helper] = two(world)?;
    let [flushing, flushed, script_done] = [4, 5, 6].map(|flag| world.flag(flag));
    // Then it forgets for that CPU, and need not wait.
    let broadcasts = world.broadcasts()?;
    // A neighbour keeps the table alive.
    world.map(PAGES, 2)?;
    fill(world, PAGES, 1);
    let reader = lazy_reader(world, cpu, helper, 1)?;
    // Something else is loaded there meanwhile.
    let mine = world.context()?;
    let child = world.child(case, cpu.into())?;
    while !matches!(world.loaded(cpu)?, Loaded::Lazy(id) if id > mine) || !world.idles(cpu)? {
        world.yield_now();
    }
    // Before the CPU stands: to start a thread may take a flush, which would wait for it.
    let script = world.spawn(1 << helper, move |world| {
        world.wait_until(|world| world.load(flushing) == 1);
        // Time for the flush to come back, if it does not wait.
        let slept = world.sleep(20_000_000);
        let early = if broadcasts { 0 } else { world.load(flushed) };
        let released = slept.and_then(|()| world.release(cpu));
        world.store(script_done, 1 + early + 10 * u64::from(released.is_err()));
    })?;
    world.arm(Point::SwitchSampled, cpu, Stop::Deaf)?;
    let thread = match enters {
        Enters::Thread => Some(world.spawn(1 << cpu, |_| {})?),
        Enters::Task => world.task(cpu, Uses::MyMm, 1).map(|()| None)?,
    };
    world.wait_stopped(cpu)?;
    let held = world.loaded(cpu)?;
    world.store(flushing, 1);
    world.unmap(PAGES, 1)?;
    world.store(flushed, 1);
    world.map(PAGES.plus(SPARE), 1)?;
    fill(world, PAGES.plus(SPARE), 1);
    world.map(PAGES, 1)?;
    world.store(world.flag(0), 1);
    world.join(script)?;
    thread.map_or(Ok(()), |thread| world.join(thread))?;
    world.join(reader)?;
    world.kill(child)?;
    world.wait(child)?;
    ensure_eq!(held, Loaded::Switching, "what the stopped CPU held");
    ensure_eq!(world.load(script_done), 1, "the script (2: the flush came back before the switch was over)");
    ensure_eq!(world.load(world.flag(2)) - 1, 0, "what the reader found in a fresh page");
    Ok(())
}

/// Two CPUs replace neighbouring ranges at the same time, of sizes below and above what is flushed
/// page by page, while a third has all of them cached. `TLB-4`
pub fn tlb_4_two_flushers<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let [reader_cpu, flusher_cpu] = two(world)?;
    let rounds = 1;
    let sizes = [1, 2, 31, 32, 33, 34, 100];
    // Flag 0 is the turn of the reader and of the second flusher, 1 and 2 are theirs done; flag 3
    // is the size, 4 what the reader found.
    let upper = |pages: u64| PAGES.plus(pages * PAGE_BYTES);
    let last = rounds * sizes.len() as u64 * 2;
    let reader = world.spawn(1 << reader_cpu, move |world| {
        for turn in 1..=last {
            world.wait_for(world.flag(0), turn);
            let found = any(&world, PAGES, 2 * world.load(world.flag(3)));
            world.store(world.flag(4), found);
            world.store(world.flag(1), turn);
        }
    })?;
    let flusher = world.spawn(1 << flusher_cpu, move |world| {
        for turn in 1..=last / 2 {
            world.wait_for(world.flag(5), turn);
            let pages = world.load(world.flag(3));
            let worked = replace(&world, upper(pages), pages);
            world.store(world.flag(2), if worked.is_ok() { turn } else { u64::MAX });
        }
    })?;
    let mut turn = 0;
    for pages in (0..rounds).flat_map(|_| sizes) {
        world.map(PAGES, 2 * pages)?;
        fill(world, PAGES, 2 * pages);
        world.store(world.flag(3), pages);
        let mut read = || {
            turn += 1;
            world.store(world.flag(0), turn);
            world.wait_for(world.flag(1), turn);
            world.load(world.flag(4))
        };
        ensure_eq!(read(), OLD, "what the reader caches");
        let round = world.load(world.flag(5)) + 1;
        world.store(world.flag(5), round);
        replace(world, PAGES, pages)?;
        world.wait_for(world.flag(2), round);
        ensure_eq!(read(), 0, "what the reader found in {pages} fresh pages and their neighbours");
        world.unmap(PAGES, 2 * pages)?;
    }
    world.join(reader)?;
    world.join(flusher)
}
