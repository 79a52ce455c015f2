//! Calls on the capability table itself.

use super::{Caller, Outcome, outcome, process};
use crate::cap::derivation::Revocation;
use crate::cap::{Object, Where};
use crate::job::Work;
use crate::object::Ref;
use abi::{Error, Handle, HandleInfo, Rights};
use core::task::Poll;
use zerocopy::IntoBytes;

pub(super) fn close(caller: &Caller<'_>, args: [u64; 6]) -> Outcome {
    outcome(try_close(caller, args))
}

fn try_close(caller: &Caller<'_>, args: [u64; 6]) -> Result<Outcome, Error> {
    let (handle, process) = (caller.handle(args[0])?, caller.process());
    match process.table.take(caller.cpu, handle, caller.irq) {
        Poll::Ready(closed) => {
            closed?.dispose(caller.cpu);
            match caller.cpu.kernel.memory.has_remains() {
                false => Ok(Outcome::Done(Ok(0))),
                true => caller.begin(process.clone(), || Work::Bury(Ok(0))),
            }
        }
        Poll::Pending => caller.begin(process.clone(), || Work::Close(handle)),
    }
}

pub(super) fn copy(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let rights = u32::try_from(args[1]).ok().and_then(Rights::from_bits).ok_or(Error::BadArgument)?;
    let table = &caller.process().table;
    let (handle, to) = (caller.handle(args[0])?, (table, Where::Anywhere));
    let copy = table.copy(caller.cpu, handle, (rights, args[2]), to, caller.irq)?;
    Ok(copy.0.into())
}

pub(super) fn transfer(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let to = match caller.handle(args[1])? {
        Handle::NONE => caller.process().clone(),
        _ => process(caller, args[1], Rights::MANAGE)?,
    };
    let moved = caller.process().table.transfer(caller.cpu, caller.handle(args[0])?, &to.table)?;
    Ok(moved.0.into())
}

pub(super) fn revoke(caller: &Caller<'_>, args: [u64; 6]) -> Outcome {
    outcome(
        caller.handle(args[0]).and_then(|root| {
            caller.begin(Ref::clone(caller.process()), || Work::Revoke(Revocation::new(root)))
        }),
    )
}

pub(super) fn info(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let capability = caller.capability(args[0], Rights::empty())?;
    let (address, length) = match &capability.object {
        Object::Memory(object) => (0, object.length()),
        Object::Attachment(attachment) => (attachment.range.start().0, attachment.range.len()),
        _ => (0, 0),
    };
    let info = HandleInfo {
        kind: capability.object.kind() as u64,
        rights: capability.rights.bits().into(),
        badge: capability.badge,
        address,
        length,
    };
    caller.write(args[1], info.as_bytes())?;
    Ok(0)
}
