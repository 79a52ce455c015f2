//! Memory that a function reaches.
//!
//! One block of frames, which are next to each other. Two refer to it: the memory object that programs map,
//! and the function, which lets go when it has been reset ([`function`](super::function)). The frames go
//! back to whoever paid for them when both have; unless the machine refuses to take them out of the function's
//! reach: then they stay charged, and are lost.

use crate::mm::budget::Budget;
use crate::mm::frames::{Block, Order};
use crate::mm::heap::Charged;
use crate::mm::memory::Memory;
use crate::mm::space::Progress;
use crate::mm::{Machine, NoMemory};
use crate::object::Ref;
use crate::sync::Leaf;
use arch_contract::addr::{PAGE_SIZE, PhysAddr};
use arch_contract::boot::PhysRange;
use arch_contract::device::{BusAddr, Devices, Function as Place, NotMapped, StillMapped};
use arch_contract::irq::IrqsOff;
use arch_contract::pte::Paging;
use arch_current::Current;

/// See the module.
pub struct Dma {
    memory: &'static Memory,
    budget: Ref<Budget>,
    start: PhysAddr,
    order: Order,
    /// In bytes; the block may be longer.
    pub length: u64,
    reach: Leaf<Reach>,
}

/// Which function reaches it, and where that finds it.
#[derive(Clone, Copy)]
enum Reach {
    None,
    By(Place, BusAddr),
    /// Perhaps some, for ever: the machine has refused to take it out of reach. Nobody learns where, and the
    /// frames are nobody's any more.
    ForEver,
}

impl Dma {
    /// Takes the frames, charged for as the block they are, of unknown contents. `length` is whole pages.
    pub fn take(charged: &Charged, length: u64) -> Result<Ref<Self>, NoMemory> {
        let order = Order::holding(length).ok_or(NoMemory)?;
        let (memory, budget) = (charged.memory, charged.budget.clone());
        let start = memory.alloc_block(&budget, order)?.at();
        let dma = Self { memory, budget, start, order, length, reach: Leaf::new(Reach::None) };
        Ref::try_new(memory, Some(&charged.budget), dma)
    }

    /// Clears up to `pages` pages from the `from`-th on. Says whether there are more.
    ///
    /// # Safety
    /// The caller has made it, and has let nobody else know of it.
    pub unsafe fn clear(&self, from: u64, pages: u64) -> Progress {
        let left = (self.length / PAGE_SIZE).saturating_sub(from);
        let now = left.min(pages);
        let at = Current::phys(self.memory.machine(), PhysAddr(self.start.0 + from * PAGE_SIZE));
        // SAFETY: 1. pages of the block, in the physical map. 2. Nobody else has them.
        unsafe { Current::clear(self.memory.machine(), at, (now * PAGE_SIZE) as usize) };
        if left > pages { Progress::More } else { Progress::Done }
    }

    fn frames(&self) -> PhysRange {
        PhysRange { start: self.start, len: self.length }
    }

    /// Lets the function at `place` reach it.
    pub fn map(&self, machine: &'static Machine, place: Place, irq: &IrqsOff) -> Result<(), NoMemory> {
        // SAFETY: the frames are this object's, which the caller has the function refer to until `unmap`.
        let mapped = unsafe { Current::map_dma(machine, place, self.frames(), irq) };
        *self.reach.lock() = match mapped {
            Ok(at) => Reach::By(place, at),
            Err(NotMapped::Refused) => Reach::None,
            Err(NotMapped::InDoubt) => Reach::ForEver,
        };
        mapped.map(|_| ()).map_err(|_| NoMemory)
    }

    /// The function reaches it no more, or the frames are given up. The caller refers to it until then.
    pub(super) fn unmap(&self, machine: &Machine, place: Place) {
        let at = {
            let mut reach = self.reach.lock();
            let Reach::By(_, at) = *reach else { return };
            *reach = Reach::None;
            at
        };
        if let Err(StillMapped) = Current::unmap_dma(machine, place, self.frames(), at) {
            *self.reach.lock() = Reach::ForEver;
        }
    }

    /// What the function at `place` knows the byte at `offset` by.
    pub fn address(&self, place: Place, offset: u64) -> Option<BusAddr> {
        match *self.reach.lock() {
            Reach::By(of, BusAddr(start)) if of == place => Some(BusAddr(start + offset)),
            _ => None,
        }
    }

    /// As [`address`](Self::address), for any function.
    pub fn any_address(&self, offset: u64) -> Option<BusAddr> {
        match *self.reach.lock() {
            Reach::By(_, BusAddr(start)) => Some(BusAddr(start + offset)),
            _ => None,
        }
    }

    /// The frame `offset` bytes from the start, if that lies in it.
    pub fn frame(&self, offset: u64) -> Option<PhysAddr> {
        (offset < self.length).then(|| PhysAddr(self.start.0 + (offset & !(PAGE_SIZE - 1))))
    }
}

impl Drop for Dma {
    fn drop(&mut self) {
        if matches!(*self.reach.lock(), Reach::ForEver) {
            return;
        }
        // SAFETY: `take` took it, and gave up the block for the address.
        let block = unsafe { Block::from_owned(self.start, self.order) };
        self.memory.free_block(&self.budget, block);
    }
}
