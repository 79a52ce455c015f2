//! Devices in user mode: what the calls on PCI functions, interrupts and DMA memory have in common.
//!
//! # Holding a function
//! Whoever has a handle on a function holds it; `pci_function` gives another handle on the same to
//! whoever has the machine's. When the last one goes, by closing, revocation or the end of processes, the
//! function is kept from mastering the bus, its interrupts are taken away, it is reset, and only then do
//! the frames of its DMA memory go back to whoever paid. What is left in anybody's table of its registers
//! says nothing of the device, and its interrupts answer `Gone`; until those are gone too, `pci_function` answers `Busy`.
//!
//! # Configuration space
//! All of it can be read. Written can be the bodies of vendor-specific capabilities (id 9); everything else is
//! refused with `NoRight`: it is the kernel's, which has calls for what a driver needs of it.
//!
//! # What a driver is trusted with
//! That depends on whether something stands between a function and memory: see `kernel/CAVEATS.md`.

use super::numbers;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

bitflags::bitflags! {
    /// What a function may do, with the numbers of the command register (PCI Local Bus §6.2.2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Command: u64 {
        /// Answer to accesses to its memory.
        const MEMORY = 2;
        /// Access memory by itself, messages that interrupt included.
        const BUS_MASTER = 4;
    }
}

numbers! {
    /// How a function interrupts.
    Interrupts:
    /// Not at all, or in a way that this machine cannot take.
    None = 0,
    /// One line, which others may share.
    Line = 1,
    /// Messages.
    Msi = 2,
    /// Messages, each masked by itself.
    MsiX = 3,
}

numbers! {
    /// What a base address register is for.
    BarKind:
    /// Nothing, or it is the upper half of the one before.
    None = 0,
    /// I/O ports. They are not given out.
    Io = 1,
    Memory = 2,
}

/// Most DMA memory objects of one function at a time; more: `TableFull`.
pub const MAX_DMA: usize = 32;
/// Most interrupts of one function.
pub const MAX_VECTORS: usize = 16;

/// A base address register.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PciBar {
    /// A [`BarKind`] number.
    pub kind: u32,
    /// 1 if what is behind it can be read ahead and writes merged, else 0.
    pub prefetchable: u32,
    /// In bytes, of all that is behind it. What `pci_bar` gives out may be shorter: `handle_info` says.
    pub length: u64,
}

/// What `pci_info` writes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PciInfo {
    pub bus: u8,
    /// 0–31.
    pub device: u8,
    /// 0–7.
    pub function: u8,
    pub revision: u8,
    pub vendor: u16,
    pub device_id: u16,
    pub subsystem_vendor: u16,
    pub subsystem: u16,
    /// Base class, subclass and programming interface, in bits 16–23, 8–15 and 0–7.
    pub class: u32,
    /// An [`Interrupts`] number.
    pub interrupts: u32,
    /// Interrupts there are for `pci_interrupt`: at most [`MAX_VECTORS`].
    pub vectors: u32,
    pub bars: [PciBar; 6],
}
