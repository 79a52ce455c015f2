//! `BOOT`: what the firmware handed over arrived, and nobody else has it.

use crate::outcome::{OrFail, Outcome, ensure, ensure_eq};
use crate::world::World;
use crate::{ARENA, Not, Os, Word};
use abi::{Ending, Error, PAGE_BYTES};
use alloc::string::String;
use alloc::vec::Vec;

/// Where memory is taken, piece by piece: behind everything that cases have elsewhere.
const HOARD: Word = Word::new(ARENA + (2 << 30));
/// Pages of a piece.
const PIECE: u64 = 128;
/// Pieces there is room for.
const MOST: u64 = (1 << 30) / (PIECE * PAGE_BYTES);

/// Every CPU that the machine lists has a number, without gaps, and runs threads: one that is sent
/// there finds itself there. `BOOT-1`
pub fn boot_1_every_listed_cpu_runs_threads<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    let cpus = world.cpus();
    ensure!(cpus & cpus.wrapping_add(1) == 0, "the CPUs are {cpus:#b}: there is a gap");
    for cpu in 0..cpus.count_ones() {
        let area = world.flag(64 + 4 * u64::from(cpu));
        let there = world.spawn(1 << cpu, move |world| {
            let registered = world.register_area(area);
            let found = world.cpu_of(area);
            world.store(world.flag(0), if registered.is_ok() { 1 + u64::from(found) } else { u64::MAX });
        })?;
        world.join(there)?;
        ensure_eq!(world.load(world.flag(0)), 1 + u64::from(cpu), "where a thread for CPU {cpu} ran, plus 1");
    }
    Ok(())
}

/// The names in the archive.
fn listing<O: Os>(world: &World<O>) -> Result<Vec<String>, Not> {
    let mut names = Vec::new();
    loop {
        match world.archive_entry(names.len() as u64) {
            Ok(name) => names.push(name),
            Err(Error::NotFound) => return Ok(names),
            Err(error) => return Err(error).or_fail("archive_entry"),
        }
    }
}

/// The archive lists programs, each once and by a name, this one among them. `BOOT-1`
pub fn boot_1_the_archive_is_whole<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    let names = listing(world)?;
    ensure!(names.iter().any(|name| name == "conformance"), "the archive has only {names:?}");
    for (index, name) in names.iter().enumerate() {
        ensure!(!name.is_empty() && !names[..index].contains(name), "`{name}` is empty or there twice");
    }
    for beyond in [names.len() as u64 + 1, 1 << 32, u64::MAX] {
        ensure_eq!(world.archive_entry(beyond), Err(Error::NotFound), "entry {beyond}");
    }
    Ok(())
}

/// Takes all memory there is, each page marked with its own address, and says how many pieces that
/// is. Each page was zero.
fn hoard<O: Os>(world: &World<O>) -> Result<u64, Not> {
    let at = |piece: u64| HOARD.plus(piece * PIECE * PAGE_BYTES);
    let mut pieces = 0;
    while pieces < MOST && world.try_map(at(pieces), PIECE).is_ok() {
        for page in 0..PIECE {
            let first = at(pieces).plus(page * PAGE_BYTES);
            for word in [first, first.plus(PAGE_BYTES - 8)] {
                ensure_eq!(world.load(word), 0, "a new page at {:#x}", word.address());
                world.store(word, !word.address());
            }
        }
        pieces += 1;
    }
    Ok(pieces)
}

/// Whether every page of the hoard is still marked.
fn check<O: Os>(world: &World<O>, pieces: u64) -> Outcome {
    for page in 0..pieces * PIECE {
        let first = HOARD.plus(page * PAGE_BYTES);
        for word in [first, first.plus(PAGE_BYTES - 8)] {
            ensure_eq!(world.load(word), !word.address(), "what was stored at {:#x}", word.address());
        }
    }
    Ok(())
}

/// All memory is handed out, zeroed and no page of it twice: each keeps what is its own, here and in
/// another process, and everything comes back. `BOOT-2`
pub fn boot_2_memory_is_handed_out_once<O: Os>(world: &World<O>) -> Outcome {
    // Some for this process, the rest for the other.
    let own = 2;
    world.flags()?;
    world.map(HOARD, own * PIECE)?;
    for page in 0..own * PIECE {
        let word = HOARD.plus(page * PAGE_BYTES);
        world.store(word, page);
    }
    for round in 0..2 {
        let child = world.child("boot_2_memory_is_handed_out_once", round)?;
        let report = world.wait(child)?;
        ensure_eq!((report.ending(), report.status()), (Some(Ending::Exited), 0), "the child that takes all");
        world.quiesce()?;
    }
    for page in 0..own * PIECE {
        ensure_eq!(world.load(HOARD.plus(page * PAGE_BYTES)), page, "what was stored in page {page}");
    }
    Ok(())
}

/// A process that takes all memory and looks after it.
pub fn takes_all<O: Os>(world: &World<O>, _: u64) -> u8 {
    let outcome = hoard(world).and_then(|pieces| {
        ensure!(pieces > 2, "all memory is {pieces} pieces");
        check(world, pieces)
    });
    world.tell(outcome)
}

/// The archive lies in memory that the firmware filled: after all memory was taken and written, it
/// lists what it listed, and a program from it runs. `BOOT-3`
pub fn boot_3_the_archive_outlives_the_memory<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    let before = listing(world)?;
    let pieces = hoard(world)?;
    let after = listing(world)?;
    check(world, pieces)?;
    world.unmap(HOARD, pieces * PIECE)?;
    ensure_eq!(after, before, "the archive when all memory was written");
    let child = world.child("boot_3_the_archive_outlives_the_memory", 0)?;
    let report = world.wait(child)?;
    ensure_eq!((report.ending(), report.status()), (Some(Ending::Exited), 7), "a program from the archive");
    Ok(())
}

/// A program that runs.
pub fn runs<O: Os>(_: &World<O>, _: u64) -> u8 {
    7
}
