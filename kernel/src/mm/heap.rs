//! The kernel heap: objects smaller than a frame, or of no round size.
//!
//! The allocator is the crate `talc`. It works in blocks of frames; a block that is empty again
//! goes back to the frames. Locks stay leaves: the heap's is let go before the frames' is taken. Before it
//! stands the [`Stash`] of what was freed just now.
//!
//! [`Charged`] is the allocator that the rest of the kernel hands to containers: it charges a
//! budget before it allocates. The charge is what an object costs in the heap, its rounding and
//! header included, and it depends on the layout alone, so that a refund is exact.

use super::budget::Budget;
use super::frames::{Block, Order};
use super::memory::Memory;
use super::stash::{Stash, footprint};
use super::{Machine, NoMemory};
use crate::object::Ref;
use allocator_api2::alloc::{AllocError, Allocator};
use arch_contract::addr::PAGE_SIZE;
use arch_contract::pte::Paging;
use arch_current::Current;
use core::alloc::Layout;
use core::ptr::NonNull;
use talc::base::Talc;
use talc::base::binning::{Binning, DefaultBinning};
use talc::source::Source;

/// The block the heap grows by, if the object fits: 16 KiB.
const GROWTH: Order = match Order::holding(16 * 1024) {
    Some(order) => order,
    None => Order::FRAME,
};

/// What an object of `layout` uses up.
const fn cost(layout: Layout) -> u64 {
    footprint(layout) as u64
}

/// The block to add for an object of `layout`: talc spends a unit at each end, and as much again
/// as the alignment to align it.
pub(super) fn growth_for(layout: Layout) -> Result<Order, NoMemory> {
    let slack = 4 * talc::base::CHUNK_UNIT as u64;
    let bytes = (layout.size() as u64).checked_add(layout.align() as u64 + slack).ok_or(NoMemory)?;
    Ok(Order::holding(bytes).ok_or(NoMemory)?.max(GROWTH))
}

/// Tells talc that empty blocks are to go.
#[derive(Debug)]
struct Trim {
    /// The block that the last call emptied.
    emptied: Option<(usize, usize)>,
}

// SAFETY: `acquire` reaches no allocator, and `resize` returns one of the two ends it was given,
// both of which are aligned as talc wants.
unsafe impl Source for Trim {
    /// Growing is up to [`Memory`], which lets go of the lock for it.
    fn acquire<B: Binning>(_talc: &mut Talc<Self, B>, _layout: Layout) -> Result<(), ()> {
        Err(())
    }

    const TRACK_HEAP_END: bool = true;

    unsafe fn resize(&mut self, start: *mut u8, end: *mut u8, is_whole: bool) -> *mut u8 {
        if !is_whole {
            return end;
        }
        // talc's first unit is its tag: the block starts at the page below.
        let block = (start.addr() - 1) & !(PAGE_SIZE as usize - 1);
        self.emptied = Some((block, end.addr() - block));
        start
    }
}

/// The heap. Behind a leaf lock in [`Memory`].
pub(super) struct Heap {
    talc: Talc<Trim, DefaultBinning>,
    stash: Stash,
}

impl Heap {
    pub(super) const fn new() -> Self {
        Self { talc: Talc::new(Trim { emptied: None }), stash: Stash::new() }
    }

    /// Bytes for `layout`, which is not empty; `None` if a block must be added first.
    #[inline(always)]
    pub(super) fn take(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        self.stash.take(layout).or_else(|| self.cut(layout))
    }

    /// As [`take`](Self::take), from a block.
    #[inline(never)]
    fn cut(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        // SAFETY: the callers have sorted out empty layouts; without a block nothing is found, but
        // talc must not be asked before it has one.
        unsafe { if self.talc.is_metadata_established() { self.talc.try_allocate(layout) } else { None } }
    }

    /// Adds a block. The first is never given back: it holds talc's own lists.
    pub(super) fn grow(&mut self, machine: &'static Machine, block: Block) {
        let base = Current::phys(machine, block.at());
        // SAFETY: the block is ours from here on, and nothing else touches it until `resize` gives
        // it up.
        let claimed = unsafe { self.talc.claim(base.as_ptr(), block.bytes() as usize) };
        assert!(claimed.is_some(), "a block is larger than what talc needs of it");
    }

