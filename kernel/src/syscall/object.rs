//! Calls on memory objects: making one, and mapping it into an address space.

use super::ipc::endpoint;
use super::memory::{perform, process, protection};
use super::{Caller, Outcome, SLICE_PAGES, outcome, space_error};
use crate::cap::{Capability, Object, Table, Where};
use crate::cpu::Cpu;
use crate::job::Work;
use crate::mm::NoMemory;
use crate::mm::object::{Attachment, MemoryObject};
use crate::mm::paged::Paged;
use crate::mm::space::{AttachmentId, Progress, Region};
use crate::object::Ref;
use crate::process::Process;
use abi::{Error, Handle, MAX_MEMORY, MAX_PAGED, MAX_SUPPLY, PAGE_BYTES, Rights};
use arch_contract::addr::VirtAddr;
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::pte::Protection;
use core::task::Poll;

pub(super) fn create(caller: &Caller<'_>, args: [u64; 6]) -> Outcome {
    let length = args[0];
    if length == 0 || length > MAX_MEMORY || !length.is_multiple_of(PAGE_BYTES) {
        return Outcome::Done(Err(Error::BadArgument));
    }
    let maker = caller.process();
    let object = Some(MemoryObject::new(maker.charged()));
    let work = || Work::Create(Create { object, pages: length / PAGE_BYTES });
    outcome(perform(caller, maker.clone(), work, length))
}

pub(super) fn create_paged(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let length = args[0];
    if length == 0 || length > MAX_PAGED || !length.is_multiple_of(PAGE_BYTES) {
        return Err(Error::BadArgument);
    }
    let (endpoint, badge) = endpoint(caller, args[1], Rights::WRITE)?;
    let maker = caller.process();
    let made = Paged::new(maker.charged(), (length / PAGE_BYTES) as usize, endpoint, badge)
        .and_then(|paged| MemoryObject::of_pager(maker.charged(), paged))
        .and_then(MemoryObject::shared);
    let object = made.map_err(|NoMemory| Error::NoMemory)?;
    let rights = Rights::READ | Rights::WRITE | Rights::EXECUTE | Rights::MANAGE;
    // From the capability by which the pager is asked: who takes that back takes back the asking.
    let make = |origin: &Capability| match asks(origin, &object) && origin.rights.contains(Rights::WRITE) {
        true => Ok(Capability::new(Object::Memory(object.clone()), rights)),
        false => Err(Error::BadHandle),
    };
    let (table, origin) = (&maker.table, caller.handle(args[1])?);
    table.derive(caller.cpu, origin, make, (table, Where::Anywhere), caller.irq).map(|made| made.0.into())
}

/// Whether pages of `object` are asked for by a capability like `origin`.
fn asks(origin: &Capability, object: &MemoryObject) -> bool {
    match (&origin.object, object.paged()) {
        (Object::Endpoint(pager), Some(paged)) => {
            Ref::ptr_eq(&paged.endpoint, pager) && paged.badge == origin.badge
        }
        _ => false,
    }
}

pub(super) fn supply(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let [memory, to, source, from, length, _] = args;
    // With the table held: a pager is waited for, and nothing has to be counted.
    let slots = caller.process().table.lock(caller.cpu);
    let object = |handle, rights| match &slots.get(caller.handle(handle)?, rights)?.object {
        Object::Memory(object) => Ok(object),
        _ => Err(Error::WrongObject),
    };
    let memory = object(memory, Rights::MANAGE)?;
    // Whoever maps it may do all of that to the pages.
    let source = object(source, Rights::READ | Rights::WRITE | Rights::EXECUTE)?;
    let Some(paged) = memory.paged().filter(|_| source.has_frames()) else { return Err(Error::WrongObject) };
    let whole = [to, from, length].iter().all(|value| value.is_multiple_of(PAGE_BYTES));
    let inside =
        |at: u64, object: &MemoryObject| at.checked_add(length).is_some_and(|end| end <= object.length());
    if !whole || length == 0 || length > MAX_SUPPLY || !inside(to, memory) || !inside(from, source) {
        return Err(Error::BadArgument);
    }
    paged.supply(to, source, from, length / PAGE_BYTES).map(|()| 0)
}

/// Making a memory object.
pub struct Create {
    /// `None` once it is made, or refused.
    object: Option<MemoryObject>,
    pages: u64,
}

impl Create {
    /// One slice of it, for the process that has `table`.
    pub fn slice(&mut self, table: &Table, cpu: &Cpu) -> Poll<Result<u64, Error>> {
        let Some(object) = &mut self.object else {
            // It was refused. What there was of a large one goes before the call returns.
            let large = self.pages > SLICE_PAGES;
            return match large && cpu.kernel.memory.bury(SLICE_PAGES) == Progress::More {
                true => Poll::Pending,
                false => Poll::Ready(Err(Error::NoMemory)),
            };
        };
        match object.grow(self.pages, SLICE_PAGES) {
            Ok(Progress::More) => return Poll::Pending,
            Ok(Progress::Done) => {}
            Err(NoMemory) => {
                self.object = None;
                return Poll::Pending;
            }
        }
        let rights = Rights::READ | Rights::WRITE | Rights::EXECUTE;
        let made = self.object.take().ok_or(Error::Gone).and_then(|object| {
            let object = object.shared().map_err(|NoMemory| Error::NoMemory)?;
            table.insert(cpu, Capability::new(Object::Memory(object), rights))
        });
        Poll::Ready(made.map(|handle| handle.0.into()))
    }
}

