//! `IPC`, of faults: as messages to a handler, and to the pager of a page.
//!
//! As in [`ipc`](crate::ipc), all threads of a case are on one CPU, where the case's own is the least
//! urgent: when it goes on, all others wait.

use crate::ipc::{begin, create, receive, reply, start};
use crate::outcome::{OrFail, Outcome, ensure, ensure_eq};
use crate::world::World;
use crate::{ARENA, Os, Word};
use abi::exception::{FaultKind, Word as At};
use abi::{Call, Error, Handle, HandleInfo, Kind, PAGE_BYTES, Protection};

/// Where nothing is mapped.
const HOLE: Word = Word::new(ARENA + (176 << 20));
/// Where paged memory is, and what its pages come from.
const PAGED: Word = Word::new(ARENA + (178 << 20));
const SOURCE: Word = Word::new(ARENA + (180 << 20));
/// A thread's own.
const MIDDLE: u64 = 50;

/// A load from a page that is not there is a call to the thread's handler, which maps the page and answers:
/// the load is made again, once. `IPC-10`
pub fn ipc_10_a_fault_is_a_call<O: Os>(world: &World<O>) -> Outcome {
    begin(world)?;
    let endpoint = create(world, Call::EndpointCreate)?;
    start(world, MIDDLE, move |world| {
        let handled = world.call(Call::ThreadExceptions, [Handle::NONE.0.into(), endpoint.0.into()]);
        if handled.is_ok() {
            let found = world.load(HOLE.plus(8));
            world.store(world.flag(1), world.load(world.flag(1)) + found);
        }
    })?;
    let fault = receive(world, endpoint, 0).or_fail("receive")?;
    ensure!(fault.tag.is_call(), "a fault that wants no answer: {fault:?}");
    ensure_eq!(fault.tag.label(), FaultKind::PageRead as u64, "what happened");
    ensure_eq!(fault.words[At::Address as usize], HOLE.plus(8).address(), "where");
    ensure_eq!(world.load(world.flag(1)), 0, "what the thread has done since");
    world.map(HOLE, 1)?;
    world.store(HOLE.plus(8), 41);
    reply(world, Handle::NONE, 0).or_fail("reply")?;
    ensure_eq!(world.load(world.flag(1)), 41, "what the thread has found");
    ensure_eq!(reply(world, Handle::NONE, 0), Err(Error::Gone), "a second answer");
    ensure_eq!(receive(world, endpoint, 0), Err(Error::TimedOut), "another fault");
    Ok(())
}

/// A page of a pager's is there, as it was supplied, when the load that touched it is made again; a call that
/// was to write to such a page writes to it in the end. `IPC-13`
pub fn ipc_13_pages_come_from_a_pager<O: Os>(world: &World<O>) -> Outcome {
    begin(world)?;
    let endpoint = create(world, Call::EndpointCreate)?;
    let paged = world.call(Call::MemoryCreatePaged, [2 * PAGE_BYTES, endpoint.0.into()]);
    let paged = Handle(paged.or_fail("memory_create_paged")? as u32);
    let source = world.memory(2).or_fail("memory_create")?;
    for (memory, at) in [(paged, PAGED), (source, SOURCE)] {
        world.attach(memory, at, 2, Protection::ReadWrite).or_fail("memory_attach")?;
    }
    world.store(SOURCE, 7);
    start(world, MIDDLE, move |world| {
        world.store(world.flag(1), world.load(PAGED));
        let told = world.call(Call::HandleInfo, [endpoint.0.into(), PAGED.address() + PAGE_BYTES]);
        world.store(world.flag(2), if told.is_ok() { 1 } else { 2 });
    })?;
    for (kind, offset, flag) in [(FaultKind::PageRead, 0, 1), (FaultKind::PageWrite, PAGE_BYTES, 2)] {
        let wanted = receive(world, endpoint, 0).or_fail("receive")?;
        ensure_eq!((wanted.tag.label(), wanted.words[0]), (kind as u64, offset), "the page that is wanted");
        ensure_eq!(world.load(world.flag(flag)), 0, "what the thread has done since");
        let supply = [paged.0.into(), offset, source.0.into(), offset, PAGE_BYTES];
        world.call(Call::MemorySupply, supply).or_fail("memory_supply")?;
        reply(world, Handle::NONE, 0).or_fail("reply")?;
    }
    ensure_eq!(world.load(world.flag(1)), 7, "what the load has found");
    ensure_eq!(world.load(world.flag(2)), 1, "whether the call succeeded");
    let kind = core::mem::offset_of!(HandleInfo, kind) as u64;
    let written = world.load(SOURCE.plus(PAGE_BYTES + kind));
    ensure_eq!(written, Kind::Endpoint as u64, "what the call has written");
    ensure_eq!(receive(world, endpoint, 0), Err(Error::TimedOut), "another fault");
    Ok(())
}
