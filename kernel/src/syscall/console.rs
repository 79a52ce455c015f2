//! Calls on the console.

use super::{Caller, Outcome, outcome};
use crate::cap::Object;
use crate::sched;
use crate::thread::Standing;
use abi::{CONSOLE_CHUNK, Error, Rights};
use arch_contract::console::Console;
use arch_current::Current;

fn console(caller: &Caller<'_>, handle: u64, rights: Rights) -> Result<(), Error> {
    match caller.capability(handle, rights)?.object {
        Object::Console => Ok(()),
        _ => Err(Error::WrongObject),
    }
}

pub(super) fn write(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    console(caller, args[0], Rights::WRITE)?;
    let mut chunk = [0; CONSOLE_CHUNK];
    let length = args[2].min(CONSOLE_CHUNK as u64) as usize;
    caller.read(&mut chunk[..length], args[1])?;
    caller.cpu.kernel.console.write(caller.cpu, &chunk[..length]);
    Ok(length as u64)
}

pub(super) fn read(caller: &Caller<'_>, args: [u64; 6]) -> Outcome {
    outcome(try_read(caller, args))
}

fn try_read(caller: &Caller<'_>, args: [u64; 6]) -> Result<Outcome, Error> {
    console(caller, args[0], Rights::READ)?;
    let mut chunk = [0; CONSOLE_CHUNK];
    let length = args[2].min(CONSOLE_CHUNK as u64) as usize;
    if length == 0 {
        return Ok(Outcome::Done(Ok(0)));
    }
    // Zeroes first: what was typed is not taken for a buffer that cannot have it.
    caller.write(args[1], &chunk[..length])?;
    let taken = {
        // Before the look at the device: what arrives after the look, on whatever CPU, wakes those
        // who are among the readers by the time the lock is free.
        let mut readers = caller.cpu.kernel.console.readers(caller.cpu);
        let taken = Current::read(caller.cpu.arch(), &mut chunk[..length]);
        if taken == 0 {
            if let Some(thread) = sched::block_current(caller.cpu, Standing::Reading, caller.irq) {
                readers.push(thread);
            }
            return Ok(Outcome::Off);
        }
        taken
    };
    caller.write(args[1], &chunk[..taken])?;
    Ok(Outcome::Done(Ok(taken as u64)))
}
