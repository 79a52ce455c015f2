//! Calls on an address space.
//!
//! Mapping charges everything up front and then gives pages out in slices; a request of more than
//! one slice goes on in a kernel task, so that no call keeps interrupts off for long. Either all of
//! it is mapped in the end, or nothing.

use super::{Caller, Outcome, outcome};
use crate::cap::Object;
use crate::cpu::Cpu;
use crate::job::{self, Work};
use crate::mm::NoMemory;
use crate::mm::space::{Progress, Region, Space, SpaceError, UserRange};
use crate::object::Ref;
use crate::process::Process;
use abi::{Error, MAX_PUBLISH, PAGE_BYTES, Rights};
use arch_contract::addr::VirtAddr;
use arch_contract::irq::IrqsOff;
use arch_contract::pte::Protection;
use core::task::Poll;

/// Pages mapped or unmapped in one slice: at a page's clearing each, some 20 µs.
pub const SLICE_PAGES: u64 = 16;

pub(super) fn process(caller: &Caller<'_>, handle: u64) -> Result<Ref<Process>, Error> {
    match caller.capability(handle, Rights::MAP)?.object {
        Object::Process(process) => Ok(process),
        _ => Err(Error::WrongObject),
    }
}

/// What a refusal of the address space means to a program.
pub fn error(error: SpaceError) -> Error {
    match error {
        SpaceError::NoMemory => Error::NoMemory,
        SpaceError::BadRange | SpaceError::Taken | SpaceError::NotMapped => Error::BadAddress,
        SpaceError::Misaligned => Error::BadArgument,
    }
}

pub(super) fn map(caller: &Caller<'_>, args: [u64; 6]) -> Outcome {
    outcome(try_map(caller, args))
}

fn try_map(caller: &Caller<'_>, args: [u64; 6]) -> Result<Outcome, Error> {
    let process = process(caller, args[0])?;
    let (address, length) = (args[1], args[2]);
    if length == 0 || length % PAGE_BYTES != 0 || address % PAGE_BYTES != 0 {
        return Err(Error::BadArgument);
    }
    let protection = protection(args[3])?;
    let at = (address != 0).then_some(VirtAddr(address));
    perform(caller, process, || Work::Map(Map(Mapping::New { at, length, protection })), length)
}

/// `PTE-3`: there is no number for writable and executable.
pub(super) fn protection(number: u64) -> Result<Protection, Error> {
    match abi::Protection::from_number(number) {
        Some(abi::Protection::Read) => Ok(Protection::Read),
        Some(abi::Protection::ReadWrite) => Ok(Protection::ReadWrite),
        Some(abi::Protection::ReadExecute) => Ok(Protection::ReadExecute),
        None => Err(Error::BadArgument),
    }
}

pub(super) fn unmap(caller: &Caller<'_>, args: [u64; 6]) -> Outcome {
    outcome(try_unmap(caller, args))
}

fn try_unmap(caller: &Caller<'_>, args: [u64; 6]) -> Result<Outcome, Error> {
    let process = process(caller, args[0])?;
    let (address, length) = (args[1], args[2]);
    if length == 0 || length % PAGE_BYTES != 0 || address % PAGE_BYTES != 0 {
        return Err(Error::BadArgument);
    }
    let range = UserRange::new(VirtAddr(address), length).map_err(error)?;
    perform(caller, process, || Work::Unmap(Unmap(range)), length)
}

pub(super) fn publish(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let (address, length) = (args[0], args[1]);
    if length > MAX_PUBLISH {
        return Err(Error::BadArgument);
    }
    let space = &caller.process().space;
    space.publish_range(caller.cpu, VirtAddr(address), length).map(|()| 0).map_err(error)
}

/// Does a small job here, and one of more than a slice in a kernel task.
#[inline(always)]
pub(super) fn perform(
    caller: &Caller<'_>,
    process: Ref<Process>,
    work: impl FnOnce() -> Work,
    length: u64,
) -> Result<Outcome, Error> {
    let task = caller.begin(process, work)?;
    if length / PAGE_BYTES > SLICE_PAGES {
        return Ok(task);
    }
    loop {
        if let Poll::Ready(result) = job::slice(caller.cpu, &caller.thread, caller.irq) {
            return Ok(Outcome::Done(result));
        }
    }
}

/// Mapping new memory.
pub struct Map(Mapping);

enum Mapping {
    New {
        at: Option<VirtAddr>,
        length: u64,
        protection: Protection,
    },
    Populating {
        region: Region,
        done: u64,
    },
    /// Memory ran out: what was mapped goes back.
    Undoing {
        region: Region,
    },
}

impl Map {
    /// One slice of it.
    pub fn slice(&mut self, space: &Space, cpu: &Cpu, irq: &IrqsOff) -> Poll<Result<u64, Error>> {
        match &mut self.0 {
            Mapping::New { at, length, protection } => match space.reserve(cpu, *at, *length, *protection) {
                Ok(region) => self.0 = Mapping::Populating { region, done: 0 },
                Err(refused) => return Poll::Ready(Err(error(refused))),
            },
            Mapping::Populating { region, done } => {
                match space.populate(cpu, region, *done, SLICE_PAGES, irq) {
                    Ok(pages) => {
                        *done += pages;
                        if *done * PAGE_BYTES >= region.len() {
                            return Poll::Ready(Ok(region.start().0));
                        }
                    }
                    Err(NoMemory) => self.0 = Mapping::Undoing { region: *region },
                }
            }
            Mapping::Undoing { region } => {
                if space.release(cpu, (*region).into(), SLICE_PAGES, irq) != Ok(Progress::More) {
                    return Poll::Ready(Err(Error::NoMemory));
                }
            }
        }
        Poll::Pending
    }
}

/// Giving memory back.
pub struct Unmap(UserRange);

impl Unmap {
    /// One slice of it.
    #[inline(always)]
    pub fn slice(&mut self, space: &Space, cpu: &Cpu, irq: &IrqsOff) -> Poll<Result<u64, Error>> {
        match space.release(cpu, self.0, SLICE_PAGES, irq) {
            Ok(Progress::More) => Poll::Pending,
            Ok(Progress::Done) => Poll::Ready(Ok(0)),
            Err(refused) => Poll::Ready(Err(error(refused))),
        }
    }
}
