//! Watches what a guest executes, from outside: a plugin for QEMU's TCG.
//!
//! `-plugin liboracle.so,arch=x86_64,entry=ADDR,user=START-END,out=FILE` writes its findings to
//! FILE when QEMU ends. Of the whole run:
//!
//! | name | value |
//! | --- | --- |
//! | `boot` | instructions from the kernel's entry to the first user instruction |
//! | `calls` | system calls that went from user mode back to user mode |
//! | `call_min`, `call_median` | kernel instructions of such a call |
//!
//! and of each [window](stream::Mark) that the guest opened, on each CPU: the kernel's instructions, those
//! that the contracts speak of ([`instruction::Event`]) by address, and the cache lines that one CPU
//! stored to and another touched ([`window`]). [`report`] has the format.
//!
//! With `write=stream` it counts nothing, and writes the [`stream`] of executed instructions instead, as
//! they come ([`recorder`]).
//!
//! QEMU tells a plugin every instruction's address before it runs, and nothing about privilege.
//! The address is enough: user programs are linked in a range that the kernel executes nothing
//! in, except before it has moved to its own high addresses ([`count`]). Memory that the kernel
//! touches at a user's address is the user's business and is left out, and so is a device's. What
//! the CPU itself stores when it takes an interrupt, no plugin is told. [`plugin`] is the part that
//! talks to QEMU.

pub mod code;
pub mod count;
pub mod instruction;
pub mod options;
#[cfg(not(test))]
mod plugin;
pub mod recorder;
pub mod report;
pub mod window;
