//! The boot log's line about this machine.

use crate::Ppc64le;
use crate::cpu::{Firmware, Machine, UserPages};
use crate::device::NoPci;
use crate::spr::{self, number};
use arch_contract::boot::Boot;
use core::fmt::Write;

impl Boot for Ppc64le {
    /// EM_PPC64.
    const ELF_MACHINE: u16 = 21;

    fn describe(machine: &Machine, out: &mut dyn Write) -> core::fmt::Result {
        let pvr = spr::read::<{ number::PVR }>();
        let name = match pvr >> 16 {
            0x4e => "POWER9",
            0x80 => "POWER10",
            0x82 => "POWER11",
            _ => "Power ISA 3.0 CPU",
        };
        let firmware = match machine.firmware {
            Firmware::OpenFirmware => "Open Firmware",
            Firmware::FlattenedTree => "flattened device tree",
        };
        let guard = match machine.user_pages {
            UserPages::Guarded => "KUAP and KUEP",
            UserPages::Open => "no KUAP",
        };
        write!(out, "{name} (PVR {pvr:#010x}), {firmware}, radix, {}, {guard}, ", machine.controller.name())?;
        write!(out, "timebase {} MHz, ", machine.timebase / 1_000_000)?;
        match (machine.console, machine.console_interrupt) {
            (Some(_), Some(source)) => write!(out, "console interrupt {source:#x}"),
            (Some(_), None) => write!(out, "console without interrupt: input is not noticed"),
            (None, _) => write!(out, "no console"),
        }?;
        match &machine.pci {
            Ok(pci) => write!(out, ", PCI host bridge {:#x}", pci.unit()),
            Err(NoPci::NoBridge) => Ok(()),
            Err(why) => write!(out, ", no PCI: {why}"),
        }
    }
}
