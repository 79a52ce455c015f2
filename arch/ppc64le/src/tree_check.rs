//! Whether a blob is a sound flattened device tree.
//!
//! The `fdt` crate parses a sound tree and panics on an unsound one, so this runs first, over every
//! byte of the structure block once: header, bounds, tokens, nesting, strings, padding. It refuses
//! more than the specification does where the parser behind it is stricter (NOP tokens, names that
//! are not UTF-8, depth), and says which. (Devicetree Specification v0.4 §5.)

/// Nodes inside nodes, at most. The parser keeps a fixed stack.
const MAX_DEPTH: usize = 32;
const HEADER_BYTES: usize = 40;
const MAGIC: u32 = 0xd00d_feed;
/// The layout this reads: since version 17 the header says how long the structure block is.
const VERSION: u32 = 17;

/// What is wrong with the blob. Offsets are in bytes from its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckError {
    /// Shorter than a header, or than the header says.
    Truncated,
    BadMagic,
    /// Older than version 17, or not compatible with it.
    BadVersion,
    /// A block lies outside the blob or is misaligned.
    BadBlock,
    /// The list of reserved ranges has no end, or a range wraps.
    BadReservations,
    /// Not a token, or not one that may stand here.
    BadToken(usize),
    /// A name without an end, or not UTF-8.
    BadName(usize),
    /// A property reaches beyond the structure block.
    BadProperty(usize),
    /// Nested deeper than supported.
    TooDeep(usize),
}

impl core::fmt::Display for CheckError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::Truncated => write!(f, "it is truncated"),
            Self::BadMagic => write!(f, "it does not start with the magic number d00dfeed"),
            Self::BadVersion => write!(f, "it is not of version 17"),
            Self::BadBlock => write!(f, "a block lies outside of it"),
            Self::BadReservations => write!(f, "the list of reserved memory is unsound"),
            Self::BadToken(at) => write!(f, "bad token at byte {at:#x}"),
            Self::BadName(at) => write!(f, "bad name at byte {at:#x}"),
            Self::BadProperty(at) => write!(f, "property too long at byte {at:#x}"),
            Self::TooDeep(at) => write!(f, "nested deeper than {MAX_DEPTH} at byte {at:#x}"),
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// The total size a header states, for a blob whose end is not known yet. `None` if these are not
/// the first bytes of a flattened tree, or the size is absurd (over 16 MiB).
pub fn stated_size(header: &[u8; HEADER_BYTES]) -> Option<usize> {
    let size = word(header, 4)? as usize;
    (word(header, 0)? == MAGIC && (HEADER_BYTES..=16 << 20).contains(&size)).then_some(size)
}

/// Ok if every walk of the parser over `blob` stays inside it and finds what it expects.
pub fn check(blob: &[u8]) -> Result<(), CheckError> {
    let header = |index: usize| word(blob, 4 * index).ok_or(CheckError::Truncated);
    if blob.len() < HEADER_BYTES {
        return Err(CheckError::Truncated);
    }
    if header(0)? != MAGIC {
        return Err(CheckError::BadMagic);
    }
    let total = header(1)? as usize;
    let blob = blob.get(..total).ok_or(CheckError::Truncated)?;
    if total < HEADER_BYTES {
        return Err(CheckError::Truncated);
    }
    if header(5)? < VERSION || header(6)? > VERSION {
        return Err(CheckError::BadVersion);
    }
    let block = |offset: usize, size: usize| {
        let end = offset.checked_add(size).ok_or(CheckError::BadBlock)?;
        blob.get(offset..end).ok_or(CheckError::BadBlock)
    };
    let (structure_at, strings_at) = (header(2)? as usize, header(3)? as usize);
    let structure = block(structure_at, header(9)? as usize)?;
    let strings = block(strings_at, header(8)? as usize)?;
    if structure_at % 4 != 0 || structure.len() % 4 != 0 {
        return Err(CheckError::BadBlock);
    }
    check_reservations(blob, header(4)? as usize)?;
    check_structure(structure, structure_at, strings)
}

/// Pairs of doublewords up to a pair of zeros.
fn check_reservations(blob: &[u8], mut at: usize) -> Result<(), CheckError> {
    loop {
        let bytes =
            at.checked_add(16).and_then(|end| blob.get(at..end)).ok_or(CheckError::BadReservations)?;
        let start = u64::from_be_bytes(bytes[..8].try_into().map_err(|_| CheckError::BadReservations)?);
        let size = u64::from_be_bytes(bytes[8..].try_into().map_err(|_| CheckError::BadReservations)?);
        if (start, size) == (0, 0) {
            return Ok(());
        }
        start.checked_add(size).ok_or(CheckError::BadReservations)?;
        at += 16;
    }
}

/// Length of the zero-terminated UTF-8 string that `bytes` starts with, without the zero.
fn string_length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.iter().position(|&byte| byte == 0)?;
    core::str::from_utf8(&bytes[..length]).ok()?;
    Some(length)
}

