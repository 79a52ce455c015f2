//! The one place that picks an architecture.
//!
//! The kernel names [`Current`] and nothing more specific, so generics do not spread through it
//! and a call into architecture code reads `Current::hook(…)` at the call site. The choice is an
//! explicit `--cfg spandrel_arch="…"` that only xtask sets (a target name would not do: with a
//! built-in Linux target the machine port would look like a host). A host build gets the model.
#![no_std]

#[cfg(spandrel_arch = "x86_64")]
pub use arch_x86_64::X86_64 as Current;

#[cfg(spandrel_arch = "ppc64le")]
pub use arch_ppc64le::Ppc64le as Current;

#[cfg(not(any(spandrel_arch = "x86_64", spandrel_arch = "ppc64le")))]
pub use arch_model::Model as Current;
