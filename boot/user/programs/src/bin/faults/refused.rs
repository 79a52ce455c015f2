//! Calls that must be refused: numbers that do not exist, and every pointer argument of every
//! call, bad in every way. The process lives on.

use user_programs::hostile::{IMPOSSIBLE_ADDRESS, KERNEL_ADDRESS};
use user_rt::abi::{Call, Error, PAGE_BYTES, Protection, SpawnRequest, initial};
use user_rt::call::raw;
use user_rt::{Mapping, println};

/// Makes calls that must be refused, and gives how many were not, or not as they should be.
type Refusals = fn() -> u8;

/// The cases.
pub const CASES: &[(&str, Refusals)] = &[
    ("bad-call-number", bad_call_number),
    ("pointer-console-write", console_write),
    ("pointer-console-read", console_read),
    ("pointer-archive-entry", archive_entry),
    ("pointer-spawn-request", spawn_request),
    ("pointer-spawn-name", spawn_name),
    ("pointer-spawn-args", spawn_args),
    ("pointer-spawn-grants", spawn_grants),
    ("pointer-process-info", process_info),
    ("address-memory-map", memory_map),
    ("address-memory-unmap", memory_unmap),
];

/// Makes a call and checks its status and that the value is zero.
fn expect(what: &str, wanted: Error, number: u64, arguments: [u64; 6]) -> u8 {
    // SAFETY: the call must be refused; one that is not writes at most where the tests below
    // point, which is memory made for that, or nobody's.
    let (status, value) = unsafe { raw(number, arguments) };
    if status == wanted as u64 && value == 0 {
        return 0;
    }
    println!("{what}: status {status} value {value:#x}, not {wanted:?}");
    1
}

fn bad_call_number() -> u8 {
    let first = Call::ALL.len() as u64;
    let numbers = [first, first + 1, 1 << 16, 1 << 32, (1 << 32) + Call::Exit as u64, 1 << 63, u64::MAX];
    numbers.into_iter().map(|number| expect("call", Error::BadCall, number, [u64::MAX; 6])).sum()
}

/// Whether the kernel reads or writes through a pointer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Reads,
    Writes,
}

/// Hands `call` every kind of bad pointer. `call` says what it was refused with.
fn bad_pointers(access: Access, call: impl Fn(&str, u64) -> u8) -> u8 {
    let page = PAGE_BYTES;
    let Ok(two) = Mapping::new(2 * page as usize) else {
        println!("no memory for the test");
        return 1;
    };
    let two = two.start().as_ptr() as u64 & !(page - 1);
    // The second page goes back, so that what is after the first is not mapped.
    // SAFETY: nothing lies there.
    let (status, _) =
        unsafe { raw(Call::MemoryUnmap as u64, [initial::PROCESS.0.into(), two + page, page, 0, 0, 0]) };
    let mut failed = u8::from(status != 0);
    for (what, pointer) in [
        ("null", 0),
        ("null page", 0x800),
        ("kernel", KERNEL_ADDRESS),
        ("impossible", IMPOSSIBLE_ADDRESS),
        ("wrapping", u64::MAX),
        ("unmapped", two + page),
        ("half mapped", two + page - 1),
    ] {
        failed += call(what, pointer);
    }
    if access == Access::Writes {
        for protection in [Protection::Read, Protection::ReadExecute] {
            match Mapping::with(page as usize, 0, protection) {
                Ok(mapping) => failed += call("not writable", mapping.start().as_ptr() as u64),
                Err(_) => failed += 1,
            }
        }
    }
    failed
}

fn console_write() -> u8 {
    bad_pointers(Access::Reads, |what, pointer| {
        let arguments = [initial::CONSOLE.0.into(), pointer, 16, 0, 0, 0];
        expect(what, Error::BadAddress, Call::ConsoleWrite as u64, arguments)
    })
}

fn console_read() -> u8 {
    bad_pointers(Access::Writes, |what, pointer| {
        let arguments = [initial::CONSOLE.0.into(), pointer, 16, 0, 0, 0];
        expect(what, Error::BadAddress, Call::ConsoleRead as u64, arguments)
    })
}

fn archive_entry() -> u8 {
    bad_pointers(Access::Writes, |what, pointer| {
        let arguments = [initial::ARCHIVE.0.into(), 0, pointer, 64, 0, 0];
        expect(what, Error::BadAddress, Call::ArchiveEntry as u64, arguments)
    })
}

