//! Barriers on the other CPUs. What each command does is said at [`Command`].

use crate::call::plain;
use abi::membarrier::FLAG_CPU;
use abi::{Call, Error};

pub use abi::membarrier::Command;

/// Does `command`. The value is a set of commands for [`Command::Query`] and
/// [`Command::GetRegistrations`], else 0. Errors: `BadArgument`, `NotRegistered`.
pub fn membarrier(command: Command) -> Result<u64, Error> {
    raw(command as u64, 0, 0)
}

/// [`Command::PrivateExpeditedRseq`] on one CPU.
pub fn restart_sequences_on(cpu: u32) -> Result<(), Error> {
    raw(Command::PrivateExpeditedRseq as u64, FLAG_CPU, cpu.into()).map(|_| ())
}

/// Makes the call with any numbers.
pub fn raw(command: u64, flags: u64, cpu: u64) -> Result<u64, Error> {
    plain(Call::Membarrier, [command, flags, cpu])
}
