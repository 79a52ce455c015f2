//! Devices for user mode: the PCI functions of the first segment's first bus.
//!
//! Configuration space is where the MCFG says. The host bridge's window would be in the AML of its `_CRS`,
//! which this port does not interpret; but what lies below 4 GiB and is neither RAM, nor configuration space,
//! nor at or above the I/O APIC, where chipset registers begin, is the bridge's on every PC with one root
//! (Intel 3 Series datasheet, vol. 1 §3.4 *PCI memory address range*), QEMU's `q35` among them. The window is
//! the part of that above configuration space, or above RAM if that ends later.
//!
//! Functions interrupt by messages: a write that a local APIC takes (SDM vol. 3 §11.11). Each
//! source is a vector of its own. They go to the boot CPU, which is never off. Which line of an I/O APIC an
//! interrupt pin arrives at would be in the AML as well, so pins are refused.
//!
//! There is no IOMMU: a bus address is a physical one.

use crate::X86_64;
use crate::acpi::Ecam;
use crate::apic::vector;
use crate::machine::Machine;
use crate::paging;
use crate::sources::Sources;
use arch_contract::addr::PhysAddr;
use arch_contract::boot::PhysRange;
use arch_contract::device::{
    BusAddr, CONFIG_BYTES, Devices, Function, HostBridge, Message, Messages, NotMapped, Refused, Source,
    StillMapped, Width, Window,
};
use arch_contract::irq::IrqsOff;
use volatile::VolatilePtr;

/// The host bridge.
pub struct Pci {
    bridges: [HostBridge; 1],
    /// Configuration space of its bus, and its window: what the kernel's tables must map.
    registers: [PhysRange; 2],
    /// The local APIC that messages go to.
    target: u8,
    sources: Sources<{ X86_64::SOURCES }>,
}

/// The window's ends are multiples of this, so that its mapping takes few entries.
const GRANULE: u64 = 2 << 20;

impl Pci {
    /// `None` if nothing is left for a window, or messages cannot reach a CPU.
    pub fn new(ecam: &Ecam, ram: &[PhysRange], io_apic: PhysAddr) -> Option<Self> {
        let low_ram = ram.iter().map(|range| range.end().0).filter(|&end| end <= io_apic.0).max()?;
        let ecam_end = Some(ecam.end()).filter(|&end| end <= io_apic.0).unwrap_or(0);
        let start = low_ram.max(ecam_end).next_multiple_of(GRANULE);
        let len = (io_apic.0 & !(GRANULE - 1)).checked_sub(start).filter(|&len| len > 0)?;
        let at = PhysRange { start: PhysAddr(start), len };
        let bus = ecam.first_bus;
        let config =
            PhysRange { start: PhysAddr(ecam.base + u64::from(bus) * Ecam::BUS_BYTES), len: Ecam::BUS_BYTES };
        if ram.iter().chain([&at]).any(|range| range.overlaps(&config)) {
            return None;
        }
        let bridge = HostBridge { bus, window: Window { at, bus: start } };
        Some(Self { bridges: [bridge], registers: [config, at], target: 0, sources: Sources::new() })
    }

    /// What the kernel's tables must map.
    pub fn registers(&self) -> &[PhysRange] {
        &self.registers
    }

    /// With messages to the CPU with this APIC id, if they can name it.
    pub fn interrupting(self, apic_id: u32) -> Self {
        Self { target: apic_id as u8, ..self }
    }

    fn config<T>(&self, of: Function, offset: u16) -> Option<VolatilePtr<'static, T>> {
        let [HostBridge { bus, .. }] = self.bridges;
        if of.bus != bus || of.device >= 32 || of.function >= 8 || offset >= CONFIG_BYTES {
            return None;
        }
        let function = u64::from(of.device) << 15 | u64::from(of.function) << 12;
        let at = PhysAddr(self.registers[0].start.0 + function + u64::from(offset));
        // SAFETY: in the bus's configuration space, which is mapped uncached for good; the caller has the
        // offset aligned.
        Some(unsafe { VolatilePtr::new(paging::phys(at).cast()) })
    }

    fn register(&self, at: PhysAddr) -> Option<VolatilePtr<'static, u32>> {
        let access = PhysRange { start: at, len: 4 };
        let inside = self.registers[1].start <= at && access.end() <= self.registers[1].end();
        // SAFETY: in the window, which is mapped uncached for good, and aligned by the contract.
        (inside && at.is_aligned(4)).then(|| unsafe { VolatilePtr::new(paging::phys(at).cast()) })
    }
}

