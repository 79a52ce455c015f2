//! Copies between address spaces: what they move, where they stop, and that they hold nothing back.

use super::{Run, User, jobs};
use crate::cap::Capability;
use abi::{Call, Error, Grant, Handle, ProcessInfo, Protection, Rights, initial};
use arch_model::profile::Profile;
use std::vec::Vec;
use zerocopy::{FromZeros, IntoBytes};

const PROCESS: u64 = initial::PROCESS.0 as u64;
const TIMER: u64 = initial::TIMER.0 as u64;
const PAGE: u64 = abi::PAGE_BYTES;
/// Where tests map, in each process.
const HERE: u64 = 1 << 40;
/// Far more than one slice.
const PAGES: u64 = 40;

/// A call of the current thread, which comes back to it.
fn call(run: &mut Run, call: Call, args: &[u64]) -> Result<u64, Error> {
    let caller = run.user();
    run.call(call, args);
    for _ in 0..10_000 {
        if run.user() == caller {
            return run.returned();
        }
        run.call(Call::Yield, &[]);
    }
    panic!("the caller never comes back");
}

fn map(run: &mut Run, process: u64, at: u64, pages: u64, protection: Protection) {
    let mapped = call(run, Call::MemoryMap, &[process, at, pages * PAGE, protection as u64]);
    assert_eq!(mapped, Ok(at));
}

/// A child of init's, as a handle with all rights. Its maker has no right to map there: the child would
/// have to give it.
fn child(run: &mut Run, page: u64) -> u64 {
    let handle = run.spawn(page, u64::MAX).expect("a child");
    let cpu = run.cpu();
    let init = cpu.current().expect("init");
    let table = &init.process().table;
    let object = table.get(cpu, Handle(handle as u32), Rights::empty()).expect("its handle").object;
    assert_eq!(run.result(Call::HandleClose, &[handle]), Ok(0));
    table.insert(cpu, Capability::new(object, Rights::all())).expect("a slot").0.into()
}

/// init, current, and a child, both with pages for reading and writing.
fn pair() -> (Run, User, u64) {
    let mut run = Run::boot(Profile::Minimal);
    let init = run.user();
    let page = run.page();
    let child = child(&mut run, page);
    for process in [PROCESS, child] {
        map(&mut run, process, HERE, PAGES, Protection::ReadWrite);
    }
    (run, init, child)
}

/// Bytes that are different in each page and at each place in it.
fn pattern() -> Vec<u8> {
    (0..PAGES * PAGE).map(|at| (at ^ at >> 8 ^ at >> 12) as u8).collect()
}

/// What is copied arrives, whatever the two places have to do with pages, there and back. `CTX-8`: the
/// address space of the source is adopted for it.
#[test]
fn ctx_8_a_copy_arrives() {
    let (mut run, _, child) = pair();
    let bytes = pattern();
    run.poke(HERE, &bytes);
    let all = PAGES * PAGE;
    assert_eq!(call(&mut run, Call::MemoryCopy, &[PROCESS, HERE, child, HERE, all]), Ok(all));
    let mut back = std::vec![0; bytes.len()];
    run.poke(HERE, &back);
    // Nothing lies where it lay.
    for (from, to, len) in [(0, 1, 1), (1, 4095, 4098), (4095, 7, 3 * PAGE), (5, 5, all - 5), (all, 0, 0)] {
        run.poke(HERE, &back);
        let copied = call(&mut run, Call::MemoryCopy, &[child, HERE + from, PROCESS, HERE + to, len]);
        assert_eq!(copied, Ok(len));
        let mut seen = std::vec![0; len as usize];
        run.peek(HERE + to, &mut seen);
        assert!(seen == bytes[from as usize..][..len as usize], "{from} to {to}");
        back.fill(0);
    }
    assert_eq!(call(&mut run, Call::MemoryCopy, &[child, HERE, child, HERE + all / 2, all / 2]), Ok(all / 2));
}

