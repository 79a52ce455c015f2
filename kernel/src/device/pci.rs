//! What a function's configuration space says, and what the kernel makes of it once, at boot.
//!
//! The layout is that of PCI Local Bus 3.0 §6.1 and §6.7; capabilities that PCI Express defines are at
//! PCI Express Base 3.0 §7. Whatever a function says is taken with care: lists that go in circles end,
//! sizes that are none count as none.

use crate::mm::Machine;
use arch_contract::addr::{PAGE_SIZE, PhysAddr};
use arch_contract::boot::PhysRange;
use arch_contract::device::{Devices, Function as Place, HostBridge, Width};
use arch_contract::mutant::{self, Mutant};
use arch_current::Current;
use arrayvec::ArrayVec;
use core::ops::Range;

/// Registers of the header.
const VENDOR: u16 = 0x00;
const DEVICE: u16 = 0x02;
const COMMAND: u16 = 0x04;
const STATUS: u16 = 0x06;
const REVISION: u16 = 0x08;
const HEADER_TYPE: u16 = 0x0e;
const FIRST_BAR: u16 = 0x10;
const SUBSYSTEM_VENDOR: u16 = 0x2c;
const SUBSYSTEM: u16 = 0x2e;
const ROM: u16 = 0x30;
const CAPABILITIES: u16 = 0x34;
const PIN: u16 = 0x3d;

/// What no function has as its vendor.
const NOBODY: u32 = 0xffff;
const HAS_CAPABILITIES: u32 = 1 << 4;
const MANY_FUNCTIONS: u32 = 1 << 7;
const BRIDGE_CLASS: u32 = 0x06;
/// Bits of the command register: the three that open a function to the bus, and the one that keeps its
/// line from interrupting.
const OPENS: u32 = 0b111;
const NO_LINE: u32 = 1 << 10;

/// Capabilities, by id.
mod id {
    pub const MSI: u32 = 0x05;
    pub const VENDOR: u32 = 0x09;
    pub const EXPRESS: u32 = 0x10;
    pub const MSI_X: u32 = 0x11;
    pub const ADVANCED_FEATURES: u32 = 0x13;
}

/// Configuration space of one function.
#[derive(Clone, Copy)]
pub struct Config {
    pub machine: &'static Machine,
    pub place: Place,
}

impl Config {
    pub fn read(self, offset: u16, width: Width) -> u32 {
        Current::config_read(self.machine, self.place, offset, width)
    }
    pub fn write(self, offset: u16, width: Width, value: u32) {
        Current::config_write(self.machine, self.place, offset, width, value);
    }
    pub fn byte(self, offset: u16) -> u32 {
        self.read(offset, Width::Byte)
    }
    pub fn half(self, offset: u16) -> u32 {
        self.read(offset, Width::Half)
    }
    pub fn word(self, offset: u16) -> u32 {
        self.read(offset, Width::Word)
    }

    /// Opens the function to the bus as the bits of `opens` say, and in no other way. Its line never
    /// interrupts where `line` says so.
    pub fn set_command(self, opens: u32, line: Line) {
        let rest = self.half(COMMAND) & !(OPENS | NO_LINE);
        let line = if line == Line::Quiet { NO_LINE } else { 0 };
        self.write(COMMAND, Width::Half, rest | opens & OPENS | line);
    }

    /// How it is open to the bus.
    pub fn command(self) -> u32 {
        self.half(COMMAND) & OPENS
    }
}

/// Whether a function may use its interrupt pin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    Quiet,
    Used,
}

/// What is behind a base address register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bar {
    None,
    Io {
        len: u64,
    },
    Memory {
        len: u64,
        prefetchable: bool,
        /// Where it was put; `None` if the bridge's window has no room for it.
        at: Option<Assigned>,
    },
}

/// Where a base address register points.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Assigned {
    /// As the processor sees it, rounded up to whole pages, which are this register's alone.
    pub at: PhysRange,
    /// As the function sees it.
    bus: u64,
    wide: bool,
}

/// How a function sends messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signals {
    /// Not at all.
    None,
    Line {
        pin: u8,
    },
    Msi {
        /// Of the capability.
        offset: u16,
    },
    MsiX {
        offset: u16,
        /// Of the first entry.
        table: PhysAddr,
        entries: u16,
    },
}

/// How a function is reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reset {
    /// It has no means that the kernel knows: what it was told stays, but it cannot act on it.
    None,
    /// PCI Express Base §6.6.2. The offset of the capability.
    Express(u16),
    /// PCI Local Bus, *Advanced Capabilities for Conventional PCI*. The offset of the capability.
    AdvancedFeatures(u16),
}

