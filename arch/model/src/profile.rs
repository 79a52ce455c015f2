//! What differs between the machines that the model can be.
//!
//! A profile says what an architecture's instructions do besides their purpose: whether a switch
//! of address spaces happens to serialize, whether a return to user mode does. Generic
//! code must be right under each, [`Minimal`](Profile::Minimal) included, where nothing is free.

use arch_contract::context::{Did, Tags};

/// Whose side effects the machine has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Profile {
    /// `mov cr3` serializes and, without PCIDs, flushes; `sysret` does not serialize (SDM vol. 3
    /// §9.3).
    X86,
    /// As [`X86`](Self::X86) with PCIDs, and no return to user mode serializes: FRED's `eretu` does
    /// not.
    X86Fred,
    /// `mtspr PID; isync`: context synchronizing, no barrier (Power ISA Book III §1.5). Every
    /// return is `rfid` or `rfscv`, and synchronizes.
    Ppc64le,
    /// A write of `satp` neither fences nor orders fetches; `sret` does not either.
    Riscv64,
    /// A write of `TTBR0_EL1` with `isb`: synchronizes, no barrier; `eret` synchronizes.
    Aarch64,
    /// Nothing has a useful side effect.
    #[default]
    Minimal,
}

impl Profile {
    /// All of them, for tests that run under each.
    pub const ALL: [Self; 6] =
        [Self::X86, Self::X86Fred, Self::Ppc64le, Self::Riscv64, Self::Aarch64, Self::Minimal];

    /// Whether every return to user mode serializes the core.
    pub const fn user_return_serializes(self) -> bool {
        matches!(self, Self::Ppc64le | Self::Aarch64)
    }

    /// Whether a switch that loads tables serializes the core.
    pub const fn switch_serializes(self) -> Did {
        match self {
            Self::X86 | Self::X86Fred | Self::Ppc64le | Self::Aarch64 => Did::Yes,
            Self::Riscv64 | Self::Minimal => Did::No,
        }
    }

    /// How translations are told apart, where there are `ids` numbers.
    pub const fn tags(self, ids: u16) -> Tags {
        match self {
            Self::X86 => Tags::PerCpu { slots: 1 },
            Self::X86Fred => Tags::PerCpu { slots: ids },
            _ => Tags::Global { first: 1, count: ids as u32 },
        }
    }

    /// Whether one CPU can invalidate translations on all.
    pub const fn broadcasts(self) -> bool {
        matches!(self, Self::Ppc64le | Self::Aarch64)
    }
}
