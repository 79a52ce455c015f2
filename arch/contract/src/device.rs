//! Devices for user mode: how the machine's PCI functions are reached, where their registers can lie,
//! how they interrupt, and what address they know a frame by.
//!
//! The generic kernel finds the functions, gives their registers addresses, decides who holds them and
//! in which order a holder's end happens. It needs four things of the machine, and asks for them one
//! register, one window, one source and one range of frames at a time. No hook allocates, and none waits
//! for anything but hardware.
//!
//! A machine without PCI has no host bridge: [`Devices::host_bridges`] is empty, and nothing else here is
//! called.

use crate::addr::PhysAddr;
use crate::boot::PhysRange;
use crate::irq::IrqsOff;

/// A PCI function, by its place (PCI Local Bus §3.2.2.3.2; PAPR §7.3.5 *config_addr*).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Function {
    /// Index into [`Devices::host_bridges`].
    pub bridge: u8,
    pub bus: u8,
    /// 0–31.
    pub device: u8,
    /// 0–7.
    pub function: u8,
}

/// Bytes of a function's configuration space on PCI Express. A conventional one has the first 256.
pub const CONFIG_BYTES: u16 = 4096;

/// How wide an access to configuration space is. It is aligned to its width.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    Byte,
    Half,
    Word,
}

impl Width {
    /// In bytes: 1, 2 or 4.
    pub const fn bytes(self) -> u16 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
        }
    }
}

/// Where a host bridge lets the processor reach its functions' memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// What the processor writes to: not RAM, whole pages.
    pub at: PhysRange,
    /// What the function sees for the first byte of `at`: the number for its base address register. The
    /// whole window is below 4 GiB there, so that every memory BAR can lie in it.
    pub bus: u64,
}

/// A host bridge. What lies behind further bridges is not looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostBridge {
    /// The number of its own bus.
    pub bus: u8,
    /// Where registers can be put. The kernel has all of it: what the firmware put there is moved.
    pub window: Window,
}

/// One source of interrupts, numbered densely by the port: below [`Devices::SOURCES`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source(pub u16);

/// How a function's messages are sent (PCI Local Bus 3.0 §6.8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Messages {
    /// One address, consecutive data.
    Msi,
    /// A table in the function's memory.
    MsiX,
}

/// What a function writes to interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    pub address: u64,
    pub data: u32,
}

/// Why frames were not made reachable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotMapped {
    /// There is no room, or the machine refuses. No function reaches them.
    Refused,
    /// The machine refuses, and to undo what it did too: functions may reach some of them for ever.
    InDoubt,
}

/// The machine refuses to take frames out of reach: functions may reach them for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StillMapped;

/// Why a source was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// All sources are taken. Others may be given back.
    NoneLeft,
    /// The machine cannot do it, or does not say how the line is wired.
    NotSupported,
}

/// What a device knows a frame by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BusAddr(pub u64);

/// The hooks. Calls for one function are serialized by the caller; calls for several may happen at once,
/// on any CPU, with interrupts off and locks held.
pub trait Devices: crate::Base {
    /// Sources there can be: at most 256.
    const SOURCES: usize;

    /// The machine's host bridges. Constant after boot.
    fn host_bridges(machine: &Self::Machine) -> &[HostBridge];

    /// Reads configuration space. A function that is not there reads as all ones, as wide as the access
    /// (PCI Local Bus §6.1): never a fault. `offset` is aligned to `width` and below [`CONFIG_BYTES`];
    /// what the bridge cannot reach reads as all ones too.
    fn config_read(machine: &Self::Machine, of: Function, offset: u16, width: Width) -> u32;

    /// Writes configuration space, and returns when the function has taken it. Bits above `width` are
    /// ignored; what cannot be reached is too.
    fn config_write(machine: &Self::Machine, of: Function, offset: u16, width: Width, value: u32);

    /// Reads a 32-bit register (little-endian) of a device at `at`, which is aligned and lies in a
    /// [`Window`]. One access of this width, in order with others to the same device.
    fn device_read(machine: &Self::Machine, at: PhysAddr) -> u32;

    /// Writes one, as [`device_read`](Self::device_read).
    fn device_write(machine: &Self::Machine, at: PhysAddr, value: u32);

    /// Takes a source for each of `of`'s messages 0.. and puts it into `sources`. All or none. Nothing
    /// arrives before the caller has written [`message`](Self::message) into the function and enabled the
    /// capability; a hypervisor may want to do the first itself, and does so here.
    ///
    /// Each source is that of one function alone. It is delivered as
    /// [`Interrupt::Device`](crate::irq::Interrupt::Device) on a CPU that is on, once or more for messages
    /// that were sent since the last delivery: none is lost, some may merge (`DEV-5`).
    fn claim_messages(
        machine: &Self::Machine,
        of: Function,
        kind: Messages,
        sources: &mut [Source],
    ) -> Result<(), Refused>;

    /// What the function must write for `source`; `None` where the hypervisor has told it already.
    fn message(machine: &Self::Machine, source: Source) -> Option<Message>;

    /// Gives all sources of `of`'s messages back. The capability is disabled, so no more are sent. A
    /// delivery that is on its way may still come, on any CPU, and must not be taken for another's: the
    /// generic kernel ignores sources that nobody has bound.
    fn release_messages(machine: &Self::Machine, of: Function, sources: &[Source]);

    /// The source of `of`'s interrupt pin 1–4 (INTA–INTD). Several functions may share one, and get the
    /// same. It is a level: delivered, it is masked until [`unmask_line`](Self::unmask_line). It begins
    /// masked. `NotSupported` where nothing says how it is wired.
    fn line(machine: &Self::Machine, of: Function, pin: u8) -> Result<Source, Refused>;

    /// Lets a [`line`](Self::line) interrupt again; at once if it is still asserted.
    fn unmask_line(machine: &Self::Machine, source: Source);

    /// Keeps a [`line`](Self::line) from interrupting.
    fn mask_line(machine: &Self::Machine, source: Source);

    /// Makes `frames`, whole pages of RAM, reachable for `of` and says at which bus address their first
    /// byte is; the others follow. The whole range is below 4 GiB on the bus, or not, as the machine has it.
    ///
    /// # Safety
    /// The frames are the caller's, and are not reused before [`unmap_dma`](Self::unmap_dma) has returned
    /// `Ok`, nor after [`NotMapped::InDoubt`].
    unsafe fn map_dma(
        machine: &Self::Machine,
        of: Function,
        frames: PhysRange,
        irq: &IrqsOff,
    ) -> Result<BusAddr, NotMapped>;

    /// Undoes [`map_dma`](Self::map_dma). Called after the function was kept from mastering the bus
    /// (`DEV-3`). Where there is an IOMMU, no function reaches the frames by that address when it returns `Ok`;
    /// the address is given to others from then on, and not before.
    fn unmap_dma(
        machine: &Self::Machine,
        of: Function,
        frames: PhysRange,
        at: BusAddr,
    ) -> Result<(), StillMapped>;
}
