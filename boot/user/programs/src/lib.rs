//! What the programs share: per machine, the instructions that Rust has no words for.
#![no_std]

/// Every general register at once, for `conformance`.
#[cfg_attr(target_arch = "x86_64", path = "general_x86_64.rs")]
#[cfg_attr(target_arch = "powerpc64", path = "general_ppc64le.rs")]
pub mod general;

/// Every vector register at once, for `conformance` and `float`.
#[cfg_attr(target_arch = "x86_64", path = "vectors_x86_64.rs")]
#[cfg_attr(target_arch = "powerpc64", path = "vectors_ppc64le.rs")]
pub mod vectors;

/// Instructions that must fault, for `conformance`.
#[cfg_attr(target_arch = "x86_64", path = "hostile_x86_64.rs")]
#[cfg_attr(target_arch = "powerpc64", path = "hostile_ppc64le.rs")]
pub mod hostile;

/// The second way into the kernel, where the machine has one, for `conformance` and `null`.
#[cfg_attr(target_arch = "x86_64", path = "door_x86_64.rs")]
#[cfg_attr(target_arch = "powerpc64", path = "door_ppc64le.rs")]
pub mod door;

/// Instructions without effect that tell a watcher where a window begins and ends, for [`watch`].
#[cfg_attr(target_arch = "x86_64", path = "mark_x86_64.rs")]
#[cfg_attr(target_arch = "powerpc64", path = "mark_ppc64le.rs")]
mod mark;

pub mod watch;

/// A restartable sequence that is long enough to be interrupted, for `rseq`.
#[cfg_attr(target_arch = "x86_64", path = "sequence_x86_64.rs")]
#[cfg_attr(target_arch = "powerpc64", path = "sequence_ppc64le.rs")]
pub mod sequence;

/// A reservation that is held across a system call, where the machine has reservations.
#[cfg_attr(target_arch = "x86_64", path = "reservation_x86_64.rs")]
#[cfg_attr(target_arch = "powerpc64", path = "reservation_ppc64le.rs")]
pub mod reservation;

/// What a debugger and an emulator know of the machine, and the code that they watch.
#[cfg_attr(target_arch = "x86_64", path = "traced_x86_64.rs")]
#[cfg_attr(target_arch = "powerpc64", path = "traced_ppc64le.rs")]
pub mod traced;

/// A function that a program writes itself, for `conformance`.
#[cfg_attr(target_arch = "x86_64", path = "function_x86_64.rs")]
#[cfg_attr(target_arch = "powerpc64", path = "function_ppc64le.rs")]
pub mod function;
