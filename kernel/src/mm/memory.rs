//! All memory of the machine: the frames and the heap, each behind its lock.
//!
//! The value lies in memory that it manages, so that a machine has one and each model run a fresh
//! one, with no global anywhere.

use super::budget::Budget;
use super::frames::{Block, Frames, Order};
use super::heap::{self, Heap};
use super::page_table::LARGE;
use super::refusal::Refusal;
use super::remains::Graveyard;
use super::{Machine, NoMemory};
use crate::sync::Leaf;
#[cfg(spandrel_schedule)]
use arch_contract::addr::{PAGE_SIZE, PhysAddr};
use arch_contract::boot::{BootInfo, PhysRange};
use arch_contract::pte::Paging;
use arch_current::Current;
use core::alloc::Layout;
use core::ptr::NonNull;

/// See the module.
pub struct Memory {
    machine: &'static Machine,
    frames: Leaf<Frames>,
    heap: Leaf<Heap>,
    pub(super) remains: Graveyard,
    /// For tests.
    pub(crate) refusal: Refusal,
}

impl Memory {
    /// Takes over all free memory of `info`. With `limit_bytes`, as much of it as a machine with
    /// that much RAM would have: what is in use already counts, and the lowest addresses are kept.
    ///
    /// Called once per machine: the ranges of `info` are the kernel's from here on.
    pub fn boot(
        machine: &'static Machine,
        info: &BootInfo,
        limit_bytes: Option<u64>,
    ) -> Result<&'static Self, NoMemory> {
        let free: u64 = info.free.iter().map(|range| range.len).sum();
        let in_use = info.total.saturating_sub(free);
        let keep = limit_bytes.map_or(u64::MAX, |limit| limit.saturating_sub(in_use));
        // SAFETY: the architecture has cut everything that is in use out of these ranges, and
        // nobody else takes from them. `BOOT-2`
        let mut frames = unsafe { Frames::new(machine, &info.free, keep) };

