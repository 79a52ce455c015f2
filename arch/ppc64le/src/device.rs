//! Devices for user mode: the PCI host bridge of PAPR guests.
//!
//! Firmware reaches configuration space and hands out interrupt messages (RTAS); the hypervisor keeps the
//! table through which devices reach memory. What a message is, only the hypervisor knows: it writes them
//! into the function itself.

use crate::Ppc64le;
use crate::bridge::{BridgeError, BridgeNode};
use crate::cpu::{Machine, PHYSICAL_MAP};
use crate::pci_config::{self, PciConfig};
use crate::rtas::{self, RtasError};
use crate::passage::Wiring;
use crate::sources::SOURCES;
use crate::spr;
use crate::tce::Tces;
use crate::tree::Handover;
use arch_contract::addr::PhysAddr;
use arch_contract::boot::PhysRange;
use arch_contract::device::{
    BusAddr, Devices, Function, HostBridge, Message, Messages, NotMapped, Refused, Source, StillMapped, Width, Window,
};
use arch_contract::irq::IrqsOff;

/// Why there is no PCI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoPci {
    NoBridge,
    Unusable(BridgeError),
    /// Firmware has no calls for configuration space.
    NoCalls,
}

impl core::fmt::Display for NoPci {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoBridge => f.write_str("there is no host bridge"),
            Self::Unusable(why) => write!(f, "of the host bridge, {why}"),
            Self::NoCalls => f.write_str("firmware does not reach configuration space"),
        }
    }
}

/// The host bridge.
pub struct Pci {
    node: BridgeNode,
    bridge: HostBridge,
    config: PciConfig,
    tces: Tces,
    /// `None`: firmware gives no messages.
    messages: Option<MessageCalls>,
}

/// The calls that give messages (PAPR §7.3.10.5), which come together.
struct MessageCalls {
    change: u32,
    query: u32,
}

/// What a function's messages are changed to.
#[derive(Clone, Copy)]
enum Change {
    None,
    Take(Messages, u32),
}

impl Pci {
    pub fn find(handover: &Handover) -> Result<Self, NoPci> {
        let node = handover.bridge.clone().ok_or(NoPci::NoBridge)?.map_err(NoPci::Unusable)?;
        let tokens = &handover.rtas;
        let window = Window { at: node.window, bus: node.window_bus };
        let messages = tokens.change_msi.zip(tokens.query_interrupt_source_number);
        Ok(Self {
            bridge: HostBridge { bus: node.bus, window },
            config: PciConfig::find(tokens, node.unit, node.config).ok_or(NoPci::NoCalls)?,
            tces: Tces::new(node.dma),
            messages: messages.map(|(change, query)| MessageCalls { change, query }),
            node,
        })
    }

    /// Firmware's name for the bridge.
    pub fn unit(&self) -> u64 {
        self.node.unit
    }

    /// Changes the messages that a function has. Says how many it has then.
    fn change_messages(&self, of: Function, change: Change) -> Result<u32, RtasError> {
        let calls = self.messages.as_ref().ok_or(RtasError(None))?;
        let (function, count) = match change {
            Change::None => (1, 0),
            Change::Take(Messages::Msi, count) => (3, count),
            Change::Take(Messages::MsiX, count) => (4, count),
        };
        let [high, low] = pci_config::halves(self.node.unit);
        // A call that is not done goes on from where it says it is.
        let mut sequence = 1;
        for _ in 0..rtas::TRIES {
            let arguments = [pci_config::address(of, 0), high, low, function, count, sequence];
            let (status, [has, next]) = match change {
                Change::None => rtas::call_once(calls.change, &arguments),
                // Which kind it was, the caller knows.
                Change::Take(..) => {
                    let (status, [has, next, _kind]) = rtas::call_once(calls.change, &arguments);
                    (status, [has, next])
                }
            };
            match RtasError(status) {
                RtasError(Some(0)) => return Ok(has),
                error if error.is_busy() => sequence = next,
                error => return Err(error),
            }
        }
        Err(RtasError::BUSY)
    }

    /// The interrupt source of a function's `index`-th message.
    fn message_source(&self, of: Function, index: u32) -> Result<u32, RtasError> {
        let calls = self.messages.as_ref().ok_or(RtasError(None))?;
        let [high, low] = pci_config::halves(self.node.unit);
        let arguments = [pci_config::address(of, 0), high, low, index];
        rtas::call(calls.query, &arguments).map(|[source, _how]| source)
    }