    /// Takes an object back; returns the block that is empty now, if one is.
    ///
    /// # Safety
    /// `at` came from [`take`](Self::take) with this `layout` and is not used any more.
    #[inline(always)]
    pub(super) unsafe fn give_back(
        &mut self,
        machine: &'static Machine,
        at: NonNull<u8>,
        layout: Layout,
    ) -> Option<Block> {
        // SAFETY: the caller's obligation.
        if unsafe { self.stash.put(at, layout) } {
            return None;
        }
        // SAFETY: the caller's obligation.
        unsafe { self.join(machine, at, layout) }
    }

    /// As [`give_back`](Self::give_back), to the block that it is in.
    ///
    /// # Safety
    /// As there; another `layout` of the same footprint will do.
    #[inline(never)]
    unsafe fn join(&mut self, machine: &'static Machine, at: NonNull<u8>, layout: Layout) -> Option<Block> {
        // SAFETY: the caller's obligation.
        unsafe { self.talc.deallocate(at.as_ptr(), layout) };
        let (start, bytes) = self.talc.source.emptied.take()?;
        let order = Order::holding(bytes as u64)?;
        let at = Current::phys_of(machine, NonNull::new(start as *mut u8)?);
        // SAFETY: talc has let go of all of this block, which `grow` gave it.
        Some(unsafe { Block::from_owned(at, order) })
    }

    /// Joins one of those that wait in the stash; returns the block that is empty now, if one is. `Err` if
    /// none waits.
    pub(super) fn unstash(&mut self, machine: &'static Machine) -> Result<Option<Block>, Empty> {
        let (at, layout) = self.stash.pop().ok_or(Empty)?;
        // SAFETY: what waits came from here with a layout of this footprint, and nobody uses it.
        Ok(unsafe { self.join(machine, at, layout) })
    }
}

/// Nothing waits.
pub(super) struct Empty;

/// The heap, charging a budget. Containers own a copy.
#[derive(Clone)]
pub struct Charged {
    pub memory: &'static Memory,
    pub budget: Ref<Budget>,
}

// SAFETY: a block that was allocated stays valid until it is deallocated, whichever copy of the
// allocator is asked: all copies with the same memory share one heap, and a copy's budget is the
// original's.
unsafe impl Allocator for Charged {
    #[inline(always)]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            // SAFETY: an alignment is not 0.
            let dangling =
                unsafe { NonNull::new_unchecked(core::ptr::without_provenance_mut(layout.align())) };
            return Ok(NonNull::slice_from_raw_parts(dangling, 0));
        }
        self.budget.charge(cost(layout)).map_err(|NoMemory| AllocError)?;
        match self.memory.take_object(layout) {
            Ok(at) => Ok(NonNull::slice_from_raw_parts(at, layout.size())),
            Err(NoMemory) => {
                self.budget.refund(cost(layout));
                Err(AllocError)
            }
        }
    }

    #[inline(always)]
    unsafe fn deallocate(&self, at: NonNull<u8>, layout: Layout) {
        if layout.size() == 0 {
            return;
        }
        // SAFETY: the caller's obligation.
        unsafe { self.memory.give_back_object(at, layout) };
        self.budget.refund(cost(layout));
    }
}

/// As [`Charged`], for a budget that is borrowed or, for the root alone, not there yet.
#[inline(always)]
pub(crate) fn allocate_for(
    memory: &'static Memory,
    budget: Option<&Budget>,
    layout: Layout,
) -> Result<NonNull<u8>, NoMemory> {
    if let Some(budget) = budget {
        budget.charge(cost(layout))?;
    }
    memory.take_object(layout).inspect_err(|NoMemory| {
        if let Some(budget) = budget {
            budget.refund(cost(layout));
        }
    })
}

/// Undoes [`allocate_for`].
///
/// # Safety
/// `at` came from there with the same arguments and is not used any more.
pub(crate) unsafe fn give_back_for(
    memory: &'static Memory,
    budget: Option<&Budget>,
    at: NonNull<u8>,
    layout: Layout,
) {
    // SAFETY: the caller's obligation.
    unsafe { memory.give_back_object(at, layout) };
    if let Some(budget) = budget {
        budget.refund(cost(layout));
    }
}
