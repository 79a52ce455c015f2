//! Flattens Open Firmware's tree, so that one reader serves both kinds of firmware.
//!
//! Walks the live tree and writes a blob of version 17 into memory that firmware lends. Strings are
//! not shared: the blob is read once and dropped. The result is checked like any other blob.

use crate::of::{Cell, Firmware, NAME_BYTES, address};

/// Bytes asked of firmware for the blob, and how many of them are for strings, at its end.
const BLOB_BYTES: usize = 512 * 1024;
const STRINGS_BYTES: usize = 96 * 1024;
/// Header (40 bytes) and an empty list of reserved memory (16).
const STRUCTURE_AT: usize = 56;
const STRINGS_AT: usize = BLOB_BYTES - STRINGS_BYTES;

/// Why the tree could not be flattened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlattenError {
    /// Firmware lends no memory.
    NoMemory,
    /// The tree has no root.
    NoRoot,
    TooLarge,
}

impl core::fmt::Display for FlattenError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoMemory => write!(f, "firmware has no memory to lend"),
            Self::NoRoot => write!(f, "firmware's tree has no root"),
            Self::TooLarge => write!(f, "firmware's tree is larger than {BLOB_BYTES} bytes"),
        }
    }
}

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const END: u32 = 9;

struct Writer {
    blob: &'static mut [u8],
    structure: usize,
    strings: usize,
}

impl Writer {
    fn word(&mut self, value: u32) -> Result<(), FlattenError> {
        if self.structure + 4 > STRINGS_AT {
            return Err(FlattenError::TooLarge);
        }
        self.blob[self.structure..self.structure + 4].copy_from_slice(&value.to_be_bytes());
        self.structure += 4;
        Ok(())
    }

    /// Takes `length` bytes that were written behind the structure so far, padded.
    fn advance(&mut self, length: usize) -> Result<(), FlattenError> {
        let end = self.structure.saturating_add(length).next_multiple_of(4);
        if end > STRINGS_AT {
            return Err(FlattenError::TooLarge);
        }
        self.blob[self.structure + length..end].fill(0);
        self.structure = end;
        Ok(())
    }

    /// Opens a node and writes its properties.
    fn node(&mut self, firmware: &mut Firmware, node: Cell) -> Result<(), FlattenError> {
        self.word(BEGIN_NODE)?;
        let at = self.structure;
        let room = &mut self.blob[at..STRINGS_AT];
        let length = firmware.property(node, c"name", room).unwrap_or(0);
        // The root has no name in a flattened tree; a name ends with a zero byte.
        let length = if at == STRUCTURE_AT + 4 { 0 } else { length.min(room.len() - 1) };
        let length = room[..length].iter().position(|&byte| byte == 0).unwrap_or(length);
        room[length] = 0;
        self.advance(length + 1)?;

        let mut previous = address(c"".as_ptr());
        loop {
            let name = self.strings;
            let Some(next) = self.blob.get_mut(name..).and_then(|rest| rest.first_chunk_mut::<NAME_BYTES>()) else {
                return Err(FlattenError::TooLarge);
            };
            next.fill(0);
            if !firmware.next_property(node, previous, next) {
                return Ok(());
            }
            next[NAME_BYTES - 1] = 0;
            let length = next.iter().position(|&byte| byte == 0).unwrap_or(NAME_BYTES - 1);
            self.strings += length + 1;
            previous = address(&raw const self.blob[name]);
            self.property(firmware, node, previous, (name - STRINGS_AT) as u32)?;
        }
    }

    fn property(&mut self, firmware: &mut Firmware, node: Cell, name: Cell, at: u32) -> Result<(), FlattenError> {
        self.word(PROPERTY)?;
        let length_at = self.structure;
        self.word(0)?;
        self.word(at)?;
        let room = &mut self.blob[self.structure..STRINGS_AT];
        let available = room.len();
        // A property that vanished between the two calls is written empty.
        let length = firmware.property_at(node, name, room).unwrap_or(0);
        if length > available {
            return Err(FlattenError::TooLarge);
        }
        self.blob[length_at..length_at + 4].copy_from_slice(&(length as u32).to_be_bytes());
        self.advance(length)
    }

    fn finish(self, boot_cpu: u32) -> &'static [u8] {
        let words = [
            0xd00d_feed,
            BLOB_BYTES as u32,
            STRUCTURE_AT as u32,
            STRINGS_AT as u32,
            40, // reserved memory
            17, // version
            16, // last compatible version
            boot_cpu,
            (self.strings - STRINGS_AT) as u32,
            (self.structure - STRUCTURE_AT) as u32,
        ];
        for (slot, word) in self.blob.chunks_exact_mut(4).zip(words) {
            slot.copy_from_slice(&word.to_be_bytes());
        }
        self.blob[40..STRUCTURE_AT].fill(0);
        self.blob
    }
}

/// The tree as a blob, in memory that is RAM like any other once firmware is quiesced.
pub fn flatten(firmware: &mut Firmware) -> Result<&'static [u8], FlattenError> {
    let memory = firmware.claim(BLOB_BYTES as u32).map_err(|_| FlattenError::NoMemory)?;
    let start = (u64::from(memory) | crate::cpu::PHYSICAL_MAP) as *mut u8;
    // SAFETY: firmware lends these bytes to us alone; any bits are valid bytes.
    let blob = unsafe { core::slice::from_raw_parts_mut(start, BLOB_BYTES) };
    let mut writer = Writer { blob, structure: STRUCTURE_AT, strings: STRINGS_AT };
    let root = firmware.next_sibling(0).ok_or(FlattenError::NoRoot)?;
    let mut node = root;
    'walk: loop {
        writer.node(firmware, node)?;
        if let Some(child) = firmware.first_child(node) {
            node = child;
            continue;
        }
        // Up until there is a sibling; a node is closed as it is left.
        loop {
            writer.word(END_NODE)?;
            if node == root {
                break 'walk;
            }
            if let Some(sibling) = firmware.next_sibling(node) {
                node = sibling;
                break;
            }
            node = firmware.parent(node).ok_or(FlattenError::NoRoot)?;
        }
    }
    writer.word(END)?;
    let boot_cpu = boot_cpu(firmware).unwrap_or(0);
    Ok(writer.finish(boot_cpu))
}

/// `/chosen` names the CPU we run on by an instance.
fn boot_cpu(firmware: &mut Firmware) -> Option<u32> {
    let chosen = firmware.find(c"/chosen")?;
    let mut cell = [0; 4];
    firmware.property(chosen, c"cpu", &mut cell).filter(|&length| length == 4)?;
    let node = firmware.call(c"instance-to-package", &[u32::from_be_bytes(cell)], 1).ok()?;
    firmware.property(node, c"reg", &mut cell).filter(|&length| length == 4)?;
    Some(u32::from_be_bytes(cell))
}
