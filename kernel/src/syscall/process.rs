//! Calls on processes, on the archive they come from, and on the machine they run on.

use super::{Caller, Outcome, outcome};
use crate::cap::{Capability, Object};
use crate::mm::NoMemory;
use crate::mm::list::List;
use crate::object::Ref;
use crate::panic;
use crate::process::{Name, Process};
use crate::program::{self, Granted, Request};
use crate::sched::limit::{self, Limit};
use crate::sched::{
    self,
    task::{Task, slices},
};
use crate::sync::Ordering;
use crate::thread::{Standing, Thread};
use abi::{
    ARCHIVE_CHUNK, CpusThat, Ending, Error, ExitReport, Grant, MAX_ARGS, MAX_GRANTS, MAX_NAME, ProcessInfo,
    Rights, SpawnRequest,
};
use arch_contract::mutant::{self, Mutant};
use arrayvec::ArrayVec;
use core::task::Poll;
use zerocopy::{FromZeros, IntoBytes};

pub(super) fn process(caller: &Caller<'_>, handle: u64, rights: Rights) -> Result<Ref<Process>, Error> {
    match caller.capability(handle, rights)?.object {
        Object::Process(process) => Ok(process),
        _ => Err(Error::WrongObject),
    }
}

fn archive(caller: &Caller<'_>, handle: u64, rights: Rights) -> Result<(), Error> {
    match caller.capability(handle, rights)?.object {
        Object::Archive => Ok(()),
        _ => Err(Error::WrongObject),
    }
}

pub(super) fn archive_entry(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    archive(caller, args[0], Rights::READ)?;
    let index = usize::try_from(args[1]).map_err(|_| Error::NotFound)?;
    let name = caller.cpu.kernel.archive.name(index).ok_or(Error::NotFound)?;
    let shown = name.len().min(usize::try_from(args[3]).unwrap_or(usize::MAX));
    caller.write(args[2], &name.as_bytes()[..shown])?;
    Ok(name.len() as u64)
}

pub(super) fn archive_read(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    archive(caller, args[0], Rights::READ)?;
    let index = usize::try_from(args[1]).map_err(|_| Error::NotFound)?;
    let file = caller.cpu.kernel.archive.entries().nth(index).ok_or(Error::NotFound)?.file;
    let rest = usize::try_from(args[2]).ok().and_then(|offset| file.get(offset..)).unwrap_or_default();
    let length = rest.len().min(usize::try_from(args[4]).unwrap_or(usize::MAX)).min(ARCHIVE_CHUNK);
    caller.write(args[3], &rest[..length])?;
    Ok(length as u64)
}

pub(super) fn spawn(caller: &Caller<'_>, args: [u64; 6]) -> Outcome {
    outcome(try_spawn(caller, args))
}

fn try_spawn(caller: &Caller<'_>, args: [u64; 6]) -> Result<Outcome, Error> {
    archive(caller, args[0], Rights::EXECUTE)?;
    let request = read_request(caller, args[1])?;
    let cpu = caller.cpu;
    let kernel = cpu.kernel;
    let thread = caller.thread.clone();
    let (charged, priority) = (thread.process().charged(), thread.priority());
    let work = async move {
        let loaded = program::load(kernel, request).await;
        let mut done = Some((thread, loaded));
        slices(move |cpu, _| {
            if let Some((thread, loaded)) = done.take() {
                let result = loaded.and_then(|first| hand_over(cpu, &thread, first));
                sched::complete(cpu, thread, result);
            }
            Poll::Ready(())
        })
        .await;
    };
    let task = Task::try_new(cpu, charged, priority, work).map_err(|NoMemory| Error::NoMemory)?;
    sched::hand_to_task(cpu, task, caller.irq);
    Ok(Outcome::Off)
}

/// Gives the maker its handle, then lets the child run. A maker whose table is full has no child,
/// and one that was killed meanwhile has none either: nobody could ever end it.
fn hand_over(cpu: &crate::cpu::Cpu, maker: &Thread, first: Ref<Thread>) -> Result<u64, Error> {
    let child = first.process().clone();
    let rights = Rights::READ | Rights::WAIT | Rights::MANAGE;
    let capability = Capability::new(Object::Process(child.clone()), rights);
    let inserted = match maker.is_doomed() {
        true => Err(Error::Gone),
        false => maker.process().table.insert(cpu, capability),
    };
    match inserted {
        Ok(handle) => {
            if mutant::is(Mutant::M21) {
                let commands = maker.process().space.shared().commands().load(Ordering::Relaxed);
                child.space.shared().commands().store(commands, Ordering::Relaxed);
            }
            program::start(cpu, first);
            Ok(handle.0 as u64)
        }
        Err(error) => {
            Process::condemn(&child, cpu, ExitReport::new(Ending::Killed, abi::KILL_STATUS));
            Err(error)
        }
    }
}

