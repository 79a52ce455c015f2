//! `CAP`: a handle is worth what its rights say, and a revocation takes back what was derived.

use crate::outcome::{OrFail, Outcome, ensure, ensure_eq};
use crate::world::World;
use crate::{ARENA, Not, Os, Word};
use abi::{Ending, Error, Handle, PAGE_BYTES, Protection, Rights, initial};

/// Where memory objects are mapped.
const SHARED: Word = Word::new(ARENA + (160 << 20));

/// A copy of a copy has the rights that all of them name; what it may not do is refused. `CAP-1`
pub fn cap_1_a_copy_is_never_more<O: Os>(world: &World<O>) -> Outcome {
    let copy = |of, rights| world.copy(of, rights).or_fail("handle_copy");
    let weak = copy(initial::TIMER, Rights::WAIT | Rights::MANAGE)?;
    let again = copy(weak, Rights::all())?;
    for handle in [weak, again] {
        ensure_eq!(world.clock(handle), Err(Error::NoRight), "reading the clock without READ");
    }
    let read = copy(initial::TIMER, Rights::READ)?;
    ensure!(world.clock(read).is_ok(), "a copy with READ reads the clock");
    for handle in [weak, again, read] {
        world.close(handle).or_fail("handle_close")?;
        ensure_eq!(world.clock(handle), Err(Error::BadHandle), "a closed handle");
    }
    Ok(())
}

/// What was derived here and what a child was granted is gone when the call returns; the root and what
/// was derived beside it are not. `CAP-2`
pub fn cap_2_a_revocation_reaches_every_process<O: Os>(world: &World<O>) -> Outcome {
    let copy = |of| world.copy(of, Rights::all()).or_fail("handle_copy");
    let mine = copy(initial::TIMER)?;
    let below = [copy(mine)?, copy(mine)?];
    let deep = copy(below[0])?;
    let machine = copy(initial::MACHINE)?;
    world.revoke(mine).or_fail("handle_revoke")?;
    for handle in [below[0], below[1], deep] {
        ensure_eq!(world.clock(handle), Err(Error::BadHandle), "what was derived");
    }
    ensure!(world.clock(mine).is_ok(), "the root is there");
    // The child has a timer of its own until all that was derived from this process's goes.
    let child = world.child("cap_2_a_revocation_reaches_every_process", 0)?;
    world.revoke(initial::TIMER).or_fail("handle_revoke")?;
    ensure_eq!(world.clock(mine), Err(Error::BadHandle), "what was derived from the timer");
    ensure!(world.clock(initial::TIMER).is_ok(), "the timer is there");
    world.process_priority(child, abi::DEFAULT_PRIORITY - 1).or_fail("process_priority")?;
    ensure_eq!(world.wait(child)?.status(), 0, "what the child found of its timer");
    ensure!(world.close(machine).is_ok(), "a handle on something else is there");
    Ok(())
}

/// Waits until its priority says that its timer was revoked.
pub fn loses_its_timer<O: Os>(world: &World<O>, _: u64) -> u8 {
    world.tell(world.flags().and_then(|()| {
        world.wait_until(|world| world.own_priority() == Ok(abi::DEFAULT_PRIORITY - 1));
        ensure_eq!(world.clock(initial::TIMER), Err(Error::BadHandle), "the timer of a child");
        Ok(())
    }))
}

/// A handle that is moved is as derived as before, and what was derived from a closed one is its
/// origin's. `CAP-3`
pub fn cap_3_moved_and_left<O: Os>(world: &World<O>) -> Outcome {
    let copy = |of| world.copy(of, Rights::all()).or_fail("handle_copy");
    let root = copy(initial::TIMER)?;
    let between = copy(root)?;
    let left = copy(between)?;
    let moved = world.move_to_process(copy(root)?, Handle::NONE).or_fail("handle_move")?;
    world.close(between).or_fail("handle_close")?;
    ensure!(world.clock(left).is_ok() && world.clock(moved).is_ok(), "both are there");
    world.revoke(root).or_fail("handle_revoke")?;
    ensure_eq!(world.clock(left), Err(Error::BadHandle), "what a closed one left");
    ensure_eq!(world.clock(moved), Err(Error::BadHandle), "what was moved");
    world.close(root).or_fail("handle_close")
}

/// A thread copies its handle again and again and closes the old one, while another revokes what that
/// was derived from. The revocation ends, and then the copier has nothing. `CAP-4`
pub fn cap_4_copies_do_not_outrun_a_revocation<O: Os>(world: &World<O>) -> Outcome {
    let rounds = if O::SIMULATED { 3 } else { 100 };
    let others: u64 = world.others().map(|cpu| 1 << cpu).sum();
    if others == 0 {
        return Err(Not::Skipped("too few CPUs"));
    }
    world.flags()?;
    world.move_to(0)?;
    let root = world.copy(initial::TIMER, Rights::all()).or_fail("handle_copy")?;
    for round in 1..=rounds {
        let first = world.copy(root, Rights::all()).or_fail("handle_copy")?;
        let copier = world.spawn(others, move |world| {
            let mut mine = first;
            world.store(world.flag(0), round);
            while let Ok(next) = world.copy(mine, Rights::all()) {
                // Gone already, if the revocation was faster.
                let _ = world.close(mine);
                mine = next;
                world.os.pause();
            }
            world.store(world.flag(1), world.clock(mine).is_ok().into());
        })?;
        world.wait_for(world.flag(0), round);
        world.revoke(root).or_fail("handle_revoke")?;
        world.join(copier)?;
        ensure_eq!(world.load(world.flag(1)), 0, "what the copier has after the revocation");
    }
    ensure!(world.clock(root).is_ok(), "the root is there");
    world.close(root).or_fail("handle_close")
}

