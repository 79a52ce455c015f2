//! Calls on threads.

use super::{Caller, Outcome, outcome};
use crate::cap::{Capability, Object};
use crate::cpuset::CpuSet;
use crate::ipc::reply;
use crate::mm::NoMemory;
use crate::object::Ref;
use crate::pending::Pending;
use crate::process::Process;
use crate::sched::ready::Runnable;
use crate::sched::{self, affinity, limit, priority};
use crate::thread::{Extra, Frame, Standing, Thread};
use abi::{Error, Handle, Rights};
use arch_contract::addr::VirtAddr;
use arch_contract::mutant::{self, Mutant};
use arch_contract::pte::Paging;
use arch_contract::trap::{MAX_REGISTERS, Traps};
use arch_contract::vector::{MAX_VECTOR_WORDS, Vector, VectorWords};
use arch_current::Current;
use zerocopy::IntoBytes;

/// The thread that `handle` names, if it carries `rights`.
fn thread(caller: &Caller<'_>, handle: u64, rights: Rights) -> Result<Ref<Thread>, Error> {
    match caller.capability(handle, rights)?.object {
        Object::Thread(thread) => Ok(thread),
        _ => Err(Error::WrongObject),
    }
}

/// As [`thread`]; no handle is the caller.
fn thread_or_caller(caller: &Caller<'_>, handle: u64) -> Result<Ref<Thread>, Error> {
    match handle {
        handle if handle == Handle::NONE.0.into() => Ok(caller.thread.clone()),
        handle => thread(caller, handle, Rights::MANAGE),
    }
}

pub(super) fn start(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let process: Ref<Process> = match caller.capability(args[0], Rights::MANAGE)?.object {
        Object::Process(process) => process,
        _ => return Err(Error::WrongObject),
    };
    let (entry, stack, argument) = (VirtAddr(args[1]), VirtAddr(args[2]), args[3]);
    let user = Current::USER_START..=Current::USER_END;
    let anywhere = mutant::is(Mutant::ThreadsStartAnywhere);
    if !anywhere
        && (!user.contains(&stack)
            || stack.0 % 16 != 0
            || !user.contains(&entry)
            || entry == Current::USER_END)
    {
        return Err(Error::BadAddress);
    }
    let cpu = caller.cpu;
    let frame = Current::new_frame(entry, stack, [argument, 0, 0]);
    let thread = Thread::try_new(process.clone(), frame, cpu).map_err(|NoMemory| Error::NoMemory)?;
    let set = caller.thread.affinity();
    if set != CpuSet::ALL {
        affinity::set(cpu, &thread, set)?;
    }
    // Its handle first: what cannot be named could not be waited for.
    let capability = Capability::new(Object::Thread(thread.clone()), Rights::all());
    let table = &caller.process().table;
    let handle = match table.insert(cpu, capability) {
        Ok(handle) => handle,
        Err(error) => {
            cpu.kernel.affinities.forget(cpu, &thread);
            return Err(error);
        }
    };
    if let Err(error) = process.add_thread(cpu, thread.clone()) {
        // Somebody may wait for it already.
        sched::ending::end_thread(cpu, &thread);
        let it = |object: &Object| matches!(object, Object::Thread(there) if Ref::ptr_eq(there, &thread));
        table.take_if(cpu, handle, it);
        return Err(error);
    }
    cpu.make_ready(Runnable::Thread(thread));
    Ok(handle.0.into())
}

/// What `f` does with the registers of the stopped thread that `handle` names by `rights`, or whose
/// exception the caller has not answered.
fn stopped<R>(
    caller: &Caller<'_>,
    handle: u64,
    rights: Rights,
    f: impl FnOnce(&mut Frame) -> R,
) -> Result<R, Error> {
    let found = if handle == Handle::NONE.0.into() {
        reply::caller_of(&caller.thread).and_then(|(thread, number)| thread.while_stopped(Some(number), f))
    } else {
        thread(caller, handle, rights)?.while_stopped(None, f)
    };
    found.ok_or(Error::NotStopped)
}

/// Bytes of the machine's registers.
const REGISTER_BYTES: usize = Current::REGISTERS * size_of::<u64>();

pub(super) fn registers(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    if args[2] != REGISTER_BYTES as u64 {
        return Err(Error::BadArgument);
    }
    let registers = stopped(caller, args[0], Rights::READ, |frame| Current::registers(frame))?;
    caller.write(args[1], &registers.as_bytes()[..REGISTER_BYTES])?;
    Ok(args[2])
}

pub(super) fn set_registers(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    if args[2] != REGISTER_BYTES as u64 {
        return Err(Error::BadArgument);
    }
    let mut registers = [0; MAX_REGISTERS];
    caller.read(&mut registers.as_mut_bytes()[..REGISTER_BYTES], args[1])?;
    stopped(caller, args[0], Rights::MANAGE, |frame| Current::set_registers(frame, &registers))?;
    Ok(args[2])
}

