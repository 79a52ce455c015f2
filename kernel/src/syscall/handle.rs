//! Calls on the capability table itself.

use super::{Caller, Outcome, outcome, process};
use crate::cap::Where;
use crate::cap::derivation::Revocation;
use crate::job::{Job, Work};
use crate::object::Ref;
use abi::{Error, Handle, HandleInfo, Rights};
use zerocopy::IntoBytes;

pub(super) fn close(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let handle = caller.handle(args[0])?;
    caller.process().table.take(caller.cpu, handle)?.dispose(caller.cpu);
    Ok(0)
}

pub(super) fn copy(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let rights = u32::try_from(args[1]).ok().and_then(Rights::from_bits).ok_or(Error::BadArgument)?;
    let table = &caller.process().table;
    let copy =
        table.copy(caller.cpu, caller.handle(args[0])?, (rights, args[2]), (table, Where::Anywhere))?;
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
    outcome(caller.handle(args[0]).and_then(|root| {
        let job = Job::begin(caller.cpu, Ref::clone(caller.process()), Work::Revoke(Revocation::new(root)))?;
        Ok(caller.leave_to(job))
    }))
}

pub(super) fn info(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let capability = caller.capability(args[0], Rights::empty())?;
    let info = HandleInfo {
        kind: capability.object.kind() as u64,
        rights: capability.rights.bits().into(),
        badge: capability.badge,
    };
    caller.write(args[1], info.as_bytes())?;
    Ok(0)
}
