//! `emulator`: a thread executes an instruction that the machine does not have, and its handler does what
//! the instruction would: it decodes it, and puts into one register the bits of another in reverse.
#![no_std]
#![no_main]

use user_programs::traced;
use user_rt::abi::exception::{Answer, FaultKind};
use user_rt::abi::{Error, Handle};
use user_rt::exception::{self, Exception};
use user_rt::ipc::{Deadline, Endpoint, Message, Received};
use user_rt::{Args, println, thread};

user_rt::entry!(main);

/// How often the thread executes it.
const ROUNDS: u64 = 1000;

fn main(_: Args) -> u8 {
    emulate().unwrap_or_else(|error| {
        println!("emulator: {error:?}");
        1
    })
}

/// The thread: how many of its results are right. That it is through is a message.
fn work(server: &Endpoint) -> Result<u64, Error> {
    let handler = exception::handle(Handle::NONE, server)?;
    let right = (0..ROUNDS).filter(|round| {
        let value = round.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        traced::reverse(value) == value.reverse_bits()
    });
    let right = right.count() as u64;
    drop(handler);
    server.send(&Message::new(0, &[]), Deadline::Never)?;
    Ok(right)
}

fn emulate() -> Result<u8, Error> {
    let endpoint = Endpoint::new()?;
    let to_server = endpoint.copy(user_rt::Rights::WRITE)?;
    let worker = thread::spawn(move || work(&to_server))?;
    let mut emulated = 0;
    let mut received = endpoint.receive(Deadline::Never)?;
    while let Received::Call(message, _) = received {
        let answer = match Exception::new(&message) {
            Some(fault) if fault.kind == FaultKind::Undefined => one(fault.pc)?,
            _ => Answer::End,
        };
        emulated += 1;
        received = endpoint.reply_receive(&exception::answer(answer), Deadline::Never)?;
    }
    let right = worker.join()??;
    println!("emulator: {emulated} instructions emulated, {right} results right");
    Ok(u8::from(emulated != ROUNDS || right != ROUNDS))
}

/// Does the instruction at `pc` of the thread that is stopped there.
fn one(pc: u64) -> Result<Answer, Error> {
    let Some((to, from)) = traced::decode(pc) else { return Ok(Answer::End) };
    let mut registers = exception::registers()?;
    let value = *traced::general(&mut registers, from);
    *traced::general(&mut registers, to) = value.reverse_bits();
    *traced::pc(&mut registers) = pc + traced::REVERSE_BYTES;
    exception::set_registers(&registers)?;
    Ok(Answer::Resume)
}
