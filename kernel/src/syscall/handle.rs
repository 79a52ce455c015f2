//! Calls on the capability table itself.

use super::Caller;
use abi::{Error, Handle, Rights};

pub(super) fn close(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let handle = Handle(u32::try_from(args[0]).map_err(|_| Error::BadHandle)?);
    let capability = caller.process().table.lock(caller.cpu).take(handle);
    // Dropped after the lock: it may be the last reference to a process.
    capability.map(|_| 0)
}

pub(super) fn copy(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let rights = u32::try_from(args[1]).ok().and_then(Rights::from_bits).ok_or(Error::BadArgument)?;
    let capability = caller.capability(args[0], Rights::empty())?.with_rights(rights);
    let handle = caller.process().table.lock(caller.cpu).insert(capability)?;
    Ok(handle.0 as u64)
}