    /// Takes in what `sources` has room for. On an error what was taken in is released again.
    fn adopt_messages(&self, machine: &Machine, of: Function, sources: &mut [Source]) -> Result<(), Refused> {
        let cpu = machine.cpus.get(0).server;
        for index in 0..sources.len() {
            let number = self.message_source(of, index as u32).map_err(|_| Refused::NotSupported);
            let source = number.and_then(|number| {
                machine.sources.adopt(&machine.controller, number, Wiring::Message, cpu)
            });
            match source {
                Ok(source) => sources[index] = source,
                Err(refused) => {
                    release(machine, &sources[..index]);
                    return Err(refused);
                }
            }
        }
        Ok(())
    }
}

fn release(machine: &Machine, sources: &[Source]) {
    for &source in sources {
        machine.sources.release(&machine.controller, source);
    }
}

/// Where a device's register is mapped.
fn register(at: PhysAddr) -> *mut u32 {
    core::ptr::with_exposed_provenance_mut((at.0 | PHYSICAL_MAP) as usize)
}

impl Devices for Ppc64le {
    const SOURCES: usize = SOURCES;

    fn host_bridges(machine: &Machine) -> &[HostBridge] {
        machine.pci.as_ref().map_or(&[], |pci| core::slice::from_ref(&pci.bridge))
    }

    fn config_read(machine: &Machine, of: Function, offset: u16, width: Width) -> u32 {
        machine.pci.as_ref().map_or(u32::MAX, |pci| pci.config.read(of, offset, width))
    }

    fn config_write(machine: &Machine, of: Function, offset: u16, width: Width, value: u32) {
        if let Ok(pci) = &machine.pci {
            pci.config.write(of, offset, width, value);
        }
    }

    fn device_read(_machine: &Machine, at: PhysAddr) -> u32 {
        // Loads and stores of guarded storage are in order among themselves, not between each other
        // (Power ISA 3.0B Book II §1.7.1).
        spr::sync();
        // SAFETY: a register in a window, which is mapped for the kernel; any bits are valid.
        u32::from_le(unsafe { register(at).read_volatile() })
    }

    fn device_write(_machine: &Machine, at: PhysAddr, value: u32) {
        spr::sync();
        // SAFETY: as above; what the register does is the caller's intent.
        unsafe { register(at).write_volatile(value.to_le()) };
    }

    fn claim_messages(
        machine: &Machine,
        of: Function,
        kind: Messages,
        sources: &mut [Source],
    ) -> Result<(), Refused> {
        let pci = machine.pci.as_ref().map_err(|_| Refused::NotSupported)?;
        let wanted = sources.len() as u32;
        let has = pci.change_messages(of, Change::Take(kind, wanted)).map_err(|_| Refused::NotSupported)?;
        let adopted = if has < wanted { Err(Refused::NoneLeft) } else { pci.adopt_messages(machine, of, sources) };
        if adopted.is_err() {
            // What cannot be taken back stays the function's, silent.
            let _ = pci.change_messages(of, Change::None);
        }
        adopted
    }

    fn message(_machine: &Machine, _source: Source) -> Option<Message> {
        None
    }

    fn release_messages(machine: &Machine, of: Function, sources: &[Source]) {
        release(machine, sources);
        if let Ok(pci) = &machine.pci {
            // It has some, so it can have none.
            let _ = pci.change_messages(of, Change::None);
        }
    }

    fn line(machine: &Machine, of: Function, pin: u8) -> Result<Source, Refused> {
        let pci = machine.pci.as_ref().map_err(|_| Refused::NotSupported)?;
        if of.bus != pci.node.bus {
            return Err(Refused::NotSupported);
        }
        let number = pci.node.source(of.device, pin).ok_or(Refused::NotSupported)?;
        let cpu = machine.cpus.get(0).server;
        machine.sources.adopt(&machine.controller, number, Wiring::Line, cpu)
    }

    fn unmask_line(machine: &Machine, source: Source) {
        machine.sources.unsilence(&machine.controller, source);
    }

    fn mask_line(machine: &Machine, source: Source) {
        machine.sources.silence(&machine.controller, source);
    }

    unsafe fn map_dma(
        machine: &Machine,
        _of: Function,
        frames: PhysRange,
        _irq: &IrqsOff,
    ) -> Result<BusAddr, NotMapped> {
        machine.pci.as_ref().map_err(|_| NotMapped::Refused)?.tces.map(frames)
    }

    fn unmap_dma(
        machine: &Machine,
        _of: Function,
        frames: PhysRange,
        at: BusAddr,
    ) -> Result<(), StillMapped> {
        machine.pci.as_ref().map_or(Ok(()), |pci| pci.tces.unmap(at, frames.len))
    }
}