fn process_info() -> u8 {
    bad_pointers(Access::Writes, |what, pointer| {
        let arguments = [initial::PROCESS.0.into(), pointer, 0, 0, 0, 0];
        expect(what, Error::BadAddress, Call::ProcessInfo as u64, arguments)
    })
}

fn spawn(what: &str, request: u64) -> u8 {
    let arguments = [initial::ARCHIVE.0.into(), request, 0, 0, 0, 0];
    expect(what, Error::BadAddress, Call::Spawn as u64, arguments)
}

/// A request that would start `hello`.
fn request() -> SpawnRequest {
    const NAME: &[u8] = b"hello";
    const ARGS: &[u8] = b"hello\0";
    SpawnRequest {
        name: NAME.as_ptr() as u64,
        name_len: NAME.len() as u64,
        args: ARGS.as_ptr() as u64,
        args_len: ARGS.len() as u64,
        grants: 0,
        grants_len: 0,
        memory: u64::MAX,
        priority: 0,
    }
}

fn spawn_request() -> u8 {
    bad_pointers(Access::Reads, spawn)
}

fn spawn_name() -> u8 {
    bad_pointers(Access::Reads, |what, name| {
        let request = SpawnRequest { name, ..request() };
        spawn(what, &raw const request as u64)
    })
}

fn spawn_args() -> u8 {
    bad_pointers(Access::Reads, |what, args| {
        let request = SpawnRequest { args, ..request() };
        spawn(what, &raw const request as u64)
    })
}

fn spawn_grants() -> u8 {
    bad_pointers(Access::Reads, |what, grants| {
        let request = SpawnRequest { grants, grants_len: 1, ..request() };
        spawn(what, &raw const request as u64)
    })
}

/// A multiple of the page size that, added to an ordinary address, wraps.
const WRAPPING: u64 = u64::MAX - PAGE_BYTES + 1;

fn memory_map() -> u8 {
    let Ok(kept) = Mapping::new(PAGE_BYTES as usize) else { return 1 };
    let taken = kept.start().as_ptr() as u64;
    let map = |what: &str, wanted, address, len, protection| {
        let arguments = [initial::PROCESS.0.into(), address, len, protection, 0, 0];
        expect(what, wanted, Call::MemoryMap as u64, arguments)
    };
    let (read, page) = (Protection::Read as u64, PAGE_BYTES);
    map("taken", Error::BadAddress, taken, page, read)
        + map("partly taken", Error::BadAddress, taken - page, 3 * page, read)
        + map("kernel", Error::BadAddress, KERNEL_ADDRESS & !(page - 1), page, read)
        + map("impossible", Error::BadAddress, IMPOSSIBLE_ADDRESS, page, read)
        + map("the null page", Error::BadAddress, page.wrapping_neg(), 2 * page, read)
        + map("wrapping", Error::BadAddress, taken, WRAPPING, read)
        + map("over the end", Error::BadAddress, taken, KERNEL_ADDRESS & !(page - 1), read)
        + map("length 0", Error::BadArgument, 0, 0, read)
        + map("odd length", Error::BadArgument, 0, 1, read)
        + map("odd address", Error::BadArgument, taken + 1, page, read)
        + map("protection 0", Error::BadArgument, 0, page, 0)
        + map("writable and executable", Error::BadArgument, 0, page, 4)
        + map("protection beyond 32 bits", Error::BadArgument, 0, page, 1 << 32 | read)
}

fn memory_unmap() -> u8 {
    let unmap = |what: &str, wanted, address, len| {
        let arguments = [initial::PROCESS.0.into(), address, len, 0, 0, 0];
        expect(what, wanted, Call::MemoryUnmap as u64, arguments)
    };
    let page = PAGE_BYTES;
    unmap("kernel", Error::BadAddress, KERNEL_ADDRESS & !(page - 1), page)
        + unmap("impossible", Error::BadAddress, IMPOSSIBLE_ADDRESS, page)
        + unmap("wrapping", Error::BadAddress, WRAPPING, 2 * page)
        + unmap("length 0", Error::BadArgument, page, 0)
        + unmap("odd length", Error::BadArgument, page, 1)
        + unmap("odd address", Error::BadArgument, 1, page)
}