/// All that is known of a function. Does not change.
pub struct Found {
    pub vendor: u16,
    pub device: u16,
    pub subsystem_vendor: u16,
    pub subsystem: u16,
    pub revision: u8,
    pub class: u32,
    pub bars: [Bar; 6],
    pub signals: Signals,
    pub reset: Reset,
    /// The BAR that holds the MSI-X table, and the offset of the page where it begins.
    table_at: Option<(usize, u64)>,
    /// The bodies of vendor-specific capabilities.
    vendor_bodies: ArrayVec<Range<u16>, 12>,
}

/// The functions on `bridge`'s bus that are given out: all but bridges, behind which nobody looks.
pub fn places(machine: &'static Machine, number: u8, bridge: &HostBridge) -> impl Iterator<Item = Place> {
    let bus = bridge.bus;
    (0..32).flat_map(move |device| {
        let place = move |function| Place { bridge: number, bus, device, function };
        let config = move |function| Config { machine, place: place(function) };
        let exists = move |function| config(function).half(VENDOR) != NOBODY;
        let many = exists(0) && config(0).byte(HEADER_TYPE) & MANY_FUNCTIONS != 0;
        let count = if many { 8 } else { u8::from(exists(0)) };
        let is_given_out = move |function: &u8| {
            let config = config(*function);
            exists(*function)
                && config.byte(HEADER_TYPE) & !MANY_FUNCTIONS == 0
                && config.word(REVISION) >> 24 != BRIDGE_CLASS
        };
        (0..count).filter(is_given_out).map(place)
    })
}

impl Found {
    /// Closes the function to the bus, reads what it is, and puts its registers where there is room.
    pub fn new(config: Config, room: &mut Room) -> Self {
        config.set_command(0, Line::Quiet);
        let revision = config.word(REVISION);
        let mut found = Self {
            vendor: config.half(VENDOR) as u16,
            device: config.half(DEVICE) as u16,
            subsystem_vendor: config.half(SUBSYSTEM_VENDOR) as u16,
            subsystem: config.half(SUBSYSTEM) as u16,
            revision: revision as u8,
            class: revision >> 8,
            bars: bars(config, room),
            signals: Signals::None,
            reset: Reset::None,
            table_at: None,
            vendor_bodies: ArrayVec::new(),
        };
        config.write(ROM, Width::Word, 0);
        let pin = config.byte(PIN) as u8;
        if (1..=4).contains(&pin) {
            found.signals = Signals::Line { pin };
        }
        found.read_capabilities(config);
        found.place_bars(config);
        found
    }

    fn read_capabilities(&mut self, config: Config) {
        if config.half(STATUS) & HAS_CAPABILITIES == 0 {
            return;
        }
        let mut offset = config.byte(CAPABILITIES) as u16 & !3;
        // As many as fit: a list that is a circle ends.
        for _ in 0..48 {
            if offset < 0x40 {
                return;
            }
            self.note(config, offset);
            offset = config.byte(offset + 1) as u16 & !3;
        }
    }

    fn note(&mut self, config: Config, offset: u16) {
        match config.byte(offset) {
            id::MSI if !matches!(self.signals, Signals::MsiX { .. }) => {
                self.signals = Signals::Msi { offset }
            }
            id::MSI_X => {
                let table = config.word(offset + 4);
                let (bar, from) = ((table & 7) as usize, u64::from(table & !7));
                let entries = (config.half(offset + 2) & 0x7ff) as u16 + 1;
                if let Some(Bar::Memory { len, at: Some(Assigned { at, .. }), .. }) = self.bars.get(bar)
                    && from + 16 * u64::from(entries) <= *len
                {
                    self.table_at = Some((bar, from & !(PAGE_SIZE - 1)));
                    let table = PhysAddr(at.start.0 + from);
                    self.signals = Signals::MsiX { offset, table, entries };
                }
            }
            id::EXPRESS if config.word(offset + 4) & express::CAN_RESET != 0 => {
                self.reset = Reset::Express(offset);
            }
            id::ADVANCED_FEATURES if config.byte(offset + 3) & 0b11 == 0b11 => {
                self.reset = Reset::AdvancedFeatures(offset);
            }
            id::VENDOR => {
                let end = offset + config.byte(offset + 2) as u16;
                // One more than there is room for is read-only.
                let _ = self.vendor_bodies.try_push(offset + 3..end.min(0x100));
            }
            _ => {}
        }
    }

    /// Whether the function's holder may write there: into the bodies of vendor-specific capabilities,
    /// and nowhere else (`DEV-1`).
    pub fn may_write(&self, offset: u16, width: Width) -> bool {
        let end = offset + width.bytes();
        mutant::is(Mutant::ConfigUnfiltered)
            || self.vendor_bodies.iter().any(|body| body.start <= offset && end <= body.end)
    }

