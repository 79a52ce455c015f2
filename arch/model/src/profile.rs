//! What differs between the machines that the model can be.
//!
//! A profile says what an architecture's instructions do besides their purpose: whether a switch
//! of address spaces happens to fence or to serialize, whether a return to user mode does. Generic
//! code must be right under each, [`Minimal`](Profile::Minimal) included, where nothing is free.

use arch_contract::context::Did;

/// Whose side effects the machine has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Profile {
    /// `mov cr3` fences, serializes and flushes; `sysret` does not serialize (SDM vol. 3 §9.3).
    X86,
    /// As [`X86`](Self::X86), and no return to user mode serializes: FRED's `eretu` does not.
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

/// Whether cached translations carry the id of their address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tags {
    /// They survive a switch.
    Tagged,
    /// A switch flushes them.
    Untagged,
}

impl Profile {
    /// All of them, for tests that run under each.
    pub const ALL: [Self; 6] =
        [Self::X86, Self::X86Fred, Self::Ppc64le, Self::Riscv64, Self::Aarch64, Self::Minimal];

    /// Whether every return to user mode serializes the core.
    pub const fn user_return_serializes(self) -> bool {
        matches!(self, Self::Ppc64le | Self::Aarch64)
    }

    /// Whether a switch that loads tables is a full barrier.
    pub const fn switch_is_barrier(self) -> Did {
        match self {
            Self::X86 | Self::X86Fred => Did::Yes,
            _ => Did::No,
        }
    }

    /// Whether a switch that loads tables serializes the core.
    pub const fn switch_serializes(self) -> Did {
        match self {
            Self::X86 | Self::X86Fred | Self::Ppc64le | Self::Aarch64 => Did::Yes,
            Self::Riscv64 | Self::Minimal => Did::No,
        }
    }

    /// Whether translations are tagged.
    pub const fn tags(self) -> Tags {
        match self {
            Self::X86 => Tags::Untagged,
            _ => Tags::Tagged,
        }
    }
}
