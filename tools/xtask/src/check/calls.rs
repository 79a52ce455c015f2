//! Finds direct calls in machine code.

use crate::arch::Arch;
use iced_x86::{Decoder, DecoderOptions, Instruction};

/// The addresses of the calls of, and jumps to, `target`.
pub fn to(arch: Arch, code: &[u8], base: u64, target: u64) -> Vec<u64> {
    match arch {
        Arch::X86_64 => x86(code, base, target),
        Arch::Ppc64le => ppc(code, base, target),
    }
}

fn x86(code: &[u8], base: u64, target: u64) -> Vec<u64> {
    let mut decoder = Decoder::with_ip(64, code, base, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    let mut found = Vec::new();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        let branches = instruction.is_call_near() || instruction.is_jmp_short_or_near();
        if branches && instruction.near_branch_target() == target {
            found.push(instruction.ip());
        }
    }
    found
}

/// A function may be entered behind the two instructions that set up r2 (ELFv2 ABI §2.3.2.1).
const LOCAL_ENTRY: u64 = 8;

fn ppc(code: &[u8], base: u64, target: u64) -> Vec<u64> {
    let branches_to = |at: u64, word: u32| {
        // I-form: 18, a 24-bit word offset, AA, LK (Power ISA Book I §2.4).
        let offset = ((word & 0x03ff_fffc) << 6) as i32 >> 6;
        let to = at.wrapping_add_signed(offset.into());
        word >> 26 == 18 && word & 2 == 0 && (to == target || to == target + LOCAL_ENTRY)
    };
    code.chunks_exact(4)
        .enumerate()
        .filter_map(|(index, bytes)| {
            let at = base + 4 * index as u64;
            branches_to(at, u32::from_le_bytes(bytes.try_into().ok()?)).then_some(at)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x86_calls_are_found() {
        // nop; call +0x10; ret
        let code = [0x90, 0xe8, 0x0b, 0, 0, 0, 0xc3];
        assert_eq!(to(Arch::X86_64, &code, 0x1000, 0x1011), [0x1001]);
        assert!(to(Arch::X86_64, &code, 0x1000, 0x1012).is_empty());
    }

    #[test]
    fn ppc_calls_are_found_forwards_and_backwards() {
        // nop; bl +0x10; bl -0x8
        let words = [0x6000_0000u32, 0x4800_0011, 0x4bff_fff9];
        let code: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
        assert_eq!(to(Arch::Ppc64le, &code, 0x1000, 0x1014), [0x1004]);
        assert_eq!(to(Arch::Ppc64le, &code, 0x1000, 0x1000), [0x1008]);
        assert_eq!(to(Arch::Ppc64le, &code, 0x1000, 0x100c), [0x1004]);
    }
}
