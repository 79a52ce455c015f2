//! Finds vector and floating-point instructions in machine code.

use super::ppc_opcodes;
use crate::arch::Arch;
use iced_x86::{CpuidFeature, Decoder, DecoderOptions, Instruction, Mnemonic};

/// Where they are, and what.
pub fn instructions(arch: Arch, code: &[u8], base: u64) -> Vec<(u64, String)> {
    match arch {
        Arch::X86_64 => x86(code, base),
        Arch::Ppc64le => ppc(code, base),
    }
}

fn x86(code: &[u8], base: u64) -> Vec<(u64, String)> {
    let mut decoder = Decoder::with_ip(64, code, base, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    let mut found = Vec::new();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if !instruction.is_invalid() && touches_vector_state(&instruction) {
            found.push((instruction.ip(), format!("{:?}", instruction.mnemonic()).to_lowercase()));
        }
    }
    found
}

/// Whether an instruction reads or writes x87, MMX, SSE or AVX state. Fences, prefetches and the
/// XCR0 register are named after the same extensions and are not.
fn touches_vector_state(instruction: &Instruction) -> bool {
    use Mnemonic::*;
    let by_register = (0..instruction.op_count()).any(|operand| {
        let register = instruction.op_register(operand);
        register.is_vector_register() || register.is_mm() || register.is_st() || register.is_k()
    });
    let whole_state = matches!(
        instruction.mnemonic(),
        Fxsave
            | Fxsave64
            | Fxrstor
            | Fxrstor64
            | Xsave
            | Xsave64
            | Xsaveopt
            | Xsaveopt64
            | Xsavec
            | Xsavec64
            | Xsaves
            | Xsaves64
            | Xrstor
            | Xrstor64
            | Xrstors
            | Xrstors64
            | Ldmxcsr
            | Stmxcsr
            | Vldmxcsr
            | Vstmxcsr
            | Emms
            | Vzeroupper
            | Vzeroall
    );
    let x87 = instruction
        .cpuid_features()
        .iter()
        .any(|feature| matches!(feature, CpuidFeature::FPU | CpuidFeature::FPU287 | CpuidFeature::FPU387));
    by_register || whole_state || x87
}

/// `tdi 0, 0, 0x48`: never traps; read in the other byte order it is a branch over one word.
const EITHER_ORDER: u32 = 0x0800_0048;

/// Code that may be entered in either byte order begins with that word, and then with a branch
/// over what a big-endian CPU runs to change over: those words are read in their own order.
fn ppc(code: &[u8], base: u64) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    let mut previous = 0;
    let mut big_endian_until = 0;
    for (index, bytes) in code.chunks_exact(4).enumerate() {
        let bytes: [u8; 4] = bytes.try_into().expect("chunks of four");
        let word =
            if index < big_endian_until { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        if previous == EITHER_ORDER && word & 0xfe00_0003 == 0x4800_0000 {
            big_endian_until = index + (word as usize & 0x01ff_fffc) / 4;
        } else if let Some(what) = ppc_opcodes::vector(word) {
            found.push((base + 4 * index as u64, format!("{what} ({word:08x})")));
        }
        previous = word;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds_x86(code: &[u8]) -> bool {
        !instructions(Arch::X86_64, code, 0x1000).is_empty()
    }

    #[test]
    fn x86_vector_instructions_are_found() {
        assert!(finds_x86(&[0x0f, 0x28, 0xc1]), "movaps xmm0, xmm1");
        assert!(finds_x86(&[0x66, 0x0f, 0xef, 0xc0]), "pxor xmm0, xmm0");
        assert!(finds_x86(&[0xc5, 0xfc, 0x28, 0xc1]), "vmovaps ymm0, ymm1");
        assert!(finds_x86(&[0x0f, 0xae, 0x07]), "fxsave [rdi]");
        assert!(finds_x86(&[0x0f, 0xae, 0x27]), "xsave [rdi]");
        assert!(finds_x86(&[0xdb, 0xe3]), "fninit");
        assert!(finds_x86(&[0x0f, 0x6f, 0xc1]), "movq mm0, mm1");
    }

    #[test]
    fn x86_fences_and_registers_are_not_vector_code() {
        assert!(!finds_x86(&[0x0f, 0xae, 0xf0]), "mfence");
        assert!(!finds_x86(&[0x0f, 0x01, 0xd1]), "xsetbv");
        assert!(!finds_x86(&[0xf3, 0x90]), "pause");
        assert!(!finds_x86(&[0x0f, 0x22, 0xc0]), "mov cr0, rax");
        assert!(!finds_x86(&[0x48, 0x89, 0xc3]), "mov rbx, rax");
    }

    #[test]
    fn code_that_changes_the_byte_order_is_read_in_its_own() {
        // tdi 0,0,0x48; b +12; li 10,-1 and lfd 1,0(3), both big-endian; li 10,-1 read wrongly.
        let little = [0x0800_0048u32, 0x4800_000c].map(u32::to_le_bytes);
        let big = [0x3940_ffffu32, 0xc823_0000, 0x3940_ffff].map(u32::to_be_bytes);
        let code = [&little[..], &big[..]].concat().concat();
        let places: Vec<u64> = instructions(Arch::Ppc64le, &code, 0).into_iter().map(|(at, _)| at).collect();
        assert_eq!(places, [0xc, 0x10]);
    }

    #[test]
    fn the_place_is_told() {
        assert_eq!(
            instructions(Arch::X86_64, &[0x90, 0x0f, 0x28, 0xc1], 0x1000),
            [(0x1001, "movaps".into())]
        );
        let found = instructions(Arch::Ppc64le, &[0, 0, 0, 0x60, 0, 0, 0x23, 0xc8], 0x1000);
        assert_eq!(found[0].0, 0x1004);
    }
}
