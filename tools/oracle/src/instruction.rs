//! What is counted of the instructions that the contracts speak of.

use stream::Instruction;

/// A kind of instruction.
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

    /// What counts an instruction, if anything.
    pub const fn of(instruction: Instruction) -> Option<Self> {
        Some(match instruction {
            _ if instruction.loads_address_space() => Self::Reload,
            _ if instruction.is_full_barrier() => Self::Barrier,
            Instruction::Serialize | Instruction::Cpuid | Instruction::Isync => Self::Serialize,
            Instruction::Iretq | Instruction::Iretd | Instruction::Rfid => Self::InterruptReturn,
            Instruction::Sysretq | Instruction::Sysretl | Instruction::Rfscv => Self::CallReturn,
            Instruction::Wrmsr | Instruction::Hcall => Self::Ask,
            _ => return None,
        })
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn light_barriers_are_not_counted() {
        assert_eq!(Event::of(Instruction::Ptesync), Some(Event::Barrier));
        assert_eq!(Event::of(Instruction::Lwsync), None);
        assert_eq!(Event::of(Instruction::Lfence), None);
        assert_eq!(Event::of(Instruction::MtAmr), None);
    }
}
