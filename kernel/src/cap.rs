//! Capabilities: what a process can name, and what it may do with it.
//!
//! A table per process; a handle is an index. A slot holds an object and rights; nothing reaches
//! an object but through a slot. Slot 0 stays empty.

use crate::mm::NoMemory;
use crate::mm::heap::Charged;
use crate::mm::list::List;
use crate::object::Ref;
use crate::process::Process;
use crate::thread::Thread;
use abi::{Error, Handle, Rights, TABLE_SLOTS};

/// What a capability names. Objects of which the machine has one are named by their kind.
#[derive(Clone)]
pub enum Object {
    Process(Ref<Process>),
    Thread(Ref<Thread>),
    Console,
    Timer,
    Archive,
    Machine,
}

/// An object with rights.
#[derive(Clone)]
pub struct Capability {
    pub object: Object,
    pub rights: Rights,
}

impl Capability {
    /// The same object with the rights that both name.
    pub fn with_rights(&self, rights: Rights) -> Self {
        Self { object: self.object.clone(), rights: self.rights & rights }
    }
}

/// A capability table, charged to its process's budget. Grows as it is filled.
pub struct Table {
    slots: List<Option<Capability>>,
}

impl Table {
    pub const fn new(charged: Charged) -> Self {
        Self { slots: List::new(charged) }
    }

    /// Puts `capability` into the lowest free slot but 0.
    pub fn insert(&mut self, capability: Capability) -> Result<Handle, Error> {
        let free = self.slots.iter().enumerate().skip(1).find(|(_, slot)| slot.is_none());
        let index = match free {
            Some((index, _)) => index as u32,
            None => (self.slots.len() as u32).max(1),
        };
        self.place(Handle(index), Some(capability))?;
        Ok(Handle(index))
    }

    /// Puts `capability` into a slot of the caller's choice, over what was there.
    pub fn place(&mut self, handle: Handle, capability: Option<Capability>) -> Result<(), Error> {
        let index = handle.0 as usize;
        if index == 0 || handle.0 >= TABLE_SLOTS {
            return Err(Error::TableFull);
        }
        self.slots.fill_to(index + 1, || None).map_err(|NoMemory| Error::NoMemory)?;
        self.slots[index] = capability;
        Ok(())
    }

    /// What `handle` names, if it carries all of `rights`. The error says which is wrong.
    pub fn get(&self, handle: Handle, rights: Rights) -> Result<&Capability, Error> {
        let slot = self.slots.get(handle.0 as usize).and_then(Option::as_ref);
        let capability = slot.ok_or(Error::BadHandle)?;
        if capability.rights.contains(rights) { Ok(capability) } else { Err(Error::NoRight) }
    }

    /// Empties a slot and returns what was there; the caller drops it when it holds no lock.
    pub fn take(&mut self, handle: Handle) -> Result<Capability, Error> {
        self.slots.get_mut(handle.0 as usize).and_then(Option::take).ok_or(Error::BadHandle)
    }

    /// Empties the last slot that is not empty: one step of taking a table apart.
    pub fn take_last(&mut self) -> Option<Capability> {
        while let Some(slot) = self.slots.pop() {
            if slot.is_some() {
                return slot;
            }
        }
        None
    }
}