pub(super) fn attach(caller: &Caller<'_>, args: [u64; 6]) -> Outcome {
    outcome(try_attach(caller, args))
}

fn try_attach(caller: &Caller<'_>, args: [u64; 6]) -> Result<Outcome, Error> {
    let [target, memory, address, offset, length, wanted] = args;
    let process = process(caller, target)?;
    let protection = protection(wanted)?;
    let rights = match protection {
        _ if mutant::is(Mutant::AttachedWithoutRight) => Rights::empty(),
        Protection::Read => Rights::READ,
        Protection::ReadWrite => Rights::READ | Rights::WRITE,
        Protection::ReadExecute => Rights::READ | Rights::EXECUTE,
    };
    let Object::Memory(object) = caller.capability(memory, rights)?.object else {
        return Err(Error::WrongObject);
    };
    let whole = [address, offset, length].iter().all(|value| value.is_multiple_of(PAGE_BYTES));
    if !whole || length == 0 || offset.checked_add(length).is_none_or(|end| end > object.length()) {
        return Err(Error::BadArgument);
    }
    let attach = Attach {
        maker: caller.process().clone(),
        origin: caller.handle(memory)?,
        rights,
        object,
        id: caller.cpu.kernel.next_attachment().ok_or(Error::NoMemory)?,
        step: Step::New { at: (address != 0).then_some(VirtAddr(address)), offset, length, protection },
    };
    perform(caller, process, || Work::Attach(attach), length)
}

/// Mapping a memory object.
pub struct Attach {
    /// Who asked, and gets the handle.
    maker: Ref<Process>,
    /// What the attachment is derived from, if it has `rights` in the end.
    origin: Handle,
    rights: Rights,
    object: Ref<MemoryObject>,
    id: AttachmentId,
    step: Step,
}

enum Step {
    New {
        at: Option<VirtAddr>,
        offset: u64,
        length: u64,
        protection: Protection,
    },
    /// It has its handle, so a revocation finds it from the first page on.
    Populating {
        region: Region,
        done: u64,
        made: Made,
    },
    /// There was no memory for it: what was mapped is unmapped, then its handle goes.
    Undoing(Made),
    /// It was refused before anything was mapped.
    Refused {
        region: Region,
        error: Error,
    },
}

/// What was made, and where it stands in its maker's table.
#[derive(Clone)]
struct Made {
    attachment: Ref<Attachment>,
    handle: Handle,
}

impl Attach {
    /// One slice of it, in the space of `process`.
    pub fn slice(&mut self, process: &Ref<Process>, cpu: &Cpu, irq: &IrqsOff) -> Poll<Result<u64, Error>> {
        let space = &process.space;
        match &mut self.step {
            Step::New { at, offset, length, protection } => {
                let what = (self.id, self.object.clone(), *offset);
                match space.attach(cpu, *at, *length, *protection, what) {
                    Ok(region) => self.step = self.name(process, region, cpu, irq),
                    Err(refused) => return Poll::Ready(Err(space_error(refused))),
                }
            }
            Step::Populating { region, done, made } => {
                match space.populate(cpu, region, *done, SLICE_PAGES, irq) {
                    Ok(pages) => {
                        *done += pages;
                        if *done * PAGE_BYTES >= region.len() {
                            return Poll::Ready(Ok(made.handle.0.into()));
                        }
                    }
                    Err(NoMemory) => self.step = Step::Undoing(made.clone()),
                }
            }
            Step::Undoing(Made { attachment, handle }) => {
                if !attachment.is_ended() {
                    attachment.detach(cpu, irq);
                } else {
                    self.maker.table.take_attachment(cpu, *handle, attachment);
                    return Poll::Ready(Err(Error::NoMemory));
                }
            }
            Step::Refused { region, error } => {
                if space.detach(cpu, self.id, (*region).into(), SLICE_PAGES, irq) == Progress::Done {
                    return Poll::Ready(Err(*error));
                }
            }
        }
        Poll::Pending
    }

    /// Makes an object of it, derived from what allowed it, if that is still there.
    fn name(&self, process: &Ref<Process>, region: Region, cpu: &Cpu, irq: &IrqsOff) -> Step {
        match self.try_name(process, &region, cpu, irq) {
            Ok(made) => Step::Populating { region, done: 0, made },
            Err(error) => Step::Refused { region, error },
        }
    }

    fn try_name(
        &self,
        process: &Ref<Process>,
        region: &Region,
        cpu: &Cpu,
        irq: &IrqsOff,
    ) -> Result<Made, Error> {
        let object = self.object.clone();
        let attachment = Attachment::new(object, process.clone(), self.id, (*region).into());
        let budget = &self.maker.budget;
        let attachment = Ref::try_new(self.maker.memory(), Some(budget), attachment)
            .map_err(|NoMemory| Error::NoMemory)?;
        let table = &self.maker.table;
        let make = |origin: &Capability| match &origin.object {
            Object::Memory(object)
                if Ref::ptr_eq(object, &self.object) && origin.rights.contains(self.rights) =>
            {
                Ok(Capability::new(Object::Attachment(attachment.clone()), Rights::empty()))
            }
            _ => Err(Error::BadHandle),
        };
        let handle = table.derive(cpu, self.origin, make, (table, Where::Anywhere), irq)?;
        Ok(Made { attachment, handle })
    }
}
