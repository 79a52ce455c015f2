//! One value per CPU.

use arch_contract::Base;
use arch_current::Current;

/// The architecture's half.
pub type ArchCpu = <Current as Base>::Cpu;

/// What the generic kernel keeps per CPU.
pub struct Cpu {
    arch: &'static ArchCpu,
}

impl Cpu {
    /// The value that hooks take.
    pub fn arch(&self) -> &'static ArchCpu {
        self.arch
    }

    /// Serves the requests other CPUs have addressed to this one. Takes no lock.
    pub fn serve(&self) {}
}
