//! Memory objects: what a mapping allows, who sees what is written, and that what is revoked is
//! unmapped everywhere.

use super::{Run, User};
use crate::sync::Ordering;
use abi::{Call, Error, Grant, Handle, HandleInfo, Kind, Protection, Rights, initial};
use arch_model::profile::Profile;
use zerocopy::{FromZeros, IntoBytes};

const PROCESS: u64 = initial::PROCESS.0 as u64;
const TIMER: u64 = initial::TIMER.0 as u64;
const CONSOLE: u64 = initial::CONSOLE.0 as u64;
const READ: u64 = Protection::Read as u64;
const READ_WRITE: u64 = Protection::ReadWrite as u64;
const READ_EXECUTE: u64 = Protection::ReadExecute as u64;
const PAGE: u64 = abi::PAGE_BYTES;
/// Where tests map.
const HERE: u64 = 1 << 40;

/// A call of the current thread, which comes back to it before anybody else has run for long.
fn call(run: &mut Run, call: Call, args: &[u64]) -> Result<u64, Error> {
    let caller = run.user();
    run.call(call, args);
    while run.user() != caller {
        run.call(Call::Yield, &[]);
    }
    run.returned()
}

fn create(run: &mut Run, pages: u64) -> u64 {
    call(run, Call::MemoryCreate, &[pages * PAGE]).expect("a memory object")
}

fn copy(run: &mut Run, handle: u64, rights: Rights) -> u64 {
    run.result(Call::HandleCopy, &[handle, rights.bits().into(), 0]).expect("a copy")
}

fn attach(run: &mut Run, memory: u64, at: u64, pages: u64, protection: u64) -> Result<u64, Error> {
    call(run, Call::MemoryAttach, &[PROCESS, memory, at, 0, pages * PAGE, protection])
}

/// Whether the current process can read `at`.
fn reads(run: &mut Run, at: u64) -> bool {
    match run.result(Call::ConsoleWrite, &[CONSOLE, at, 1]) {
        Ok(1) => true,
        Err(Error::BadAddress) => false,
        other => panic!("{other:?}"),
    }
}

/// init, current, with a memory object of four pages; and a child that has it in its fifth slot.
fn pair() -> (Run, User, u64, u64) {
    let mut run = Run::boot(Profile::Minimal);
    let init = run.user();
    let page = run.page();
    let memory = create(&mut run, 4);
    let lent = copy(&mut run, memory, Rights::all());
    let grants = [initial::CONSOLE, initial::TIMER, initial::ARCHIVE, Handle(lent as u32)];
    let child = run.spawn_with(page, u64::MAX, &grants.map(|handle| Grant { handle, rights: 0x3f }));
    assert_eq!(run.user(), init);
    (run, init, lent, child.expect("a child"))
}

/// The child's handle on the memory.
const LENT: u64 = initial::MACHINE.0 as u64;

/// What a mapping may allow is in the rights of the capability, and in no number is both writing and
/// executing.
#[test]
fn cap_6_rights_bound_mappings() {
    let mut run = Run::boot(Profile::Minimal);
    let memory = create(&mut run, 2);
    let table = [
        (Rights::READ, [true, false, false]),
        (Rights::READ | Rights::WRITE, [true, true, false]),
        (Rights::READ | Rights::EXECUTE, [true, false, true]),
        (Rights::WRITE | Rights::EXECUTE, [false, false, false]),
        (Rights::all(), [true, true, true]),
    ];
    for (rights, allowed) in table {
        let weak = copy(&mut run, memory, rights);
        for (protection, allowed) in [READ, READ_WRITE, READ_EXECUTE].into_iter().zip(allowed) {
            let attached = attach(&mut run, weak, HERE, 2, protection);
            match attached {
                Ok(handle) if allowed => assert_eq!(run.result(Call::HandleClose, &[handle]), Ok(0)),
                other => {
                    assert_eq!((other, allowed), (Err(Error::NoRight), false), "{rights:?} {protection}")
                }
            }
        }
    }
    for refused in [[PROCESS, memory, HERE, 0, PAGE, 0], [PROCESS, memory, HERE, 0, PAGE, 6]] {
        assert_eq!(call(&mut run, Call::MemoryAttach, &refused), Err(Error::BadArgument), "PTE-3");
    }
    for (offset, length) in
        [(0, 0), (0, 3 * PAGE), (PAGE, 2 * PAGE), (1, PAGE), (0, 1), (u64::MAX - PAGE + 1, PAGE)]
    {
        let refused = call(&mut run, Call::MemoryAttach, &[PROCESS, memory, HERE, offset, length, READ]);
        assert_eq!(refused, Err(Error::BadArgument), "{offset:#x} {length:#x}");
    }
    assert_eq!(attach(&mut run, PROCESS, HERE, 1, READ), Err(Error::WrongObject));
    assert_eq!(attach(&mut run, CONSOLE, HERE, 1, READ), Err(Error::WrongObject));
    for length in [0, 1, abi::MAX_MEMORY + PAGE, u64::MAX] {
        assert_eq!(call(&mut run, Call::MemoryCreate, &[length]), Err(Error::BadArgument));
    }
}

