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

/// Whether the instruction at `offset` in `code`, a write of a model-specific register or a hypervisor
/// call, interrupts another CPU: by the number that was put into its register shortly before. On
/// x86_64 the interrupt command register of the x2APIC (SDM vol. 3 table 11-6); on ppc64le H_IPI, but
/// for the priority by which a CPU takes a request back (PAPR §14.11.1).
pub fn interrupts(arch: Arch, code: &[u8], offset: usize) -> bool {
    /// Bytes that are looked at.
    const BEFORE: usize = 48;
    let before = &code[offset.saturating_sub(BEFORE)..offset];
    match arch {
        Arch::X86_64 => {
            // mov ecx, 0x830
            const COMMAND: [u8; 5] = [0xb9, 0x30, 0x08, 0, 0];
            before.windows(COMMAND.len()).any(|bytes| bytes == COMMAND)
        }
        Arch::Ppc64le => {
            let words = || {
                before.rchunks_exact(4).filter_map(|bytes| Some(u32::from_le_bytes(bytes.try_into().ok()?)))
            };
            // li REGISTER, VALUE: the last one before.
            let loaded = |register: u32| {
                let li = 14 << 26 | register << 21;
                words().find(|word| word & 0xffff_0000 == li).map(|word| word & 0xffff)
            };
            const H_IPI: u32 = 0x6c;
            const TAKEN_BACK: u32 = 0xff;
            loaded(3) == Some(H_IPI) && loaded(5) != Some(TAKEN_BACK)
        }
    }
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

    #[test]
    fn what_interrupts_a_cpu_is_known_by_its_number() {
        let x86 = |number: u8| [0xb9, number, 0x08, 0, 0, 0x0f, 0xae, 0xf0, 0x0f, 0x30];
        assert!(interrupts(Arch::X86_64, &x86(0x30), 8) && !interrupts(Arch::X86_64, &x86(0x0b), 8));
        // li r3, NUMBER; li r5, PRIORITY; sc 1
        let ppc = |number: u32, priority: u32| {
            [0x3860_0000 | number, 0x38a0_0000 | priority, 0x4400_0022].map(u32::to_le_bytes).concat()
        };
        let is = |number, priority| interrupts(Arch::Ppc64le, &ppc(number, priority), 8);
        assert!(is(0x6c, 4) && !is(0x6c, 0xff) && !is(0x64, 4));
    }
}
