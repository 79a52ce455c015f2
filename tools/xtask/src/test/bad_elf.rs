//! ELF files that a kernel must refuse, byte by byte: no linker would make them.

/// A segment of such a file.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub address: u64,
    /// Bytes in memory and in the file.
    pub len: u64,
    pub flags: u32,
}

pub const READ_EXECUTE: u32 = 5;
pub const READ_WRITE: u32 = 6;
pub const ALL: u32 = 7;

const HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;
const PAGE: u64 = 4096;

/// An executable for `machine` (its `e_machine`) with these segments, entered at the first.
pub fn file(machine: u16, segments: &[Segment]) -> Vec<u8> {
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut put = |value: &[u8]| bytes.extend_from_slice(value);
    put(&2u16.to_le_bytes()); // e_type: ET_EXEC
    put(&machine.to_le_bytes());
    put(&1u32.to_le_bytes());
    put(&segments.first().map_or(0, |segment| segment.address).to_le_bytes());
    put(&HEADER.to_le_bytes()); // e_phoff
    put(&0u64.to_le_bytes());
    // e_flags: 2 is the ELFv2 ABI on ppc64le; nothing else looks at it.
    put(&(if machine == 21 { 2u32 } else { 0 }).to_le_bytes());
    for half in [HEADER as u16, PROGRAM_HEADER as u16, segments.len() as u16, 0, 0, 0] {
        put(&half.to_le_bytes());
    }
    let mut offset = PAGE;
    for segment in segments {
        put(&1u32.to_le_bytes()); // p_type: PT_LOAD
        put(&segment.flags.to_le_bytes());
        for word in [offset, segment.address, segment.address, segment.len, segment.len, PAGE] {
            put(&word.to_le_bytes());
        }
        offset += segment.len.next_multiple_of(PAGE);
    }
    bytes.resize(offset as usize, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use boot_image::pack::Machine;
    use boot_image::program::Program;

    fn parse(bytes: &[u8]) -> Result<(), String> {
        Program::parse(bytes, &Machine::X86_64.target()).map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn a_good_file_made_here_is_good_so_the_bad_ones_are_bad_for_one_reason() {
        let text = Segment { address: 0x40_0000, len: 16, flags: READ_EXECUTE };
        let data = Segment { address: 0x40_1000, len: 16, flags: READ_WRITE };
        parse(&file(62, &[text, data])).unwrap();
        assert!(
            parse(&file(62, &[Segment { flags: ALL, ..text }]))
                .unwrap_err()
                .contains("writable and executable")
        );
        assert!(parse(&file(62, &[text, Segment { address: text.address, ..data }])).is_err());
        assert!(parse(&file(21, &[text])).unwrap_err().contains("ppc64le"));
    }
}
