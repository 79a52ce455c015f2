//! Configuration space, by RTAS (PAPR §7.3.4).
//!
//! Firmware names a function by the bridge's unit and a word: bus, device and function as PCI has them, the
//! register in the low byte, and the upper four bits of an extended one at the top.

use crate::bridge::ConfigSpace;
use crate::rtas;
use crate::tree::RtasTokens;
use arch_contract::device::{Function, Width};

/// The calls, and the bridge they are for.
pub struct PciConfig {
    read: u32,
    write: u32,
    unit: u64,
    space: ConfigSpace,
}

/// The word that names a register of a function.
pub(crate) const fn address(of: Function, offset: u16) -> u32 {
    let register = (offset as u32 & 0xf00) << 20 | offset as u32 & 0xff;
    (of.bus as u32) << 16 | (of.device as u32) << 11 | (of.function as u32) << 8 | register
}

/// The halves of a unit, as arguments.
pub(crate) const fn halves(unit: u64) -> [u32; 2] {
    [(unit >> 32) as u32, unit as u32]
}

impl PciConfig {
    /// `None`: firmware has no such calls.
    pub fn find(tokens: &RtasTokens, unit: u64, space: ConfigSpace) -> Option<Self> {
        Some(Self { read: tokens.read_pci_config?, write: tokens.write_pci_config?, unit, space })
    }

    fn reaches(&self, offset: u16) -> bool {
        offset < 256 || self.space == ConfigSpace::Extended
    }

    pub fn read(&self, of: Function, offset: u16, width: Width) -> u32 {
        let all_ones = u32::MAX >> (32 - 8 * u32::from(width.bytes()));
        if !self.reaches(offset) {
            return all_ones;
        }
        let [high, low] = halves(self.unit);
        // Firmware refuses what is not there.
        match rtas::call(self.read, &[address(of, offset), high, low, width.bytes().into()]) {
            Ok([value]) => value & all_ones,
            Err(_) => all_ones,
        }
    }

    pub fn write(&self, of: Function, offset: u16, width: Width, value: u32) {
        if self.reaches(offset) {
            let [high, low] = halves(self.unit);
            let arguments = [address(of, offset), high, low, width.bytes().into(), value];
            // What is not there takes no writes.
            let _ = rtas::call::<0>(self.write, &arguments);
        }
    }
}
