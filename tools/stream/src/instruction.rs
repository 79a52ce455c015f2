//! Which instructions matter, by their bytes.
//!
//! Bytes rather than a disassembler's words: those change between versions. One list for both
//! machines, so that whoever reads a stream or an image has one set of names.

/// The machine being watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arch {
    X86_64,
    Ppc64le,
}

macro_rules! instructions {
    ($($name:ident $text:literal;)*) => {
        /// An instruction that a contract, or a ledger, speaks of.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Instruction { $(#[doc = $text] $name),* }

        impl Instruction {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name in tables and reports.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

instructions! {
    // x86_64
    Locked "lock";
    Mfence "mfence";
    Lfence "lfence";
    Sfence "sfence";
    Serialize "serialize";
    Cpuid "cpuid";
    Iretq "iretq";
    Iretd "iretd";
    Sysretq "sysretq";
    Sysretl "sysretl";
    Sysexit "sysexit";
    MovToCr0 "mov cr0";
    MovToCr3 "mov cr3";
    MovToCr4 "mov cr4";
    Clts "clts";
    Wrmsr "wrmsr";
    Xsetbv "xsetbv";
    Invlpg "invlpg";
    Invpcid "invpcid";
    Sti "sti";
    Cli "cli";
    Popf "popfq";
    Hlt "hlt";
    Swapgs "swapgs";
    Stac "stac";
    Clac "clac";
    Syscall "syscall";
    Rdtsc "rdtsc";
    // ppc64le
    Sync "sync";
    Lwsync "lwsync";
    Ptesync "ptesync";
    Eieio "eieio";
    Isync "isync";
    Rfid "rfid";
    Hrfid "hrfid";
    Rfscv "rfscv";
    Rfebb "rfebb";
    Sc "sc";
    Hcall "sc 1";
    Scv "scv";
    Mtmsrd "mtmsrd";
    MtPidr "mtspr pidr";
    MtAmr "mtspr amr";
    MtIamr "mtspr iamr";
    MtUamor "mtspr uamor";
    Tlbie "tlbie";
    TlbieAll "tlbie ric=2";
    TlbieOther "tlbie, another form";
    Tlbiel "tlbiel";
    TlbielAll "tlbiel ric=2";
    TlbielOther "tlbiel, another form";
    Tlbsync "tlbsync";
    Slbia "slbia";
    Dcbst "dcbst";
    Icbi "icbi";
    Larx "larx";
    Stcx "stcx.";
}

impl Instruction {
    /// By its number in a record.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// By its name in a table.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|instruction| instruction.name() == name)
    }

    /// Orders stores before it with loads after it: SDM vol. 3 §9.2.2 and §9.2.5; Power ISA Book II
    /// §4.6.3. `lwsync` and `eieio` do not.
    pub const fn is_full_barrier(self) -> bool {
        matches!(self, Self::Locked | Self::Mfence | Self::Sync | Self::Ptesync)
    }

    /// Makes the core forget what it fetched before: SDM vol. 3 §9.3; Power ISA Book III, context
    /// synchronizing instructions. Not `wrmsr`, which serializes for some registers only.
    pub const fn serializes(self) -> bool {
        let x86 = matches!(self, Self::Serialize | Self::Cpuid | Self::Iretq | Self::Iretd)
            || matches!(
                self,
                Self::MovToCr0 | Self::MovToCr3 | Self::MovToCr4 | Self::Invlpg | Self::Invpcid
            );
        x86 || matches!(self, Self::Isync | Self::Rfid | Self::Hrfid | Self::Rfscv)
    }

    /// Forgets translations, on its own CPU at least. A load of an address space may keep some.
    pub const fn forgets_translations(self) -> bool {
        let x86 = matches!(self, Self::Invlpg | Self::Invpcid | Self::MovToCr3 | Self::MovToCr4);
        x86 || matches!(self, Self::Tlbiel | Self::TlbielAll)
    }

    /// Loads an address space.
    pub const fn loads_address_space(self) -> bool {
        matches!(self, Self::MovToCr3 | Self::MtPidr)
    }

    /// May lead to user mode.
    pub const fn is_return(self) -> bool {
        let x86 = matches!(self, Self::Iretq | Self::Iretd | Self::Sysretq | Self::Sysretl | Self::Sysexit);
        x86 || matches!(self, Self::Rfid | Self::Hrfid | Self::Rfscv | Self::Rfebb)
    }

    /// Asks for a system call.
    pub const fn is_call(self) -> bool {
        matches!(self, Self::Syscall | Self::Sc | Self::Scv)
    }
}

/// An instruction word of ppc64le. QEMU hands out the bytes in the order of its own build, so it is
/// read in both; no word that is looked for here is another one backwards.
pub fn words(bytes: &[u8]) -> [u32; 2] {
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

    /// What the instruction with these bytes, as they lie in memory, is to the contracts, if
    /// anything.
    pub fn instruction(self, bytes: &[u8]) -> Option<Instruction> {
        match self {
            Self::X86_64 => x86(bytes),
            Self::Ppc64le => words(bytes).into_iter().find_map(ppc),
        }
    }
}

impl Arch {
    /// Where the kernel's address `at` lies in physical memory.
    pub const fn physical(self, at: u64) -> u64 {
        match self {
            Self::X86_64 if at >= 0xffff_ffff_8000_0000 => at - 0xffff_ffff_8000_0000,
            Self::X86_64 | Self::Ppc64le => at - self.kernel_from(),
        }
    }

    /// Whether a store to this physical address of a device interrupts a CPU: the interrupt command
    /// register of a memory-mapped local APIC (SDM vol. 3 §11.6.1); what triggers an interrupt source
    /// of XIVE, the lowest part of a page of 64 KiB, where QEMU's pseries has those pages.
    pub const fn interrupts_a_cpu(self, at: u64) -> bool {
        match self {
            Self::X86_64 => at == 0xfee0_0300,
            Self::Ppc64le => at >> 32 == 0x6_0100 && at & 0xffff < 0x400,
        }
    }
}

impl Arch {
    /// What an instruction word of ppc64le is.
    pub fn word(self, word: u32) -> Option<Instruction> {
        match self {
            Self::X86_64 => None,
            Self::Ppc64le => ppc(word),
        }
    }
}

/// SDM vol. 2: legacy prefixes, REX, opcode, ModRM.
fn x86(bytes: &[u8]) -> Option<Instruction> {
    use Instruction::*;
    let is_prefix = |byte: &u8| {
        matches!(byte, 0xf0 | 0xf2 | 0xf3 | 0x66 | 0x67 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65)
    };
    let prefixes = bytes.iter().take_while(|byte| is_prefix(byte)).count();
    let (prefixes, rest) = bytes.split_at(prefixes);
    if prefixes.contains(&0xf0) {
        return Some(Locked);
    }
    let (wide, rest) = match rest {
        [rex @ 0x40..=0x4f, rest @ ..] => (rex & 8 != 0, rest),
        rest => (false, rest),
    };
    Some(match *rest {
        // xchg with memory locks by itself.
        [0x86 | 0x87, modrm, ..] if modrm < 0xc0 => Locked,
        [0x0f, 0xae, 0xf0] => Mfence,
        [0x0f, 0xae, 0xe8] => Lfence,
        [0x0f, 0xae, 0xf8] => Sfence,
        // The register field of ModRM is the control register.
        [0x0f, 0x22, modrm] if modrm >> 3 & 7 == 0 => MovToCr0,
        [0x0f, 0x22, modrm] if modrm >> 3 & 7 == 3 => MovToCr3,
        [0x0f, 0x22, modrm] if modrm >> 3 & 7 == 4 => MovToCr4,
        [0x0f, 0x01, 0xe8] => Serialize,
        [0x0f, 0x01, 0xd1] => Xsetbv,
        [0x0f, 0x01, 0xf8] => Swapgs,
        [0x0f, 0x01, 0xca] => Clac,
        [0x0f, 0x01, 0xcb] => Stac,
        [0x0f, 0x01, modrm, ..] if modrm < 0xc0 && modrm >> 3 & 7 == 7 => Invlpg,
        [0x0f, 0x38, 0x82, ..] if prefixes.contains(&0x66) => Invpcid,
        [0x0f, 0x06] => Clts,
        [0x0f, 0xa2] => Cpuid,
        [0xcf] if wide => Iretq,
        [0xcf] => Iretd,
        [0x0f, 0x05] => Syscall,
        [0x0f, 0x31] => Rdtsc,
        [0x0f, 0x07] if wide => Sysretq,
        [0x0f, 0x07] => Sysretl,
        [0x0f, 0x35] => Sysexit,
        [0x0f, 0x30] => Wrmsr,
        [0xfb] => Sti,
        [0xfa] => Cli,
        [0x9d] => Popf,
        [0xf4] => Hlt,
        _ => return None,
    })
}

/// Power ISA Book I to III: by whole words where nothing varies, by opcode where operands do.
fn ppc(word: u32) -> Option<Instruction> {
    use Instruction::*;
    const REGISTER: u32 = 31 << 21;
    Some(match word {
        0x7c00_04ac => Sync,
        0x7c20_04ac => Lwsync,
        0x7c40_04ac => Ptesync,
        0x7c00_06ac => Eieio,
        0x7c00_046c => Tlbsync,
        0x4c00_012c => Isync,
        0x4c00_0024 => Rfid,
        0x4c00_0224 => Hrfid,
        0x4c00_00a4 => Rfscv,
        0x4c00_0124 => Rfebb,
        0x4400_0002 => Sc,
        0x4400_0022 => Hcall,
        // mtspr: the halves of the register's number are swapped.
        _ if word & !REGISTER == mtspr(48) => MtPidr,
        _ if word & !REGISTER == mtspr(29) => MtAmr,
        _ if word & !REGISTER == mtspr(61) => MtIamr,
        _ if word & !REGISTER == mtspr(157) => MtUamor,
        _ if word & 0xffff_f01f == 0x4400_0001 => Scv,
        _ if word >> 26 == 31 => match word >> 1 & 0x3ff {
            178 => Mtmsrd,
            306 => [Tlbie, TlbieAll, TlbieOther][form(word)],
            274 => [Tlbiel, TlbielAll, TlbielOther][form(word)],
            498 => Slbia,
            54 => Dcbst,
            982 => Icbi,
            // lbarx, lharx, lwarx, ldarx
            52 | 116 | 20 | 84 => Larx,
            // stbcx., sthcx., stwcx., stdcx.
            694 | 726 | 150 | 214 if word & 1 == 1 => Stcx,
            _ => return None,
        },
        _ => return None,
    })
}

/// Which form of `tlbie` or `tlbiel` a word is: 0, of translations of a process (RIC=0, PRS=1, R=1); 1,
/// of all that is cached of it (RIC=2); 2, another (Power ISA 3.0B Book III §5.9.3.2).
const fn form(word: u32) -> usize {
    match word >> 16 & 0xf {
        0b0011 => 0,
        0b1011 => 1,
        _ => 2,
    }
}

/// `mtspr spr, r0`: Power ISA Book I §3.3.17.
const fn mtspr(spr: u32) -> u32 {
    0x7c00_03a6 | (spr & 31) << 16 | (spr >> 5) << 11
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back() {
        for (number, &instruction) in Instruction::ALL.iter().enumerate() {
            assert_eq!(Instruction::from_number(number as u8), Some(instruction));
            assert_eq!(Instruction::from_name(instruction.name()), Some(instruction));
        }
    }

    #[test]
    fn x86_instructions_are_known_by_their_bytes() {
        use Instruction::*;
        let cases: [(&[u8], Option<Instruction>); 35] = [
            (&[0xf0, 0x83, 0x0c, 0x24, 0x00], Some(Locked)), // lock or dword ptr [rsp], 0
            (&[0xf0, 0x48, 0x0f, 0xb1, 0x37], Some(Locked)), // lock cmpxchg [rdi], rsi
            (&[0x66, 0xf0, 0xff, 0x07], Some(Locked)),
            (&[0x48, 0x87, 0x07], Some(Locked)), // xchg [rdi], rax
            (&[0x48, 0x87, 0xc7], None),         // xchg rdi, rax
            (&[0x0f, 0xae, 0xf0], Some(Mfence)),
            (&[0x0f, 0xae, 0xe8], Some(Lfence)),
            (&[0x0f, 0x22, 0xd8], Some(MovToCr3)),
            (&[0x41, 0x0f, 0x22, 0xd8], Some(MovToCr3)), // from r8
            (&[0x0f, 0x22, 0xe0], Some(MovToCr4)),
            (&[0x44, 0x0f, 0x22, 0xc0], Some(MovToCr0)),
            (&[0x0f, 0x20, 0xd8], None), // mov rax, cr3
            (&[0x0f, 0x01, 0xe8], Some(Serialize)),
            (&[0x0f, 0x01, 0x38], Some(Invlpg)), // invlpg [rax]
            (&[0x0f, 0x01, 0x10], None),         // lgdt [rax]
            (&[0x0f, 0x01, 0xf8], Some(Swapgs)),
            (&[0x66, 0x0f, 0x38, 0x82, 0x0e], Some(Invpcid)),
            (&[0x48, 0xcf], Some(Iretq)),
            (&[0xcf], Some(Iretd)),
            (&[0x48, 0x0f, 0x07], Some(Sysretq)),
            (&[0x0f, 0x07], Some(Sysretl)),
            (&[0x0f, 0x35], Some(Sysexit)),
            (&[0x0f, 0x05], Some(Syscall)),
            (&[0x0f, 0x05, 0x00], None),
            (&[0x0f, 0x30], Some(Wrmsr)),
            (&[0x0f, 0xa2], Some(Cpuid)),
            (&[0xfb], Some(Sti)),
            (&[0xfa], Some(Cli)),
            (&[0x9d], Some(Popf)),
            (&[0xf4], Some(Hlt)),
            (&[0x0f, 0x01, 0xcb], Some(Stac)),
            (&[0x0f, 0x31], Some(Rdtsc)),
            (&[0x90], None),
            (&[0x0f, 0x0b], None),
            (&[], None),
        ];
        for (bytes, instruction) in cases {
            assert_eq!(Arch::X86_64.instruction(bytes), instruction, "{bytes:02x?}");
        }
    }

    #[test]
    fn ppc_instructions_are_known_in_both_byte_orders() {
        use Instruction::*;
        for (word, instruction) in [
            (0x7c00_04acu32, Some(Sync)),
            (0x7c20_04ac, Some(Lwsync)),
            (0x7c40_04ac, Some(Ptesync)),
            (0x7c00_06ac, Some(Eieio)),
            (0x7c00_046c, Some(Tlbsync)),
            (0x4c00_012c, Some(Isync)),
            (0x4c00_0024, Some(Rfid)),
            (0x4c00_0224, Some(Hrfid)),
            (0x4c00_00a4, Some(Rfscv)),
            (0x4400_0002, Some(Sc)),
            (0x4400_0001, Some(Scv)),
            (0x4400_0022, Some(Hcall)),
            (0x7c70_0ba6, Some(MtPidr)), // mtspr 48, r3
            (0x7c70_0aa6, None),         // mfspr r3, 48
            (0x7c73_43a6, None),         // mtspr 275, r3
            (0x7c7d_03a6, Some(MtAmr)),
            (0x7c7d_0ba6, Some(MtIamr)),
            (0x7c81_0164, Some(Mtmsrd)), // mtmsrd r4, 1
            (0x7c9d_23a6, Some(MtUamor)),
            (0x7c83_1a64, Some(Tlbie)),    // tlbie r3, r4, 0, 1, 1
            (0x7c8b_1a64, Some(TlbieAll)), // tlbie r3, r4, 2, 1, 1
            (0x7c80_1a64, Some(TlbieOther)),
            (0x7c83_1a24, Some(Tlbiel)),
            (0x7c8b_1a24, Some(TlbielAll)),
            (0x7c89_1a24, Some(TlbielOther)), // not process-scoped
            (0x7c00_186c, Some(Dcbst)),
            (0x7c00_1fac, Some(Icbi)),
            (0x7c60_20a8, Some(Larx)), // ldarx r3, 0, r4
            (0x7c80_29ad, Some(Stcx)), // stdcx. r4, 0, r5
            (0x7c63_1a14, None),       // add r3, r3, r3
            (0x6000_0000, None),
        ] {
            assert_eq!(Arch::Ppc64le.instruction(&word.to_le_bytes()), instruction, "{word:#x}");
            assert_eq!(Arch::Ppc64le.instruction(&word.to_be_bytes()), instruction, "{word:#x}");
        }
        assert_eq!(Arch::Ppc64le.instruction(&[0x44]), None);
    }
}
