//! Configuration space, as `virtio-drivers` wants to see it.
//!
//! The crate sizes base address registers by writing to them, as on a bare machine. Here these are the
//! kernel's, which has placed them and says how large they are; so they are played: what is written to
//! them is kept, and read back as a register of that size would.

use crate::memory::BAR_STRIDE;
use core::cell::Cell;
use user_rt::Error;
use user_rt::abi::device::BarKind;
use user_rt::device::PciFunction;
use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction};

/// The base address registers (PCI Local Bus §6.1).
const BARS: core::ops::Range<u8> = 0x10..0x28;
/// Of a base address register, what says that the next one is its upper half.
const WIDE: u32 = 4;
const FLAGS: u64 = 0xf;

/// The function that this process drives; the bus has no other.
pub struct Configuration<'a> {
    function: &'a PciFunction,
    /// What a register of memory lets change of an address, its flags, and what it holds.
    bars: [(u64, u32); 6],
    held: [Cell<u64>; 6],
}

/// The only one.
pub const FUNCTION: DeviceFunction = DeviceFunction { bus: 0, device: 0, function: 0 };

impl<'a> Configuration<'a> {
    pub fn new(function: &'a PciFunction) -> Result<Self, Error> {
        let info = function.info()?;
        let mut bars = [(0, 0); 6];
        for (number, (bar, (mask, flags))) in (0..).zip(info.bars.iter().zip(&mut bars)) {
            if bar.kind == BarKind::Memory as u32 {
                (*mask, *flags) =
                    (!(bar.length - 1), function.read_config(0x10 + 4 * number, 4)? & FLAGS as u32);
            }
        }
        let held = core::array::from_fn(|bar| Cell::new(BAR_STRIDE * (bar as u64 + 1)));
        Ok(Self { function, bars, held })
    }

    /// The register at an offset: whose address it is a half of, and whether it is the upper one.
    fn bar(&self, offset: u8) -> Option<(usize, bool)> {
        let register = BARS.contains(&offset).then(|| usize::from((offset - BARS.start) / 4))?;
        match register.checked_sub(1) {
            Some(before) if self.bars[before].1 & WIDE != 0 => Some((before, true)),
            _ => Some((register, false)),
        }
    }
}

impl ConfigurationAccess for Configuration<'_> {
    fn read_word(&self, _: DeviceFunction, offset: u8) -> u32 {
        match self.bar(offset) {
            Some((bar, upper)) => {
                let (mask, flags) = self.bars[bar];
                let value = self.held[bar].get() & mask;
                if upper { (value >> 32) as u32 } else { value as u32 & !(FLAGS as u32) | flags }
            }
            // What cannot be read is not there: all ones, as on the bus.
            None => self.function.read_config(offset.into(), 4).unwrap_or(u32::MAX),
        }
    }

    fn write_word(&mut self, _: DeviceFunction, offset: u8, data: u32) {
        if let Some((bar, upper)) = self.bar(offset) {
            let (held, data) = (self.held[bar].get(), u64::from(data));
            let value = if upper { held & 0xffff_ffff | data << 32 } else { held & !0xffff_ffff | data };
            self.held[bar].set(value);
        }
        // The command register is the only other that the crate writes, to keep a BAR quiet while it is
        // sized. None is, here.
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Self { function: self.function, bars: self.bars, held: self.held.clone() }
    }
}
