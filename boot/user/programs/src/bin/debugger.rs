//! `debugger`: steps through a child, from one breakpoint to the next, changes one of its registers and one of
//! its vector registers, and lets it go on. Then it does to another child what a debugger does that gives up.
#![no_std]
#![no_main]

use core::time::Duration;
use user_programs::traced;
use user_rt::abi::exception::{Answer, FaultKind};
use user_rt::abi::{Error, Handle, Rights, initial};
use user_rt::alloc::vec::Vec;
use user_rt::exception::{self, Exception};
use user_rt::ipc::{Deadline, Endpoint, Message, Received, reply};
use user_rt::{ARCHIVE, Args, Command, Process, TIMER, exit, println};

user_rt::entry!(main);

/// Where a child finds the debugger's endpoint: behind what is usual.
const ENDPOINT: Handle = Handle(initial::MACHINE.0 + 1);
/// Milliseconds that it takes at most until a process that was given up has ended.
const PATIENCE: u32 = 5000;
/// What a child gets into its register.
const VALUE: u64 = 42;

fn main(args: Args) -> u8 {
    let result = match args.get(1) {
        Some("child") => be_debugged(&Endpoint::from_handle(ENDPOINT)),
        _ => debug(),
    };
    result.unwrap_or_else(|error| {
        println!("debugger: {error:?}");
        1
    })
}

/// A child: says that it is there, and goes on when it is answered.
fn be_debugged(debugger: &Endpoint) -> Result<u8, Error> {
    debugger.call(&Message::new(0, &[]), Deadline::Never)?;
    Ok(traced::run())
}

/// A child that has told us that it is there, and whose faults we get.
fn start(endpoint: &Endpoint) -> Result<(Process, exception::Handler), Error> {
    let child = Command::new("debugger")
        .arg("child")
        .grant_usual()
        .grant(endpoint.handle(), Rights::WRITE)
        .start(&ARCHIVE)?;
    endpoint.receive(Deadline::Never)?;
    let handler = exception::handle(child.handle(), endpoint)?;
    reply(&Message::new(0, &[]))?;
    Ok((child, handler))
}

/// The next exception.
fn next(endpoint: &Endpoint) -> Result<Exception, Error> {
    match endpoint.receive(Deadline::Never)? {
        Received::Call(message, _) => Exception::new(&message).ok_or(Error::NotSupported),
        _ => Err(Error::NotSupported),
    }
}

fn debug() -> Result<u8, Error> {
    let endpoint = Endpoint::new()?;
    let (child, _handler) = start(&endpoint)?;
    let first = next(&endpoint)?;
    println!("debugger: {:?} at {:#x}", first.kind, first.pc);
    // Where the machine stops at the breakpoint and not behind it, we go on behind it.
    let mut registers = exception::registers()?;
    *traced::pc(&mut registers) = first.pc + traced::BREAKPOINT_BYTES;
    exception::set_registers(&registers)?;
    let mut trail = Vec::new();
    let last = loop {
        exception::resume(Answer::Step)?;
        match next(&endpoint)? {
            step if step.kind == FaultKind::SingleStep => {
                trail.push(*traced::pc(&mut exception::registers()?) - first.pc);
            }
            other => break other,
        }
    };
    println!("debugger: {} steps, to {trail:x?}, then {:?}", trail.len(), last.kind);

    let mut registers = exception::registers()?;
    let found = *traced::value(&mut registers);
    *traced::value(&mut registers) = VALUE;
    *traced::pc(&mut registers) = last.pc + traced::BREAKPOINT_BYTES;
    traced::set_every_flag(&mut registers);
    exception::set_registers(&registers)?;
    let mut vectors = exception::vectors()?.ok_or(Error::NotFound)?;
    let held = core::mem::replace(traced::vector(&mut vectors), !traced::HELD);
    traced::set_every_control(&mut vectors);
    exception::set_vectors(&vectors)?;
    let stored = exception::vectors()?.ok_or(Error::NotFound)?;
    exception::resume(Answer::Resume)?;
    let status = child.wait()?.status();
    println!("debugger: found {found}, made it {VALUE}, and the child ended with {status}");
    println!("debugger: found {held:#x} in a vector register");

    let (given_up, handler) = start(&endpoint)?;
    next(&endpoint)?;
    exception::resume(Answer::End)?;
    let ended = (0..PATIENCE).any(|_| {
        given_up.info().is_ok_and(|info| info.ended != 0) || TIMER.sleep(Duration::from_millis(1)).is_err()
    });
    if !ended {
        println!("debugger: the one that was given up does not end");
        exit(1);
    }
    let killed = given_up.wait()?.status();
    drop(handler);
    println!("debugger: the one that was given up ended with {killed}");

    let right = first.kind == FaultKind::Breakpoint
        && last.kind == FaultKind::Breakpoint
        && trail.len() == traced::STEPS
        && found == traced::STEPS as u64
        && held == traced::HELD
        && traced::controls_are_right(&stored)
        && u64::from(status) == VALUE
        && killed == user_rt::abi::FAULT_STATUS;
    if !right {
        exit(1);
    }
    Ok(0)
}
