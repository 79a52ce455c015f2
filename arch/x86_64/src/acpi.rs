//! The few ACPI tables this port reads: RSDP, XSDT or RSDT, MADT, FADT, MCFG.
//!
//! From the MADT: which CPUs there are, where the local and I/O APICs are, where ISA interrupts
//! arrive. From the FADT: the PM timer, a clock of known rate, and the soft-off register. From the MCFG:
//! where PCI configuration space is. All are optional: without them the machine has one CPU, the classic
//! addresses and no PCI. A table with a bad checksum counts as missing (ACPI 6.5 §5.2).

use crate::firmware::{Source, u16_at, u32_at, u64_at};
use arch_contract::boot::{HardwareCpu, MAX_CPUS};
use arrayvec::ArrayVec;

/// Where an ISA interrupt line arrives, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// Global system interrupt.
    pub gsi: u32,
    pub polarity: Polarity,
    pub trigger: Trigger,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polarity {
    ActiveHigh,
    ActiveLow,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    Edge,
    Level,
}

/// An I/O APIC and the first interrupt it serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoApic {
    pub address: u64,
    pub gsi_base: u32,
}

/// What the MADT said (ACPI 6.5 §5.2.12).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interrupts {
    pub local_apic: u64,
    /// CPUs that are there and usable, in the table's order.
    pub cpus: ArrayVec<HardwareCpu, MAX_CPUS>,
    pub io_apics: ArrayVec<IoApic, 8>,
    /// Indexed by ISA interrupt number.
    pub isa: [Route; 16],
}

impl Interrupts {
    /// What a PC has when no table says otherwise.
    pub fn classic() -> Self {
        let mut isa = [Route { gsi: 0, polarity: Polarity::ActiveHigh, trigger: Trigger::Edge }; 16];
        for (irq, route) in isa.iter_mut().enumerate() {
            route.gsi = irq as u32;
        }
        let io_apics = [IoApic { address: 0xfec0_0000, gsi_base: 0 }].into_iter().collect();
        Self { local_apic: 0xfee0_0000, cpus: ArrayVec::new(), io_apics, isa }
    }

    /// Notes a CPU, once, and no more than there is room for.
    fn add_cpu(&mut self, cpu: HardwareCpu) {
        if !self.cpus.contains(&cpu) {
            let _ = self.cpus.try_push(cpu);
        }
    }
}

/// What the FADT said (ACPI 6.5 §5.2.9).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Power {
    /// I/O port of the 3.579545 MHz counter.
    pub pm_timer: Option<u16>,
    /// I/O port of PM1a control, which switches the machine off.
    pub pm1_control: Option<u16>,
}

/// Where the MCFG says that configuration space of the first segment is mapped (PCI Firmware Specification
/// 3.0 §4.1.2): 1 MiB for each bus, bus 0 at `base`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ecam {
    pub base: u64,
    pub first_bus: u8,
    pub last_bus: u8,
}

impl Ecam {
    /// Bytes of one bus.
    pub const BUS_BYTES: u64 = 1 << 20;

    /// One past the last byte.
    pub fn end(&self) -> u64 {
        self.base + (u64::from(self.last_bus) + 1) * Self::BUS_BYTES
    }
}

/// The tables' contents; what is missing or damaged has its default.
pub struct Tables {
    pub interrupts: Interrupts,
    pub power: Power,
    pub ecam: Option<Ecam>,
}

/// Reads what can be reached from the root pointer at `rsdp`.
pub fn read(memory: &impl Source, rsdp: Option<u64>) -> Tables {
    let mut tables = Tables { interrupts: Interrupts::classic(), power: Power::default(), ecam: None };
    let Some(root) = rsdp.and_then(|at| root_table(memory, at)) else { return tables };
    let width = if root.starts_with(b"XSDT") { 8 } else { 4 };
    for entry in root.get(HEADER..).unwrap_or(&[]).chunks_exact(width) {
        let at = if width == 8 { u64_at(entry, 0) } else { u32_at(entry, 0).map(u64::from) };
        match at.and_then(|at| table(memory, at)) {
            Some(madt) if madt.starts_with(b"APIC") => tables.interrupts = interrupts(madt),
            Some(fadt) if fadt.starts_with(b"FACP") => tables.power = power(fadt),
            Some(mcfg) if mcfg.starts_with(b"MCFG") => tables.ecam = ecam(mcfg),
            _ => {}
        }
    }
    tables
}

/// Bytes of the header every table starts with.
const HEADER: usize = 36;
/// A bound on a corrupt length.
const MAX_TABLE: usize = 1 << 20;

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)) == 0
}

