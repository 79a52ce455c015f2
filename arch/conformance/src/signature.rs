//! What each call takes and gives, for programs that make calls by chance: a fuzzer in a guest and
//! one over the model, which so go deeper than the first check of an argument.
//!
//! A call that is not listed is made too, with any words; so a new call wants a row here.

use abi::{Call, Kind};

/// What a word of a call is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Argument {
    /// A handle on an object of this kind.
    Handle(Kind),
    /// A handle on anything.
    AnyHandle,
    /// Where something is read from or written to, and how many bytes.
    Address,
    Bytes,
    /// Whole pages: where, and how many bytes.
    Page,
    PageBytes,
    /// An offset or an index: small.
    Small,
    Rights,
    Badge,
    Protection,
    /// Nanoseconds since boot: soon, or past; so nothing waits for ever.
    Soon,
    /// A span of nanoseconds, short.
    Span,
    Tag,
    Bits,
    Priority,
    /// Where a thread can begin, and what stack it has.
    Entry,
    Stack,
    /// The address of a request to spawn.
    Request,
    /// Any word.
    Word,
}

/// What the value of a call is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gives {
    Handle(Kind),
    /// Where something is mapped now.
    Page,
    Number,
}

/// What a call takes and gives.
pub fn of(call: Call) -> (&'static [Argument], Gives) {
    use Argument::*;
    use Gives::{Number, Page as Mapped};
    let handle = Gives::Handle;
    match call {
        Call::Null | Call::Yield | Call::ThreadExit => (&[], Number),
        Call::Exit => (&[Word], Number),
        Call::HandleClose | Call::HandleRevoke => (&[AnyHandle], Number),
        Call::HandleCopy => (&[AnyHandle, Rights, Badge], Number),
        Call::HandleMove => (&[AnyHandle, Handle(Kind::Process)], Number),
        Call::HandleInfo => (&[AnyHandle, Address], Number),
        Call::ConsoleWrite | Call::ConsoleRead => (&[Handle(Kind::Console), Address, Bytes], Number),
        Call::ClockRead => (&[Handle(Kind::Timer)], Number),
        Call::SleepUntil => (&[Handle(Kind::Timer), Soon], Number),
        Call::MemoryMap => (&[Handle(Kind::Process), Page, PageBytes, Protection], Mapped),
        Call::MemoryUnmap => (&[Handle(Kind::Process), Page, PageBytes], Number),
        Call::MemoryCreate => (&[PageBytes], handle(Kind::Memory)),
        Call::MemoryAttach => (
            &[Handle(Kind::Process), Handle(Kind::Memory), Page, PageBytes, PageBytes, Protection],
            handle(Kind::Attachment),
        ),
        Call::MemoryCopy => {
            (&[Handle(Kind::Process), Address, Handle(Kind::Process), Address, Bytes], Number)
        }
        Call::MemoryCreatePaged => (&[PageBytes, Handle(Kind::Endpoint)], handle(Kind::Memory)),
        Call::MemorySupply => {
            (&[Handle(Kind::Memory), PageBytes, Handle(Kind::Memory), PageBytes, PageBytes], Number)
        }
        Call::ThreadExceptions => (&[Handle(Kind::Thread), Handle(Kind::Endpoint)], Number),
        Call::ThreadRegisters | Call::ThreadSetRegisters | Call::ThreadVectors | Call::ThreadSetVectors => {
            (&[Handle(Kind::Thread), Address, Bytes], Number)
        }
        Call::ArchiveEntry => (&[Handle(Kind::Archive), Small, Address, Bytes], Number),
        Call::ArchiveRead => (&[Handle(Kind::Archive), Small, Small, Address, Bytes], Number),
        Call::Spawn => (&[Handle(Kind::Archive), Request], handle(Kind::Process)),
        Call::ProcessWait | Call::ProcessKill => (&[Handle(Kind::Process)], Number),
        Call::ProcessInfo => (&[Handle(Kind::Process), Address], Number),
        Call::ProcessPriority => (&[Handle(Kind::Process), Priority], Number),
        Call::PowerOff => (&[Handle(Kind::Machine), Small], Number),
        Call::Cpus => (&[Handle(Kind::Machine), Small], Number),
        Call::CpuPower => (&[Handle(Kind::Machine), Small, Small], Number),
        Call::Quiesce => (&[Handle(Kind::Machine)], Number),
        Call::ThreadStart => (&[Handle(Kind::Process), Entry, Stack, Word], handle(Kind::Thread)),
        Call::ThreadWait => (&[Handle(Kind::Thread)], Number),
        Call::ThreadAffinity => (&[Handle(Kind::Thread), Bits], Number),
        Call::ThreadPriority => (&[Handle(Kind::Thread), Priority], Number),
        Call::ThreadBudget => (&[Handle(Kind::Thread), Span, Span], Number),
        Call::Membarrier => (&[Bits, Small, Small], Number),
        Call::RseqRegister => (&[Address], Number),
        Call::CodePublish => (&[Address, Bytes], Number),
        Call::EndpointCreate => (&[], handle(Kind::Endpoint)),
        Call::EndpointCall | Call::EndpointSend | Call::ReplyReceive => {
            (&[Handle(Kind::Endpoint), Soon, Tag], Number)
        }
        Call::EndpointReceive => (&[Handle(Kind::Endpoint), Soon], Number),
        Call::Reply => (&[Handle(Kind::Reply), Word, Tag], Number),
        Call::ReplySave => (&[], handle(Kind::Reply)),
        Call::NotificationCreate => (&[], handle(Kind::Notification)),
        Call::NotificationSignal => (&[Handle(Kind::Notification), Bits], Number),
        Call::NotificationWait => (&[Handle(Kind::Notification), Soon], Number),
        Call::NotificationBind => (&[Handle(Kind::Notification)], Number),
        _ => (&[Word; 6], Number),
    }
}