/// What `f` does with a thread as in [`stopped`], once its exception was received.
fn received<R>(
    caller: &Caller<'_>,
    handle: u64,
    rights: Rights,
    f: impl FnOnce(&Thread) -> R,
) -> Result<R, Error> {
    let (thread, number) = if handle == Handle::NONE.0.into() {
        let (thread, number) = reply::caller_of(&caller.thread).ok_or(Error::NotStopped)?;
        (thread, Some(number))
    } else {
        (thread(caller, handle, rights)?, None)
    };
    thread.while_received(number, |_| f(&thread)).ok_or(Error::NotStopped)
}

/// Bytes of the registers of the machine's vector units.
const VECTOR_BYTES: usize = <Current as Vector>::WORDS * size_of::<u64>();

pub(super) fn vectors(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    if args[2] != VECTOR_BYTES as u64 {
        return Err(Error::BadArgument);
    }
    let machine = caller.cpu.machine();
    // SAFETY: nobody has the thread, whose units were saved as it left its CPU.
    let words = |area| unsafe { Current::words(machine, area) };
    let found = received(caller, args[0], Rights::READ, |thread| thread.vector_area().map(words))?;
    let Some(words) = found else { return Ok(0) };
    caller.write(args[1], &words.as_bytes()[..VECTOR_BYTES])?;
    Ok(args[2])
}

pub(super) fn set_vectors(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    if args[2] != VECTOR_BYTES as u64 {
        return Err(Error::BadArgument);
    }
    let machine = caller.cpu.machine();
    let mut words: VectorWords = [0; MAX_VECTOR_WORDS];
    caller.read(&mut words.as_mut_bytes()[..VECTOR_BYTES], args[1])?;
    let stored = received(caller, args[0], Rights::MANAGE, |thread| {
        let area = thread.make_vector_area(machine)?;
        if !mutant::is(Mutant::VectorsNotStored) {
            // SAFETY: as in `vectors`.
            unsafe { Current::set_words(machine, area, &words) };
        }
        Ok(())
    })?;
    stored.map(|()| args[2]).map_err(|NoMemory| Error::NoMemory)
}

pub(super) fn wait(caller: &Caller<'_>, args: [u64; 6]) -> Outcome {
    outcome(try_wait(caller, args))
}

fn try_wait(caller: &Caller<'_>, args: [u64; 6]) -> Result<Outcome, Error> {
    let thread = thread(caller, args[0], Rights::WAIT)?;
    if Ref::ptr_eq(&thread, &caller.thread) {
        return Err(Error::BadArgument);
    }
    let mut joiners = thread.joiners.lock();
    // Under the lock: who ends it says that it has ended, then takes the lock to wake the joiners.
    if matches!(thread.standing(), Standing::Ended) {
        return Ok(Outcome::Done(Ok(0)));
    }
    if let Some(joiner) = sched::block_current(caller.cpu, Standing::Joining(thread.clone()), caller.irq) {
        joiners.push(joiner);
    }
    Ok(Outcome::Off)
}

pub(super) fn set_affinity(caller: &Caller<'_>, args: [u64; 6]) -> Outcome {
    outcome(try_set_affinity(caller, args))
}

fn try_set_affinity(caller: &Caller<'_>, args: [u64; 6]) -> Result<Outcome, Error> {
    let thread = thread_or_caller(caller, args[0])?;
    let set = CpuSet(args[1]);
    if set.is_empty() {
        return Ok(Outcome::Done(Ok(thread.affinity().0)));
    }
    let before = affinity::set(caller.cpu, &thread, set)?;
    // The caller itself is moved on its way out.
    if Ref::ptr_eq(&thread, &caller.thread) || affinity::has_moved(&thread) {
        return Ok(Outcome::Done(Ok(before.0)));
    }
    Ok(Outcome::Pending(Pending::Move(thread, before)))
}

pub(super) fn set_priority(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let thread = thread_or_caller(caller, args[0])?;
    if args[1] > caller.thread.own_priority().into() {
        return Err(Error::BadArgument);
    }
    priority::set(caller.cpu, &thread, args[1] as u8);
    Ok(0)
}

pub(super) fn set_budget(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let thread = thread_or_caller(caller, args[0])?;
    let (budget, period) = (args[1], args[2]);
    let none = budget == 0 && period == 0;
    if !none && !limit::is_valid(budget, period) {
        return Err(Error::BadArgument);
    }
    thread.limit.set(budget, period, caller.cpu.now());
    match budget {
        0 if thread.process().limit.is_none() => thread.drop_extra(Extra::Limit),
        _ => thread.add_extra(Extra::Limit),
    }
    sched::look_again(caller.cpu, &thread);
    Ok(0)
}
