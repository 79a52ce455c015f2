//! What processes are given.
//!
//! An object is made once, and each use of it gets a handle of its own, with the rights and the badge of
//! that use; the first handle is closed then. So an object is there as long as somebody may use it,
//! and an endpoint has a receiver as long as its server may come back.

use manifest::{Manifest, ObjectKind, USUAL, Use};
use user_rt::alloc::vec::Vec;
use user_rt::ipc::{Endpoint, Notification};
use user_rt::shared::Memory;
use user_rt::{Command, Error, Handle, Kind, Object, Rights, initial};

/// Whatever it is: only handed on.
#[derive(Debug)]
pub enum Any {}
impl Kind for Any {}

/// A capability to be handed to a process, each time it is started.
pub struct Capability {
    pub name: &'static str,
    pub handle: Object<Any>,
    rights: Rights,
    /// Which of the usual slots it belongs in, if in one.
    usual: Option<usize>,
}

/// What an object is until every process has its handle.
enum Made {
    /// One that the supervisor was given, and keeps.
    Given(Handle),
    Own(Object<Any>),
}

impl Made {
    fn handle(&self) -> Handle {
        match self {
            Self::Given(handle) => *handle,
            Self::Own(object) => object.handle(),
        }
    }
}

/// Makes the objects; gives what each process is given, in the order of the processes.
pub fn of_all(manifest: &Manifest<'static>, requests: &Endpoint) -> Result<Vec<Vec<Capability>>, Error> {
    let make = |kind| {
        Ok(match kind {
            ObjectKind::Console => Made::Given(initial::CONSOLE),
            ObjectKind::Timer => Made::Given(initial::TIMER),
            ObjectKind::Archive => Made::Given(initial::ARCHIVE),
            ObjectKind::Machine => Made::Given(initial::MACHINE),
            ObjectKind::Supervisor => Made::Given(requests.handle()),
            ObjectKind::Endpoint => Made::Own(any(Endpoint::new()?)),
            ObjectKind::Notification => Made::Own(any(Notification::new()?)),
            ObjectKind::Memory(bytes) => Made::Own(any(Memory::new(bytes as usize)?)),
        })
    };
    let objects: Vec<Made> =
        manifest.objects.iter().map(|object| make(object.kind)).collect::<Result<_, Error>>()?;
    let of = |a_use: &Use<'static>| {
        let object = objects.get(a_use.object as usize).ok_or(Error::NotFound)?;
        let rights = Rights::from_bits_truncate(a_use.rights);
        let handle = user_rt::copy_handle(object.handle(), rights, a_use.badge)?;
        let usual = Some(a_use.object as usize).filter(|&index| index < USUAL);
        Ok(Capability { name: a_use.name, handle: Object::from_handle(handle), rights, usual })
    };
    manifest.processes.iter().map(|process| process.uses.iter().map(of).collect()).collect()
}

/// Forgets the kind.
fn any<K: Kind>(object: Object<K>) -> Object<Any> {
    Object::from_handle(object.into_handle())
}

/// Hands them to a process that is to be started.
pub fn grant<'a>(capabilities: &[Capability], mut command: Command<'a>) -> Command<'a> {
    for slot in 0..USUAL {
        let usual = capabilities.iter().find(|capability| capability.usual == Some(slot));
        let (handle, rights) =
            usual.map_or((Handle::NONE, Rights::empty()), |it| (it.handle.handle(), it.rights));
        command = command.grant(handle, rights);
    }
    for capability in capabilities.iter().filter(|capability| capability.usual.is_none()) {
        command = command.grant_named(capability.name, capability.handle.handle(), capability.rights);
    }
    command
}
