//! The generic kernel: everything that is the same on every machine.
//!
//! It runs to completion with interrupts off, on one stack per CPU: a trap saves the user's
//! registers in the thread's own frame, the kernel does what was asked and answers with the frame
//! to go on with. There is no kernel thread and no kernel context switch. A tour, in the order in
//! which a system call meets the files:
//!
//! | file | what is there |
//! | --- | --- |
//! | [`upcall`] | where the architecture enters |
//! | [`syscall`] | from numbers to effects |
//! | [`cap`], [`object`] | what a program can name, and how objects live |
//! | [`process`], [`thread`], [`program`] | what runs, and how it gets loaded |
//! | [`sched`] | what runs next, and where; kernel tasks; memory contexts |
//! | [`ipc`] | how threads meet: endpoints, replies, notifications; faults as messages |
//! | [`device`] | devices for user mode: functions, interrupts, memory they reach |
//! | [`membarrier`], [`rseq`] | what user mode is promised about other CPUs and about being interrupted |
//! | [`request`], [`pending`] | what CPUs ask of each other, and calls that wait for it |
//! | [`mm`] | frames, budgets, the heap, page tables, address spaces |
//! | [`kernel`], [`cpu`] | the two values that all state hangs off |
//! | [`hotplug`] | CPUs off and on again |
//! | [`protocol`] | the words that CPUs share, and the order of the steps on them |
//! | [`sync`], [`time`], [`console`], [`print`] | locks that serve while they wait; clock rates; the kernel's one device |
//! | [`fault`], [`panic`](mod@panic) | when a program, or the kernel, goes wrong |
//! | [`trace`], [`rendezvous`] | in kernels built for testing: what they record, and where they can be stopped |
//! | [`refuse`] | the global allocator of an image: there is none |
//!
//! Calls into architecture code read `Current::hook(…)`; the hooks and their contracts are in
//! `arch/contract`. Nothing here names an architecture. Allocation can always fail and always
//! charges a budget.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod cap;
pub mod console;
pub mod cpu;
pub mod device;
pub mod fault;
pub mod hotplug;
pub mod ipc;
pub mod job;
pub mod kernel;
mod litmus;
pub mod membarrier;
pub mod mm;
pub mod object;
pub mod panic;
pub mod pending;
pub mod print;
pub mod process;
pub mod program;
mod provoke;
pub mod refuse;
pub mod rendezvous;
pub mod request;
pub mod rseq;
pub mod sched;
pub mod sync;
pub mod syscall;
#[cfg(test)]
mod tests;
pub mod thread;
pub mod time;
pub mod trace;
pub mod upcall;

pub use protocol::cpuset;
pub use upcall::Upcall;
