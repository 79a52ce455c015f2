//! The machine: its CPUs, and turning it off.

use crate::call::{plain, word};
use crate::cpus::CpuSet;
use crate::object::{Kind, Object};
use abi::{Call, CpusThat, Error, initial};

/// The machine as an object.
#[derive(Debug)]
pub enum MachineKind {}
impl Kind for MachineKind {}
/// A handle on it.
pub type Machine = Object<MachineKind>;

/// What this program's maker granted it as a machine.
pub static MACHINE: Machine = Machine::from_handle(initial::MACHINE);

/// What a CPU is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Power {
    Off = 0,
    On = 1,
}

impl Machine {
    /// Ends the machine. Needs `MANAGE`. Comes back only on an error.
    pub fn power_off(&self, status: u8) -> Error {
        match plain(Call::PowerOff, [word(self.handle()), status.into()]) {
            Ok(_) => Error::NotSupported,
            Err(error) => error,
        }
    }

    /// The CPUs that are on. Needs `READ`.
    pub fn cpus(&self) -> Result<CpuSet, Error> {
        plain(Call::Cpus, [word(self.handle()), CpusThat::AreOn as u64]).map(CpuSet)
    }

    /// The CPUs that the machine has, on or off. Needs `READ`.
    pub fn all_cpus(&self) -> Result<CpuSet, Error> {
        plain(Call::Cpus, [word(self.handle()), CpusThat::Exist as u64]).map(CpuSet)
    }

    /// Turns on every CPU that can be, and returns which are on. After a start of the machine CPUs come when they
    /// come: who needs all of them waits here. Needs `MANAGE`.
    pub fn turn_all_on(&self) -> Result<CpuSet, Error> {
        for cpu in self.all_cpus()?.iter() {
            match self.set_power(cpu, Power::On) {
                Ok(()) | Err(Error::NotSupported) => {}
                Err(error) => return Err(error),
            }
        }
        self.cpus()
    }

    /// Turns a CPU on or off, and returns when it is. Needs `MANAGE`. Errors: `BadArgument` (there
    /// is none, it is CPU 0, or a thread may run nowhere else), `NotSupported`.
    pub fn set_power(&self, cpu: u32, power: Power) -> Result<(), Error> {
        plain(Call::CpuPower, [word(self.handle()), cpu.into(), power as u64]).map(|_| ())
    }

    /// Waits until every process that has ended is taken apart. Needs `MANAGE`.
    pub fn quiesce(&self) -> Result<(), Error> {
        plain(Call::Quiesce, [word(self.handle())]).map(|_| ())
    }
}
