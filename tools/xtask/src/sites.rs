//! Where a linked image has the instructions that the contracts speak of.

use crate::arch::Arch;
use iced_x86::{Decoder, DecoderOptions};
use stream::Instruction;

/// The instructions in `code`, which is linked at `base`: where, how many bytes, and which.
pub fn instructions(arch: Arch, code: &[u8], base: u64) -> Vec<Site> {
    match arch {
        Arch::X86_64 => x86(code, base),
        Arch::Ppc64le => ppc(code, base),
    }
}

/// An instruction at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Site {
    pub at: u64,
    pub bytes: usize,
    pub instruction: Instruction,
}

fn x86(code: &[u8], base: u64) -> Vec<Site> {
    let mut decoder = Decoder::with_ip(64, code, base, DecoderOptions::NONE);
    let mut found = Vec::new();
    while decoder.can_decode() {
        let start = decoder.position();
        let decoded = decoder.decode();
        let bytes = &code[start..decoder.position()];
        if !decoded.is_invalid()
            && let Some(instruction) = stream::Arch::X86_64.instruction(bytes)
        {
            found.push(Site { at: decoded.ip(), bytes: bytes.len(), instruction });
        }
    }
    found
}

/// Words in the order of the image. (Early boot code is big-endian in part; nothing in it is looked
/// for.)
fn ppc(code: &[u8], base: u64) -> Vec<Site> {
    let known = |(index, bytes): (usize, &[u8])| {
        // In one byte order only: constants between functions are read as code, too.
        let word = u32::from_le_bytes(bytes.try_into().ok()?);
        let instruction = stream::Arch::Ppc64le.word(word)?;
        Some(Site { at: base + 4 * index as u64, bytes: 4, instruction })
    };
    code.chunks_exact(4).enumerate().filter_map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_found_with_their_size() {
        let found = instructions(Arch::X86_64, &[0x90, 0x48, 0x0f, 0x07, 0x0f, 0x22, 0xd8], 0x1000);
        assert_eq!(found[0], Site { at: 0x1001, bytes: 3, instruction: Instruction::Sysretq });
        assert_eq!(found[1], Site { at: 0x1004, bytes: 3, instruction: Instruction::MovToCr3 });
        let words = [0x4c00_0024u32, 0x6000_0000, 0x4c00_012c].map(u32::to_le_bytes).concat();
        let found = instructions(Arch::Ppc64le, &words, 0x100);
        assert_eq!(found[1], Site { at: 0x108, bytes: 4, instruction: Instruction::Isync });
        let other_order = 0x4c00_0024u32.to_be_bytes();
        assert!(instructions(Arch::Ppc64le, &other_order, 0).is_empty());
    }
}
