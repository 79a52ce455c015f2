//! Capabilities: what a copy may do, and that a revocation takes away what was derived, all of it and
//! nothing else.

use super::{Run, User};
use crate::cap::Object;
use crate::object::Ref;
use abi::{Call, Error, Grant, Handle, HandleInfo, Kind, Rights, initial};
use arch_model::profile::Profile;
use std::collections::VecDeque;
use std::vec::Vec;
use zerocopy::{FromZeros, IntoBytes};

const PROCESS: u64 = initial::PROCESS.0 as u64;
const TIMER: u64 = initial::TIMER.0 as u64;
const ALL: u64 = Rights::all().bits() as u64;

fn copy(run: &mut Run, handle: u64) -> u64 {
    run.result(Call::HandleCopy, &[handle, ALL, 0]).expect("a copy")
}

/// Whether `handle` still names the timer.
fn lives(run: &mut Run, handle: u64) -> bool {
    match run.result(Call::ClockRead, &[handle]) {
        Ok(_) => true,
        Err(Error::BadHandle) => false,
        Err(error) => panic!("{error:?}"),
    }
}

fn info(run: &mut Run, handle: u64, page: u64) -> (u64, u64, u64) {
    let mut info = HandleInfo::new_zeroed();
    assert_eq!(run.result(Call::HandleInfo, &[handle, page]), Ok(0));
    run.peek(page, info.as_mut_bytes());
    (info.kind, info.rights, info.badge)
}

/// init, current, and a child that was granted `timer` as its timer.
fn pair(timer: impl FnOnce(&mut Run) -> u64) -> (Run, User, u64) {
    let mut run = Run::boot(Profile::Minimal);
    let init = run.user();
    let page = run.page();
    let timer = Handle(timer(&mut run) as u32);
    let grants = [initial::CONSOLE, timer, initial::ARCHIVE].map(|handle| Grant { handle, rights: 0x3f });
    let child = run.spawn_with(page, u64::MAX, &grants).expect("a child");
    assert_eq!(run.user(), init);
    (run, init, child)
}

/// A copy has the rights that both name, of whatever the original has; what a handle is on can be
/// asked with no right at all.
#[test]
fn cap_1_rights_only_shrink() {
    let mut run = Run::boot(Profile::Minimal);
    let page = run.page();
    let of = |rights: Rights| u64::from(rights.bits());
    let (timer, read) = (of(Rights::READ | Rights::WAIT), of(Rights::READ));
    assert_eq!(info(&mut run, TIMER, page), (Kind::Timer as u64, timer, 0));
    let weak = run.result(Call::HandleCopy, &[TIMER, read | of(Rights::MANAGE), 0]).expect("a copy");
    assert_eq!(info(&mut run, weak, page), (Kind::Timer as u64, read, 0));
    let again = copy(&mut run, weak);
    assert_eq!(info(&mut run, again, page), (Kind::Timer as u64, read, 0));
    let none = run.result(Call::HandleCopy, &[again, 0, 0]).expect("a copy");
    assert_eq!(info(&mut run, none, page), (Kind::Timer as u64, 0, 0));
    assert_eq!(run.result(Call::ClockRead, &[none]), Err(Error::NoRight));
    assert_eq!(run.result(Call::HandleCopy, &[TIMER, read, 7]), Err(Error::BadArgument), "a badge");
    assert_eq!(run.result(Call::HandleInfo, &[TIMER, 8]), Err(Error::BadAddress));
}

/// What was derived is gone: copies, copies of copies, what was moved, and what a child was given.
/// The root, its origin, and its siblings are there.
#[test]
fn cap_2_a_revocation_reaches_what_was_derived_and_nothing_else() {
    let (mut root, mut below) = (0, Vec::new());
    let (mut run, init, child) = pair(|run| {
        root = copy(run, TIMER);
        let first = copy(run, root);
        let second = copy(run, first);
        let moved = copy(run, first);
        let to = run.result(Call::HandleMove, &[moved, 0]).expect("a move");
        assert!(!lives(run, moved));
        below = std::vec![first, second, to, copy(run, root)];
        second
    });
    let theirs = run.result(Call::HandleMove, &[below.pop().expect("the last"), child]).expect("a move");
    let beside = copy(&mut run, TIMER);
    for handle in below.iter().chain([&root, &beside]) {
        assert!(lives(&mut run, *handle));
    }
    let kid = run.yield_to_other();
    assert!(lives(&mut run, TIMER) && lives(&mut run, theirs));
    assert_eq!(run.yield_to_other(), init);

    run.call(Call::HandleRevoke, &[root]);
    while run.user() == kid {
        run.call(Call::Yield, &[]);
    }
    assert_eq!(run.returned(), Ok(0));
    for handle in below {
        assert!(!lives(&mut run, handle), "{handle}");
    }
    for handle in [root, TIMER, beside] {
        assert!(lives(&mut run, handle), "{handle}");
    }
    run.yield_to_other();
    assert!(!lives(&mut run, TIMER), "a grant of what was revoked");
    assert!(!lives(&mut run, theirs), "what was moved into the child");
    assert_eq!(run.result(Call::ConsoleWrite, &[2, 0, 0]), Ok(0), "another object");
}

