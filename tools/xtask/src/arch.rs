//! The machines Spandrel boots on, and what the tools must know to build for one.

use clap::ValueEnum;
use serde::Deserialize;
use std::fmt;

/// A machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, ValueEnum, Deserialize)]
pub enum Arch {
    #[value(name = "x86_64")]
    #[serde(rename = "x86_64")]
    X86_64,
    #[value(name = "ppc64le")]
    #[serde(rename = "ppc64le")]
    Ppc64le,
}

impl Arch {
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Ppc64le];

    /// Its name, as in folders, options and `--cfg spandrel_arch`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Ppc64le => "ppc64le",
        }
    }
    /// The other one: for files that are not for this machine.
    pub const fn other(self) -> Self {
        match self {
            Self::X86_64 => Self::Ppc64le,
            Self::Ppc64le => Self::X86_64,
        }
    }
    /// The package whose binary is the kernel.
    pub const fn kernel_package(self) -> &'static str {
        match self {
            Self::X86_64 => "boot_x86_64",
            Self::Ppc64le => "boot_ppc64le",
        }
    }
    /// What cargo is told to build the kernel for: a built-in target or a file in the tree.
    pub const fn kernel_target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-none",
            Self::Ppc64le => "boot/ppc64le/ppc64le-spandrel.json",
        }
    }
    /// The same for user programs, which are built with vector instructions on.
    pub const fn user_target(self) -> &'static str {
        match self {
            Self::X86_64 => "boot/user/x86_64-user.json",
            Self::Ppc64le => "boot/user/ppc64le-user.json",
        }
    }
    /// The QEMU that has the machine.
    pub const fn qemu(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86_64",
            Self::Ppc64le => "qemu-system-ppc64",
        }
    }
    /// `e_machine` of its ELF files.
    pub const fn elf_machine(self) -> u16 {
        match self {
            Self::X86_64 => 62,
            Self::Ppc64le => 21,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which machines a subcommand covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Machines {
    #[value(name = "x86_64")]
    X86_64,
    #[value(name = "ppc64le")]
    Ppc64le,
    #[value(name = "all")]
    All,
}

impl Machines {
    pub fn list(self) -> &'static [Arch] {
        match self {
            Self::X86_64 => &[Arch::X86_64],
            Self::Ppc64le => &[Arch::Ppc64le],
            Self::All => &Arch::ALL,
        }
    }
}
