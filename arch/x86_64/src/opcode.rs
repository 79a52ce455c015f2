//! Telling a privileged instruction from other causes of a general-protection fault.
//!
//! #GP(0) is what a user program gets for a privileged instruction, for an operand that is not
//! canonical and for a misaligned vector operand alike (SDM vol. 3 §6.15). The bytes at the
//! program counter tell the first apart. It is advice for a message: another thread may have
//! changed the bytes since.

/// What an instruction that raised #GP(0) turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Needs ring 0 or an I/O permission.
    Privileged,
    /// A near return: its target is the word at the stack pointer.
    Return,
    /// A near jump or call to the address in a register, by its number in encodings.
    JumpTo(u8),
    /// Something else.
    Other,
}

/// Looks at the instruction that starts at `bytes[0]`. Too few bytes make it [`Kind::Other`].
pub fn classify(bytes: &[u8]) -> Kind {
    let is_prefix = |byte: &u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3 | 0x40..=0x4f);
    let start = bytes.iter().position(|byte| !is_prefix(byte)).unwrap_or(bytes.len());
    match bytes[start..] {
        // hlt, cli, sti
        [0xf4 | 0xfa | 0xfb, ..] => Kind::Privileged,
        // in, out, ins, outs
        [0xe4..=0xe7 | 0xec..=0xef | 0x6c..=0x6f, ..] => Kind::Privileged,
        // int n, int1 is allowed, far returns and iret to where user mode may not go
        [0xcd | 0xca | 0xcb | 0xcf, ..] => Kind::Privileged,
        [0xc2 | 0xc3, ..] => Kind::Return,
        [0xff, modrm @ (0xd0..=0xd7 | 0xe0..=0xe7), ..] => {
            let rex = start.checked_sub(1).map_or(0, |last| bytes[last]);
            Kind::JumpTo(modrm & 7 | if rex & 0xf1 == 0x41 { 8 } else { 0 })
        }
        // lldt, ltr and their group; lgdt, lidt, lmsw, invlpg, xsetbv, swapgs and theirs
        [0x0f, 0x00 | 0x01, ..] => Kind::Privileged,
        // clts, sysret, invd, wbinvd
        [0x0f, 0x06..=0x09, ..] => Kind::Privileged,
        // mov to and from control and debug registers
        [0x0f, 0x20..=0x23, ..] => Kind::Privileged,
        // wrmsr, rdtsc (if CR4.TSD), rdmsr, rdpmc, sysenter, sysexit
        [0x0f, 0x30..=0x35, ..] => Kind::Privileged,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileged_with_and_without_prefixes() {
        for bytes in [
            &[0xf4][..],               // hlt
            &[0x0f, 0x22, 0xd8],       // mov cr3, rax
            &[0x44, 0x0f, 0x20, 0xc0], // mov rax, cr8
            &[0x66, 0xef],             // out dx, ax
            &[0xcd, 0x80],             // int 0x80
            &[0x0f, 0x30],             // wrmsr
        ] {
            assert_eq!(classify(bytes), Kind::Privileged, "{bytes:x?}");
        }
        assert_eq!(classify(&[0xc3]), Kind::Return);
        assert_eq!(classify(&[0xff, 0xe0]), Kind::JumpTo(0)); // jmp rax
        assert_eq!(classify(&[0x41, 0xff, 0xd3]), Kind::JumpTo(11)); // call r11
        assert_eq!(classify(&[0x48, 0x8b, 0x00]), Kind::Other); // mov rax, [rax]
        assert_eq!(classify(&[0x0f, 0x28, 0x00]), Kind::Other); // movaps xmm0, [rax]
        assert_eq!(classify(&[]), Kind::Other);
        assert_eq!(classify(&[0x48; 15]), Kind::Other);
    }
}
