//! Calls on PCI functions, their interrupts, and memory they reach.

use super::memory::perform;
use super::{Caller, Outcome, SLICE_PAGES, ipc, outcome};
use crate::cap::{Capability, Object, Where};
use crate::cpu::Cpu;
use crate::device::dma::Dma;
use crate::device::function::Function;
use crate::device::interrupt::Interrupt;
use crate::device::pci::{Bar, Config, Signals};
use crate::job::Work;
use crate::mm::NoMemory;
use crate::mm::object::MemoryObject;
use crate::mm::space::Progress;
use crate::object::Ref;
use crate::process::Process;
use abi::device::{BarKind, Command, Interrupts, PciBar, PciInfo};
use abi::{Error, Handle, MAX_DMA, PAGE_BYTES, Rights};
use arch_contract::device::{BusAddr, CONFIG_BYTES, Width};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use core::task::Poll;
use zerocopy::{FromZeros, IntoBytes};

/// What whoever holds a function can do with what he makes of it.
const ALL: Rights = Rights::READ.union(Rights::WRITE).union(Rights::MANAGE);
const DATA: Rights = Rights::READ.union(Rights::WRITE);

fn held(caller: &Caller<'_>, handle: u64, rights: Rights) -> Result<&'static Function, Error> {
    match caller.capability(handle, rights)?.object {
        Object::PciFunction(function) => Ok(function),
        _ => Err(Error::WrongObject),
    }
}

fn named(caller: &Caller<'_>, handle: u64) -> Result<&'static Interrupt, Error> {
    match caller.capability(handle, Rights::MANAGE)?.object {
        Object::Interrupt(interrupt) => Ok(interrupt),
        _ => Err(Error::WrongObject),
    }
}

/// A handle on `object`, which is part of `function`, derived from `origin`, if that still names the function and
/// allows it.
fn derive(
    process: &Process,
    cpu: &Cpu,
    (origin, function): (Handle, &'static Function),
    (object, rights): (Object, Rights),
    irq: &IrqsOff,
) -> Result<u64, Error> {
    let make = |origin: &Capability| match origin.object {
        Object::PciFunction(of) if core::ptr::eq(of, function) && origin.rights.contains(Rights::MANAGE) => {
            Ok(Capability::new(object.clone(), rights))
        }
        _ => Err(Error::BadHandle),
    };
    let table = &process.table;
    table.derive(cpu, origin, make, (table, Where::Anywhere), irq).map(|handle| handle.0.into())
}

pub(super) fn function(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    super::process::machine(caller, args[0], Rights::MANAGE)?;
    let functions = &caller.cpu.kernel.devices.functions;
    let function = usize::try_from(args[1]).ok().and_then(|index| functions.get(index));
    let function = function.ok_or(Error::NotFound)?;
    // Until there is a capability, or none comes to be.
    function.claim()?;
    let make = |origin: &Capability| match origin.object {
        Object::Machine if origin.rights.contains(Rights::MANAGE) => {
            Ok(Capability::new(Object::PciFunction(function), ALL))
        }
        _ => Err(Error::BadHandle),
    };
    let table = &caller.process().table;
    let origin = caller.handle(args[0])?;
    let made = table.derive(caller.cpu, origin, make, (table, Where::Anywhere), caller.irq);
    function.unnamed(caller.cpu);
    made.map(|handle| handle.0.into())
}

pub(super) fn info(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let function = held(caller, args[0], Rights::READ)?;
    let (place, found) = (function.place, &function.found);
    let mut info = PciInfo::new_zeroed();
    (info.bus, info.device, info.function) = (place.bus, place.device, place.function);
    (info.vendor, info.device_id, info.revision) = (found.vendor, found.device, found.revision);
    (info.subsystem_vendor, info.subsystem, info.class) =
        (found.subsystem_vendor, found.subsystem, found.class);
    info.interrupts = match found.signals {
        Signals::None => Interrupts::None,
        Signals::Line { .. } => Interrupts::Line,
        Signals::Msi { .. } => Interrupts::Msi,
        Signals::MsiX { .. } => Interrupts::MsiX,
    } as u32;
    info.vectors = function.interrupts.len() as u32;
    for (told, bar) in info.bars.iter_mut().zip(&found.bars) {
        let (kind, prefetchable, length) = match *bar {
            Bar::None => (BarKind::None, false, 0),
            Bar::Io { len } => (BarKind::Io, false, len),
            Bar::Memory { len, prefetchable, .. } => (BarKind::Memory, prefetchable, len),
        };
        *told = PciBar { kind: kind as u32, prefetchable: prefetchable.into(), length };
    }
    caller.write(args[1], info.as_bytes()).map(|()| 0)
}

/// An access to configuration space.
fn access(offset: u64, width: u64) -> Result<(u16, Width), Error> {
    let width = match width {
        1 => Width::Byte,
        2 => Width::Half,
        4 => Width::Word,
        _ => return Err(Error::BadArgument),
    };
    let offset = u16::try_from(offset).map_err(|_| Error::BadArgument)?;
    let fits = offset < CONFIG_BYTES && offset.is_multiple_of(width.bytes());
    if fits { Ok((offset, width)) } else { Err(Error::BadArgument) }
}

fn config(caller: &Caller<'_>, function: &Function) -> Config {
    Config { machine: caller.cpu.kernel.machine, place: function.place }
}

pub(super) fn read(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let function = held(caller, args[0], Rights::READ)?;
    let (offset, width) = access(args[1], args[2])?;
    let _hardware = function.held(caller.cpu)?;
    Ok(config(caller, function).read(offset, width).into())
}

pub(super) fn write(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let function = held(caller, args[0], Rights::WRITE)?;
    let (offset, width) = access(args[1], args[2])?;
    if !function.found.may_write(offset, width) {
        return Err(Error::NoRight);
    }
    let _hardware = function.held(caller.cpu)?;
    config(caller, function).write(offset, width, args[3] as u32);
    Ok(0)
}

pub(super) fn bar(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let function = held(caller, args[0], Rights::MANAGE)?;
    let bar = usize::try_from(args[1]).map_err(|_| Error::BadArgument)?;
    let Some(Bar::Memory { .. }) = function.found.bars.get(bar) else { return Err(Error::BadArgument) };
    let pages = function.found.pages(bar).ok_or(Error::NotSupported)?;
    let object = MemoryObject::registers(caller.process().charged(), pages, function.remain());
    let object = object.shared().map_err(|NoMemory| Error::NoMemory)?;
    let origin = (caller.handle(args[0])?, function);
    derive(caller.process(), caller.cpu, origin, (Object::Memory(object), DATA), caller.irq)
}

pub(super) fn command(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let function = held(caller, args[0], Rights::MANAGE)?;
    let set = Command::from_bits(args[1]).ok_or(Error::BadArgument)?;
    function.set_command(caller.cpu, set).map(|before| before.bits())
}

pub(super) fn interrupt(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let function = held(caller, args[0], Rights::MANAGE)?;
    let interrupt = function.interrupt(caller.cpu, args[1])?;
    let origin = (caller.handle(args[0])?, function);
    derive(caller.process(), caller.cpu, origin, (Object::Interrupt(interrupt), ALL), caller.irq)
}

pub(super) fn bind(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let interrupt = named(caller, args[0])?;
    let to = match args[1] {
        handle if handle == u64::from(Handle::NONE.0) => None,
        _ if args[2] == 0 => return Err(Error::BadArgument),
        handle => Some((ipc::notification(caller, handle, Rights::WRITE)?, args[2])),
    };
    interrupt.bind(caller.cpu, to).map(|()| 0)
}

pub(super) fn acknowledge(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    named(caller, args[0])?.acknowledge(caller.cpu).map(|()| 0)
}

/// `DEV-4`: to whoever holds both.
pub(super) fn dma_address(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let function = held(caller, args[0], Rights::READ)?;
    let Object::Memory(object) = caller.capability(args[1], Rights::READ)?.object else {
        return Err(Error::WrongObject);
    };
    let dma = object.as_dma().ok_or(Error::WrongObject)?;
    if args[2] >= dma.length {
        return Err(Error::BadArgument);
    }
    let at = if mutant::is(Mutant::AddressToAnyHolder) {
        dma.any_address(args[2])
    } else {
        dma.address(function.place, args[2])
    };
    at.map(|BusAddr(at)| at).ok_or(Error::WrongObject)
}

pub(super) fn create_dma(caller: &Caller<'_>, args: [u64; 6]) -> Outcome {
    outcome(try_create_dma(caller, args))
}

fn try_create_dma(caller: &Caller<'_>, args: [u64; 6]) -> Result<Outcome, Error> {
    let function = held(caller, args[0], Rights::MANAGE)?;
    let length = args[1];
    if length == 0 || length > MAX_DMA || !length.is_multiple_of(PAGE_BYTES) {
        return Err(Error::BadArgument);
    }
    let maker = caller.process().clone();
    let dma = Dma::take(&maker.charged(), length).map_err(|NoMemory| Error::NoMemory)?;
    let create = DmaCreate { function, origin: caller.handle(args[0])?, dma: Some(dma), cleared: 0 };
    perform(caller, maker, || Work::DmaCreate(create), length)
}

/// Making memory that a function reaches.
pub struct DmaCreate {
    function: &'static Function,
    origin: Handle,
    /// `None` once it is made.
    dma: Option<Ref<Dma>>,
    /// In pages.
    cleared: u64,
}

impl DmaCreate {
    /// One slice of it, for `process`.
    pub fn slice(&mut self, process: &Process, cpu: &Cpu, irq: &IrqsOff) -> Poll<Result<u64, Error>> {
        let Some(dma) = &self.dma else { return Poll::Ready(Err(Error::Gone)) };
        // SAFETY: `try_create_dma` has made it, and only this knows of it.
        if unsafe { dma.clear(self.cleared, SLICE_PAGES) } == Progress::More {
            self.cleared += SLICE_PAGES;
            return Poll::Pending;
        }
        Poll::Ready(self.dma.take().ok_or(Error::Gone).and_then(|dma| self.name(dma, process, cpu, irq)))
    }

    fn name(&self, dma: Ref<Dma>, process: &Process, cpu: &Cpu, irq: &IrqsOff) -> Result<u64, Error> {
        let object = MemoryObject::dma(process.charged(), dma.clone()).shared();
        let object = Object::Memory(object.map_err(|NoMemory| Error::NoMemory)?);
        self.function.reach(cpu, &dma, irq)?;
        let named = derive(process, cpu, (self.origin, self.function), (object, DATA), irq);
        if named.is_err() {
            self.function.forget(cpu, &dma);
        }
        named
    }
}
