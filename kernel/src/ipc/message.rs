//! A message on its way: from one frame into another.

use crate::cap::Where;
use crate::cpu::Cpu;
use crate::ipc::exception;
use crate::process::Process;
use crate::thread::Thread;
use abi::ipc::{Tag, WORDS};
use abi::{Error, Handle, Rights};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::trap::Traps;
use arch_current::Current;

/// Whether a thread that sends waits for a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Call,
    Send,
}

/// Checks what `thread`, which runs here, wants to send, before the first effect.
pub fn check(cpu: &Cpu, thread: &Thread) -> Result<(), Error> {
    // SAFETY: it is current here.
    let frame = unsafe { thread.frame().as_ref() };
    let tag = Tag(Current::syscall(frame).args[2]);
    if !tag.is_valid() {
        return Err(Error::BadArgument);
    }
    let words = Current::message(frame);
    for word in &words[WORDS - tag.capabilities()..] {
        named(cpu, thread.process(), *word)?;
    }
    Ok(())
}

/// Copies the message in the registers of `from` into those of `to`, with what the kernel says in the
/// tag. This CPU has both.
pub fn deliver(cpu: &Cpu, from: &Thread, to: &Thread, said: u64, badge: u64, irq: &IrqsOff) {
    if let Some(stop) = from.ipc.stopped.get() {
        return exception::deliver(&stop, to, badge);
    }
    // SAFETY: the caller has both threads, which are two: one that sends does not receive.
    let (source, target) = unsafe { (from.frame().as_ref(), to.frame().as_mut()) };
    let tag = Tag(Current::syscall(source).args[2]);
    let count = if mutant::is(Mutant::AllRegistersSent) { WORDS } else { tag.words() };
    Current::copy_message(source, target, badge, count);
    if tag.capabilities() > 0 {
        let (sent, mut words) = (Current::message(source), Current::message(target));
        for at in WORDS - tag.capabilities()..WORDS {
            words[at] =
                send(cpu, from.process(), to.process(), sent[at], irq).map_or(0, |handle| handle.0.into());
        }
        Current::set_message(target, badge, &words);
    }
    Current::set_result(target, 0, tag.0 | said);
}

/// Stores in the registers of `to`, which this CPU has, that `bits` were signalled.
pub fn deliver_bits(to: &Thread, bits: u64) {
    // SAFETY: the caller has the thread.
    let target = unsafe { to.frame().as_mut() };
    Current::set_badge(target, bits);
    Current::set_result(target, 0, Tag::NOTIFIED);
}

/// What `word` of a message names in the table of `process`.
fn named(cpu: &Cpu, process: &Process, word: u64) -> Result<(), Error> {
    process.table.lock(cpu).get(Handle(word as u32), Rights::empty()).map(|_| ())
}

/// Copies the capability that `word` names into the receiver's table.
fn send(cpu: &Cpu, from: &Process, to: &Process, word: u64, irq: &IrqsOff) -> Result<Handle, Error> {
    let rights = Rights::from_bits_truncate((word >> 32) as u32);
    let rights = if mutant::is(Mutant::AllRightsSent) { Rights::all() } else { rights };
    from.table.copy(cpu, Handle(word as u32), (rights, 0), (&to.table, Where::Anywhere), irq)
}
