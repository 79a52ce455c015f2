//! The memory that devices reach: translation control entries (PAPR §14.5.4.2).
//!
//! A device's address is looked up in a table that the hypervisor keeps: an IOMMU. It starts out empty, so
//! a device reaches what was mapped for it, and nothing else. All devices of a bridge share the table.
//!
//! Entries are put and taken up to 512 at a time, which a hypervisor need not offer (*hcall-multi-tce*);
//! under one that does not, no device reaches memory.

use crate::bridge::DmaWindow;
use crate::bus_space::{AT_ONCE, BusSpace, Refused, Table};
use crate::cpu::PHYSICAL_MAP;
use crate::guarded::Guarded;
use crate::hcall::{self, Call, Status};
use crate::spr;
use arch_contract::addr::PAGE_SIZE;
use arch_contract::boot::PhysRange;
use arch_contract::device::{BusAddr, NotMapped, StillMapped};

/// Bits of an entry beside the address of its page.
const READ: u64 = 1;
const WRITE: u64 = 2;

/// How often a call is made before the hypervisor is taken to refuse.
const TRIES: usize = 1 << 16;

/// Entries for one call, big-endian, in a page as the hypervisor wants them.
#[repr(C, align(4096))]
struct List([u64; AT_ONCE]);

static LIST: Guarded<List> = Guarded::new(List([0; AT_ONCE]));

/// A bridge's table.
pub struct Tces {
    window: DmaWindow,
    space: Guarded<BusSpace>,
}

impl Tces {
    pub const fn new(window: DmaWindow) -> Self {
        Self { window, space: Guarded::new(BusSpace::new(window.len)) }
    }

    /// Maps `frames`.
    pub fn map(&self, frames: PhysRange) -> Result<BusAddr, NotMapped> {
        // What the device will find there was written before.
        spr::sync();
        let offset = self.space.with(|space| space.enter(&mut Calls(self.window), frames))?;
        Ok(BusAddr(self.window.start + offset))
    }

    /// Undoes `map`, of so many bytes: the entries first, then the addresses are given back.
    pub fn unmap(&self, at: BusAddr, len: u64) -> Result<(), StillMapped> {
        self.space.with(|space| space.take_out(&mut Calls(self.window), at.0 - self.window.start, len))
    }
}

/// The calls that change a window's table.
struct Calls(DmaWindow);

impl Calls {
    /// # Safety
    /// As [`hcall::call`].
    unsafe fn make(&self, call: Call, offset: u64, what: u64, count: usize) -> Result<(), Refused> {
        let arguments = [self.0.liobn.into(), self.0.start + offset, what, count as u64];
        // SAFETY: the caller's.
        match unsafe { patiently(call, arguments) } {
            Status::SUCCESS => Ok(()),
            _ => Err(Refused),
        }
    }
}

impl Table for Calls {
    /// H_PUT_TCE_INDIRECT.
    fn put(&mut self, offset: u64, start: u64, count: usize) -> Result<(), Refused> {
        LIST.with(|list| {
            let pages = (start..).step_by(PAGE_SIZE as usize);
            for (slot, page) in list.0.iter_mut().zip(pages).take(count) {
                *slot = (page | READ | WRITE).to_be();
            }
            let list = core::ptr::from_ref(list).expose_provenance() as u64 & !PHYSICAL_MAP;
            // SAFETY: the device reaches the pages of the entries from here on: the caller's, who keeps
            // them until they were taken out. The list is only read.
            unsafe { self.make(Call::PutTceIndirect, offset, list, count) }
        })
    }

    /// H_STUFF_TCE, with no entries. Returns when no access by the old ones is under way.
    fn clear(&mut self, offset: u64, count: usize) -> Result<(), Refused> {
        // SAFETY: it takes pages out of the device's reach.
        unsafe { self.make(Call::StuffTce, offset, 0, count) }
    }
}

/// Makes a call until the hypervisor is not busy.
///
/// # Safety
/// As [`hcall::call`].
unsafe fn patiently(call: Call, arguments: [u64; 4]) -> Status {
    for _ in 0..TRIES {
        // SAFETY: the caller's.
        let (status, _) = unsafe { hcall::call(call, arguments) };
        if !status.is_busy() {
            return status;
        }
        spr::pause();
    }
    Status::BUSY
}
