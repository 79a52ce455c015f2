//! `USR`: pointers of programs. The kernel believes none, and no bad one moves a byte.

use crate::outcome::{OrFail, Outcome, ensure, ensure_eq};
use crate::world::World;
use crate::{ARENA, Os, Word};
use abi::{Call, Error, PAGE_BYTES, ProcessInfo, Protection, SpawnRequest, initial};
use alloc::string::String;
use alloc::vec::Vec;

/// A page that is mapped; the next is not.
const PAGE: Word = Word::new(ARENA + (160 << 20));
/// A page that is read-only, and one that is code.
const READ_ONLY: Word = Word::new(ARENA + (161 << 20));
const CODE: Word = Word::new(ARENA + (162 << 20));
/// Where requests are written.
const REQUEST: Word = Word::new(ARENA + (163 << 20));
/// What pages hold that nobody may write.
const PATTERN: u64 = 0x5a5a_a5a5_0ff0_f00f;

/// What the kernel does through a pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    Reads,
    Writes,
}

/// A pointer argument of a call: where it goes among the arguments, with what beside it.
struct Pointer<O> {
    name: &'static str,
    access: Access,
    /// Makes the call with this pointer.
    make: fn(&World<O>, u64) -> Result<u64, Error>,
}

/// Every pointer argument there is; `memory_map` and the like take ranges, which are another case.
fn pointers<O: Os>() -> Vec<Pointer<O>> {
    use Access::{Reads, Writes};
    const { assert!(size_of::<SpawnRequest>() == 80 && size_of::<ProcessInfo>() == 48) };
    let mut all: Vec<Pointer<O>> = Vec::new();
    let mut add = |name, access, make| all.push(Pointer { name, access, make });
    add("console_write", Reads, |world, at| {
        world.call(Call::ConsoleWrite, [initial::CONSOLE.0.into(), at, 16])
    });
    add("console_read", Writes, |world, at| {
        world.call(Call::ConsoleRead, [initial::CONSOLE.0.into(), at, 16])
    });
    add("archive_entry", Writes, |world, at| {
        world.call(Call::ArchiveEntry, [initial::ARCHIVE.0.into(), 0, at, 64])
    });
    add("archive_read", Writes, |world, at| {
        world.call(Call::ArchiveRead, [initial::ARCHIVE.0.into(), 0, 0, at, 64])
    });
    add("process_info", Writes, |world, at| world.call(Call::ProcessInfo, [initial::PROCESS.0.into(), at]));
    add("spawn", Reads, |world, at| world.call(Call::Spawn, [initial::ARCHIVE.0.into(), at]));
    add("spawn, name", Reads, |world, at| spawn(world, 0, at));
    add("spawn, arguments", Reads, |world, at| spawn(world, 2, at));
    add("spawn, grants", Reads, |world, at| spawn(world, 4, at));
    all
}

/// Starts a program by a good request, but for the pointer in word `word`. The program does not exist.
fn spawn<O: Os>(world: &World<O>, word: u64, at: u64) -> Result<u64, Error> {
    let good = REQUEST.plus(512).address();
    // "no-such\0" as name, argument block and, its first half an empty handle, grant.
    world.store(REQUEST.plus(512), u64::from_le_bytes(*b"no-such\0"));
    world.store(REQUEST.plus(520), 0);
    let grant = REQUEST.plus(520).address();
    for (index, value) in (0..).zip([good, 7, good, 8, grant, 1, u64::MAX, 0, 0, 0]) {
        world.store(REQUEST.plus(8 * index), if index == word { at } else { value });
    }
    world.call(Call::Spawn, [initial::ARCHIVE.0.into(), REQUEST.address()])
}

fn prepare<O: Os>(world: &World<O>) -> Outcome {
    world.map(PAGE, 1)?;
    world.map(REQUEST, 1)?;
    for (at, protection) in [(READ_ONLY, Protection::Read), (CODE, Protection::ReadExecute)] {
        world.map_as(at.address(), PAGE_BYTES, protection as u64).or_fail("memory_map")?;
    }
    Ok(())
}

