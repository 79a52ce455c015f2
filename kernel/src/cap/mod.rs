//! Capabilities: what a process can name, and what it may do with it.
//!
//! A [`Table`] per process; a handle is an index. A slot holds an object, rights and a badge;
//! nothing reaches an object but through a slot. Which capability was derived from which is kept in
//! the slots themselves ([`derivation`]), so that revoking takes no memory.
//!
//! # Locks
//! In this order, and each only for a bounded number of instructions:
//! 1. a table's; two tables' by address, the lower first;
//! 2. the [`Tree`](derivation::Tree) of an object.
//!
//! A lookup takes the first alone. Whoever holds a tree and wants a table only tries, and lets go of
//! the tree when somebody else has it. What is taken out of a slot is dropped with no lock held, by
//! [`Capability::dispose`]: it may be the last of its object.

pub mod derivation;
mod table;

#[cfg(test)]
pub use table::LEAF_SLOTS;
pub use table::{Emptied, Slots, Table, Where};

use crate::cpu::Cpu;
use crate::device::function::Function;
use crate::device::interrupt::Interrupt;
use crate::ipc::exception::Handler;
use crate::ipc::{Endpoint, Notification, Reply};
use crate::mm::object::{Attachment, MemoryObject};
use crate::object::Ref;
use crate::process::Process;
use crate::thread::Thread;
use abi::{Error, Kind, Rights};
use arch_contract::mutant::{self, Mutant};

/// What a capability names. Objects of which the machine has one are named by their kind.
#[derive(Clone)]
pub enum Object {
    Process(Ref<Process>),
    Thread(Ref<Thread>),
    Memory(Ref<MemoryObject>),
    Attachment(Ref<Attachment>),
    Endpoint(Ref<Endpoint>),
    Reply(Ref<Reply>),
    Notification(Ref<Notification>),
    Handler(Ref<Handler>),
    PciFunction(&'static Function),
    Interrupt(&'static Interrupt),
    Console,
    Timer,
    Archive,
    Machine,
}

impl Object {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Process(_) => Kind::Process,
            Self::Thread(_) => Kind::Thread,
            Self::Memory(_) => Kind::Memory,
            Self::Attachment(_) => Kind::Attachment,
            Self::Endpoint(_) => Kind::Endpoint,
            Self::Reply(_) => Kind::Reply,
            Self::Notification(_) => Kind::Notification,
            Self::Handler(_) => Kind::Handler,
            Self::PciFunction(_) => Kind::PciFunction,
            Self::Interrupt(_) => Kind::Interrupt,
            Self::Console => Kind::Console,
            Self::Timer => Kind::Timer,
            Self::Archive => Kind::Archive,
            Self::Machine => Kind::Machine,
        }
    }

    /// Whether a capability of it can carry a badge.
    fn takes_badge(&self) -> bool {
        match self {
            Self::Endpoint(_) => true,
            Self::Process(_) | Self::Thread(_) | Self::Memory(_) | Self::Attachment(_) => false,
            Self::Reply(_) | Self::Notification(_) | Self::Handler(_) => false,
            Self::PciFunction(_) | Self::Interrupt(_) => false,
            Self::Console | Self::Timer | Self::Archive | Self::Machine => false,
        }
    }

    /// What must be detached before its capability may go.
    fn detaches(&self) -> Option<&Ref<Attachment>> {
        match self {
            Self::Attachment(attachment) if !attachment.is_ended() && !mutant::is(Mutant::NeverDetached) => {
                Some(attachment)
            }
            _ => None,
        }
    }

    /// A number that all capabilities of one tree agree on, and few others have.
    fn key(&self) -> usize {
        match self {
            Self::Process(process) => Ref::address(process),
            Self::Thread(thread) => Ref::address(thread),
            Self::Memory(object) => memory_key(object),
            Self::Attachment(attachment) => memory_key(&attachment.object),
            Self::Endpoint(endpoint) => Ref::address(endpoint),
            Self::Reply(reply) => Ref::address(reply),
            Self::Notification(notification) => Ref::address(notification),
            Self::Handler(handler) => Ref::address(&handler.endpoint),
            // All that has to do with devices is derived from the machine's.
            Self::PciFunction(_) | Self::Interrupt(_) => Self::Machine.key(),
            Self::Console | Self::Timer | Self::Archive | Self::Machine => self.kind() as usize,
        }
    }
}

/// As [`Object::key`].
fn memory_key(object: &Ref<MemoryObject>) -> usize {
    match object.paged() {
        // Derived from that on its pager.
        Some(paged) => Ref::address(&paged.endpoint),
        None if object.is_of_device() => Object::Machine.key(),
        None => Ref::address(object),
    }
}

/// An object with rights.
#[derive(Clone)]
pub struct Capability {
    pub object: Object,
    pub rights: Rights,
    /// 0: none. What the object tells its holder of who used it. Set once.
    pub badge: u64,
}

impl Capability {
    /// One without a badge.
    pub fn new(object: Object, rights: Rights) -> Self {
        Self { object, rights, badge: 0 }
    }

    /// The same object with the rights that both name, and with `badge` if that is not 0.
    /// `BadArgument` if it has a badge already, or its object knows none; `WrongObject` for an
    /// attachment or a handler, which have one capability.
    pub fn derive(&self, rights: Rights, badge: u64) -> Result<Self, Error> {
        if let Object::Attachment(_) | Object::Handler(_) = self.object {
            return Err(Error::WrongObject);
        }
        let badge = match badge {
            0 => self.badge,
            _ if self.badge == 0 && self.object.takes_badge() => badge,
            _ => return Err(Error::BadArgument),
        };
        let rights = if mutant::is(Mutant::CopyAddsRights) { rights } else { self.rights & rights };
        Ok(Self { object: self.object.clone(), rights, badge })
    }

    /// It is put into a slot. An object that has to know when no capability names it any more, though
    /// others refer to it, counts them: up here, down in [`dispose`](Self::dispose).
    fn enter(&self) {
        match &self.object {
            Object::Endpoint(endpoint) => endpoint.named(self.rights),
            Object::Reply(reply) => reply.named(),
            Object::Notification(notification) => notification.named(self.rights),
            Object::PciFunction(function) => function.named(),
            Object::Interrupt(interrupt) => interrupt.named(),
            _ => {}
        }
    }

    /// The end of a capability that was taken out of its slot. The caller holds no lock: this may be
    /// the last reference to the object.
    pub fn dispose(self, cpu: &Cpu) {
        match &self.object {
            Object::Endpoint(endpoint) => Endpoint::unnamed(endpoint, cpu, self.rights),
            Object::Reply(reply) => reply.unnamed(cpu),
            Object::Notification(notification) => Notification::unnamed(notification, cpu, self.rights),
            Object::Handler(handler) => handler.end(),
            Object::PciFunction(function) => function.unnamed(cpu),
            Object::Interrupt(interrupt) => interrupt.unnamed(cpu),
            _ => {}
        }
    }
}
