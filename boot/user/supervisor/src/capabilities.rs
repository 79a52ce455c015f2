//! What processes are given.
//!
//! An object is made once, and each use of it gets a handle of its own, with the rights and the badge of
//! that use; the first handle is closed then. So an object is there as long as somebody may use it,
//! and an endpoint has a receiver as long as its server may come back.
//!
//! A PCI function is the exception. When nobody holds it any more it is reset, and that is wanted between
//! two lives of its driver: so the driver alone holds it, and it is found anew each time.

use core::time::Duration;
use manifest::{Manifest, ObjectKind, USUAL, Use, Which};
use user_rt::alloc::vec::Vec;
use user_rt::device::PciFunction;
use user_rt::ipc::{Endpoint, Notification};
use user_rt::shared::Memory;
use user_rt::{ARCHIVE, Command, Error, Handle, Kind, MACHINE, Object, Process, Rights, TIMER, initial};

/// Whatever it is: only handed on.
#[derive(Debug)]
pub enum Any {}
impl Kind for Any {}

/// A capability to be handed to a process, each time it is started.
pub struct Capability {
    name: &'static str,
    source: Source,
    rights: Rights,
    /// Which of the usual slots it belongs in, if in one.
    usual: Option<usize>,
}

/// Where its handle comes from.
enum Source {
    Handle(Object<Any>),
    Function(Which),
}

/// What an object is until every process has its handle.
enum Made {
    /// One that the supervisor was given, and keeps.
    Given(Handle),
    Own(Object<Any>),
    Function(Which),
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
            ObjectKind::Function(which) => Made::Function(which),
        })
    };
    let objects: Vec<Made> =
        manifest.objects.iter().map(|object| make(object.kind)).collect::<Result<_, Error>>()?;
    let of = |a_use: &Use<'static>| {
        let object = objects.get(a_use.object as usize).ok_or(Error::NotFound)?;
        let rights = Rights::from_bits_truncate(a_use.rights);
        let copy = |handle| user_rt::copy_handle(handle, rights, a_use.badge).map(Object::from_handle);
        let source = match object {
            Made::Given(handle) => Source::Handle(copy(*handle)?),
            Made::Own(object) => Source::Handle(copy(object.handle())?),
            Made::Function(which) => Source::Function(*which),
        };
        let usual = Some(a_use.object as usize).filter(|&index| index < USUAL);
        Ok(Capability { name: a_use.name, source, rights, usual })
    };
    manifest.processes.iter().map(|process| process.uses.iter().map(of).collect()).collect()
}

/// Forgets the kind.
fn any<K: Kind>(object: Object<K>) -> Object<Any> {
    Object::from_handle(object.into_handle())
}

/// Starts a process with them.
pub fn start(capabilities: &[Capability], mut command: Command<'_>) -> Result<Process, Error> {
    // The process has its own handles when it has started; these are closed then.
    let mut found = Vec::new();
    for slot in 0..USUAL {
        let usual = capabilities.iter().find(|capability| capability.usual == Some(slot));
        command = match usual {
            Some(Capability { source: Source::Handle(object), rights, .. }) => {
                command.grant(object.handle(), *rights)
            }
            _ => command.grant(Handle::NONE, Rights::empty()),
        };
    }
    for capability in capabilities.iter().filter(|capability| capability.usual.is_none()) {
        let handle = match &capability.source {
            Source::Handle(object) => object.handle(),
            Source::Function(which) => {
                let function = function(*which)?;
                let handle = function.handle();
                found.push(function);
                handle
            }
        };
        command = command.grant_named(capability.name, handle, capability.rights);
    }
    command.start(&ARCHIVE)
}

/// How long the last holder of a function may take to be taken apart.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);

/// The first function that is one of these. Errors: `NotFound`; `Busy` for good; those of `pci_function`.
fn function(which: Which) -> Result<PciFunction, Error> {
    // A process that has ended may have its handles for a while: its function would be joined, not reset.
    MACHINE.quiesce()?;
    let late = TIMER.now()? + PATIENCE;
    loop {
        let mut missed = Error::NotFound;
        for index in 0.. {
            let function = match MACHINE.pci_function(index) {
                Ok(function) => function,
                Err(Error::NotFound) => break,
                // Not to be looked at: it may be another one's.
                Err(Error::Busy) => {
                    missed = Error::Busy;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let info = function.info()?;
            let wanted = match which {
                Which::Id { vendor, device } => (info.vendor, info.device_id) == (vendor, device),
                Which::Class(class) => info.class >> 8 == u32::from(class),
            };
            if wanted {
                return Ok(function);
            }
        }
        if missed != Error::Busy || TIMER.now()? >= late {
            return Err(missed);
        }
        TIMER.sleep(PAUSE)?;
    }
}
