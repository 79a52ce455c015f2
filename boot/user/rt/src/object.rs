//! Handles with the kind of their object as a type, closed when they are dropped.

use crate::call::{call, plain, word};
use crate::process::Process;
use abi::{Call, Error, Handle, HandleInfo, Rights};
use core::marker::PhantomData;

/// A kind of object. The kernel checks it at every call; the type only saves a program from
/// asking the wrong one.
pub trait Kind {}

/// A handle this program owns.
#[derive(Debug)]
pub struct Object<K: Kind> {
    handle: Handle,
    kind: PhantomData<K>,
}

impl<K: Kind> Object<K> {
    /// Takes over a handle. That it names an object of this kind is the kernel's to check.
    pub const fn from_handle(handle: Handle) -> Self {
        Self { handle, kind: PhantomData }
    }

    /// The handle, which stays owned.
    pub const fn handle(&self) -> Handle {
        self.handle
    }

    /// A second handle on the same object, with at most `rights`, derived from this one. Errors:
    /// `BadHandle`, `TableFull`, `NoMemory`.
    pub fn copy(&self, rights: Rights) -> Result<Self, Error> {
        copy_handle(self.handle, rights, 0).map(Self::from_handle)
    }

    /// The handle, which is the caller's to close from now on.
    pub fn into_handle(self) -> Handle {
        let handle = self.handle;
        core::mem::forget(self);
        handle
    }

    /// Closes all handles that were derived from this one, in every process.
    pub fn revoke(&self) -> Result<(), Error> {
        plain(Call::HandleRevoke, [word(self.handle)]).map(|_| ())
    }

    /// Moves the handle into the table of `process`, and says what it is there. Errors: `TableFull`,
    /// `NoMemory`, `Gone`; it is closed then.
    pub fn give(self, process: &Process) -> Result<Handle, Error> {
        let value = plain(Call::HandleMove, [word(self.handle), word(process.handle())])?;
        // It names nothing here any more.
        core::mem::forget(self);
        Ok(Handle(value as u32))
    }

    /// What the kernel knows of the handle.
    pub fn handle_info(&self) -> Result<HandleInfo, Error> {
        let mut info = HandleInfo::default();
        let arguments = [word(self.handle), (&raw mut info).addr() as u64, 0, 0, 0, 0];
        // SAFETY: the kernel writes one `HandleInfo`, where there is one.
        unsafe { call(Call::HandleInfo, arguments) }?;
        Ok(info)
    }
}

/// A second handle on whatever the first is on, with at most `rights`, and a badge if that is not 0.
/// Errors: `BadHandle`, `BadArgument` (a badge that cannot be given), `TableFull`, `NoMemory`.
pub fn copy_handle(handle: Handle, rights: Rights, badge: u64) -> Result<Handle, Error> {
    plain(Call::HandleCopy, [word(handle), rights.bits().into(), badge]).map(|value| Handle(value as u32))
}

impl<K: Kind> Drop for Object<K> {
    fn drop(&mut self) {
        // A handle that is already closed is closed.
        let _ = plain(Call::HandleClose, [word(self.handle)]);
    }
}