/// A copy needs the right to map on both sides, reads what could be read there and writes what could be
/// written, and says how far it came.
#[test]
fn cap_7_copies_keep_to_what_is_mapped() {
    let (mut run, _, child) = pair();
    let end = HERE + PAGES * PAGE;
    let weak = run.result(Call::HandleCopy, &[child, Rights::READ.bits().into(), 0]).expect("a copy");
    for [from, to] in [[weak, PROCESS], [PROCESS, weak]] {
        assert_eq!(call(&mut run, Call::MemoryCopy, &[from, HERE, to, HERE, 1]), Err(Error::NoRight));
    }
    for [from, to] in [[TIMER, PROCESS], [PROCESS, TIMER]] {
        assert!(call(&mut run, Call::MemoryCopy, &[from, HERE, to, HERE, 1]).is_err());
    }
    map(&mut run, child, end, 1, Protection::Read);
    let mut copy = |from: [u64; 2], to: [u64; 2], length| {
        call(&mut run, Call::MemoryCopy, &[from[0], from[1], to[0], to[1], length])
    };
    // Beyond the end of the source, and of the target, whose next page can only be read.
    assert_eq!(copy([PROCESS, end - 3], [child, HERE], 9), Ok(3));
    assert_eq!(copy([PROCESS, end], [child, HERE], 9), Err(Error::BadAddress));
    assert_eq!(copy([PROCESS, HERE], [child, end - 700], 9_000), Ok(700));
    assert_eq!(copy([PROCESS, HERE], [child, end], 9_000), Err(Error::BadAddress));
    assert_eq!(copy([child, end], [PROCESS, HERE], 9_000), Ok(PAGE), "reading it is fine");
    // What is nobody's, or the kernel's, or wraps.
    for bad in [0, 1, 1 << 47, u64::MAX - 4, u64::MAX] {
        assert_eq!(copy([PROCESS, bad], [child, HERE], 9), Err(Error::BadAddress), "from {bad:#x}");
        assert_eq!(copy([PROCESS, HERE], [child, bad], 9), Err(Error::BadAddress), "to {bad:#x}");
    }
    assert_eq!(copy([PROCESS, HERE], [child, HERE], u64::MAX), Ok(PAGES * PAGE));
}

/// Whichever of the two dies in the middle, the copy ends and says how far it came, and the dead is taken
/// apart: all of its memory is back.
#[test]
fn cap_7_a_copy_ends_with_either_process() {
    for from_child in [true, false] {
        let mut run = Run::boot(Profile::Minimal);
        let init = run.user();
        let page = run.page();
        let mut before = None;
        for _ in 0..3 {
            let used = run.cpu().kernel.root.used();
            assert_eq!(*before.get_or_insert(used), used);
            let child = child(&mut run, page);
            let local =
                call(&mut run, Call::MemoryMap, &[PROCESS, HERE, PAGES * PAGE, Protection::ReadWrite as u64]);
            assert_eq!(local, Ok(HERE));
            map(&mut run, child, HERE, PAGES, Protection::ReadWrite);
            let [from, to] = if from_child { [child, PROCESS] } else { [PROCESS, child] };
            // The child is next, then a step of the copy, then the child again, which ends.
            run.call(Call::MemoryCopy, &[from, HERE, to, HERE, PAGES * PAGE]);
            assert_ne!(run.user(), init, "it is not done at once");
            run.cpu().task_slice_left.set(0);
            run.call(Call::Yield, &[]);
            assert_ne!(run.user(), init, "it is not done in one step");
            run.call(Call::Exit, &[0]);
            while run.user() != init {
                run.call(Call::Yield, &[]);
            }
            let copied = run.returned().expect("some of it");
            assert!(copied > 0 && copied < PAGES * PAGE, "{copied}");
            let unmapped = call(&mut run, Call::MemoryUnmap, &[PROCESS, HERE, PAGES * PAGE]);
            assert_eq!(unmapped, Ok(0));
            assert_eq!(run.result(Call::HandleClose, &[child]), Ok(0));
            jobs::settle(&mut run, init);
        }
    }
}

/// Who is killed while it copies between two that live on has ended after the slice that is under way.
#[test]
fn cap_7_a_copy_ends_with_its_caller() {
    let mut run = Run::boot(Profile::Minimal);
    let init = run.user();
    let page = run.page();
    map(&mut run, PROCESS, HERE, PAGES, Protection::ReadWrite);
    let grants = [Grant { handle: initial::PROCESS, rights: Rights::all().bits() }];
    let copier = run.spawn_with(page, u64::MAX, &grants).expect("a child");
    run.yield_to_other();
    let (of_init, half) = (initial::CONSOLE.0.into(), PAGES * PAGE / 2);
    run.call(Call::MemoryCopy, &[of_init, HERE, of_init, HERE + half, half]);
    for _ in 0..2 {
        assert_eq!(run.user(), init);
        run.cpu().task_slice_left.set(0);
        run.call(Call::Yield, &[]);
    }
    assert_eq!(run.result(Call::ProcessKill, &[copier]), Ok(0));
    run.cpu().task_slice_left.set(0);
    run.call(Call::Yield, &[]);
    assert_eq!(run.user(), init, "one slice more");
    let mut info = ProcessInfo::new_zeroed();
    assert_eq!(run.result(Call::ProcessInfo, &[copier, page]), Ok(0));
    run.peek(page, info.as_mut_bytes());
    assert_ne!(info.ended, 0, "it still copies");
}