/// What a closed handle leaves, its origin can revoke; and so can who has it after a move.
#[test]
fn cap_3_what_a_closed_one_leaves_is_its_origins() {
    let mut run = Run::boot(Profile::Minimal);
    let root = copy(&mut run, TIMER);
    let between = copy(&mut run, root);
    let leaves = [copy(&mut run, between), copy(&mut run, between)];
    assert_eq!(run.result(Call::HandleClose, &[between]), Ok(0));
    let root = run.result(Call::HandleMove, &[root, 0]).expect("a move");
    assert!(leaves.iter().all(|leaf| lives(&mut run, *leaf)));
    assert_eq!(run.result(Call::HandleRevoke, &[root]), Ok(0));
    assert!(!leaves.iter().any(|leaf| lives(&mut run, *leaf)));
    assert!(lives(&mut run, root));
    // Once more, with nothing to do; and of what is not there.
    assert_eq!(run.result(Call::HandleRevoke, &[root]), Ok(0));
    assert_eq!(run.result(Call::HandleRevoke, &[leaves[0]]), Err(Error::BadHandle));
}

/// A process ends: what others derived from what it had is its origins'.
#[test]
fn cap_3_what_a_dead_process_leaves() {
    let mut root = 0;
    let (mut run, init, child) = pair(|run| {
        root = copy(run, TIMER);
        root
    });
    run.yield_to_other();
    // The child hands a copy of its own on to its maker: it may not. Its maker takes one by a move.
    let theirs = copy(&mut run, TIMER);
    assert_eq!(run.result(Call::HandleMove, &[theirs, PROCESS]), Ok(theirs + 1));
    run.call(Call::Exit, &[0]);
    assert_eq!(run.user(), init);
    assert_eq!(run.result(Call::ProcessWait, &[child]), Ok(0));
    super::jobs::settle(&mut run, init);
    assert_eq!(run.result(Call::HandleRevoke, &[root]), Ok(0));
    assert!(lives(&mut run, root));
    assert_eq!(run.result(Call::HandleMove, &[root, child]), Err(Error::Gone), "into a dead table");
    assert!(lives(&mut run, root));
}

/// Somebody copies what is not revoked yet, faster than the revocation deletes: it ends nevertheless,
/// and after it there is nothing.
#[test]
fn cap_4_a_raced_revocation_ends() {
    const COPIES: usize = 100;
    /// More than a slice of the revocation deletes.
    const PER_TURN: usize = 24;
    let mut root = 0;
    let (mut run, init, _) = pair(|run| {
        root = copy(run, TIMER);
        for _ in 0..COPIES {
            copy(run, root);
        }
        root
    });
    let child = run.yield_to_other();
    assert_eq!(run.yield_to_other(), init);
    run.cpu().task_slice_left.set(0);
    run.call(Call::HandleRevoke, &[root]);
    let mut theirs = VecDeque::from([TIMER]);
    let mut turns = 0;
    while run.user() == child {
        turns += 1;
        assert!(turns < 20, "the revocation never ends");
        for _ in 0..PER_TURN {
            while let Some(&oldest) = theirs.front()
                && !lives(&mut run, oldest)
            {
                theirs.pop_front();
            }
            let Some(&oldest) = theirs.front() else { break };
            match run.result(Call::HandleCopy, &[oldest, ALL, 0]) {
                Ok(copy) => theirs.push_back(copy),
                Err(error) => assert_eq!(error, Error::BadHandle),
            }
        }
        run.cpu().task_slice_left.set(0);
        run.call(Call::Yield, &[]);
    }
    assert_eq!(run.returned(), Ok(0));
    assert!(turns > 2, "nothing was copied meanwhile");
    assert!(lives(&mut run, root));
    run.yield_to_other();
    assert!(!theirs.iter().any(|handle| lives(&mut run, *handle)));
}

/// Two revocations at once, one inside the other, in both orders.
#[test]
fn cap_4_revocations_help_each_other() {
    for outer_first in [true, false] {
        let (mut outer, mut inner) = (0, 0);
        let (mut run, init, _) = pair(|run| {
            outer = copy(run, TIMER);
            inner = copy(run, outer);
            for _ in 0..50 {
                copy(run, outer);
            }
            inner
        });
        let child = run.yield_to_other();
        for _ in 0..50 {
            copy(&mut run, TIMER);
        }
        assert_eq!(run.yield_to_other(), init);
        let revoke = |run: &mut Run, root: u64| {
            run.cpu().task_slice_left.set(0);
            run.call(Call::HandleRevoke, &[root]);
        };
        if outer_first {
            revoke(&mut run, outer);
            assert_eq!(run.user(), child);
            revoke(&mut run, TIMER);
        } else {
            assert_eq!(run.yield_to_other(), child);
            revoke(&mut run, TIMER);
            assert_eq!(run.user(), init);
            revoke(&mut run, outer);
        }
        while run.user() != init {
            run.call(Call::Yield, &[]);
        }
        assert_eq!(run.returned(), Ok(0));
        assert!(lives(&mut run, outer) && !lives(&mut run, inner));
        run.yield_to_other();
        assert!(matches!(run.returned(), Ok(0) | Err(Error::BadHandle)));
        assert!(!lives(&mut run, TIMER));
    }
}

