//! Marks: instructions without effect by which a guest says what is to be watched.
//!
//! A window is what lies between its *begin* and its *end*. A window of one CPU is begun and ended
//! on each CPU that takes part, and covers that CPU's instructions in between, whatever else runs
//! there; one of all CPUs covers all of them, from one CPU's begin to some CPU's end.
//!
//! | | mark |
//! | --- | --- |
//! | x86_64 | `nop dword ptr [rax + 0x53500000 + code]`, with the 4-byte offset |
//! | ppc64le | `xori`, `xoris`, `oris` or `addis` of register 16 + window to itself with 0 |
//!
//! where `code` is 4 × window, plus 1 for an end, plus 2 for all CPUs; on ppc64le the four
//! instructions, in that order, are the low two bits of it. No compiler writes either.
//!
//! The last windows are not counted: their marks tell the [rules](crate::rules) what they could not
//! see from instructions alone ([`Watched`]).

use crate::{Arch, words};

/// How many windows there are.
pub const WINDOWS: usize = 16;

/// Whose instructions a window covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    ThisCpu,
    AllCpus,
}

/// Which end of a window a mark is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edge {
    Begin,
    End,
}

/// A mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// Below [`WINDOWS`].
    pub window: u8,
    pub scope: Scope,
    pub edge: Edge,
}

/// What a mark says to the rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Watched {
    /// A user program is about to ask for core serialization in its process.
    AsksForCoreSync,
    /// It was told that this is done.
    WasToldOfCoreSync,
    /// It was refused.
    WasRefusedCoreSync,
    /// A user program is about to call membarrier, with whatever command.
    AsksForBarrier,
    /// The call did what it was asked for.
    WasToldOfBarrier,
    /// A user program is about to unmap what other threads of its process use.
    AsksForUnmapping,
    /// That was done.
    WasToldOfUnmapping,
    /// The kernel is about to store whose user code may run on this CPU, which membarrier samples.
    EntersMm,
    /// The kernel is about to store that nobody's may.
    LeavesMm,
    /// The kernel has stored an entry of ppc64le's process table.
    StoredProcessEntry,
}

impl Mark {
    /// What the rules make of it, if anything.
    pub const fn watched(self) -> Option<Watched> {
        match (self.window, self.scope, self.edge) {
            (15, Scope::ThisCpu, Edge::Begin) => Some(Watched::AsksForCoreSync),
            (15, Scope::ThisCpu, Edge::End) => Some(Watched::WasToldOfCoreSync),
            (15, Scope::AllCpus, Edge::End) => Some(Watched::WasRefusedCoreSync),
            (13, Scope::ThisCpu, Edge::Begin) => Some(Watched::AsksForBarrier),
            (13, Scope::ThisCpu, Edge::End) => Some(Watched::WasToldOfBarrier),
            (13, Scope::AllCpus, Edge::Begin) => Some(Watched::AsksForUnmapping),
            (13, Scope::AllCpus, Edge::End) => Some(Watched::WasToldOfUnmapping),
            (14, Scope::ThisCpu, Edge::Begin) => Some(Watched::EntersMm),
            (14, Scope::AllCpus, Edge::Begin) => Some(Watched::StoredProcessEntry),
            (14, Scope::ThisCpu, Edge::End) => Some(Watched::LeavesMm),
            _ => None,
        }
    }

    /// The mark with this code, the inverse of [`code`](Self::code). `None` for what is no code.
    pub const fn from_code(code: u32) -> Option<Self> {
        if code >= 4 * WINDOWS as u32 {
            return None;
        }
        let scope = if code & 2 == 0 { Scope::ThisCpu } else { Scope::AllCpus };
        let edge = if code & 1 == 0 { Edge::Begin } else { Edge::End };
        Some(Self { window: (code >> 2) as u8, scope, edge })
    }

    /// Its number, below 4 × [`WINDOWS`].
    pub const fn code(self) -> u32 {
        self.window as u32 * 4 + self.edge as u32 + 2 * self.scope as u32
    }

    /// The mark that these bytes are, if they are one.
    pub fn of(arch: Arch, bytes: &[u8]) -> Option<Self> {
        match arch {
            Arch::X86_64 => {
                // 0f 1f /0 with a 32-bit displacement from rax: ModRM 80 (SDM vol. 2, NOP).
                let [0x0f, 0x1f, 0x80, offset @ ..] = bytes else { return None };
                let offset = u32::from_le_bytes(offset.try_into().ok()?);
                Self::from_code(offset.checked_sub(0x5350_0000)?)
            }
            Arch::Ppc64le => words(bytes).into_iter().find_map(|word| {
                // D-form: opcode, source, target, 16-bit immediate (Power ISA Book I §3.3.13).
                let edge_and_scope = match word >> 26 {
                    26 => 0,
                    27 => 1,
                    25 => 2,
                    15 => 3,
                    _ => return None,
                };
                let (one, other) = (word >> 21 & 31, word >> 16 & 31);
                (one == other && one >= 16 && word & 0xffff == 0)
                    .then(|| Self::from_code((one - 16) * 4 + edge_and_scope))?
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        for code in 0..4 * WINDOWS as u32 {
            assert_eq!(Mark::from_code(code).unwrap().code(), code);
        }
        assert_eq!(Mark::from_code(64), None);
    }

    #[test]
    fn marks_are_known_by_their_bytes() {
        let x86 = |offset: u32| {
            let mut bytes = vec![0x0f, 0x1f, 0x80];
            bytes.extend(offset.to_le_bytes());
            Mark::of(Arch::X86_64, &bytes)
        };
        assert_eq!(x86(0x5350_0007), Mark::from_code(7));
        assert_eq!(x86(0x5350_0040), None);
        assert_eq!(x86(0), None, "the ordinary seven-byte nop");
        let ppc = |word: u32| Mark::of(Arch::Ppc64le, &word.to_le_bytes());
        // xori r17,r17,0; xoris; oris; addis
        assert_eq!(ppc(0x6a31_0000), Mark::from_code(4));
        assert_eq!(ppc(0x6e31_0000), Mark::from_code(5));
        assert_eq!(ppc(0x6631_0000), Mark::from_code(6));
        assert_eq!(ppc(0x3e31_0000), Mark::from_code(7));
        assert_eq!(Mark::of(Arch::Ppc64le, &0x6a31_0000u32.to_be_bytes()), Mark::from_code(4));
        assert_eq!(ppc(0x6000_0000), None, "nop");
        assert_eq!(ppc(0x6800_0000), None, "xnop");
        assert_eq!(ppc(0x6a30_0000), None, "two registers");
        assert_eq!(ppc(0x6a31_0001), None, "an effect");
    }
}
