//! Devices: a host bridge with two functions, if the configuration wants them.
//!
//! | | the first | the second |
//! | --- | --- | --- |
//! | interrupts | MSI-X, [`VECTORS`] of them; the table is in the third page of BAR 0 | a line |
//! | BAR 0 | 16 KiB of memory | 256 bytes of memory |
//! | BAR 2 | 64 bytes of memory, 64-bit | 32 I/O ports |
//! | reset | PCI Express | none |
//! | vendor-specific capability | at [`VENDOR_AT`], [`VENDOR_BYTES`] long | the same |
//!
//! What they do is the test's to say: [`Machine::send_message`], [`Machine::raise_line`], and
//! [`Machine::device_write_to`], which is a function that masters the bus, or tries to.

use crate::machine::lock;
use crate::{Cpu, Event, Machine, Model};
use arch_contract::addr::PhysAddr;
use arch_contract::boot::PhysRange;
use arch_contract::device::{
    BusAddr, CONFIG_BYTES, Devices, Function, HostBridge, Message, Messages, NotMapped, Refused, Source,
    StillMapped, Width, Window,
};
use arch_contract::irq::{Interrupt, IrqsOff};
use std::collections::VecDeque;
use std::sync::MutexGuard;

/// Whether the machine has a host bridge.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Bridge {
    #[default]
    None,
    /// With the two functions.
    Two,
}

/// Messages that the first function can send.
pub const VECTORS: u16 = 3;
/// The vendor-specific capability.
pub const VENDOR_AT: u16 = 0x60;
pub const VENDOR_BYTES: u16 = 0x10;

/// The bridge's window: 64 KiB, which the functions see elsewhere.
const WINDOW: PhysRange = PhysRange { start: PhysAddr(0xc000_0000), len: 0x1_0000 };
const BUS: u64 = 0x8000_0000;
static BRIDGES: [HostBridge; 1] = [HostBridge { bus: 0, window: Window { at: WINDOW, bus: BUS } }];

/// How far apart the bus address of a frame and its physical one are.
const DMA_OFFSET: u64 = 0x4000_0000;

/// Where the first function keeps its table, in BAR 0.
pub const TABLE_AT: u64 = 0x2000;

const COMMAND: usize = 0x04;
const MASTER: u8 = 4;
const MEMORY: u8 = 2;
const EXPRESS_AT: usize = 0x40;
const MSI_X_AT: usize = 0x50;
/// The line of the second function; the messages' sources follow.
const LINE: Source = Source(0);

/// A function's registers.
#[derive(Clone)]
struct Registers {
    config: [u8; 256],
    /// Bits that a write changes.
    writable: [u8; 256],
    /// How often it was reset.
    resets: u32,
    /// The MSI-X table.
    table: [[u32; 4]; VECTORS as usize],
    /// Messages that were not sent because they were masked.
    pending: [bool; VECTORS as usize],
}

/// All that the bridge and the functions know.
#[derive(Clone)]
pub(crate) struct Pci {
    functions: [Registers; 2],
    /// Frames that functions reach.
    reachable: Vec<(Function, PhysRange)>,
    /// The bridge refuses to forget an address.
    keeps_reachable: bool,
    /// Who has a source.
    claimed: [Option<Function>; Model::SOURCES],
    line: Level,
    /// What is to interrupt the boot CPU.
    raised: VecDeque<Source>,
    /// How often a function has interrupted.
    sent: u64,
}

/// The line of the second function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Level {
    asserted: bool,
    masked: bool,
}

/// Why a function's access did not happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Aborted {
    /// It may not master the bus.
    NotMaster,
    /// The bridge knows no such address.
    Unreachable,
}

