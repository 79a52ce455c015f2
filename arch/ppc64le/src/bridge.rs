//! The PCI host bridge, as the device tree describes it (PAPR §C.6.4; PCI Bus Binding to IEEE 1275).
//!
//! Only what this kernel uses is kept: the name by which firmware knows the bridge, the window for
//! registers below 4 GiB, the table through which devices reach memory, and the wires of the interrupt
//! pins. Like all of the tree it is input: what contradicts itself is refused.

use arch_contract::addr::{PAGE_SIZE, PhysAddr};
use arch_contract::boot::PhysRange;
use arrayvec::ArrayVec;
use fdt::node::FdtNode;

use crate::tree::{cells, lists, value, word};

/// Devices of a bus, and pins of a device.
const DEVICES: usize = 32;
const PINS: usize = 4;

/// A bridge that this kernel cannot use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BridgeError {
    /// It has no unit identifier: firmware could not be told which bridge is meant.
    NoUnit,
    /// `ranges` is no list of windows, or has none for memory below 4 GiB on the bus.
    NoWindow,
    /// The window wraps, is not made of whole pages, or lies in memory.
    BadWindow,
    /// `ibm,dma-window` is missing, or not a window below 4 GiB made of whole pages.
    BadDmaWindow,
}

impl core::fmt::Display for BridgeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NoUnit => "it has no unit identifier",
            Self::NoWindow => "it has no window for memory below 4 GiB",
            Self::BadWindow => "its memory window is unusable",
            Self::BadDmaWindow => "its DMA window is unusable",
        })
    }
}

/// How much configuration space firmware reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigSpace {
    /// 256 bytes of each function.
    Conventional,
    /// 4096, as on PCI Express.
    Extended,
}

/// The addresses that devices may use, behind a table of translations (PAPR §14.5.4.2). Whole pages,
/// below 4 GiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DmaWindow {
    /// The table's name: *logical I/O bus number*.
    pub liobn: u32,
    /// The first bus address, and how many.
    pub start: u64,
    pub len: u64,
}

/// The interrupt source behind a pin of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Wire {
    device: u8,
    /// 1–4.
    pin: u8,
    source: u32,
}

/// What is said of a bridge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BridgeNode {
    /// Firmware's name for the bridge: *bus unit identifier*.
    pub unit: u64,
    /// The number of its own bus.
    pub bus: u8,
    pub config: ConfigSpace,
    /// Where the processor reaches the devices' memory, and the bus address of its first byte.
    pub window: PhysRange,
    pub window_bus: u64,
    pub dma: DmaWindow,
    wires: ArrayVec<Wire, { DEVICES * PINS }>,
}

/// Whether `node` is a host bridge.
pub(crate) fn is_bridge(node: FdtNode) -> bool {
    value(node, "compatible").is_some_and(|list| lists(list, "IBM,Logical_PHB"))
}

impl BridgeNode {
    /// Reads a bridge's node. `parent_cells` is how many cells an address of the processor has: 1 or 2.
    pub(crate) fn read(node: FdtNode, parent_cells: usize) -> Result<Self, BridgeError> {
        let unit = value(node, "reg").and_then(|reg| cells(reg.get(..8)?)).ok_or(BridgeError::NoUnit)?;
        let ranges = value(node, "ranges").ok_or(BridgeError::NoWindow)?;
        let (window, window_bus) = memory_window(ranges, parent_cells)?;
        let dma = value(node, "ibm,dma-window").and_then(dma_window).ok_or(BridgeError::BadDmaWindow)?;
        let bus = value(node, "bus-range").and_then(|range| word(range, 0)).unwrap_or(0) as u8;
        let config = match value(node, "ibm,pci-config-space-type").and_then(|kind| word(kind, 0)) {
            Some(1) => ConfigSpace::Extended,
            _ => ConfigSpace::Conventional,
        };
        let wires = value(node, "interrupt-map").map(wires).unwrap_or_default();
        Ok(Self { unit, bus, config, window, window_bus, dma, wires })
    }

    /// The interrupt source behind `pin` (1–4: INTA–INTD) of a device on the bridge's own bus.
    pub fn source(&self, device: u8, pin: u8) -> Option<u32> {
        let wire = self.wires.iter().find(|wire| (wire.device, wire.pin) == (device, pin));
        wire.map(|wire| wire.source)
    }
}

/// The first window for 32-bit memory in `ranges`: three cells of bus address, the first of which holds
/// the kind of space in bits 25:24; the processor's address; two cells of length.
fn memory_window(ranges: &[u8], parent_cells: usize) -> Result<(PhysRange, u64), BridgeError> {
    const MEMORY_32: u32 = 2;
    for range in ranges.chunks_exact(4 * (3 + parent_cells + 2)) {
        let (child, rest) = range.split_at(12);
        let (parent, len) = rest.split_at(4 * parent_cells);
        if word(child, 0).map(|high| high >> 24 & 3) != Some(MEMORY_32) {
            continue;
        }
        let numbers = (cells(&child[4..]), cells(parent), cells(len));
        let (Some(bus), Some(start), Some(len)) = numbers else { return Err(BridgeError::BadWindow) };
        let whole = (bus | start | len).is_multiple_of(PAGE_SIZE) && len != 0;
        // On the bus in 32 bits; for the processor in what a radix tree reaches.
        let fits = |start: u64, limit: u64| start.checked_add(len).is_some_and(|end| end <= limit);
        if !whole || !fits(bus, 1 << 32) || !fits(start, 1 << 52) {
            return Err(BridgeError::BadWindow);
        }
        return Ok((PhysRange { start: PhysAddr(start), len }, bus));
    }
    Err(BridgeError::NoWindow)
}

