//! The port to ppc64le under PAPR: QEMU `pseries`, KVM and PowerVM guests with the radix MMU.
//!
//! The files carry the names of the contract's modules, one per trait; what only this machine has
//! stands beside them (hypervisor calls, Open Firmware, the device tree, radix tables, XICS, RTAS).
//! What is plain arithmetic on bytes (the tree, page-table entries) also compiles on a host, where
//! it is tested and fuzzed; everything that names a register is there only on the machine.
//!
//! Sources: Power ISA 3.0B Books II and III; LoPAPR 1.1 ("PAPR"); the 64-bit ELF V2 ABI.
#![no_std]

#[cfg(any(test, spandrel_arch = "ppc64le"))]
mod boot_memory;
pub mod bridge;
#[cfg(any(test, spandrel_arch = "ppc64le"))]
mod bus_space;
pub mod covers;
pub mod entry_bits;
#[cfg(any(test, spandrel_arch = "ppc64le"))]
mod passage;
pub mod rpt_invalidate;
pub mod tree;
pub mod tree_check;

#[cfg(spandrel_arch = "ppc64le")]
mod machine_port {
    pub use crate::cpu::{Cpu, Machine};
    use arch_contract::{Arch, Base};

    /// This architecture.
    pub struct Ppc64le;

    impl Base for Ppc64le {
        type Machine = Machine;
        type Cpu = Cpu;
        const NAME: &'static str = "ppc64le";

        fn machine(cpu: &Cpu) -> &Machine {
            cpu.machine
        }
        #[inline(always)]
        fn upper(cpu: &Cpu) -> *const () {
            cpu.upper.get()
        }
        fn bind(cpu: &Cpu, upper: *const ()) {
            cpu.upper.set(upper);
        }
    }

    impl Arch for Ppc64le {}
}

#[cfg(spandrel_arch = "ppc64le")]
pub use machine_port::Ppc64le;

macro_rules! on_the_machine {
    ($($(#[$doc:meta])* $module:ident)*) => { $(#[cfg(spandrel_arch = "ppc64le")] $(#[$doc])* pub mod $module;)* };
}

on_the_machine! {
    barrier boot broadcast cas console context controller cpu device guarded handover hcall irq
    kernel_fault late_map machine of of_tree pci_config pid pte radix ret rtas secondary smp sources spr
    stack start tce time tlb trap trap_entry user vector watch xics xive
}