/// Copies in and checks all that a spawn names, before anything is done.
fn read_request(caller: &Caller<'_>, at: u64) -> Result<Request, Error> {
    let mut request = SpawnRequest::new_zeroed();
    caller.read(request.as_mut_bytes(), at)?;

    let mut name = [0; MAX_NAME];
    let name = name.get_mut(..request.name_len as usize).ok_or(Error::BadArgument)?;
    caller.read(name, request.name)?;
    let name = core::str::from_utf8(name).map_err(|_| Error::BadArgument)?;
    let name = Name::from(name).map_err(|_| Error::BadArgument)?;

    if request.args_len == 0 || request.args_len > MAX_ARGS as u64 {
        return Err(Error::BadArgument);
    }
    let mut args = List::new(caller.process().charged());
    args.fill_to(request.args_len as usize, || 0).map_err(|NoMemory| Error::NoMemory)?;
    caller.read(&mut args, request.args)?;
    if args.last() != Some(&0) {
        return Err(Error::BadArgument);
    }

    let mut wanted = [Grant::new_zeroed(); MAX_GRANTS];
    let wanted = wanted.get_mut(..request.grants_len as usize).ok_or(Error::BadArgument)?;
    caller.read(wanted.as_mut_bytes(), request.grants)?;
    let process = caller.process();
    let mut grants = ArrayVec::new();
    for grant in wanted.iter() {
        let rights = Rights::from_bits(grant.rights).ok_or(Error::BadArgument)?;
        let granted = match grant.handle {
            abi::Handle::NONE => None,
            handle => {
                caller.capability(handle.0.into(), Rights::empty())?;
                Some(Granted::From(process.clone(), handle, rights))
            }
        };
        grants.push(granted);
    }
    if request.priority > process.priority() as u64 {
        return Err(Error::BadArgument);
    }
    let limit = match (request.cpu_budget, request.cpu_period, &process.limit) {
        (0, 0, inherited) => inherited.clone(),
        (budget, period, None) if limit::is_valid(budget, period) => {
            let limit = Limit::of(budget, period, caller.cpu.now());
            let limit = Ref::try_new(process.memory(), Some(&process.budget), limit);
            Some(limit.map_err(|NoMemory| Error::NoMemory)?)
        }
        _ => return Err(Error::BadArgument),
    };
    Ok(Request {
        name,
        args,
        grants,
        budget: process.budget.clone(),
        memory: request.memory,
        priority: request.priority as u8,
        limit,
    })
}

pub(super) fn wait(caller: &Caller<'_>, args: [u64; 6]) -> Outcome {
    outcome(try_wait(caller, args))
}

fn try_wait(caller: &Caller<'_>, args: [u64; 6]) -> Result<Outcome, Error> {
    let process = process(caller, args[0], Rights::WAIT)?;
    if Ref::ptr_eq(&process, caller.process()) {
        return Err(Error::BadArgument);
    }
    let cpu = caller.cpu;
    let report = process
        .report_or_wait(cpu, || sched::block_current(cpu, Standing::WaitingFor(process.clone()), caller.irq));
    Ok(match report {
        Some(report) => Outcome::Done(Ok(report.0)),
        None => Outcome::Off,
    })
}

pub(super) fn kill(caller: &Caller<'_>, args: [u64; 6]) -> Outcome {
    outcome(try_kill(caller, args))
}

fn try_kill(caller: &Caller<'_>, args: [u64; 6]) -> Result<Outcome, Error> {
    let process = process(caller, args[0], Rights::MANAGE)?;
    let cpu = caller.cpu;
    if Ref::ptr_eq(&process, caller.process()) {
        sched::end_current(cpu, ExitReport::new(Ending::Killed, abi::KILL_STATUS), caller.irq);
        return Ok(Outcome::Off);
    }
    if process.report(cpu).is_none() {
        sched::kill(cpu, &process);
    }
    Ok(Outcome::Done(Ok(0)))
}

pub(super) fn info(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let process = process(caller, args[0], Rights::READ)?;
    let report = process.report(caller.cpu);
    let info = ProcessInfo {
        ended: report.is_some() as u64,
        report: report.map_or(0, |report| report.0),
        memory: process.budget.used(),
        memory_limit: process.budget.limit(),
        cpu_time: process.cpu_time(caller.cpu),
        priority: process.priority() as u64,
    };
    caller.write(args[1], info.as_bytes())?;
    Ok(0)
}

/// Whether `handle` names the machine, with `rights`.
pub(super) fn machine(caller: &Caller<'_>, handle: u64, rights: Rights) -> Result<(), Error> {
    match caller.capability(handle, rights)?.object {
        Object::Machine => Ok(()),
        _ => Err(Error::WrongObject),
    }
}

pub(super) fn cpus(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    machine(caller, args[0], Rights::READ)?;
    let kernel = caller.cpu.kernel;
    let set = match CpusThat::from_number(args[1]).ok_or(Error::BadArgument)? {
        CpusThat::AreOn => kernel.affinities.takers(),
        CpusThat::Exist => kernel.existing(),
    };
    Ok(set.0)
}

pub(super) fn power_off(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    machine(caller, args[0], Rights::MANAGE)?;
    let status = u8::try_from(args[1]).map_err(|_| Error::BadArgument)?;
    panic::exit(caller.cpu, status)
}

pub(super) fn priority(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let process = process(caller, args[0], Rights::MANAGE)?;
    if args[1] > caller.process().priority() as u64 {
        return Err(Error::BadArgument);
    }
    process.set_priority(args[1] as u8);
    caller.cpu.add_work(crate::cpu::Work::READY);
    Ok(0)
}