        let mut heap = Heap::new();
        heap.grow(machine, frames.take(heap::growth_for(Layout::new::<()>())?)?);
        let own = frames.take(Order::holding(size_of::<Self>() as u64).ok_or(NoMemory)?)?;
        let own = Current::phys(machine, own.at()).cast::<Self>();
        let memory = Self {
            machine,
            frames: Leaf::new(frames),
            heap: Leaf::new(heap),
            remains: Graveyard::new(),
            refusal: Refusal::new(),
        };
        // SAFETY: a block of at least this size and aligned to it, which is never given back.
        unsafe {
            own.write(memory);
            Ok(own.as_ref())
        }
    }

    /// The machine whose memory it is.
    pub fn machine(&self) -> &'static Machine {
        self.machine
    }

    /// Bytes in frames that nobody has. What is free inside the heap's blocks does not count.
    pub fn free_bytes(&self) -> u64 {
        self.unstash();
        self.frames.lock().free_bytes()
    }

    /// Gives back the blocks of the heap that are there only for what was freed a moment ago.
    fn unstash(&self) {
        loop {
            // Not in the condition, where the lock would be held for the body.
            let emptied = self.heap.lock().unstash(self.machine);
            match emptied {
                Ok(None) => {}
                Ok(Some(block)) => self.give_back_block(block),
                Err(heap::Empty) => return,
            }
        }
    }

    /// Whether so little is left that what is only waiting to be given back should be hurried: less
    /// than a sixteenth.
    pub fn is_short(&self) -> bool {
        let frames = self.frames.lock();
        frames.free_bytes() < frames.total_bytes() / 16
    }

    /// Bytes in frames that there are to give out.
    pub fn total_bytes(&self) -> u64 {
        self.frames.lock().total_bytes()
    }

    /// A block of unknown contents, charged to `budget`.
    pub fn alloc_block(&self, budget: &Budget, order: Order) -> Result<Block, NoMemory> {
        budget.charge(order.bytes())?;
        self.take_block(order).inspect_err(|NoMemory| budget.refund(order.bytes()))
    }

    /// A block of zeroes, charged to `budget`.
    pub fn alloc_zeroed(&self, budget: &Budget, order: Order) -> Result<Block, NoMemory> {
        let block = self.alloc_block(budget, order)?;
        self.clear(&block);
        Ok(block)
    }

    /// Takes a block back and refunds `budget`, which must be the one that was charged.
    pub fn free_block(&self, budget: &Budget, block: Block) {
        let bytes = block.bytes();
        self.give_back_block(block);
        budget.refund(bytes);
    }

    /// The frames of a large page, one after the other and of unknown contents, charged to `budget`. Each is
    /// a block of its own.
    pub fn alloc_large(&self, budget: &Budget) -> Result<PhysRange, NoMemory> {
        let order = Order::holding(LARGE).ok_or(NoMemory)?;
        let block = self.alloc_block(budget, order)?;
        self.frames.lock().split(&block);
        Ok(PhysRange { start: block.at(), len: block.bytes() })
    }

    /// A block of unknown contents that the caller has charged to somebody already.
    pub(crate) fn take_block(&self, order: Order) -> Result<Block, NoMemory> {
        self.refusal.ask()?;
        self.take_frames(order)
    }

    fn take_frames(&self, order: Order) -> Result<Block, NoMemory> {
        let taken = self.frames.lock().take(order);
        taken.or_else(|NoMemory| {
            self.unstash();
            self.frames.lock().take(order)
        })
    }

    /// A block of zeroes that the caller has charged to somebody already.
    pub(crate) fn take_zeroed(&self, order: Order) -> Result<Block, NoMemory> {
        let block = self.take_block(order)?;
        self.clear(&block);
        Ok(block)
    }

    /// Takes back a block whose refund is the caller's business.
    pub(crate) fn give_back_block(&self, block: Block) {
        self.assert_unused(&block);
        #[cfg(test)]
        self.poison(&block);
        self.frames.lock().give_back(block);
    }

    /// Fills a block that is free with entries that are present and lead to no RAM: a walk that goes
    /// on in a table that was freed ends there, in an error of the simulated machine. `TLB-3`
    #[cfg(test)]
    fn poison(&self, block: &Block) {
        let at = Current::phys(self.machine, block.at());
        // SAFETY: the block is RAM in the physical map, and free.
        unsafe { at.write_bytes(0xff, block.bytes() as usize) };
    }

    pub(super) fn clear(&self, block: &Block) {
        self.assert_unused(block);
        let at = Current::phys(self.machine, block.at());
        // SAFETY: 1. the block is RAM in the physical map, in whole frames. 2. It is the caller's alone.
        unsafe { Current::clear(self.machine, at, block.bytes() as usize) };
    }

    /// Every CPU's last use of the block comes before this. Asked only in runs on weak memory, where
    /// that is more than that it has happened.
    #[inline(always)]
    fn assert_unused(&self, _block: &Block) {
        #[cfg(spandrel_schedule)]
        for offset in (0.._block.bytes()).step_by(PAGE_SIZE as usize) {
            let at = Current::phys(self.machine, PhysAddr(_block.at().0 + offset));
            schedule::plain::own(schedule::plain::Thing::page(at, PAGE_SIZE));
        }
    }

    /// Heap memory for an object, whose charge is the caller's business. `layout` is not empty.
    #[inline(always)]
    pub(super) fn take_object(&self, layout: Layout) -> Result<NonNull<u8>, NoMemory> {
        self.refusal.ask()?;
        let taken = self.heap.lock().take(layout);
        taken.map_or_else(|| self.take_from_more(layout), Ok)
    }

    /// As [`take_object`](Self::take_object), with another block for the heap.
    #[cold]
    #[inline(never)]
    fn take_from_more(&self, layout: Layout) -> Result<NonNull<u8>, NoMemory> {
        let Ok(block) = self.take_frames(heap::growth_for(layout)?) else {
            // On the way there all that waited in the stash was joined with its neighbours.
            return self.heap.lock().take(layout).ok_or(NoMemory);
        };
        let mut heap = self.heap.lock();
        heap.grow(self.machine, block);
        heap.take(layout).ok_or(NoMemory)
    }

    /// Takes back what [`take_object`](Self::take_object) gave.
    ///
    /// # Safety
    /// `at` came from there with this `layout` and is not used any more.
    #[inline(always)]
    pub(super) unsafe fn give_back_object(&self, at: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's obligation.
        let emptied = unsafe { self.heap.lock().give_back(self.machine, at, layout) };
        if let Some(block) = emptied {
            self.give_back_block(block);
        }
    }
}
