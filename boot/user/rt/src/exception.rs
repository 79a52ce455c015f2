//! Faults of other threads: who gets them, and what can be done about them. See [`abi::exception`].

use crate::call::{call, plain, word};
use crate::ipc::{Endpoint, Message, reply};
use crate::object::{Kind, Object};
use abi::exception::{NO_ADDRESS, Word};
use abi::{Call, Error, Handle};
use zerocopy::{FromZeros, IntoBytes};

pub use crate::arch::{Registers, Vectors};
pub use abi::exception::{Answer, FaultKind};

/// What faults go by. They do as long as it lives.
#[derive(Debug)]
pub enum HandlerKind {}
impl Kind for HandlerKind {}
/// A handle on it.
pub type Handler = Object<HandlerKind>;

/// From now on faults of `of` are calls of `endpoint`: a thread's, or those of a process's threads that have
/// no handler of their own; of the calling thread, if it is [`Handle::NONE`]. Needs `MANAGE`, and `WRITE` on the
/// endpoint. Errors: `NoMemory`, `TableFull`.
pub fn handle(of: Handle, endpoint: &Endpoint) -> Result<Handler, Error> {
    let handler = plain(Call::ThreadExceptions, [word(of), word(endpoint.handle())])?;
    Ok(Handler::from_handle(Handle(handler as u32)))
}

/// A fault that was received as a call.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    pub kind: FaultKind,
    /// What was touched.
    pub address: Option<u64>,
    /// The instruction.
    pub pc: u64,
}

impl Exception {
    /// What `message`, which came by a handler, says.
    pub fn new(message: &Message) -> Option<Self> {
        let at = |which: Word| message.words()[which as usize];
        let kind = FaultKind::from_number(message.tag.label()).filter(|_| message.words().len() == 3)?;
        let address = Some(at(Word::Address)).filter(|&address| address != NO_ADDRESS);
        Some(Self { kind, address, pc: at(Word::Pc) })
    }
}

/// The message that answers an exception.
pub fn answer(answer: Answer) -> Message {
    Message::new(answer as u64, &[])
}

/// Answers the exception that this thread received last. Errors: `Gone`.
pub fn resume(how: Answer) -> Result<(), Error> {
    reply(&answer(how))
}

/// The registers of the thread whose exception this one received last. Errors: `NotStopped`.
pub fn registers() -> Result<Registers, Error> {
    let mut registers = Registers::new_zeroed();
    let at = registers.as_mut_bytes();
    let arguments = [word(Handle::NONE), at.as_mut_ptr().addr() as u64, at.len() as u64, 0, 0, 0];
    // SAFETY: the kernel writes `Registers`, where there are some, and any bits are that.
    unsafe { call(Call::ThreadRegisters, arguments) }?;
    Ok(registers)
}

/// Changes them. Errors: `NotStopped`.
pub fn set_registers(registers: &Registers) -> Result<(), Error> {
    let from = registers.as_bytes();
    let arguments = [word(Handle::NONE), from.as_ptr().addr() as u64, from.len() as u64, 0, 0, 0];
    // SAFETY: the kernel only reads them.
    unsafe { call(Call::ThreadSetRegisters, arguments) }.map(|_| ())
}

/// Its vector registers; `None` if it has used none yet. Errors: `NotStopped`.
pub fn vectors() -> Result<Option<Vectors>, Error> {
    let mut vectors = Vectors::new_zeroed();
    let at = vectors.as_mut_bytes();
    let arguments = [word(Handle::NONE), at.as_mut_ptr().addr() as u64, at.len() as u64, 0, 0, 0];
    // SAFETY: the kernel writes `Vectors`, where there are some, and any bits are that.
    let bytes = unsafe { call(Call::ThreadVectors, arguments) }?;
    Ok((bytes != 0).then_some(vectors))
}

/// Changes them. Errors: `NotStopped`, `NoMemory`.
pub fn set_vectors(vectors: &Vectors) -> Result<(), Error> {
    let from = vectors.as_bytes();
    let arguments = [word(Handle::NONE), from.as_ptr().addr() as u64, from.len() as u64, 0, 0, 0];
    // SAFETY: the kernel only reads them.
    unsafe { call(Call::ThreadSetVectors, arguments) }.map(|_| ())
}