fn root_table(memory: &impl Source, rsdp: u64) -> Option<&[u8]> {
    let v1 = memory.bytes(rsdp, 20).filter(|bytes| bytes.starts_with(b"RSD PTR ") && sums_to_zero(bytes))?;
    if v1[15] >= 2 {
        let v2 = memory.bytes(rsdp, 36).filter(|bytes| sums_to_zero(bytes));
        if let Some(xsdt) = v2.and_then(|bytes| u64_at(bytes, 24)).filter(|&at| at != 0) {
            return table(memory, xsdt).filter(|bytes| bytes.starts_with(b"XSDT"));
        }
    }
    table(memory, u32_at(v1, 16)?.into()).filter(|bytes| bytes.starts_with(b"RSDT"))
}

/// The whole table at `at`, if its length is sane and its checksum right.
fn table(memory: &impl Source, at: u64) -> Option<&[u8]> {
    let len = u32_at(memory.bytes(at, HEADER)?, 4)? as usize;
    if !(HEADER..=MAX_TABLE).contains(&len) {
        return None;
    }
    memory.bytes(at, len).filter(|bytes| sums_to_zero(bytes))
}

/// Flags of a CPU entry: usable now.
const CPU_ENABLED: u32 = 1;

fn interrupts(madt: &[u8]) -> Interrupts {
    let mut found = Interrupts { io_apics: ArrayVec::new(), ..Interrupts::classic() };
    if let Some(address) = u32_at(madt, 36) {
        found.local_apic = address.into();
    }
    let mut rest = madt.get(44..).unwrap_or(&[]);
    while let [kind, len, ..] = *rest {
        let Some(entry) = rest.get(..len.into()).filter(|entry| entry.len() >= 2) else { break };
        rest = &rest[entry.len()..];
        // Each arm reads its fields with `?`-like lookups; an entry too short for its kind says
        // nothing. More CPUs or controllers than there is room for are left alone.
        match kind {
            0 if u32_at(entry, 4).is_some_and(|flags| flags & CPU_ENABLED != 0) => {
                found.add_cpu(HardwareCpu(entry[3].into()));
            }
            1 => {
                if let (Some(address), Some(gsi_base)) = (u32_at(entry, 4), u32_at(entry, 8)) {
                    let _ = found.io_apics.try_push(IoApic { address: address.into(), gsi_base });
                }
            }
            2 => {
                if let (Some(gsi), Some(flags)) = (u32_at(entry, 4), u16_at(entry, 8))
                    && let Some(route) = found.isa.get_mut(usize::from(entry[3]))
                {
                    *route = Route {
                        gsi,
                        polarity: if flags & 3 == 3 { Polarity::ActiveLow } else { Polarity::ActiveHigh },
                        trigger: if flags >> 2 & 3 == 3 { Trigger::Level } else { Trigger::Edge },
                    };
                }
            }
            5 => {
                if let Some(address) = u64_at(entry, 4) {
                    found.local_apic = address;
                }
            }
            9 if u32_at(entry, 8).is_some_and(|flags| flags & CPU_ENABLED != 0) => {
                if let Some(id) = u32_at(entry, 4) {
                    found.add_cpu(HardwareCpu(id));
                }
            }
            _ => {}
        }
    }
    if found.io_apics.is_empty() {
        found.io_apics = Interrupts::classic().io_apics;
    }
    found
}

fn power(fadt: &[u8]) -> Power {
    // The 32-bit port fields; the extended ones repeat them on every PC with port I/O.
    let port =
        |offset| u32_at(fadt, offset).and_then(|port| u16::try_from(port).ok()).filter(|&port| port != 0);
    Power { pm_timer: port(76), pm1_control: port(64) }
}

/// The entry for segment 0, if it makes sense.
fn ecam(mcfg: &[u8]) -> Option<Ecam> {
    let entries = mcfg.get(HEADER + 8..)?.chunks_exact(16);
    let mut entries = entries.filter(|entry| u16_at(entry, 8) == Some(0));
    let entry = entries.next()?;
    let found = Ecam { base: u64_at(entry, 0)?, first_bus: entry[10], last_bus: entry[11] };
    let fits = found.first_bus <= found.last_bus
        && found.base.is_multiple_of(Ecam::BUS_BYTES)
        && found.base.checked_add(256 * Ecam::BUS_BYTES).is_some_and(|end| end <= MAX_ECAM);
    fits.then_some(found)
}

