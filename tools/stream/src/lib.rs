//! The instruction stream: what the CPUs of a guest executed, recorded from outside, and the rules
//! that it must keep.
//!
//! A kernel's own event trace says what the kernel says of itself. The stream is what the machine
//! was seen to execute: a plugin in the emulator (`tools/oracle`) writes a [`record`](Record) for
//! each [`instruction`](Instruction) that the contracts speak of, for each way from user mode into
//! the kernel and back, and for each [`mark`](Mark) that a guest makes. [`check`] holds it against
//! the [`rules`], each of which names the clause it is about.
//!
//! The emulator itself never fetches stale instructions, and so on: no behaviour depends on most of
//! these instructions. That they are executed, in the right order and between the right events, is
//! what can be seen.

mod instruction;
mod mark;
mod processes;
mod record;
mod rules;
#[cfg(test)]
mod tests;

pub use instruction::{Arch, Instruction, words};
pub use mark::{Edge, Mark, Scope, WINDOWS, Watched};
pub use record::{Event, Malformed, Record, read};
pub use rules::{Image, RULES, Rule, UserReturn, Violation, check};
