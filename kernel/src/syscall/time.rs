//! Calls on the clock and the timer.

use super::{Caller, Outcome, outcome};
use crate::cap::Object;
use crate::sched;
use crate::thread::Standing;
use abi::{Error, Rights};
use arch_contract::mutant::{self, Mutant};

fn timer(caller: &Caller<'_>, handle: u64, rights: Rights) -> Result<(), Error> {
    match caller.capability(handle, rights)?.object {
        Object::Timer => Ok(()),
        _ => Err(Error::WrongObject),
    }
}

pub(super) fn read(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    timer(caller, args[0], Rights::READ)?;
    Ok(caller.cpu.now().0)
}

pub(super) fn sleep_until(caller: &Caller<'_>, args: [u64; 6]) -> Outcome {
    outcome(try_sleep_until(caller, args))
}

fn try_sleep_until(caller: &Caller<'_>, args: [u64; 6]) -> Result<Outcome, Error> {
    timer(caller, args[0], Rights::WAIT)?;
    let due = args[1].saturating_sub(if mutant::is(Mutant::SleepShort) { 500_000 } else { 0 });
    // `TIME-2`, `TIME-3`: the call is made again when it is due, and only the clock decides.
    if caller.cpu.now().0 >= due {
        return Ok(Outcome::Done(Ok(0)));
    }
    let mut timers = caller.cpu.timers.lock();
    if let Some(thread) = sched::block_current(caller.cpu, Standing::Timed(caller.cpu.number), caller.irq) {
        timers.push(thread, due);
    }
    Ok(Outcome::Off)
}
