//! The generic kernel.
#![no_std]

pub mod cpu;
pub mod sync;
