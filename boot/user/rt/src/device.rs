//! PCI functions, their interrupts, and memory they reach. See [`abi::device`].

use crate::call::{call, plain, word};
use crate::ipc::Notification;
use crate::machine::Machine;
use crate::object::{Kind, Object};
use crate::shared::Memory;
use abi::device::{Command, PciInfo};
use abi::{Call, Error, Handle, PAGE_BYTES};

/// A PCI function.
#[derive(Debug)]
pub enum PciFunctionKind {}
impl Kind for PciFunctionKind {}
/// A handle on one: when the last is closed, it is reset.
pub type PciFunction = Object<PciFunctionKind>;

/// An interrupt of one.
#[derive(Debug)]
pub enum InterruptKind {}
impl Kind for InterruptKind {}
/// A handle on one.
pub type Interrupt = Object<InterruptKind>;

fn object<K: Kind>(value: u64) -> Object<K> {
    Object::from_handle(Handle(value as u32))
}

impl Machine {
    /// The `index`-th PCI function, with all rights. Needs `MANAGE`. Errors: `NotFound` past the last,
    /// `Busy`, `TableFull`, `NoMemory`.
    pub fn pci_function(&self, index: u64) -> Result<PciFunction, Error> {
        plain(Call::PciFunction, [word(self.handle()), index]).map(object)
    }
}

impl PciFunction {
    /// What it is. Needs `READ`.
    pub fn info(&self) -> Result<PciInfo, Error> {
        let mut info = PciInfo::default();
        let arguments = [word(self.handle()), (&raw mut info).addr() as u64, 0, 0, 0, 0];
        // SAFETY: the kernel writes one `PciInfo`, where there is one.
        unsafe { call(Call::PciInfo, arguments) }?;
        Ok(info)
    }

    /// Reads `width` bytes, 1, 2 or 4, of configuration space. Needs `READ`. Errors: `BadArgument`, `Gone`.
    pub fn read_config(&self, offset: u16, width: u8) -> Result<u32, Error> {
        plain(Call::PciRead, [word(self.handle()), offset.into(), width.into()]).map(|value| value as u32)
    }

    /// Writes it, where that is allowed. Needs `WRITE`. Errors: as reading, `NoRight`.
    pub fn write_config(&self, offset: u16, width: u8, value: u32) -> Result<(), Error> {
        plain(Call::PciWrite, [word(self.handle()), offset.into(), width.into(), value.into()]).map(|_| ())
    }

    /// The registers behind a memory BAR. Needs `MANAGE`. Errors: `BadArgument`, `NotSupported`, `Gone`,
    /// `NoMemory`, `TableFull`.
    pub fn registers(&self, bar: u8) -> Result<Memory, Error> {
        plain(Call::PciBar, [word(self.handle()), bar.into()]).map(object)
    }

    /// Turns what `set` says on, and the rest off; says what was on. Needs `MANAGE`. Errors: `Gone`.
    pub fn set_command(&self, set: Command) -> Result<Command, Error> {
        plain(Call::PciCommand, [word(self.handle()), set.bits()]).map(Command::from_bits_truncate)
    }

    /// One of its interrupts. Needs `MANAGE`. Errors: `BadArgument`, `NotSupported`, `NoMemory`, `Gone`,
    /// `TableFull`.
    pub fn interrupt(&self, vector: u16) -> Result<Interrupt, Error> {
        plain(Call::PciInterrupt, [word(self.handle()), vector.into()]).map(object)
    }

    /// At least `len` bytes of zeroes that it reaches, in one piece. Needs `MANAGE`. Errors: `NoMemory`,
    /// `TableFull`, `BadArgument` for 0 and for more than [`MAX_DMA`](abi::MAX_DMA), `Gone`.
    pub fn dma(&self, len: usize) -> Result<Memory, Error> {
        let len = len.checked_next_multiple_of(PAGE_BYTES as usize).ok_or(Error::NoMemory)?;
        plain(Call::DmaCreate, [word(self.handle()), len as u64]).map(object)
    }

    /// What it knows a byte of such memory by. Needs `READ` on both. Errors: `WrongObject`, `BadArgument`.
    pub fn bus_address(&self, memory: &Memory, offset: usize) -> Result<u64, Error> {
        plain(Call::DmaAddress, [word(self.handle()), word(memory.handle()), offset as u64])
    }
}

impl Interrupt {
    /// From now on it signals `bits`, of which there are some, and is acknowledged. Needs `MANAGE`, and
    /// `WRITE` on the notification. Errors: `BadArgument`, `Gone`.
    pub fn bind(&self, to: &Notification, bits: u64) -> Result<(), Error> {
        plain(Call::InterruptBind, [word(self.handle()), word(to.handle()), bits]).map(|_| ())
    }

    /// It may come again. Needs `MANAGE`. Errors: `Gone`.
    pub fn acknowledge(&self) -> Result<(), Error> {
        plain(Call::InterruptAcknowledge, [word(self.handle())]).map(|_| ())
    }
}
