//! What a case can do only with instructions of the machine: hold all registers, touch any address.
//!
//! The smallest set that the laws on traps, pages, pointers and vector state need. What a register
//! file looks like and which of it a call may overwrite is the machine's business, so it compares
//! and says what is wrong; when and under what stress is the case's.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// Addresses of the machine.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Where user memory can be, in bytes; both ends are page boundaries.
    pub user: Range<u64>,
    /// Inside what only the kernel may touch, page-aligned.
    pub kernel: u64,
    /// No address at all, page-aligned, if the machine has such.
    pub impossible: Option<u64>,
    /// Code of this program, a multiple of 16.
    pub code: u64,
    /// Its constants, and what it was started with, as far as a program of this machine has such:
    /// multiples of eight, like the next.
    pub read_only: Vec<u64>,
    /// Its variables and its stack.
    pub writable: Vec<u64>,
}

/// A set of registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum File {
    /// General registers, flags, link and count registers.
    General,
    /// Vector and floating-point registers with their control and status.
    Vector,
}

/// What happens while registers are held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meanwhile {
    /// So many turns of a loop.
    Turns(u64),
    /// A call with two arguments.
    Call(u64, [u64; 2]),
}

/// One instruction's access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Touch {
    Read,
    Write,
    /// Goes on there. Memory of zeroes is code, which sooner or later faults.
    Execute,
}

/// Something that a program of this machine must not do: a name, and how. It never returns.
pub type Deed = (&'static str, fn());

/// An optional part of the machine: its name, and whether it is there.
pub type Feature = (&'static str, fn() -> bool);

/// The machine's half of a program.
pub trait Probe {
    fn addresses(&self) -> Addresses;

    /// Optional parts of the machine, and whether this one has them and lets user mode know.
    fn features(&self) -> &'static [Feature];

    /// Fills `file` with values drawn from `seed`, does `meanwhile`, and compares. All registers keep
    /// their values, but those that a call may overwrite, which hold nothing of the kernel's.
    ///
    /// # Errors
    /// What is wrong, in words.
    fn hold(&self, file: File, seed: u64, meanwhile: Meanwhile) -> Result<(), String>;

    /// Starts a thread, which may run where this one may, whose first instructions store every
    /// register, and waits for it: all are as the interface says of a new thread, and the first
    /// vector instruction changed no other register.
    ///
    /// # Errors
    /// What is wrong, in words.
    fn newborn(&self) -> Result<(), String>;

    /// Touches eight bytes at `at`, a multiple of eight.
    ///
    /// # Safety
    /// The access faults, or it is to the arena, or the process is there for nothing else.
    unsafe fn touch(&self, at: u64, how: Touch);

    /// What a program of this machine must not do.
    fn deeds(&self) -> Vec<Deed>;

    /// The null call by another door than the usual, if there is one: the status.
    fn second_door(&self) -> Option<fn(u64) -> u64>;
}
