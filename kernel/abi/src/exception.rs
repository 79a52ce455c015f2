//! Exceptions: what becomes of a thread whose instruction could not complete.
//!
//! A thread, or for those that have none their process, can have a *handler*: an endpoint. A fault stops
//! the thread where it is and sends a call to the endpoint, for the thread, which thereby lends its
//! priority and its budget like any caller. Whoever receives the call has the thread stopped until it
//! replies: meanwhile it can read and write the thread's registers ([`registers`](crate::registers)). With
//! no handler, or one that is gone or never replies, the fault ends the process.
//!
//! # The message
//! The label is a [`FaultKind`], the words are those of [`Word`], the badge is that of the capability by
//! which the handler was made.
//!
//! # The reply
//! Its label is an [`Answer`]; its words mean nothing.

crate::numbers! {
    /// Why a user instruction could not complete.
    FaultKind:
    /// No fault.
    None = 0,
    /// A page is absent or forbids it.
    PageRead = 1,
    PageWrite = 2,
    PageExecute = 3,
    /// Not an address of the machine.
    BadRead = 4,
    BadWrite = 5,
    BadExecute = 6,
    Undefined = 7,
    Privileged = 8,
    Breakpoint = 9,
    /// The instruction that the thread was resumed for has completed.
    SingleStep = 10,
    Arithmetic = 11,
    FloatingPoint = 12,
    Alignment = 13,
    MachineCheck = 14,
    /// What has no common word: [`Word::Code`] says which.
    Other = 15,
}

/// The address of a fault that has none, or whose machine does not tell.
pub const NO_ADDRESS: u64 = u64::MAX;

crate::numbers! {
    /// What stands where in the message.
    Word:
    /// What was touched, or [`NO_ADDRESS`](crate::exception::NO_ADDRESS).
    Address = 0,
    /// The instruction at fault. Where the thread would go on, which after a breakpoint or a step is the
    /// next one, is among its registers.
    Pc = 1,
    /// The machine's number for it, where no [`FaultKind`] is one; else 0.
    Code = 2,
}

crate::numbers! {
    /// What the handler wants done. Any other label is taken for `End`.
    Answer:
    /// The thread goes on with its registers as they are now.
    Resume = 0,
    /// The same, and it stops again after one instruction.
    Step = 1,
    /// The fault ends the process, as if there were no handler.
    End = 2,
}