/// A bound on a corrupt address: what the kernel's tables can map.
const MAX_ECAM: u64 = 1 << 46;

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::firmware::Slice;
    use std::vec::Vec;

    fn seal(mut table: Vec<u8>) -> Vec<u8> {
        let len = (table.len() as u32).to_le_bytes();
        table[4..8].copy_from_slice(&len);
        table[9] = 0;
        table[9] = table.iter().fold(0u8, |sum, &byte| sum.wrapping_sub(byte));
        table
    }

    fn madt() -> Vec<u8> {
        let mut table = Vec::from(*b"APIC");
        table.resize(44, 0);
        table[36..40].copy_from_slice(&0xfee0_0000u32.to_le_bytes());
        table.extend([0, 8, 0, 0, 1, 0, 0, 0]); // CPU 0, enabled
        table.extend([0, 8, 1, 7, 0, 0, 0, 0]); // CPU 7, not
        table.extend([0, 8, 1, 3, 1, 0, 0, 0]); // CPU 3, enabled
        table.extend([9, 16, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]); // CPU 3 again
        table.extend([9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]); // CPU 256
        table.extend([1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
        table.extend([2, 10, 0, 4, 20, 0, 0, 0, 0xf, 0]); // ISA 4 -> 20, low, level
        seal(table)
    }

    fn memory() -> Vec<u8> {
        let mut memory = std::vec![0u8; 0x1000];
        let mut rsdp = Vec::from(*b"RSD PTR ");
        rsdp.resize(20, 0);
        rsdp[16..20].copy_from_slice(&0x100u32.to_le_bytes());
        rsdp[8] = rsdp.iter().fold(0u8, |sum, &byte| sum.wrapping_sub(byte));
        memory[..20].copy_from_slice(&rsdp);
        let mut rsdt = Vec::from(*b"RSDT");
        rsdt.resize(HEADER, 0);
        rsdt.extend(0x200u32.to_le_bytes());
        rsdt.extend(0x300u32.to_le_bytes());
        rsdt.extend(0x400u32.to_le_bytes());
        let rsdt = seal(rsdt);
        memory[0x100..0x100 + rsdt.len()].copy_from_slice(&rsdt);
        let madt = madt();
        memory[0x200..0x200 + madt.len()].copy_from_slice(&madt);
        let mut fadt = Vec::from(*b"FACP");
        fadt.resize(116, 0);
        fadt[76..80].copy_from_slice(&0x608u32.to_le_bytes());
        let fadt = seal(fadt);
        memory[0x300..0x300 + fadt.len()].copy_from_slice(&fadt);
        let mut mcfg = Vec::from(*b"MCFG");
        mcfg.resize(44, 0);
        mcfg.extend(0xb000_0000u64.to_le_bytes());
        mcfg.extend([0, 0, 0, 0xff, 0, 0, 0, 0]);
        let mcfg = seal(mcfg);
        memory[0x400..0x400 + mcfg.len()].copy_from_slice(&mcfg);
        memory
    }

    /// `BOOT-1`: the enabled CPUs, the controllers and the overrides arrive.
    #[test]
    fn boot_1_tables() {
        let memory = memory();
        let tables = read(&Slice { base: 0, data: &memory }, Some(0));
        assert_eq!(tables.interrupts.cpus[..], [HardwareCpu(0), HardwareCpu(3), HardwareCpu(256)]);
        assert_eq!(tables.interrupts.io_apics[..], [IoApic { address: 0xfec0_0000, gsi_base: 0 }]);
        let low_level = Route { gsi: 20, polarity: Polarity::ActiveLow, trigger: Trigger::Level };
        assert_eq!(tables.interrupts.isa[4], low_level);
        assert_eq!(tables.power.pm_timer, Some(0x608));
        assert_eq!(tables.power.pm1_control, None);
        let ecam = Ecam { base: 0xb000_0000, first_bus: 0, last_bus: 0xff };
        assert_eq!((tables.ecam, ecam.end()), (Some(ecam), 0xc000_0000));
    }

    /// One flipped byte anywhere makes a table missing, never a crash.
    #[test]
    fn boot_5_damage() {
        let good = memory();
        for index in 0..good.len() {
            let mut memory = good.clone();
            memory[index] ^= 0x5a;
            let tables = read(&Slice { base: 0, data: &memory }, Some(0));
            assert!(tables.interrupts.cpus.len() <= 5);
        }
        for len in 0..0x4a0 {
            let tables = read(&Slice { base: 0, data: &good[..len] }, Some(0));
            assert!(!tables.interrupts.io_apics.is_empty());
        }
    }
}
