//! Counts what a guest executes, from outside: a plugin for QEMU's TCG.
//!
//! `-plugin liboracle.so,arch=x86_64,entry=ADDR,user=START-END,out=FILE` writes `name value`
//! lines to FILE when QEMU ends:
//!
//! | name | value |
//! | --- | --- |
//! | `boot` | instructions from the kernel's entry to the first user instruction |
//! | `calls` | system calls that went from user mode back to user mode |
//! | `call_min`, `call_median` | kernel instructions of such a call |
//!
//! QEMU tells a plugin every instruction's address before it runs, and nothing about privilege.
//! The address is enough: user programs are linked in a range that the kernel executes nothing
//! in, except before it has moved to its own high addresses ([`count`]). [`instruction`] finds the
//! instructions that ask for a system call; [`plugin`] is the part that talks to QEMU.

pub mod count;
pub mod instruction;
pub mod options;
#[cfg(not(test))]
mod plugin;
