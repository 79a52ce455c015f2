//! Which instructions matter, by their bytes.
//!
//! Bytes rather than a disassembler's words: those change between versions.

/// The machine being watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arch {
    X86_64,
    Ppc64le,
}

/// What the contracts speak of, as one instruction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Event {
    /// Loads an address space: a write of CR3 or of the PID register.
    Reload,
    /// A full memory barrier: `mfence`, a locked instruction, `xchg` with memory; `sync` with L = 0
    /// or, heavier still, 2 (`ptesync`).
    Barrier,
    /// Serializes the core and does nothing else to speak of: `serialize`, `cpuid`; `isync`.
    Serialize,
    /// Returns from an interrupt: `iretq`, `rfid`. Serializes too.
    InterruptReturn,
    /// Returns from a system call: `sysretq`, which does not serialize; `rfscv`, which does.
    CallReturn,
    /// Asks the machine or the hypervisor: `wrmsr`; `sc 1`. What for, its place tells.
    Ask,
}

impl Event {
    pub const ALL: [Self; 6] =
        [Self::Reload, Self::Barrier, Self::Serialize, Self::InterruptReturn, Self::CallReturn, Self::Ask];

    /// Its name in what the plugin writes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Barrier => "barrier",
            Self::Serialize => "serialize",
            Self::InterruptReturn => "interrupt_return",
            Self::CallReturn => "call_return",
            Self::Ask => "ask",
        }
    }
}

/// An instruction word of ppc64le. QEMU hands out the bytes in the order of its own build, so it is
/// read in both; no word that is looked for here is another one backwards.
pub(crate) fn words(bytes: &[u8]) -> [u32; 2] {
    let bytes = bytes.try_into().unwrap_or_default();
    [u32::from_le_bytes(bytes), u32::from_be_bytes(bytes)]
}

impl Arch {
    /// The lowest address at which the kernel runs, once it has moved there.
    pub const fn kernel_from(self) -> u64 {
        match self {
            Self::X86_64 => 0xffff_8000_0000_0000,
            Self::Ppc64le => 0xc000_0000_0000_0000,
        }
    }

    /// The size of a cache line, as a power of two.
    pub const fn line_shift(self) -> u32 {
        match self {
            Self::X86_64 => 6,
            Self::Ppc64le => 7,
        }
    }

    /// Whether these bytes, as they lie in memory, are an instruction that asks for a system call.
    pub fn is_call(self, bytes: &[u8]) -> bool {
        match self {
            // syscall: 0f 05 (SDM vol. 2)
            Self::X86_64 => bytes == [0x0f, 0x05],
            // sc 0: 44000002, scv 0: 44000001 (Power ISA Book I §3.3.1)
            Self::Ppc64le => words(bytes).iter().any(|word| matches!(word, 0x4400_0001 | 0x4400_0002)),
        }
    }

    /// What the instruction with these bytes is to the contracts, if anything.
    pub fn event(self, bytes: &[u8]) -> Option<Event> {
        match self {
            Self::X86_64 => x86(bytes),
            Self::Ppc64le => words(bytes).into_iter().find_map(ppc),
        }
    }
}

/// SDM vol. 2: legacy prefixes, REX, opcode, ModRM.
fn x86(bytes: &[u8]) -> Option<Event> {
    let is_prefix = |byte: &u8| {
        matches!(byte, 0xf0 | 0xf2 | 0xf3 | 0x66 | 0x67 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65)
    };
    let prefixes = bytes.iter().take_while(|byte| is_prefix(byte)).count();
    let (prefixes, rest) = bytes.split_at(prefixes);
    if prefixes.contains(&0xf0) {
        return Some(Event::Barrier);
    }
    let rest = match rest {
        [0x40..=0x4f, rest @ ..] => rest,
        rest => rest,
    };
    Some(match *rest {
        // xchg with memory locks by itself.
        [0x86 | 0x87, modrm, ..] if modrm < 0xc0 => Event::Barrier,
        [0x0f, 0xae, 0xf0] => Event::Barrier,
        // mov cr3, r64: the register field of ModRM is the control register.
        [0x0f, 0x22, modrm] if modrm >> 3 & 7 == 3 => Event::Reload,
        [0x0f, 0x01, 0xe8] | [0x0f, 0xa2] => Event::Serialize,
        [0xcf] => Event::InterruptReturn,
        [0x0f, 0x07] => Event::CallReturn,
        [0x0f, 0x30] => Event::Ask,
        _ => return None,
    })
}

