//! The memory that devices reach: translation control entries (PAPR §14.5.4.2).
//!
//! A device's address is looked up in a table that the hypervisor keeps: an IOMMU. It starts out empty, so
//! a device reaches what was mapped for it, and nothing else. All devices of a bridge share the table.

use crate::bridge::DmaWindow;
use crate::bus_space::BusSpace;
use crate::guarded::Guarded;
use crate::hcall::{self, Call, Status};
use crate::spr;
use arch_contract::addr::PAGE_SIZE;
use arch_contract::boot::PhysRange;
use arch_contract::device::BusAddr;

/// Bits of an entry beside the address of its page.
const READ: u64 = 1;
const WRITE: u64 = 2;

/// How often an entry is put before the hypervisor is taken to refuse.
const TRIES: usize = 1 << 16;

/// A bridge's table.
pub struct Tces {
    window: DmaWindow,
    space: Guarded<BusSpace>,
}

impl Tces {
    pub const fn new(window: DmaWindow) -> Self {
        Self { window, space: Guarded::new(BusSpace::new(window.len)) }
    }

    /// Maps `frames`. `None`: there are no addresses left, or the hypervisor does not take an entry.
    pub fn map(&self, frames: PhysRange) -> Option<BusAddr> {
        let offset = self.space.with(|space| space.take(frames.len))?;
        let at = BusAddr(self.window.start + offset);
        // What the device will find there was written before.
        spr::sync();
        for page in (0..frames.len).step_by(PAGE_SIZE as usize) {
            let entry = (frames.start.0 + page) | READ | WRITE;
            if self.put(at.0 + page, entry) != Status::SUCCESS {
                self.clear(at, page);
                self.space.with(|space| space.give(offset, frames.len));
                return None;
            }
        }
        Some(at)
    }

    /// Undoes `map`, of so many bytes: the entries first, then the addresses are given back.
    pub fn unmap(&self, at: BusAddr, len: u64) {
        self.clear(at, len);
        self.space.with(|space| space.give(at.0 - self.window.start, len));
    }

    fn clear(&self, at: BusAddr, len: u64) {
        for page in (0..len).step_by(PAGE_SIZE as usize) {
            // It took an entry at this address before, so it takes one now.
            let _ = self.put(at.0 + page, 0);
        }
    }

    /// H_PUT_TCE: returns when no access by the old entry is under way.
    fn put(&self, bus: u64, entry: u64) -> Status {
        for _ in 0..TRIES {
            // SAFETY: the device reaches the page of an entry from here on: the caller's, who keeps it
            // until it has put a zero there.
            let (status, _) = unsafe { hcall::call(Call::PutTce, [self.window.liobn.into(), bus, entry]) };
            if !status.is_busy() {
                return status;
            }
            spr::pause();
        }
        Status::BUSY
    }
}