impl Registers {
    fn new(which: usize) -> Self {
        let mut made = Self {
            config: [0; 256],
            writable: [0; 256],
            resets: 0,
            table: [[0, 0, 0, 1]; VECTORS as usize],
            pending: [false; VECTORS as usize],
        };
        made.put(0x00, &[0x34, 0x12, which as u8 + 1, 0x11]);
        made.put(0x06, &[0x10]);
        made.put(0x08, &[1, 0, 0, 0xff]);
        made.put(0x2c, &[0x34, 0x12, 7, 0]);
        made.put(0x34, &[VENDOR_AT as u8]);
        made.put(VENDOR_AT.into(), &[0x09, 0, VENDOR_BYTES as u8]);
        made.allow(COMMAND, &[0x07, 0x04]);
        made.allow(0x0c, &[0xff]);
        made.allow(0x3c, &[0xff]);
        made.allow(usize::from(VENDOR_AT) + 4, &[0xff; 12]);
        // Behind all capabilities: of the device's own, and nobody may touch it.
        made.allow(0x80, &[0xff; 4]);
        match which {
            0 => {
                made.allow(0x10, &[0x00, 0xc0, 0xff, 0xff]);
                made.put(0x18, &[0x0c]);
                made.allow(0x18, &[0xc0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
                made.put(usize::from(VENDOR_AT) + 1, &[EXPRESS_AT as u8]);
                made.put(EXPRESS_AT, &[0x10, MSI_X_AT as u8, 2, 0, 0, 0, 0, 0x10]);
                made.allow(EXPRESS_AT + 8, &[0, 0x80]);
                made.put(MSI_X_AT, &[0x11, 0, VECTORS as u8 - 1, 0, 0, TABLE_AT.to_le_bytes()[1], 0, 0]);
                made.allow(MSI_X_AT + 3, &[0xc0]);
            }
            _ => {
                made.allow(0x10, &[0x00, 0xff, 0xff, 0xff]);
                made.put(0x18, &[0x01]);
                made.allow(0x18, &[0xe0, 0xff]);
                made.put(0x3d, &[1]);
            }
        }
        made
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.config[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn allow(&mut self, at: usize, bits: &[u8]) {
        self.writable[at..at + bits.len()].copy_from_slice(bits);
    }

    fn may(&self, bit: u8) -> bool {
        self.config[COMMAND] & bit != 0
    }

    fn bar(&self, register: usize) -> u64 {
        u32::from_le_bytes(self.config[register..register + 4].try_into().expect("four bytes")).into()
    }

    /// What a reset does: everything that software wrote is gone.
    fn reset(&mut self) {
        for (byte, writable) in self.config.iter_mut().zip(&self.writable) {
            *byte &= !writable;
        }
        self.table = [[0, 0, 0, 1]; VECTORS as usize];
        self.pending = [false; VECTORS as usize];
        self.resets += 1;
    }
}

impl Pci {
    pub(crate) fn new() -> Self {
        Self {
            functions: [Registers::new(0), Registers::new(1)],
            reachable: Vec::new(),
            keeps_reachable: false,
            claimed: [None; Model::SOURCES],
            line: Level { asserted: false, masked: true },
            raised: VecDeque::new(),
            sent: 0,
        }
    }

    fn function(&mut self, of: Function) -> Option<&mut Registers> {
        match of {
            Function { bridge: 0, bus: 0, device, function: 0 } => {
                self.functions.get_mut(usize::from(device))
            }
            _ => None,
        }
    }

    /// The first function's message, if nothing keeps it.
    fn send(&mut self, vector: u16) {
        let first = &mut self.functions[0];
        let control = first.config[MSI_X_AT + 3];
        let entry = first.table[usize::from(vector)];
        if control & 0x80 == 0 || !first.may(MASTER) {
            return;
        }
        if control & 0x40 != 0 || entry[3] & 1 != 0 {
            first.pending[usize::from(vector)] = true;
            return;
        }
        first.pending[usize::from(vector)] = false;
        let source = Source(entry[2] as u16);
        assert!(
            entry[0] as u64 == MESSAGE_ADDRESS && usize::from(source.0) < Model::SOURCES,
            "a message to nowhere"
        );
        self.sent += 1;
        if !self.raised.contains(&source) {
            self.raised.push_back(source);
        }
    }

    fn raise_line(&mut self) {
        let uses = self.functions[1].config[COMMAND + 1] & 4 == 0;
        if self.line.asserted && uses && !self.line.masked && !self.raised.contains(&LINE) {
            self.line.masked = true;
            self.raised.push_back(LINE);
        }
    }

    pub(crate) fn next(&mut self) -> Option<Source> {
        self.raised.pop_front()
    }

    pub(crate) fn is_raised(&self) -> bool {
        !self.raised.is_empty()
    }
}

impl Machine {
    pub(crate) fn pci(&self) -> MutexGuard<'_, Pci> {
        lock(&self.pci)
    }

    /// The first function sends one of its messages, if it may.
    pub fn send_message(&self, vector: u16) {
        self.pci().send(vector);
        self.nudge();
    }

    /// The second function asserts its line, or stops.
    pub fn raise_line(&self, asserted: bool) {
        let mut pci = self.pci();
        pci.line.asserted = asserted;
        pci.raise_line();
        drop(pci);
        self.nudge();
    }

    /// From here on the bridge refuses to forget an address.
    pub fn keep_reachable(&self) {
        self.pci().keeps_reachable = true;
    }

    /// A function, by its device number, writes a byte to memory.
    pub fn device_write_to(&self, device: usize, at: u64, value: u8) -> Result<(), Aborted> {
        let pci = self.pci();
        if !pci.functions[device].may(MASTER) {
            return Err(Aborted::NotMaster);
        }
        let frame = at.wrapping_sub(DMA_OFFSET);
        let reaches = |(of, range): &(Function, PhysRange)| {
            usize::from(of.device) == device && range.start.0 <= frame && frame < range.end().0
        };
        if !pci.reachable.iter().any(reaches) {
            return Err(Aborted::Unreachable);
        }
        // SAFETY: a byte of RAM, which the kernel gave to the function.
        unsafe { self.at(PhysAddr(frame), 1).write(value) };
        Ok(())
    }

    /// How often functions have interrupted by messages.
    pub fn messages_sent(&self) -> u64 {
        self.pci().sent
    }

    /// How often a function, by its device number, was reset.
    pub fn resets(&self, device: usize) -> u32 {
        self.pci().functions[device].resets
    }
}

impl Cpu {
    /// What a function has for this CPU.
    pub(crate) fn take_device_interrupt(&self) -> Option<Interrupt> {
        if self.number == 0 { self.machine.pci().next().map(Interrupt::Device) } else { None }
    }
}

const MESSAGE_ADDRESS: u64 = 0xfee0_0000;

impl Devices for Model {
    const SOURCES: usize = 8;

    fn host_bridges(machine: &Machine) -> &[HostBridge] {
        match machine.config().bridge {
            Bridge::None => &[],
            Bridge::Two => &BRIDGES,
        }
    }

    fn config_read(machine: &Machine, of: Function, offset: u16, width: Width) -> u32 {
        assert!(offset.is_multiple_of(width.bytes()) && offset < CONFIG_BYTES, "an access of no sense");
        let bytes = usize::from(width.bytes());
        let ones = u32::MAX >> (32 - 8 * bytes);
        let mut pci = machine.pci();
        let Some(function) = pci.function(of) else { return ones };
        let Some(at) = function.config.get(usize::from(offset)..usize::from(offset) + bytes) else {
            return 0;
        };
        at.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
    }

    fn config_write(machine: &Machine, of: Function, offset: u16, width: Width, value: u32) {
        assert!(offset.is_multiple_of(width.bytes()) && offset < CONFIG_BYTES, "an access of no sense");
        machine.log(None, Event::ConfigWrite { of, offset, value });
        let mut pci = machine.pci();
        let Some(function) = pci.function(of) else { return };
        for (at, byte) in (usize::from(offset)..).zip(value.to_le_bytes()).take(width.bytes().into()) {
            let Some(writable) = function.writable.get(at) else { return };
            function.config[at] = function.config[at] & !writable | byte & writable;
        }
        if of.device == 0 && function.config[EXPRESS_AT + 9] & 0x80 != 0 {
            assert!(!function.may(MASTER), "a reset of a function that masters the bus");
            function.reset();
        }
        pci.raise_line();
    }

    fn device_read(machine: &Machine, at: PhysAddr) -> u32 {
        let mut pci = machine.pci();
        pci.table(at).map_or(u32::MAX, |(entry, word)| pci.functions[0].table[entry][word])
    }

    fn device_write(machine: &Machine, at: PhysAddr, value: u32) {
        let mut pci = machine.pci();
        let Some((entry, word)) = pci.table(at) else { return };
        pci.functions[0].table[entry][word] = value;
        if word == 3 && pci.functions[0].pending[entry] {
            pci.send(entry as u16);
        }
    }

    fn claim_messages(
        machine: &Machine,
        of: Function,
        kind: Messages,
        sources: &mut [Source],
    ) -> Result<(), Refused> {
        assert_eq!(kind, Messages::MsiX);
        let mut pci = machine.pci();
        let free = (0..).zip(&pci.claimed).filter(|(number, of)| *number != LINE.0 && of.is_none());
        let free: Vec<u16> = free.map(|(number, _)| number).take(sources.len()).collect();
        if free.len() < sources.len() {
            return Err(Refused::NoneLeft);
        }
        for (source, number) in sources.iter_mut().zip(free) {
            *source = Source(number);
            pci.claimed[usize::from(number)] = Some(of);
        }
        // As where firmware writes the messages: with that it takes the masks away.
        for entry in &mut pci.functions[0].table {
            entry[3] = 0;
        }
        Ok(())
    }

    fn message(_machine: &Machine, source: Source) -> Option<Message> {
        Some(Message { address: MESSAGE_ADDRESS, data: source.0.into() })
    }

    fn release_messages(machine: &Machine, of: Function, sources: &[Source]) {
        let mut pci = machine.pci();
        for source in sources {
            assert_eq!(pci.claimed[usize::from(source.0)].take(), Some(of), "{source:?} is another's");
        }
    }

    fn line(_machine: &Machine, of: Function, pin: u8) -> Result<Source, Refused> {
        assert_eq!((of.device, pin), (1, 1));
        Ok(LINE)
    }

    fn unmask_line(machine: &Machine, source: Source) {
        assert_eq!(source, LINE);
        let mut pci = machine.pci();
        pci.line.masked = false;
        pci.raise_line();
    }

    fn mask_line(machine: &Machine, source: Source) {
        assert_eq!(source, LINE);
        machine.pci().line.masked = true;
    }

    unsafe fn map_dma(
        machine: &Machine,
        of: Function,
        frames: PhysRange,
        _irq: &IrqsOff,
    ) -> Result<BusAddr, NotMapped> {
        machine.pci().reachable.push((of, frames));
        Ok(BusAddr(frames.start.0 + DMA_OFFSET))
    }

    fn unmap_dma(machine: &Machine, of: Function, frames: PhysRange, at: BusAddr) -> Result<(), StillMapped> {
        assert_eq!(at.0, frames.start.0 + DMA_OFFSET);
        let mut pci = machine.pci();
        if pci.keeps_reachable {
            return Err(StillMapped);
        }
        pci.reachable.retain(|reachable| *reachable != (of, frames));
        Ok(())
    }
}

impl Pci {
    /// The word of the first function's table that is at `at` for the processor.
    fn table(&mut self, at: PhysAddr) -> Option<(usize, usize)> {
        let first = &self.functions[0];
        let bar = first.bar(0x10) & !0xf;
        let on_bus = at.0.checked_sub(WINDOW.start.0)? + BUS;
        let offset = on_bus.checked_sub(bar + TABLE_AT).filter(|_| first.may(MEMORY))?;
        let entry = (offset / 16) as usize;
        (entry < usize::from(VECTORS)).then_some((entry, (offset % 16 / 4) as usize))
    }
}
