//! What comes into the machine with the kernel: the command line, the boot archive, the programs.
//!
//! All of it is written by somebody else and may be anything. The readers here take bytes and
//! give back either a value that is wholly checked or an error that a person can act on; they
//! allocate nothing, contain no `unsafe`, and panic on no input. The same code runs in three
//! places: the kernel at boot, the packer on the host (so that what it packs is what the kernel
//! accepts), and the fuzzers.
//!
//! - [`archive`]: a cpio `newc` archive, read in place.
//! - [`program`]: an ELF executable, as a list of segments to map.
//! - [`command_line`]: the kernel's options, and the arguments for init.
//! - [`pack`] (feature `pack`, with std): builds an archive.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "pack")]
extern crate std;

pub mod archive;
pub mod command_line;
#[cfg(feature = "pack")]
pub mod pack;
pub mod program;
