//! The generic kernel.
#![no_std]

pub mod cpu;
pub mod mm;
pub mod object;
pub mod sync;
