//! The memory operand of an instruction that raised #GP(0), recomputed from the saved registers.
//!
//! An address that is not canonical raises a general-protection fault, and unlike a page fault
//! that tells neither the address nor the direction (SDM vol. 3 §6.15). The addressing forms that
//! compilers use are decoded here; whatever else gives `None`. It is advice for a message, as in
//! [`opcode`](crate::opcode).

use arch_contract::trap::Access;

/// An access to memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operand {
    pub address: u64,
    pub access: Access,
    pub kind: Kind,
}

/// What kind of instruction has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Integers and the stack: no alignment is ever wanted.
    Plain,
    /// Vectors: 16 bytes may have to be aligned.
    Vector,
}

/// Numbers of registers in encodings (SDM vol. 2 table 2-2).
const RSP: u8 = 4;
const RBP: u8 = 5;
const RSI: u8 = 6;
const RDI: u8 = 7;

/// Decodes the operand of the instruction in `bytes`; `register` gives the value of a general
/// register by its number in encodings.
pub fn decode(bytes: &[u8], register: impl Fn(u8) -> u64) -> Option<Operand> {
    let (opcode, rex, rest) = prefixes(bytes)?;
    let plain = |address, access| Some(Operand { address, access, kind: Kind::Plain });
    match (opcode, rest) {
        // push, call; pop, ret, leave
        (0x50..=0x57 | 0x68 | 0x6a | 0x9c | 0xe8, _) => plain(register(RSP).wrapping_sub(8), Access::Write),
        (0x58..=0x5f | 0x9d | 0xc2 | 0xc3, _) => plain(register(RSP), Access::Read),
        (0xc9, _) => plain(register(RBP), Access::Read),
        // mov between the accumulator and an address in the instruction
        (0xa0..=0xa3, _) => {
            let address = u64::from_le_bytes(*rest.first_chunk()?);
            plain(address, if opcode < 0xa2 { Access::Read } else { Access::Write })
        }
        // stos and movs write at rdi; movs may as well have failed at rsi
        (0xa4 | 0xa5, _) if is_low(register(RDI)) => plain(register(RSI), Access::Read),
        (0xa4 | 0xa5 | 0xaa | 0xab, _) => plain(register(RDI), Access::Write),
        (0xac | 0xad, _) => plain(register(RSI), Access::Read),
        (0xae | 0xaf, _) => plain(register(RDI), Access::Read),
        (0x0f, &[second, ref modrm @ ..]) => {
            let kind = match second {
                0x10..=0x17 | 0x28..=0x2f | 0x50..=0x7f | 0xc2 | 0xc4..=0xc6 | 0xd0..=0xff => Kind::Vector,
                0x40..=0x4f | 0x90..=0x9f | 0xa3..=0xad | 0xaf..=0xc1 | 0xc3 | 0xc7 => Kind::Plain,
                _ => return None,
            };
            let writes = matches!(
                second,
                0x11 | 0x13 | 0x17 | 0x29 | 0x2b | 0x7e | 0x7f | 0x90
                    ..=0x9f | 0xab | 0xb0 | 0xb1 | 0xb3 | 0xbb | 0xc0 | 0xc1 | 0xc3 | 0xc7 | 0xd6 | 0xe7
            );
            let access = if writes { Access::Write } else { Access::Read };
            Some(Operand { address: modrm_address(modrm, rex, register)?, access, kind })
        }
        (_, modrm) => {
            let extension = modrm.first()? >> 3 & 7;
            let access = match opcode {
                // call and jmp through memory, push of it
                0xff if extension >= 2 => Access::Read,
                0x88
                | 0x89
                | 0x8c
                | 0x8f
                | 0x86
                | 0x87
                | 0xc0
                | 0xc1
                | 0xc6
                | 0xc7
                | 0xd0..=0xd3
                | 0xfe
                | 0xff => Access::Write,
                // not and neg write; test, mul and div do not
                0xf6 | 0xf7 if matches!(extension, 2 | 3) => Access::Write,
                // arithmetic with an immediate; only the comparison does not write
                0x80 | 0x81 | 0x83 if extension != 7 => Access::Write,
                0x80 | 0x81 | 0x83 | 0x63 | 0x69 | 0x6b | 0x84 | 0x85 | 0x8a | 0x8b | 0x8e | 0xf6 | 0xf7 => {
                    Access::Read
                }
                // arithmetic with a register, in both directions; 0x38 and 0x39 compare
                0x00..=0x37 if opcode & 7 < 2 => Access::Write,
                0x00..=0x3f if opcode & 7 < 4 => Access::Read,
                _ => return None,
            };
            plain(modrm_address(modrm, rex, register)?, access)
        }
    }
}