/// Power ISA Book I to III, by whole words but for `mtspr`'s register.
fn ppc(word: u32) -> Option<Event> {
    const REGISTER: u32 = 31 << 21;
    Some(match word {
        0x7c00_04ac | 0x7c40_04ac => Event::Barrier,
        0x4c00_012c => Event::Serialize,
        0x4c00_0024 => Event::InterruptReturn,
        0x4c00_00a4 => Event::CallReturn,
        0x4400_0022 => Event::Ask,
        // mtspr 48: the number's halves are swapped.
        _ if word & !REGISTER == 0x7c10_0ba6 => Event::Reload,
        _ => return None,
    })
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

    #[test]
    fn x86_events_are_known_by_their_bytes() {
        let event = |bytes: &[u8]| Arch::X86_64.event(bytes);
        // lock or dword ptr [rsp], 0; lock cmpxchg [rdi], rsi; a lock behind another prefix
        assert_eq!(event(&[0xf0, 0x83, 0x0c, 0x24, 0x00]), Some(Event::Barrier));
        assert_eq!(event(&[0xf0, 0x48, 0x0f, 0xb1, 0x37]), Some(Event::Barrier));
        assert_eq!(event(&[0x66, 0xf0, 0xff, 0x07]), Some(Event::Barrier));
        assert_eq!(event(&[0x0f, 0xae, 0xf0]), Some(Event::Barrier));
        assert_eq!(event(&[0x48, 0x87, 0x07]), Some(Event::Barrier), "xchg [rdi], rax");
        assert_eq!(event(&[0x48, 0x87, 0xc7]), None, "xchg rdi, rax");
        assert_eq!(event(&[0x0f, 0xae, 0xe8]), None, "lfence");
        assert_eq!(event(&[0x0f, 0x22, 0xd8]), Some(Event::Reload), "mov cr3, rax");
        assert_eq!(event(&[0x41, 0x0f, 0x22, 0xd8]), Some(Event::Reload), "mov cr3, r8");
        assert_eq!(event(&[0x0f, 0x22, 0xe0]), None, "mov cr4, rax");
        assert_eq!(event(&[0x0f, 0x20, 0xd8]), None, "mov rax, cr3");
        assert_eq!(event(&[0x0f, 0x01, 0xe8]), Some(Event::Serialize));
        assert_eq!(event(&[0x48, 0xcf]), Some(Event::InterruptReturn));
        assert_eq!(event(&[0x48, 0x0f, 0x07]), Some(Event::CallReturn));
        assert_eq!(event(&[0x90]), None);
        assert_eq!(event(&[]), None);
    }

    #[test]
    fn ppc_events_are_known_in_both_byte_orders() {
        for (word, event) in [
            (0x7c00_04ac, Some(Event::Barrier)),
            (0x7c20_04ac, None), // lwsync
            (0x7c40_04ac, Some(Event::Barrier)),
            (0x4c00_012c, Some(Event::Serialize)),
            (0x4c00_0024, Some(Event::InterruptReturn)),
            (0x4c00_00a4, Some(Event::CallReturn)),
            (0x4400_0022, Some(Event::Ask)),
            (0x4400_0002, None),
            (0x7c70_0ba6, Some(Event::Reload)), // mtspr 48, r3
            (0x7c70_0aa6, None),                // mfspr r3, 48
            (0x7c73_43a6, None),                // mtspr 275, r3
        ] {
            let word: u32 = word;
            assert_eq!(Arch::Ppc64le.event(&word.to_le_bytes()), event, "{word:#x}");
            assert_eq!(Arch::Ppc64le.event(&word.to_be_bytes()), event, "{word:#x}");
        }
    }
}
