//! Which instructions ask for a system call, by their bytes.

/// The machine being watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arch {
    X86_64,
    Ppc64le,
}

impl Arch {
    /// The lowest address at which the kernel runs, once it has moved there.
    pub const fn kernel_from(self) -> u64 {
        match self {
            Self::X86_64 => 0xffff_8000_0000_0000,
            Self::Ppc64le => 0xc000_0000_0000_0000,
        }
    }

    /// Whether these bytes, as they lie in memory, are an instruction that asks for a system call.
    pub fn is_call(self, bytes: &[u8]) -> bool {
        match self {
            // syscall: 0f 05 (SDM vol. 2)
            Self::X86_64 => bytes == [0x0f, 0x05],
            // sc 0: 44000002, scv 0: 44000001 (Power ISA Book I §3.3.1). QEMU hands out the bytes
            // in the order of its own build, so both are looked for.
            Self::Ppc64le => bytes.try_into().is_ok_and(|bytes: [u8; 4]| {
                [u32::from_le_bytes(bytes), u32::from_be_bytes(bytes)]
                    .iter()
                    .any(|word| matches!(word, 0x4400_0001 | 0x4400_0002))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_known_by_their_bytes() {
        assert!(Arch::X86_64.is_call(&[0x0f, 0x05]));
        assert!(!Arch::X86_64.is_call(&[0x0f, 0x0b]));
        assert!(!Arch::X86_64.is_call(&[0x0f, 0x05, 0x00]));
        assert!(Arch::Ppc64le.is_call(&[0x01, 0x00, 0x00, 0x44]));
        assert!(Arch::Ppc64le.is_call(&[0x44, 0x00, 0x00, 0x02]));
        // sc 1 is a hypervisor call.
        assert!(!Arch::Ppc64le.is_call(&[0x22, 0x00, 0x00, 0x44]));
        assert!(!Arch::Ppc64le.is_call(&[0x44]));
    }
}
