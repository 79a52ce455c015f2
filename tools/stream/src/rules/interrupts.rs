//! Interrupts to other CPUs: what must come before the instruction that sends one.

use super::{Broken, Cpu, INTERRUPT_ORDERED};
use crate::{Arch, Instruction};
use Instruction::{Lfence, Mfence, Ptesync, Sync};

/// How an interrupt is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// A store to a device.
    Store,
    /// An instruction: a write of a model-specific register, a hypervisor call.
    Instruction,
}

/// A CPU sends an interrupt. On x86_64 a store to uncached memory comes after all stores before it,
/// and a `wrmsr` to an x2APIC register behind `mfence` and `lfence` only (SDM vol. 3 §11.12.3); Power
/// orders neither a store to a device nor a hypervisor call with stores to memory (Power ISA Book II
/// §1.7.1).
pub fn sends(arch: Arch, by: By, cpu: &Cpu, broken: &mut Vec<Broken>) {
    let last = cpu.last.map(|(instruction, _)| instruction);
    let (ordered, wanted) = match (arch, by) {
        (Arch::X86_64, By::Store) => return,
        (Arch::X86_64, By::Instruction) => {
            (last == Some(Lfence) && cpu.before_last == Some(Mfence), "mfence; lfence")
        }
        (Arch::Ppc64le, _) => (matches!(last, Some(Sync | Ptesync)), "sync"),
    };
    if !ordered {
        let found = last.map_or("nothing", Instruction::name);
        broken.push((INTERRUPT_ORDERED, format!("{found} instead of {wanted} before it")));
    }
}