    /// The pages of a BAR that its holder may have: up to the one where the MSI-X table begins.
    pub fn pages(&self, bar: usize) -> Option<PhysRange> {
        let Some(Bar::Memory { at: Some(Assigned { at, .. }), .. }) = self.bars.get(bar) else { return None };
        let len = match self.table_at {
            Some((holds, from)) if holds == bar && !mutant::is(Mutant::TableGivenOut) => from,
            _ => at.len,
        };
        (len > 0).then_some(PhysRange { start: at.start, len })
    }

    /// Writes the base address registers, which a reset clears.
    pub fn place_bars(&self, config: Config) {
        for (index, bar) in self.bars.iter().enumerate() {
            if let Bar::Memory { at: Some(Assigned { bus, wide, .. }), .. } = bar {
                let register = FIRST_BAR + 4 * index as u16;
                config.write(register, Width::Word, *bus as u32);
                if *wide {
                    config.write(register + 4, Width::Word, (*bus >> 32) as u32);
                }
            }
        }
    }
}

/// Reads what its base address registers are for, and finds room for them (PCI Local Bus §6.2.5.1).
fn bars(config: Config, room: &mut Room) -> [Bar; 6] {
    /// Bits that do not count for the size.
    const IO: u32 = 1;
    const PREFETCHABLE: u32 = 8;
    const TYPE: u32 = 0b110;
    const WIDE: u32 = 0b100;

    let size = |index: usize| {
        let register = FIRST_BAR + 4 * index as u16;
        config.write(register, Width::Word, u32::MAX);
        let mask = config.word(register);
        config.write(register, Width::Word, 0);
        mask
    };
    let mut bars = [Bar::None; 6];
    let mut index = 0;
    while index < bars.len() {
        let low = size(index);
        let wide = low & (IO | TYPE) == WIDE && index + 1 < bars.len();
        bars[index] = if low & IO != 0 {
            Bar::Io { len: u64::from(!(low & !3) as u16) + 1 }
        } else {
            let high = if wide { size(index + 1) } else { u32::MAX };
            match u64::from(high) << 32 | u64::from(low & !15) {
                mask if mask as u32 == 0 && (!wide || high == 0) => Bar::None,
                mask => {
                    let len = (!mask).wrapping_add(1);
                    Bar::Memory { len, prefetchable: low & PREFETCHABLE != 0, at: room.take(len, wide) }
                }
            }
        };
        index += if wide { 2 } else { 1 };
    }
    bars
}

/// What is left of a bridge's window.
pub struct Room {
    bridge: HostBridge,
    /// Bytes from its start.
    used: u64,
}

impl Room {
    pub fn new(bridge: HostBridge) -> Self {
        Self { bridge, used: 0 }
    }

    /// Room for `len` bytes, a power of two, aligned to it and in pages of its own (`DEV-2`).
    fn take(&mut self, len: u64, wide: bool) -> Option<Assigned> {
        let window = self.bridge.window;
        let granule = if mutant::is(Mutant::BarsShareAPage) { 16 } else { PAGE_SIZE };
        let align = len.max(granule);
        let bus = window.bus.checked_add(self.used)?.checked_next_multiple_of(align)?;
        let used = (bus - window.bus).checked_add(len.max(granule))?;
        if used > window.at.len {
            return None;
        }
        self.used = used;
        let start = PhysAddr(window.at.start.0 + (bus - window.bus));
        let at = PhysRange { start, len: len.next_multiple_of(PAGE_SIZE) };
        Some(Assigned { at, bus, wide })
    }
}

/// Registers of the PCI Express capability.
mod express {
    pub const CAN_RESET: u32 = 1 << 28;
    pub const CONTROL: u16 = 0x08;
    pub const RESET: u32 = 1 << 15;
    pub const STATUS: u16 = 0x0a;
    pub const PENDING: u32 = 1 << 5;
}

/// How often a register is read that says when something is through: each is some microsecond.
const PATIENCE: usize = 1000;

impl Reset {
    /// Resets the function, which does not master the bus any more, after what it had begun. Under a
    /// hypervisor both are through when the register says so, or the write returns; on bare hardware a
    /// function may take 100 ms (PCI Express Base §6.6.2), which nobody waits for here.
    pub fn reset(self, config: Config) {
        let settle = |status: u16, pending: u32| {
            let _ = (0..PATIENCE).find(|_| config.half(status) & pending == 0);
        };
        match self {
            Self::None => return,
            Self::Express(offset) => {
                settle(offset + express::STATUS, express::PENDING);
                let control = config.half(offset + express::CONTROL);
                config.write(offset + express::CONTROL, Width::Half, control | express::RESET);
            }
            Self::AdvancedFeatures(offset) => {
                settle(offset + 4, 1 << 8);
                config.write(offset + 4, Width::Byte, 1);
            }
        }
        // It answers again when it is through (PCI Express Base §2.3.1, *Configuration Request Retry*).
        let _ = (0..PATIENCE).find(|_| config.half(VENDOR) != NOBODY);
    }
}
