//! The registers by which a function's messages are set up, switched and masked: MSI and MSI-X (PCI Local
//! Bus 3.0 §6.8).

use super::pci::{Config, Signals};
use arch_contract::addr::PhysAddr;
use arch_contract::device::{Devices, Message, Width};
use arch_current::Current;

/// Of both capabilities.
const CONTROL: u16 = 2;

/// MSI: message control, and where the rest is.
const MSI_ENABLE: u32 = 1;
const MSI_COUNT: u32 = 0b111 << 4;
const MSI_WIDE: u32 = 1 << 7;
const MSI_ADDRESS: u16 = 4;

/// MSI-X: message control.
const MSI_X_ENABLE: u32 = 1 << 15;
const MSI_X_MASK_ALL: u32 = 1 << 14;

/// Bytes of an entry of the table, and the offset of its last word, which masks it.
const ENTRY: u64 = 16;
const VECTOR_CONTROL: u64 = 12;
const MASKED: u32 = 1;

/// Whether messages are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sending {
    On,
    Off,
}

impl Signals {
    fn entry(self, vector: u16) -> Option<PhysAddr> {
        match self {
            Self::MsiX { table, .. } => Some(PhysAddr(table.0 + ENTRY * u64::from(vector))),
            _ => None,
        }
    }

    /// Tells the function what to write for `vector`. It does not do so before it is switched on.
    pub fn program(self, config: Config, vector: u16, message: Message) {
        let Message { address, data } = message;
        match self {
            Self::MsiX { .. } => {
                let Some(entry) = self.entry(vector) else { return };
                let words = [address as u32, (address >> 32) as u32, data];
                for (offset, word) in (0..).step_by(4).zip(words) {
                    Current::device_write(config.machine, PhysAddr(entry.0 + offset), word);
                }
            }
            Self::Msi { offset } => {
                let register = offset + MSI_ADDRESS;
                config.write(register, Width::Word, address as u32);
                let data_at = match config.half(offset + CONTROL) & MSI_WIDE {
                    0 => register + 4,
                    _ => {
                        config.write(register + 4, Width::Word, (address >> 32) as u32);
                        register + 8
                    }
                };
                config.write(data_at, Width::Half, data);
            }
            Self::Line { .. } | Self::None => {}
        }
    }

    /// Switches messages on, of which there is one for MSI, or off.
    pub fn switch(self, config: Config, sending: Sending) {
        let (offset, on, off) = match self {
            Self::Msi { offset } => (offset, MSI_ENABLE, MSI_ENABLE | MSI_COUNT),
            Self::MsiX { offset, .. } => (offset, MSI_X_ENABLE, MSI_X_ENABLE | MSI_X_MASK_ALL),
            Self::Line { .. } | Self::None => return,
        };
        let control = config.half(offset + CONTROL) & !off;
        let control = if sending == Sending::On { control | on } else { control };
        config.write(offset + CONTROL, Width::Half, control);
    }

    /// Keeps the function from sending `vector`, and has it remember that it would have: where each can be
    /// masked. Else more are sent, and merge.
    pub fn mask(self, config: Config, vector: u16) {
        self.set_mask(config, vector, MASKED);
    }

    /// Lets it send `vector`, at once if it would have.
    pub fn unmask(self, config: Config, vector: u16) {
        self.set_mask(config, vector, 0);
    }

    fn set_mask(self, config: Config, vector: u16, mask: u32) {
        if let Some(entry) = self.entry(vector) {
            Current::device_write(config.machine, PhysAddr(entry.0 + VECTOR_CONTROL), mask);
        }
    }
}
