//! Flattened device trees to start from, like those firmware hands over, and what the reader of
//! the ppc64le port promises about any it accepts.

use arch_ppc64le::tree::read;
use vm_fdt::{Error, FdtReserveEntry, FdtWriter};

/// Tokens of the structure block, and names the reader looks for.
pub const WORDS: &[&[u8]] = &[
    &[0, 0, 0, 1],
    &[0, 0, 0, 2],
    &[0, 0, 0, 3],
    &[0, 0, 0, 4],
    &[0, 0, 0, 9],
    b"chosen\0",
    b"memory@0\0",
    b"cpu\0",
    b"reg\0",
    b"device_type\0",
    b"IBM,Logical_PHB\0",
    b"ranges\0",
    b"ibm,dma-window\0",
    b"/vdevice/vty@71000000\0",
    b"\xff\xfe\0",
];

/// A machine with everything, one with the least, and one with nothing.
pub fn seeds() -> Vec<Vec<u8>> {
    [machine(4, 2), machine(1, 1), FdtWriter::new().and_then(empty)]
        .map(|tree| tree.expect("the trees are written in order"))
        .to_vec()
}

fn empty(mut tree: FdtWriter) -> Result<Vec<u8>, Error> {
    let root = tree.begin_node("")?;
    tree.end_node(root)?;
    tree.finish()
}

fn machine(cpus: u32, cells: u32) -> Result<Vec<u8>, Error> {
    let reserved = FdtReserveEntry::new(0x10_0000, 0x4000).map_err(|_| Error::InvalidMemoryReservation)?;
    let mut tree = FdtWriter::new_with_mem_reserv(&[reserved])?;
    let root = tree.begin_node("")?;
    tree.property_string("compatible", "qemu,pseries")?;
    tree.property_u32("#address-cells", cells)?;
    tree.property_u32("#size-cells", cells)?;

    let chosen = tree.begin_node("chosen")?;
    tree.property_string("bootargs", "log=quiet -- hello")?;
    tree.property_string("stdout-path", "/vdevice/vty@71000000")?;
    tree.property_u32("linux,initrd-start", 0x300_0000)?;
    tree.property_u64("linux,initrd-end", 0x310_0000)?;
    tree.property("ibm,arch-vec-5-platform-support", &[23, 0x80, 24, 0x40])?;
    tree.end_node(chosen)?;

    for bank in 0..2u32 {
        let memory = tree.begin_node(&format!("memory@{}", bank * 0x1000_0000))?;
        tree.property_string("device_type", "memory")?;
        let reg: Vec<u32> = match cells {
            1 => vec![bank * 0x1000_0000, 0x1000_0000],
            _ => vec![0, bank * 0x1000_0000, 0, 0x1000_0000],
        };
        tree.property_array_u32("reg", &reg)?;
        tree.end_node(memory)?;
    }

    let all = tree.begin_node("cpus")?;
    tree.property_u32("#address-cells", 1)?;
    tree.property_u32("#size-cells", 0)?;
    for number in 0..cpus {
        let cpu = tree.begin_node(&format!("PowerPC,POWER9@{number}"))?;
        tree.property_string("device_type", "cpu")?;
        tree.property_u32("reg", number)?;
        tree.property_array_u32("ibm,ppc-interrupt-server#s", &[number])?;
        tree.property_u32("timebase-frequency", 512_000_000)?;
        tree.property_u32("ibm,dec-bits", 56)?;
        let mut features = [0u8; 68];
        features[0] = 66;
        features[42] = 0x80;
        tree.property("ibm,pa-features", &features)?;
        tree.end_node(cpu)?;
    }
    tree.end_node(all)?;

    let rtas = tree.begin_node("rtas")?;
    for (token, name) in (0x2000..).zip(["power-off", "ibm,os-term", "ibm,set-xive", "start-cpu"]) {
        tree.property_u32(name, token)?;
    }
    tree.end_node(rtas)?;

    let bridge = tree.begin_node("pci@800000020000000")?;
    tree.property_string("device_type", "pci")?;
    tree.property_string("compatible", "IBM,Logical_PHB")?;
    tree.property_array_u32("reg", &[0x0800_0000, 0x2000_0000, 0, 0])?;
    tree.property_u32("ibm,pci-config-space-type", 1)?;
    let memory = [0x0200_0000, 0, 0x8000_0000, 0x2000, 0x8000_0000, 0, 0x8000_0000];
    tree.property_array_u32("ranges", &memory)?;
    tree.property_array_u32("ibm,dma-window", &[0x8000_0000, 0, 0, 0, 0x4000_0000])?;
    tree.property_array_u32("interrupt-map", &[0x800, 0, 0, 1, 0x1111, 0x1200, 1])?;
    tree.end_node(bridge)?;

    let devices = tree.begin_node("vdevice")?;
    for unit in [0x3000_0000u32, 0x7100_0000] {
        let terminal = tree.begin_node(&format!("vty@{unit:x}"))?;
        tree.property_string("device_type", "serial")?;
        tree.property_u32("reg", unit)?;
        tree.property_array_u32("interrupts", &[0x1001, 0])?;
        tree.end_node(terminal)?;
    }
    tree.end_node(devices)?;
    tree.end_node(root)?;
    tree.finish()
}

/// The reader answers, and what it accepts can be booted from.
pub fn run(bytes: &[u8]) {
    match read(bytes) {
        Ok(found) => {
            assert!(!found.memory.is_empty() && !found.cpus.is_empty() && found.timebase != 0);
            for range in found.memory.iter().chain(&found.initrd) {
                assert!(range.start.0.checked_add(range.len).is_some(), "a range does not wrap");
            }
            for range in &found.reserved {
                assert!(range.start.0.checked_add(range.len).is_some(), "a reserved range does not wrap");
            }
            if let Some(Ok(bridge)) = &found.bridge {
                let window = bridge.window;
                assert!(window.start.0.checked_add(window.len).is_some_and(|end| end <= 1 << 52));
                assert!(found.memory.iter().all(|range| !range.overlaps(&window)), "registers are not RAM");
                assert!(
                    bridge.window_bus + window.len <= 1 << 32 && bridge.dma.start + bridge.dma.len <= 1 << 32
                );
                assert!((0..=255).all(|pin| bridge.source(0, pin).is_none() || (1..=4).contains(&pin)));
            }
            if let Some(Err(error)) = &found.bridge {
                assert!(!error.to_string().is_empty());
            }
            assert!((32..=64).contains(&found.decrementer_bits));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