/// Two processes, and two places in one, see each other's stores; what was never written is zero.
#[test]
fn shared_memory_is_shared() {
    let (mut run, init, lent, _) = pair();
    let mine = attach(&mut run, lent, HERE, 4, READ_WRITE).expect("a mapping");
    let page = run.page();
    let mut info = HandleInfo::new_zeroed();
    assert_eq!(run.result(Call::HandleInfo, &[mine, page]), Ok(0));
    run.peek(page, info.as_mut_bytes());
    assert_eq!((info.kind, info.address, info.length), (Kind::Attachment as u64, HERE, 4 * PAGE));
    run.poke(HERE + 3 * PAGE + 8, b"from init");
    // The last two pages, wherever there is room.
    let args = [PROCESS, lent, 0, 2 * PAGE, 2 * PAGE, READ];
    let again = call(&mut run, Call::MemoryAttach, &args).expect("another mapping");
    assert_eq!(run.result(Call::HandleInfo, &[again, page]), Ok(0));
    run.peek(page, info.as_mut_bytes());
    let mut seen = [0; 9];
    run.peek(info.address + PAGE + 8, &mut seen);
    assert_eq!(&seen, b"from init");

    run.yield_to_other();
    let theirs = attach(&mut run, LENT, HERE + (1 << 30), 4, READ_WRITE).expect("their mapping");
    run.peek(HERE + (1 << 30) + 3 * PAGE + 8, &mut seen);
    assert_eq!(&seen, b"from init");
    run.peek(HERE + (1 << 30) + 2 * PAGE, &mut seen);
    assert_eq!(seen, [0; 9]);
    run.poke(HERE + (1 << 30), b"from them");
    assert_eq!(call(&mut run, Call::HandleClose, &[theirs]), Ok(0));
    assert!(!reads(&mut run, HERE + (1 << 30)));
    while run.user() != init {
        run.call(Call::Yield, &[]);
    }
    run.peek(HERE, &mut seen);
    assert_eq!(&seen, b"from them");
}

/// A revocation unmaps what was mapped by what it deletes, in every process; what was mapped by its
/// root stays.
#[test]
fn cap_6_a_revoked_mapping_is_gone() {
    let (mut run, init, lent, _) = pair();
    let root = copy(&mut run, lent, Rights::all());
    let below = copy(&mut run, root, Rights::all());
    attach(&mut run, lent, HERE, 1, READ).expect("beside");
    attach(&mut run, below, HERE + PAGE, 4, READ_WRITE).expect("below");
    // By a handle that is closed then.
    let closed = copy(&mut run, root, Rights::all());
    attach(&mut run, closed, HERE + 8 * PAGE, 4, READ_EXECUTE).expect("below");
    assert_eq!(run.result(Call::HandleClose, &[closed]), Ok(0));
    assert!([HERE, HERE + PAGE, HERE + 4 * PAGE, HERE + 11 * PAGE].iter().all(|at| reads(&mut run, *at)));
    // `memory_unmap` is not what ends it.
    assert_eq!(call(&mut run, Call::MemoryUnmap, &[PROCESS, HERE, 16 * PAGE]), Ok(0));
    assert!(reads(&mut run, HERE + PAGE));
    assert_eq!(call(&mut run, Call::HandleRevoke, &[root]), Ok(0));
    for at in [HERE + PAGE, HERE + 4 * PAGE, HERE + 8 * PAGE, HERE + 11 * PAGE] {
        assert!(!reads(&mut run, at), "{at:#x}");
    }
    assert!(reads(&mut run, HERE));

    let kid = run.yield_to_other();
    attach(&mut run, LENT, HERE, 4, READ_WRITE).expect("their mapping");
    assert!(reads(&mut run, HERE + 3 * PAGE));
    while run.user() != init {
        run.call(Call::Yield, &[]);
    }
    assert_eq!(call(&mut run, Call::HandleRevoke, &[lent]), Ok(0));
    assert!(!reads(&mut run, HERE), "mapped by the handle itself, so derived from it");
    assert_eq!(run.yield_to_other(), kid);
    assert!(!reads(&mut run, HERE + 3 * PAGE));
    assert_eq!(attach(&mut run, LENT, HERE, 4, READ), Err(Error::BadHandle));
}

