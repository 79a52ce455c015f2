//! x86_64 under a hypervisor: the port to QEMU's `q35` and to whatever else starts a PVH kernel.
//!
//! One file per trait of the contract, under the same name; beside them what only this machine
//! has. What is plain arithmetic or parsing compiles anywhere and is tested on the host; what
//! touches the machine is built for the bare target only.
#![no_std]

#[cfg(test)]
extern crate std;

// First: its macros are textual.
#[cfg(target_os = "none")]
#[macro_use]
mod frame_asm;

pub mod acpi;
pub mod firmware;
pub mod handover;
pub mod needed;
pub mod opcode;
pub mod operand;
pub mod pcid;
pub mod pte;
pub mod sources;

#[cfg(target_os = "none")]
mod apic;
#[cfg(target_os = "none")]
mod barrier;
#[cfg(target_os = "none")]
pub mod boot;
#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
mod context;
#[cfg(target_os = "none")]
mod cpu;
#[cfg(target_os = "none")]
mod device;
#[cfg(target_os = "none")]
pub mod entry;
#[cfg(target_os = "none")]
mod features;
#[cfg(target_os = "none")]
mod gdt;
#[cfg(target_os = "none")]
mod idt;
#[cfg(target_os = "none")]
mod ioapic;
#[cfg(target_os = "none")]
mod irq;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod paging;
#[cfg(target_os = "none")]
mod ret;
#[cfg(target_os = "none")]
mod smp;
#[cfg(target_os = "none")]
mod syscall;
#[cfg(target_os = "none")]
mod time;
#[cfg(target_os = "none")]
mod tlb;
#[cfg(target_os = "none")]
mod trampoline;
#[cfg(target_os = "none")]
mod trap;
#[cfg(target_os = "none")]
mod user;
#[cfg(target_os = "none")]
mod vector;
#[cfg(target_os = "none")]
mod watch;

/// The architecture.
pub struct X86_64;

#[cfg(target_os = "none")]
impl arch_contract::Arch for X86_64 {}
