//! Devices for user mode: the PCI functions of the machine.
//!
//! The kernel drives no device but the console. It finds the functions once, at boot, gives their registers
//! addresses, and keeps of each of them what could harm others: how it is open to the bus, where it
//! interrupts, and what becomes of it when its driver is gone. Everything else is the driver's, a process
//! that holds capabilities.
//!
//! | file | what is there |
//! | --- | --- |
//! | [`pci`] | what configuration space says; base addresses; what may be written; resets |
//! | [`function`] | who holds a function, and the order of things at the end |
//! | [`interrupt`] | arrival, notification, acknowledgement |
//! | [`message`] | MSI and MSI-X registers |
//! | [`dma`] | memory that a function reaches |
//!
//! # Locks
//! A function's hardware is behind a lock that is waited for; its capabilities, its interrupts' state and
//! the wires are leaves inside it, in this order. Notifications are signalled with none of them held.

pub mod dma;
pub mod function;
pub mod interrupt;
pub mod message;
pub mod pci;

use self::function::Function;
use self::interrupt::Wires;
use self::pci::{Config, Found, Room};
use crate::mm::heap::Charged;
use crate::mm::list::List;
use crate::mm::{Machine, NoMemory};
use arch_contract::device::Devices as _;
use arch_current::Current;

/// All of the machine.
pub struct Devices {
    /// In the order of their places.
    pub functions: List<Function>,
    pub wires: Wires,
}

impl Devices {
    /// Finds them, on the boot CPU, once.
    pub fn find(machine: &'static Machine, charged: Charged) -> Result<Self, NoMemory> {
        let mut functions = List::new(charged.clone());
        for (number, bridge) in (0..).zip(Current::host_bridges(machine)) {
            let mut room = Room::new(*bridge);
            for place in pci::places(machine, number, bridge) {
                let found = Found::new(Config { machine, place }, &mut room);
                let index = functions.len() as u16;
                functions.push(Function::new(charged.clone(), index, place, found)?)?;
            }
        }
        Ok(Self { functions, wires: Wires::new(charged)? })
    }
}