/// Hands every pointer argument each of `bad`; all are refused, and the page before a bad one keeps
/// what it holds.
fn refuses<O: Os>(world: &World<O>, bad: &[(String, u64)], which: fn(Access) -> bool) -> Outcome {
    for pointer in pointers::<O>().iter().filter(|pointer| which(pointer.access)) {
        for (what, at) in bad {
            for word in (0..PAGE_BYTES).step_by(8) {
                world.store(PAGE.plus(word), PATTERN);
            }
            let result = (pointer.make)(world, *at);
            ensure_eq!(result, Err(Error::BadAddress), "{} at {at:#x} ({what})", pointer.name);
            let untouched = PAGE_BYTES - 64;
            for word in (0..untouched).step_by(8) {
                ensure_eq!(world.load(PAGE.plus(word)), PATTERN, "word {word} of the page beside ({what})");
            }
        }
    }
    Ok(())
}

/// Pages that are not there, wholly or in part, and pages that do not allow it: every call that is
/// handed such a pointer gives an error, and goes on. `USR-2`
pub fn usr_2_pages_that_are_not_there<O: Os>(world: &World<O>) -> Outcome {
    prepare(world)?;
    let after = PAGE.address() + PAGE_BYTES;
    let bad = [("null", 0), ("null page", 0x800), ("not mapped", after), ("half mapped", after - 1)]
        .map(|(what, at)| (String::from(what), at));
    refuses(world, &bad, |_| true)?;
    let fixed = [("read-only", READ_ONLY.address()), ("code", CODE.address())]
        .map(|(what, at)| (String::from(what), at));
    refuses(world, &fixed, |access| access == Access::Writes)
}

/// The kernel's addresses, addresses that are none, and ranges that wrap or reach over the end of the
/// user range: refused. `USR-3`
pub fn usr_3_addresses_that_are_not_the_users<O: Os>(world: &World<O>) -> Outcome {
    prepare(world)?;
    let places = world.os.addresses();
    let mut bad = Vec::new();
    for at in [places.kernel, places.user.end, places.user.end - 8, u64::MAX, u64::MAX - 7, 1 << 63] {
        bad.push((String::from("not the user's"), at));
    }
    bad.extend(places.impossible.map(|at| (String::from("impossible"), at)));
    refuses(world, &bad, |_| true)
}

/// Lengths: nothing, too much, and so much that the end wraps to before the beginning. `USR-3`
pub fn usr_3_lengths<O: Os>(world: &World<O>) -> Outcome {
    prepare(world)?;
    let console = u64::from(initial::CONSOLE.0);
    let at = PAGE.address();
    ensure_eq!(world.call(Call::ConsoleWrite, [console, at, 0]), Ok(0), "writing nothing");
    let archive = u64::from(initial::ARCHIVE.0);
    let whole = world.call(Call::ArchiveEntry, [archive, 0, at, 64]).or_fail("archive_entry")?;
    ensure_eq!(world.call(Call::ArchiveEntry, [archive, 0, at, 0]), Ok(whole), "a name cut to nothing");
    world.store(PAGE, PATTERN);
    let cut = world.call(Call::ArchiveEntry, [archive, 0, at, 1]);
    ensure_eq!(cut, Ok(whole), "a name cut to a byte");
    ensure_eq!(world.load(PAGE) & !0xff, PATTERN & !0xff, "what lies behind a name that is cut");
    for len in [abi::MAX_PUBLISH + 1, u64::MAX, u64::MAX - at + 1] {
        let published = world.call(Call::CodePublish, [at, len]);
        ensure_eq!(published, Err(Error::BadArgument), "publishing {len:#x} bytes");
    }
    for word in [1, 3, 5] {
        for len in [u64::MAX, 1 << 63, u64::MAX - at] {
            let result = spawn(world, word, len);
            let refused = matches!(result, Err(Error::BadArgument | Error::BadAddress));
            ensure!(refused, "starting with {len:#x} in word {word} of the request gives {result:?}");
        }
    }
    Ok(())
}

