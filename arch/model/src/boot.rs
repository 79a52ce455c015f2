//! What the boot log says.

use crate::{Machine, Model};
use arch_contract::boot::Boot;

impl Boot for Model {
    /// A number that the ELF registry has given to nobody.
    const ELF_MACHINE: u16 = 0x5350;

    fn describe(machine: &Machine, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        let config = machine.config();
        write!(out, "simulated {:?}, {} CPUs", config.profile, config.cpus)
    }
}