/// The opcode, the REX prefix or 0, and what follows. Segment prefixes change nothing: the bases
/// of FS and GS are 0 in user mode. Addresses of 32 bits are always canonical: `None`.
fn prefixes(bytes: &[u8]) -> Option<(u8, u8, &[u8])> {
    let legacy = |byte: &u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x66 | 0xf0 | 0xf2 | 0xf3);
    let start = bytes.iter().position(|byte| !legacy(byte))?;
    match bytes[start..] {
        [0x67, ..] => None,
        [rex @ 0x40..=0x4f, opcode, ref rest @ ..] => Some((opcode, rex, rest)),
        [opcode, ref rest @ ..] => Some((opcode, 0, rest)),
        [] => None,
    }
}

/// In the lower canonical half.
fn is_low(address: u64) -> bool {
    address >> 47 == 0
}

/// The address that ModRM, SIB and displacement name (SDM vol. 2 §2.1.5, §2.2.1). `None` for a
/// register, and for addresses relative to the program counter, which are always canonical.
fn modrm_address(bytes: &[u8], rex: u8, register: impl Fn(u8) -> u64) -> Option<u64> {
    const REX_X: u8 = 2;
    const REX_B: u8 = 1;
    let extend = |number: u8, bit: u8| if rex & bit != 0 { number | 8 } else { number };
    let (&modrm, mut rest) = bytes.split_first()?;
    let (mode, rm) = (modrm >> 6, modrm & 7);
    let mut no_base = false;
    let mut address = match (mode, rm) {
        (3, _) | (0, RBP) => return None,
        (_, RSP) => {
            let (&sib, behind) = rest.split_first()?;
            rest = behind;
            let index = extend(sib >> 3 & 7, REX_X);
            // Number 4 as an index, without REX.X, is none.
            let scaled = if index == RSP { 0 } else { register(index) << (sib >> 6) };
            no_base = mode == 0 && sib & 7 == RBP;
            let base = if no_base { 0 } else { register(extend(sib & 7, REX_B)) };
            base.wrapping_add(scaled)
        }
        _ => register(extend(rm, REX_B)),
    };
    let displacement = match mode {
        1 => i64::from(*rest.first()? as i8),
        0 if !no_base => 0,
        _ => i64::from(i32::from_le_bytes(*rest.first_chunk()?)),
    };
    address = address.wrapping_add(displacement as u64);
    Some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Register n holds n · 0x1000.
    fn at(bytes: &[u8]) -> Option<(u64, Access)> {
        decode(bytes, |number| u64::from(number) * 0x1000).map(|operand| (operand.address, operand.access))
    }

    #[test]
    fn addressing_forms() {
        for (bytes, wanted) in [
            (&[0x48, 0x8b, 0x00][..], (0, Access::Read)), // mov rax, [rax]
            (&[0x48, 0x89, 0x4b, 0xf8], (0x2ff8, Access::Write)), // mov [rbx-8], rcx
            (&[0x8b, 0x84, 0x8a, 0x10, 0, 0, 0], (0x2000 + 0x4000 + 0x10, Access::Read)), // mov eax, [rdx+rcx*4+16]
            (&[0x43, 0x8b, 0x04, 0x28], (0x8000 + 0xd000, Access::Read)),                 // mov eax, [r8+r13]
            (&[0x48, 0x8b, 0x04, 0x24], (0x4000, Access::Read)),                          // mov rax, [rsp]
            (&[0x48, 0x8b, 0x04, 0x25, 0x78, 0, 0, 0], (0x78, Access::Read)),             // mov rax, [0x78]
            (&[0xc7, 0x00, 1, 0, 0, 0], (0, Access::Write)), // mov dword [rax], 1
            (&[0x50], (0x3ff8, Access::Write)),              // push rax
            (&[0x48, 0xa1, 1, 2, 0, 0, 0, 0, 0, 0x80], (0x8000_0000_0000_0201, Access::Read)),
            (&[0xff, 0x23], (0x3000, Access::Read)),  // jmp [rbx]
            (&[0x48, 0x39, 0x00], (0, Access::Read)), // cmp [rax], rax
            (&[0xf0, 0x48, 0x01, 0x06], (0x6000, Access::Write)), // lock add [rsi], rax
        ] {
            assert_eq!(at(bytes), Some(wanted), "{bytes:x?}");
        }
        let movaps = decode(&[0x0f, 0x29, 0x07], |_| 0x11);
        assert_eq!(movaps, Some(Operand { address: 0x11, access: Access::Write, kind: Kind::Vector }));
        assert_eq!(at(&[0x48, 0x89, 0xc8]), None); // mov rax, rcx
        assert_eq!(at(&[0x48, 0x8b, 0x05, 0, 0, 0, 0]), None); // mov rax, [rip]
    }

    /// Cut off or nonsense: no answer, no panic.
    #[test]
    fn any_bytes() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                for len in 0..4 {
                    let _ = at(&[first, second, 0x44, 0x25][..len]);
                }
            }
        }
    }
}