/// One walk: a single root, properties before children in every node, END last.
fn check_structure(structure: &[u8], base: usize, strings: &[u8]) -> Result<(), CheckError> {
    const BEGIN_NODE: u32 = 1;
    const END_NODE: u32 = 2;
    const PROPERTY: u32 = 3;
    const END: u32 = 9;
    let padded = |length: usize| length.checked_add(3).map(|sum| sum & !3);
    let (mut at, mut depth) = (0, 0);
    let mut properties_allowed = false;
    loop {
        let here = base + at;
        let token = word(structure, at).ok_or(CheckError::BadToken(here))?;
        at += 4;
        match token {
            // Only the first token may open a root.
            BEGIN_NODE if depth > 0 || at == 4 => {
                if depth == MAX_DEPTH {
                    return Err(CheckError::TooDeep(here));
                }
                let length = string_length(&structure[at..]).ok_or(CheckError::BadName(here))?;
                at += padded(length + 1).ok_or(CheckError::BadName(here))?;
                depth += 1;
                properties_allowed = true;
            }
            END_NODE if depth > 0 => {
                depth -= 1;
                properties_allowed = false;
            }
            PROPERTY if properties_allowed => {
                let length = word(structure, at).ok_or(CheckError::BadProperty(here))? as usize;
                let name = word(structure, at + 4).ok_or(CheckError::BadProperty(here))? as usize;
                strings.get(name..).and_then(string_length).ok_or(CheckError::BadName(here))?;
                let end = padded(length).and_then(|length| (at + 8).checked_add(length));
                at = end.filter(|&end| end <= structure.len()).ok_or(CheckError::BadProperty(here))?;
            }
            END if depth == 0 && at > 4 => return Ok(()),
            _ => return Err(CheckError::BadToken(here)),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    /// A blob with this structure block and the string "p" at 0.
    fn blob(structure: &[u32]) -> Vec<u8> {
        let structure_bytes = 4 * structure.len() as u32;
        let strings_at = 56 + structure_bytes;
        let header = [MAGIC, strings_at + 2, 56, strings_at, 40, 17, 16, 0, 2, structure_bytes, 0, 0, 0, 0];
        let mut bytes: Vec<u8> = header.iter().chain(structure).flat_map(|word| word.to_be_bytes()).collect();
        bytes.extend_from_slice(b"p\0");
        bytes
    }

    fn check_words(structure: &[u32]) -> Result<(), CheckError> {
        check(&blob(structure))
    }

    /// `BOOT-1`: nodes in one root, properties before children, an end.
    #[test]
    fn boot_1_sound_trees_pass() {
        let name = u32::from_be_bytes(*b"n\0\0\0");
        assert_eq!(check_words(&[1, 0, 2, 9]), Ok(()));
        assert_eq!(check_words(&[1, 0, 3, 5, 0, 0x11223344, 0x55000000, 1, name, 2, 2, 9]), Ok(()));
    }

    /// `BOOT-5`: each way of being unsound is named.
    #[test]
    fn boot_5_unsound_trees_are_refused() {
        assert_eq!(check_words(&[]), Err(CheckError::BadToken(56)));
        assert_eq!(check_words(&[9]), Err(CheckError::BadToken(56)));
        assert_eq!(check_words(&[1, 0, 2, 1, 0, 2, 9]), Err(CheckError::BadToken(68)), "a second root");
        assert_eq!(check_words(&[1, 0, 2]), Err(CheckError::BadToken(68)), "no end");
        assert_eq!(check_words(&[1, 0, 9]), Err(CheckError::BadToken(64)), "an end inside a node");
        assert_eq!(check_words(&[1, 0, 4, 2, 9]), Err(CheckError::BadToken(64)), "a no-op");
        assert_eq!(check_words(&[1, 0, 3, 13, 0, 0, 2, 9]), Err(CheckError::BadProperty(64)));
        assert_eq!(check_words(&[1, 0, 3, 0, 7, 2, 9]), Err(CheckError::BadName(64)));
        assert_eq!(check_words(&[1, 0xffff_ff00, 2, 9]), Err(CheckError::BadName(56)), "not UTF-8");
        let deep: Vec<u32> = [1, 0].repeat(MAX_DEPTH + 1);
        assert_eq!(check_words(&deep), Err(CheckError::TooDeep(56 + 8 * MAX_DEPTH)));
    }

    /// `BOOT-5`: no prefix of a sound tree is one, and none makes the check panic.
    #[test]
    fn boot_5_truncated_trees_are_refused() {
        let whole = blob(&[1, 0, 3, 4, 0, 1, 2, 9]);
        assert_eq!(check(&whole), Ok(()));
        for len in 0..whole.len() {
            assert_eq!(check(&whole[..len]), Err(CheckError::Truncated));
        }
    }
}
