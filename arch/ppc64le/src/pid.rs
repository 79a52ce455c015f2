//! Process identifiers: what tags translations of an address space, and indexes its entry in the
//! process table.
//!
//! PID 0 is the kernel's: quadrant 3 is always translated through its entry. PID 1 names an empty
//! tree and is what a CPU holds that runs no user, so that the low quadrant never reaches the
//! kernel's own tables. Address spaces get the rest.

use arch_contract::context::HardwareId;

/// log2 of the process table's entries. A table of 64 KiB.
pub const TABLE_BITS: u32 = 12;
/// The ids that address spaces may have.
pub const FIRST_USER: u32 = 2;
pub const USERS: u32 = (1 << TABLE_BITS) - FIRST_USER;

/// An index into the process table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pid(u16);

impl Pid {
    /// The kernel's own, quadrant 3.
    pub const KERNEL: Self = Self(0);
    /// No user address space at all.
    pub const EMPTY: Self = Self(1);

    /// The PID that generic code chose: one of [`FIRST_USER`] and up.
    pub const fn of(hardware: HardwareId) -> Self {
        assert!(hardware.0 >= FIRST_USER && hardware.0 < FIRST_USER + USERS);
        Self(hardware.0 as u16)
    }

    pub const fn get(self) -> u64 {
        self.0 as u64
    }
}