/// A mapping allows what the capability allows by which it was made, whatever the memory could. `CAP-6`
pub fn cap_6_a_mapping_is_never_more<O: Os>(world: &World<O>) -> Outcome {
    let memory = world.memory(2).or_fail("memory_create")?;
    for (rights, allowed) in [
        (Rights::READ, [true, false, false]),
        (Rights::READ | Rights::WRITE, [true, true, false]),
        (Rights::READ | Rights::EXECUTE, [true, false, true]),
    ] {
        let weak = world.copy(memory, rights).or_fail("handle_copy")?;
        for (&protection, allowed) in Protection::ALL.iter().zip(allowed) {
            let attached = world.attach(weak, SHARED, 2, protection);
            let wanted = if allowed { None } else { Some(Error::NoRight) };
            ensure_eq!(attached.err(), wanted, "mapping for {protection:?} with {rights:?}");
            if let Ok(attachment) = attached {
                world.close(attachment).or_fail("handle_close")?;
            }
        }
    }
    let attachment = world.attach(memory, SHARED, 2, Protection::ReadWrite).or_fail("memory_attach")?;
    ensure_eq!(world.load(SHARED.plus(PAGE_BYTES)), 0, "memory that was never written");
    ensure_eq!(world.copy(attachment, Rights::all()), Err(Error::WrongObject), "copying a mapping");
    world.close(attachment).or_fail("handle_close")
}

/// Two processes share memory. What allowed the one to map it is revoked: the next access ends it.
/// The other still has what it has mapped. `CAP-6`
pub fn cap_6_a_revocation_unmaps<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    let memory = world.memory(2).or_fail("memory_create")?;
    let lent = world.copy(memory, Rights::READ | Rights::WRITE).or_fail("handle_copy")?;
    world.attach(memory, SHARED, 2, Protection::ReadWrite).or_fail("memory_attach")?;
    let child = world.child("cap_6_a_revocation_unmaps", 0)?;
    let theirs = world.copy(lent, Rights::all()).or_fail("handle_copy")?;
    let theirs = world.move_to_process(theirs, child).or_fail("handle_move")?;
    ensure_eq!(theirs, GIVEN, "the first handle that is free in a new process");
    world.wait_until(|world| world.load(SHARED) == HELLO);
    world.store(SHARED.plus(PAGE_BYTES), HELLO);
    world.wait_until(|world| world.load(SHARED) == 0);
    world.revoke(lent).or_fail("handle_revoke")?;
    // Far more than it needs for one access.
    for _ in 0..1000 {
        if world.has_ended(child)? {
            break;
        }
        world.sleep(1_000_000)?;
    }
    let ended = world.has_ended(child)?;
    world.kill(child)?;
    ensure!(ended, "a process uses what was revoked");
    ensure_eq!(world.wait(child)?.ending(), Some(Ending::Fault), "how it ended");
    ensure_eq!(world.load(SHARED.plus(PAGE_BYTES)), HELLO, "what the other has mapped");
    Ok(())
}

/// A copy reads what could be read, writes what could be written, and says how far it came. `CAP-7`
pub fn cap_7_a_copy_writes_what_could_be_written<O: Os>(world: &World<O>) -> Outcome {
    let (next, fixed) = (SHARED.plus(PAGE_BYTES), SHARED.plus(2 * PAGE_BYTES));
    world.map(SHARED, 2)?;
    world.map_as(fixed.address(), PAGE_BYTES, Protection::Read as u64).or_fail("memory_map")?;
    world.store(SHARED.plus(8), HELLO);
    ensure_eq!(world.copy_memory(SHARED, next, PAGE_BYTES), Ok(PAGE_BYTES), "bytes of a page");
    ensure_eq!(world.load(next.plus(8)), HELLO, "what was copied");
    ensure_eq!(world.copy_memory(SHARED, fixed, 16), Err(Error::BadAddress), "a copy to what is read-only");
    ensure_eq!(world.load(fixed.plus(8)), 0, "what is read-only");
    let copied = world.copy_memory(SHARED.plus(8), next.plus(8), 2 * PAGE_BYTES);
    ensure_eq!(copied, Ok(PAGE_BYTES - 8), "bytes up to what is read-only");
    ensure_eq!(world.load(fixed), 0, "what is read-only");
    ensure_eq!(world.copy_memory(fixed, SHARED, 2 * PAGE_BYTES), Ok(PAGE_BYTES), "bytes that are there");
    ensure_eq!(world.load(SHARED.plus(8)), 0, "what was copied over");
    world.unmap(SHARED, 3)?;
    ensure_eq!(world.copy_memory(SHARED, SHARED, 8), Err(Error::BadAddress), "a copy of nothing");
    Ok(())
}

/// The child's handle on the memory.
const GIVEN: Handle = Handle(initial::MACHINE.0 + 1);
/// What is written.
const HELLO: u64 = 0x6865_6c6c_6f21;

/// Answers in shared memory, and goes on using it.
pub fn uses_what_it_was_lent<O: Os>(world: &World<O>, _: u64) -> u8 {
    world.wait_until(|world| world.attach(GIVEN, SHARED, 2, Protection::ReadWrite) != Err(Error::BadHandle));
    world.store(SHARED, HELLO);
    world.wait_until(|world| world.load(SHARED.plus(PAGE_BYTES)) == HELLO);
    world.store(SHARED, 0);
    loop {
        world.load(SHARED);
        world.os.pause();
        world.yield_now();
    }
}