/// Everything comes back: by closing, in either order; with a process that ends; and when memory runs
/// out in the middle.
#[test]
fn memory_objects_leak_nothing() {
    let (mut run, init, lent, child) = pair();
    let used = |run: &Run| run.cpu().kernel.root.used();
    // Lists and tables are as large as they get.
    for round in 0..2 {
        let before = used(&run);
        for memory_first in [true, false] {
            // One that goes at once, and one that goes in slices.
            let large = create(&mut run, 600);
            assert_eq!(call(&mut run, Call::HandleClose, &[large]), Ok(0));
            let memory = create(&mut run, 40);
            let mapping = attach(&mut run, memory, HERE, 40, READ_WRITE).expect("a mapping");
            run.poke(HERE + 39 * PAGE, b"the last page");
            assert_eq!(attach(&mut run, memory, HERE + PAGE, 1, READ), Err(Error::BadAddress), "taken");
            let order = if memory_first { [memory, mapping] } else { [mapping, memory] };
            for handle in order {
                assert_eq!(call(&mut run, Call::HandleClose, &[handle]), Ok(0));
            }
        }
        if round > 0 {
            assert_eq!(used(&run), before);
        }
    }
    let before = used(&run);
    let mut refusals = 0;
    for n in 1.. {
        let kernel = run.cpu().kernel;
        kernel.memory.refusal.refuse(n);
        let memory = call(&mut run, Call::MemoryCreate, &[20 * PAGE]);
        let mapping = memory.and_then(|memory| attach(&mut run, memory, HERE, 20, READ_EXECUTE));
        let came = kernel.memory.refusal.came();
        kernel.memory.refusal.refuse(0);
        for handle in [memory, mapping] {
            match handle {
                Ok(handle) => assert_eq!(call(&mut run, Call::HandleClose, &[handle]), Ok(0)),
                Err(error) => {
                    assert_eq!(error, Error::NoMemory);
                    refusals += 1;
                }
            }
        }
        assert_eq!(used(&run), before, "failing allocation {n} leaks");
        if !came {
            break;
        }
    }
    assert!(refusals > 10, "only {refusals} allocations could fail");
    // The child maps, and is killed: its mapping goes with it, and the memory stays.
    run.yield_to_other();
    attach(&mut run, LENT, HERE, 4, READ_WRITE).expect("their mapping");
    run.poke(HERE, b"last words");
    run.call(Call::Exit, &[0]);
    while run.user() != init {
        run.call(Call::Yield, &[]);
    }
    assert_eq!(run.result(Call::ProcessWait, &[child]), Ok(0));
    super::jobs::settle(&mut run, init);
    attach(&mut run, lent, HERE, 4, READ).expect("a mapping");
    let mut seen = [0; 10];
    run.peek(HERE, &mut seen);
    assert_eq!(&seen, b"last words");
}

/// What a call returned, and the bytes that are charged after it.
type Step = (Result<u64, Error>, u64);

