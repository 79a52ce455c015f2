//! Devices for user mode: none yet.

use crate::Ppc64le;
use crate::cpu::Machine;
use arch_contract::addr::PhysAddr;
use arch_contract::boot::PhysRange;
use arch_contract::device::{BusAddr, Devices, Function, HostBridge, Message, Messages, Refused, Source, Width};
use arch_contract::irq::IrqsOff;

impl Devices for Ppc64le {
    const SOURCES: usize = 0;

    fn host_bridges(_machine: &Machine) -> &[HostBridge] {
        &[]
    }

    fn config_read(_machine: &Machine, _of: Function, _offset: u16, _width: Width) -> u32 {
        u32::MAX
    }

    fn config_write(_machine: &Machine, _of: Function, _offset: u16, _width: Width, _value: u32) {}

    fn device_read(_machine: &Machine, _at: PhysAddr) -> u32 {
        u32::MAX
    }

    fn device_write(_machine: &Machine, _at: PhysAddr, _value: u32) {}

    fn claim_messages(
        _machine: &Machine,
        _of: Function,
        _kind: Messages,
        _sources: &mut [Source],
    ) -> Result<(), Refused> {
        Err(Refused::NotSupported)
    }

    fn message(_machine: &Machine, _source: Source) -> Option<Message> {
        None
    }

    fn release_messages(_machine: &Machine, _of: Function, _sources: &[Source]) {}

    fn line(_machine: &Machine, _of: Function, _pin: u8) -> Result<Source, Refused> {
        Err(Refused::NotSupported)
    }

    fn unmask_line(_machine: &Machine, _source: Source) {}

    fn mask_line(_machine: &Machine, _source: Source) {}

    unsafe fn map_dma(
        _machine: &Machine,
        _of: Function,
        _frames: PhysRange,
        _irq: &IrqsOff,
    ) -> Option<BusAddr> {
        None
    }

    fn unmap_dma(_machine: &Machine, _of: Function, _frames: PhysRange, _at: BusAddr) {}
}