/// `ibm,dma-window`: the table's name, then start and length in two cells each.
fn dma_window(value: &[u8]) -> Option<DmaWindow> {
    let start = cells(value.get(4..12)?)?;
    let len = cells(value.get(12..20)?)?;
    let whole = (start | len).is_multiple_of(PAGE_SIZE) && len != 0;
    let fits = start.checked_add(len).is_some_and(|end| end <= 1 << 32);
    (value.len() == 20 && whole && fits).then_some(DmaWindow { liobn: word(value, 0)?, start, len })
}

/// `interrupt-map`: a function's address (three cells), its pin, the controller, and there the source and
/// how it signals. A map of another shape has no wires that can be used.
fn wires(map: &[u8]) -> ArrayVec<Wire, { DEVICES * PINS }> {
    let wire = |entry: &[u8]| {
        let device = word(entry, 0)? >> 11 & 0x1f;
        let pin = word(entry, 3).filter(|pin| (1..=4).contains(pin))?;
        Some(Wire { device: device as u8, pin: pin as u8, source: word(entry, 5)? })
    };
    match map.len().is_multiple_of(28) {
        true => map.chunks_exact(28).filter_map(wire).take(DEVICES * PINS).collect(),
        false => ArrayVec::new(),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    const IO: [u32; 7] = [0x0100_0000, 0, 0, 0x2000, 0, 0, 0x1_0000];
    const MEMORY: [u32; 7] = [0x0200_0000, 0, 0x8000_0000, 0x2000, 0x8000_0000, 0, 0x8000_0000];
    const MEMORY_64: [u32; 7] = [0x0300_0000, 0x2100, 0, 0x2100, 0, 0x100, 0];

    /// `BOOT-1`: of several windows the one for 32-bit memory counts; the bus has its own addresses.
    #[test]
    fn boot_1_the_window_of_a_host_bridge() {
        let ranges = bytes(&[IO, MEMORY_64, MEMORY].concat());
        let window = PhysRange { start: PhysAddr(0x2000_8000_0000), len: 0x8000_0000 };
        assert_eq!(memory_window(&ranges, 2), Ok((window, 0x8000_0000)));
        assert_eq!(memory_window(&bytes(&[IO, MEMORY_64].concat()), 2), Err(BridgeError::NoWindow));
        // Half an entry is none.
        assert_eq!(memory_window(&bytes(&MEMORY)[..24], 2), Err(BridgeError::NoWindow));
    }

    /// `BOOT-5`: windows that wrap, are empty, or are not made of pages.
    #[test]
    fn boot_5_unusable_windows() {
        for (index, value) in
            [(1, 1), (2, 0xffff_f000), (2, 0x8000_0800), (3, 0xffff_ffff), (6, 0), (6, 0x8000_0001)]
        {
            let mut range = MEMORY;
            range[index] = value;
            assert_eq!(memory_window(&bytes(&range), 2), Err(BridgeError::BadWindow), "{index} {value:#x}");
        }
        let good = [0x8000_0000, 0, 0, 0, 0x4000_0000];
        let window = DmaWindow { liobn: 0x8000_0000, start: 0, len: 0x4000_0000 };
        assert_eq!(dma_window(&bytes(&good)), Some(window));
        for (index, value) in [(1, 1), (2, 0xf000_0000), (2, 4), (3, u32::MAX), (4, 0), (4, 0x1001)] {
            let mut words = good;
            words[index] = value;
            assert_eq!(dma_window(&bytes(&words)), None, "{index} {value:#x}");
        }
        assert_eq!(dma_window(&bytes(&good[..4])), None);
        assert_eq!(dma_window(&bytes(&[&good[..], &[0]].concat())), None);
    }

    /// `BOOT-1`: pins by device; entries that name no pin are left out.
    #[test]
    fn boot_1_the_wires_of_a_host_bridge() {
        let map = [
            [0, 0, 0, 1, 0x1111, 0x1200, 1],
            [0x800, 0, 0, 2, 0x1111, 0x1202, 1],
            [0x800, 0, 0, 9, 0x1111, 7, 1],
        ];
        let wires = wires(&bytes(&map.concat()));
        let expected =
            [Wire { device: 0, pin: 1, source: 0x1200 }, Wire { device: 1, pin: 2, source: 0x1202 }];
        assert_eq!(wires[..], expected);
        assert!(super::wires(&bytes(&map.concat())[4..]).is_empty());
    }
}