/// What a program that maps single pages, and more, sees step by step, and what it is charged; and how often
/// the short way was gone.
fn mappings(seed: u64, closed: bool) -> (std::vec::Vec<Step>, u64) {
    let mut run = Run::boot(Profile::ALL[seed as usize % Profile::ALL.len()]);
    run.cpu().kernel.short_ways.closed.store(closed, Ordering::Relaxed);
    let memory = create(&mut run, 4);
    let [weak, mut lent] = [Rights::READ, Rights::all()].map(|rights| copy(&mut run, memory, rights));
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |end: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) % end
    };
    let (mut history, mut handles) = (std::vec::Vec::new(), std::vec![0]);
    for _ in 0..200 {
        // The last pages of one table, and the first of the next.
        let at = HERE + (2 << 20) - 4 * PAGE + random(8) * PAGE;
        let object = [memory, weak, lent, PROCESS][random(12).min(3) as usize % 4];
        let result = match random(16) {
            0 => call(&mut run, Call::MemoryAttach, &[PROCESS, object, at, 0, 2 * PAGE, READ]),
            1 => call(&mut run, Call::MemoryMap, &[PROCESS, at, PAGE, READ_WRITE]),
            2 => call(&mut run, Call::MemoryUnmap, &[PROCESS, at, 2 * PAGE]),
            3 if random(4) == 0 => {
                let revoked = call(&mut run, Call::HandleRevoke, &[memory]);
                lent = copy(&mut run, memory, Rights::all());
                revoked
            }
            3..8 => call(&mut run, Call::HandleClose, &[handles[random(handles.len() as u64) as usize]]),
            _ => {
                let object = [memory, lent, weak, memory, CONSOLE][random(5) as usize];
                let offset = [random(4) * PAGE, 4 * PAGE, 1][random(20).saturating_sub(17) as usize];
                let how = [READ, READ_WRITE, READ_EXECUTE, 0][random(10).saturating_sub(6) as usize];
                let made = call(&mut run, Call::MemoryAttach, &[PROCESS, object, at, offset, PAGE, how]);
                handles.extend(made);
                made
            }
        };
        let used = run.cpu().kernel.root.used();
        history.push((
            result,
            (0..8).fold(used, |sum, page| {
                sum << 1 | u64::from(reads(&mut run, HERE + (2 << 20) - 4 * PAGE + page * PAGE))
            }),
        ));
    }
    (history, run.cpu().kernel.short_ways.gone.load(Ordering::Relaxed))
}

/// The short way of mapping a page does what the long one does: every result is the same, and so is what can
/// be read and what is charged.
#[test]
fn cap_6_the_short_way_is_the_long_way() {
    let mut gone = 0;
    for seed in 0..20 {
        let ((short, often), (long, never)) = (mappings(seed, false), mappings(seed, true));
        assert_eq!(never, 0);
        gone += often;
        for (step, (short, long)) in short.iter().zip(&long).enumerate() {
            assert_eq!(short, long, "seed {seed}, step {step}");
        }
    }
    assert!(gone > 100, "the short way was gone {gone} times");
}

/// A large object whose last reference goes with a job that ends nothing, because its handle was closed
/// meanwhile, is given back though nobody makes another call about it.
#[test]
fn cap_6_what_nobody_waits_for_is_given_back() {
    const PAGES: u64 = 300;
    let mut run = Run::boot(Profile::Minimal);
    let kernel = run.cpu().kernel;
    let closer = run.user();
    let (mapper, handle) = run.thread_with_handle();
    assert_eq!(run.result(Call::ThreadPriority, &[handle, 10]), Ok(0));
    let before = kernel.root.used();
    let memory = create(&mut run, PAGES);
    let soon = run.clock() + 1_000;
    run.call(Call::SleepUntil, &[TIMER, soon]);
    assert_eq!(run.user(), mapper);
    run.machine.advance(2_000);
    run.call(Call::MemoryAttach, &[PROCESS, memory, HERE, 0, PAGES * PAGE, READ]);
    assert_eq!(run.user(), closer, "it is not done at once");
    assert_eq!(call(&mut run, Call::HandleRevoke, &[memory]), Ok(0));
    assert_eq!(call(&mut run, Call::HandleClose, &[memory]), Ok(0));
    assert!(kernel.root.used() > before + PAGES * PAGE, "the job has it");
    let later = run.clock() + 1_000_000;
    run.call(Call::SleepUntil, &[TIMER, later]);
    assert_eq!(run.user(), mapper, "the job is done");
    assert!(kernel.root.used() < before + 4 * PAGE, "all but tables comes back");
}