/// A revocation is done in slices: few deletions without an interrupt window, however many there are
/// to do.
#[test]
fn cap_5_a_revocation_comes_in_slices() {
    const COPIES: usize = 200;
    const AT_ONCE: usize = 32;
    let mut root = 0;
    let (mut run, init, _) = pair(|run| {
        root = copy(run, TIMER);
        initial::TIMER.0.into()
    });
    let copies: Vec<u64> = (0..COPIES).map(|_| copy(&mut run, root)).collect();
    let cpu = run.cpu();
    let process = cpu.current().expect("init").process().clone();
    let count = || {
        let table = process.table.lock(cpu);
        copies.iter().filter(|&&copy| table.get(Handle(copy as u32), Rights::empty()).is_ok()).count()
    };
    let mut left = COPIES;
    run.cpu().task_slice_left.set(0);
    run.call(Call::HandleRevoke, &[root]);
    while run.user() != init {
        let now = count();
        assert!(left - now <= AT_ONCE, "{} at once", left - now);
        left = now;
        run.cpu().task_slice_left.set(0);
        run.call(Call::Yield, &[]);
    }
    assert!(left <= AT_ONCE && count() == 0);
}

/// Everything that can be done, by chance, beside a tree that is plainly a tree.
#[test]
fn cap_2_cap_3_the_brackets_are_a_tree() {
    let mut run = Run::boot(Profile::Minimal);
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize % below
    };
    // Handle and origin of each that lives. The first is the timer, which stays.
    let mut tree: Vec<(u64, Option<u64>)> = std::vec![(TIMER, None)];
    for step in 0..4000 {
        let at = random(tree.len());
        let (handle, origin) = tree[at];
        match random(20) {
            0..10 if tree.len() < 200 => {
                let new = copy(&mut run, handle);
                tree.push((new, Some(handle)));
            }
            10..15 if at != 0 => {
                assert_eq!(run.result(Call::HandleClose, &[handle]), Ok(0));
                tree.remove(at);
                tree.iter_mut().filter(|(_, of)| *of == Some(handle)).for_each(|(_, of)| *of = origin);
            }
            15..18 if at != 0 => {
                let new = run.result(Call::HandleMove, &[handle, 0]).expect("a move");
                tree[at].0 = new;
                tree.iter_mut().filter(|(_, of)| *of == Some(handle)).for_each(|(_, of)| *of = Some(new));
            }
            18 => {
                assert_eq!(run.result(Call::HandleRevoke, &[handle]), Ok(0));
                let mut gone = std::vec![handle];
                while let Some(parent) = gone.pop() {
                    gone.extend(tree.iter().filter(|(_, of)| *of == Some(parent)).map(|(of, _)| *of));
                    tree.retain(|(_, of)| *of != Some(parent));
                }
            }
            _ => {}
        }
        let end = run.cpu().current().expect("init").process().table.lock(run.cpu()).end();
        let living: Vec<u64> = (1..end.into())
            .filter(|handle| ![1, 2, 4, 5].contains(handle))
            .filter(|handle| lives(&mut run, *handle))
            .collect();
        let mut wanted: Vec<u64> = tree.iter().map(|(handle, _)| *handle).collect();
        wanted.sort_unstable();
        assert_eq!(living, wanted, "after step {step}");
    }
}

/// Who takes back the handle it has made takes nothing else out of the slot.
#[test]
fn a_slot_that_was_filled_again() {
    let mut run = Run::boot(Profile::Minimal);
    let first = run.result(Call::EndpointCreate, &[]).expect("an endpoint");
    let process = run.cpu().current().expect("init").process().clone();
    let handle = Handle(first as u32);
    let named = |run: &Run| process.table.get(run.cpu(), handle, Rights::empty());
    let Ok(Object::Endpoint(endpoint)) = named(&run).map(|named| named.object) else { panic!("no endpoint") };
    assert_eq!(run.result(Call::HandleClose, &[first]), Ok(0));
    assert_eq!(run.result(Call::EndpointCreate, &[]), Ok(first), "the same slot");
    let it = |object: &Object| matches!(object, Object::Endpoint(there) if Ref::ptr_eq(there, &endpoint));
    process.table.take_if(run.cpu(), handle, it);
    assert!(named(&run).is_ok());
    process.table.take_if(run.cpu(), handle, |_| true);
    assert!(named(&run).is_err());
}
