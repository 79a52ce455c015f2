//! Handles with the kind of their object as a type, closed when they are dropped.

use crate::call::{plain, word};
use abi::{Call, Error, Handle, Rights};
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

    /// A second handle on the same object, with at most `rights`. Errors: `BadHandle`,
    /// `TableFull`.
    pub fn copy(&self, rights: Rights) -> Result<Self, Error> {
        let value = plain(Call::HandleCopy, [word(self.handle), rights.bits().into(), 0])?;
        Ok(Self::from_handle(Handle(value as u32)))
    }
}

impl<K: Kind> Drop for Object<K> {
    fn drop(&mut self) {
        // A handle that is already closed is closed.
        let _ = plain(Call::HandleClose, [word(self.handle)]);
    }
}