/// The source whose vector this is.
pub fn source(vector: u8) -> Source {
    Source(u16::from(vector - vector::DEVICES))
}

/// Where local APICs take messages; the target's id goes to bits 12–19 (SDM vol. 3 §11.11.1).
const MESSAGE_ADDRESS: u64 = 0xfee0_0000;

impl Devices for X86_64 {
    const SOURCES: usize = (vector::TIMER - vector::DEVICES) as usize;

    fn host_bridges(machine: &Machine) -> &[HostBridge] {
        machine.pci.as_ref().map_or(&[], |pci| &pci.bridges)
    }

    fn config_read(machine: &Machine, of: Function, offset: u16, width: Width) -> u32 {
        let Some(pci) = &machine.pci else { return u32::MAX };
        let read = match width {
            Width::Byte => pci.config::<u8>(of, offset).map(|at| at.read().into()),
            Width::Half => pci.config::<u16>(of, offset).map(|at| at.read().into()),
            Width::Word => pci.config::<u32>(of, offset).map(|at| at.read()),
        };
        read.unwrap_or(u32::MAX >> (32 - 8 * width.bytes()))
    }

    fn config_write(machine: &Machine, of: Function, offset: u16, width: Width, value: u32) {
        let Some(pci) = &machine.pci else { return };
        let _ = match width {
            Width::Byte => pci.config::<u8>(of, offset).map(|at| at.write(value as u8)),
            Width::Half => pci.config::<u16>(of, offset).map(|at| at.write(value as u16)),
            Width::Word => pci.config::<u32>(of, offset).map(|at| at.write(value)),
        };
    }

    fn device_read(machine: &Machine, at: PhysAddr) -> u32 {
        let register = machine.pci.as_ref().and_then(|pci| pci.register(at));
        register.map_or(u32::MAX, |register| register.read())
    }

    fn device_write(machine: &Machine, at: PhysAddr, value: u32) {
        if let Some(register) = machine.pci.as_ref().and_then(|pci| pci.register(at)) {
            register.write(value);
        }
    }

    fn claim_messages(
        machine: &Machine,
        of: Function,
        _kind: Messages,
        sources: &mut [Source],
    ) -> Result<(), Refused> {
        let Some(pci) = &machine.pci else { return Err(Refused::NotSupported) };
        for index in 0..sources.len() {
            match pci.sources.take() {
                Some(number) => sources[index] = Source(number),
                None => {
                    Self::release_messages(machine, of, &sources[..index]);
                    return Err(Refused::NoneLeft);
                }
            }
        }
        Ok(())
    }

    fn message(machine: &Machine, source: Source) -> Option<Message> {
        let target = machine.pci.as_ref()?.target;
        let address = MESSAGE_ADDRESS | u64::from(target) << 12;
        Some(Message { address, data: u32::from(vector::DEVICES) + u32::from(source.0) })
    }

    fn release_messages(machine: &Machine, _of: Function, sources: &[Source]) {
        let Some(pci) = &machine.pci else { return };
        for source in sources {
            pci.sources.give(source.0);
        }
    }

    fn line(_machine: &Machine, _of: Function, _pin: u8) -> Result<Source, Refused> {
        Err(Refused::NotSupported)
    }

    fn unmask_line(_machine: &Machine, _source: Source) {}

    fn mask_line(_machine: &Machine, _source: Source) {}

    unsafe fn map_dma(
        _machine: &Machine,
        _of: Function,
        frames: PhysRange,
        _irq: &IrqsOff,
    ) -> Result<BusAddr, NotMapped> {
        Ok(BusAddr(frames.start.0))
    }

    fn unmap_dma(
        _machine: &Machine,
        _of: Function,
        _frames: PhysRange,
        _at: BusAddr,
    ) -> Result<(), StillMapped> {
        Ok(())
    }
}