/// Ranges of `memory_map`, `memory_unmap`, `code_publish` and areas of `rseq_register` that reach
/// where no user memory is, or lie across pages, are refused and change nothing. `USR-3`
pub fn usr_3_ranges_of_memory_calls<O: Os>(world: &World<O>) -> Outcome {
    prepare(world)?;
    world.store(PAGE, PATTERN);
    let places = world.os.addresses();
    let (page, taken) = (PAGE_BYTES, PAGE.address());
    let process = u64::from(initial::PROCESS.0);
    let read = Protection::Read as u64;
    let wrapping = u64::MAX - page + 1;
    let map = |at, len| world.call(Call::MemoryMap, [process, at, len, read]);
    for (at, len, error) in [
        (taken, page, Error::BadAddress),
        (taken - page, 3 * page, Error::BadAddress),
        (places.kernel, page, Error::BadAddress),
        (places.user.end, page, Error::BadAddress),
        (wrapping, 2 * page, Error::BadAddress),
        (taken, wrapping, Error::BadAddress),
        (taken, places.kernel, Error::BadAddress),
        (0, 0, Error::BadArgument),
        (0, 1, Error::BadArgument),
        (taken + 1, page, Error::BadArgument),
    ] {
        ensure_eq!(map(at, len), Err(error), "mapping {len:#x} bytes at {at:#x}");
    }
    let unmap = |at, len| world.call(Call::MemoryUnmap, [process, at, len]);
    for (at, len, error) in [
        (places.kernel, page, Error::BadAddress),
        (places.user.end, page, Error::BadAddress),
        (wrapping, 2 * page, Error::BadAddress),
        (taken, 0, Error::BadArgument),
        (taken, 1, Error::BadArgument),
        (taken + 1, page, Error::BadArgument),
    ] {
        ensure_eq!(unmap(at, len), Err(error), "unmapping {len:#x} bytes at {at:#x}");
    }
    for at in [places.kernel, places.user.end, wrapping, 0, taken + page].into_iter().chain(places.impossible)
    {
        let published = world.call(Call::CodePublish, [at, 64]);
        ensure_eq!(published, Err(Error::BadAddress), "publishing at {at:#x}");
        if at != 0 {
            let registered = world.call(Call::RseqRegister, [at]);
            ensure_eq!(registered, Err(Error::BadAddress), "registering an area at {at:#x}");
        }
    }
    ensure_eq!(world.call(Call::RseqRegister, [taken + 8]), Err(Error::BadArgument), "a crooked area");
    let area = READ_ONLY.address();
    ensure_eq!(world.call(Call::RseqRegister, [area]), Err(Error::BadAddress), "a read-only area");
    ensure_eq!(world.load(PAGE), PATTERN, "a page that refused calls named");
    Ok(())
}

/// A call copies from and to a page that another CPU takes away and puts back all the time: it works,
/// or is refused, and nobody faults for it. `USR-2`, `TLB-3`
pub fn usr_2_a_page_that_comes_and_goes<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    prepare(world)?;
    world.move_to(0)?;
    let cpu = world.others().next().unwrap_or(0);
    let changes = world.spawn(1 << cpu, |world| {
        let mut worked = true;
        while worked && world.load(world.flag(0)) == 0 {
            worked = world.unmap(PAGE, 1).is_ok() && world.map(PAGE, 1).is_ok();
            // A flush gives the others time while the page is gone; this does while it is there.
            world.os.pause();
        }
        world.store(world.flag(1), if worked { 1 } else { 2 });
    })?;
    let [mut there, mut gone] = [0u32; 2];
    let all = pointers::<O>();
    let wanted = ["process_info", "archive_entry", "spawn, name"];
    let calls: Vec<_> = all.iter().filter(|pointer| wanted.contains(&pointer.name)).collect();
    // Until it has been seen both ways, which it will: it comes and goes all the time.
    let least = if O::SIMULATED { 100 } else { 2000 };
    for pointer in calls.iter().cycle() {
        match (pointer.make)(world, PAGE.address()) {
            Err(Error::BadAddress) => gone += 1,
            // A name that is all zero is found nowhere.
            Ok(_) | Err(Error::NotFound) => there += 1,
            other => ensure!(false, "{} gives {other:?}", pointer.name),
        }
        if there > 0 && gone > 0 && there + gone >= least {
            break;
        }
        world.os.pause();
    }
    world.store(world.flag(0), 1);
    world.join(changes)?;
    ensure_eq!(world.load(world.flag(1)), 1, "whether the page came and went");
    Ok(())
}
