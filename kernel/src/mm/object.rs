//! Memory that address spaces can share, and the places where it is mapped.
//!
//! A *memory object* is a fixed number of zeroed frames, charged to the budget of its maker until
//! nothing refers to it: no capability, and no region of any space. It is no larger than
//! [`abi::MAX_MEMORY`], so that its end takes a bounded time wherever the last reference goes; who
//! needs more has several.
//!
//! An *attachment* is one place where one is mapped. It is an object too, with one capability, which
//! is derived from the one that allowed it: so it ends with whatever ends that, and a revocation
//! takes mappings back like anything else that was derived. Its pages are unmapped slice by slice,
//! *before* its capability is taken out of its slot ([`Attachment::detach`]): when a revocation has
//! deleted it, no CPU reads or writes the memory by it any more. The region keeps the object alive,
//! so a frame is never freed while something maps it.

use super::NoMemory;
use super::budget::Budget;
use super::frames::{Block, Order};
use super::heap::Charged;
use super::list::List;
use super::memory::Memory;
use super::paged::Paged;
use super::space::{AttachmentId, Progress, UserRange};
use crate::cpu::Cpu;
use crate::object::Ref;
use crate::process::Process;
use crate::sync::{AtomicBool, Ordering};
use crate::syscall::SLICE_PAGES;
use arch_contract::addr::{PAGE_SIZE, PhysAddr};
use arch_contract::irq::IrqsOff;

/// See the module.
pub struct MemoryObject {
    memory: &'static Memory,
    budget: Ref<Budget>,
    frames: List<PhysAddr>,
    /// Where its pages come from, if it has no frames of its own.
    paged: Option<Ref<Paged>>,
}

impl MemoryObject {
    /// One without a page.
    pub fn new(charged: Charged) -> Self {
        let (memory, budget) = (charged.memory, charged.budget.clone());
        Self { memory, budget, frames: List::new(charged), paged: None }
    }

    /// One whose pages come from a pager.
    pub fn of_pager(charged: Charged, paged: Paged) -> Result<Self, NoMemory> {
        let paged = Ref::try_new(charged.memory, Some(&charged.budget), paged)?;
        let mut object = Self::new(charged);
        object.paged = Some(paged);
        Ok(object)
    }

    /// Where its pages come from, if not from itself.
    pub fn paged(&self) -> Option<&Paged> {
        self.paged.as_deref()
    }

    /// Adds up to `max_pages` pages of zeroes while there are fewer than `pages`. For its maker, before
    /// anybody else knows of it.
    pub fn grow(&mut self, pages: u64, max_pages: u64) -> Result<Progress, NoMemory> {
        let missing = (pages as usize).saturating_sub(self.frames.len());
        self.frames.reserve(missing)?;
        for _ in 0..missing.min(max_pages as usize) {
            let frame = self.memory.alloc_zeroed(&self.budget, Order::FRAME)?;
            // There is room: cannot fail.
            self.frames.push(frame.at())?;
        }
        Ok(if missing as u64 > max_pages { Progress::More } else { Progress::Done })
    }

    /// Lets others refer to it.
    pub fn shared(self) -> Result<Ref<Self>, NoMemory> {
        let (memory, budget) = (self.memory, self.budget.clone());
        Ref::try_new(memory, Some(&budget), self)
    }

    /// In bytes.
    pub fn length(&self) -> u64 {
        match &self.paged {
            Some(paged) => paged.length(),
            None => self.frames.len() as u64 * PAGE_SIZE,
        }
    }

    /// The frame `offset` bytes from the start, which lies in it; `None` if its pager has not supplied it.
    pub(super) fn frame(&self, offset: u64) -> Option<PhysAddr> {
        if let Some(paged) = &self.paged {
            return paged.frame(offset);
        }
        self.frames.get((offset / PAGE_SIZE) as usize).copied()
    }
}

impl Drop for MemoryObject {
    fn drop(&mut self) {
        while let Some(frame) = self.frames.pop() {
            // SAFETY: `grow` took it, and gave up the block for the address.
            let block = unsafe { Block::from_owned(frame, Order::FRAME) };
            self.memory.free_block(&self.budget, block);
        }
    }
}

/// See the module.
pub struct Attachment {
    pub object: Ref<MemoryObject>,
    process: Ref<Process>,
    id: AttachmentId,
    pub range: UserRange,
    /// Whether nothing of it is mapped any more, for good.
    ended: AtomicBool,
}

impl Attachment {
    /// Where `object` was mapped in the space of `process`.
    pub fn new(object: Ref<MemoryObject>, process: Ref<Process>, id: AttachmentId, range: UserRange) -> Self {
        Self { object, process, id, range, ended: AtomicBool::new(false) }
    }

    /// Whether [`detach`](Self::detach) is through.
    pub fn is_ended(&self) -> bool {
        // Acquire: pairs with the release in `detach`: the flush comes before the slot is emptied.
        self.ended.load(Ordering::Acquire)
    }

    /// A slice of unmapping it. Several may be at it at once. The caller holds no lock.
    pub fn detach(&self, cpu: &Cpu, irq: &IrqsOff) {
        // A space that is being taken apart has no user any more, and frees its regions itself.
        let done = !self.process.begin_undoing(cpu) || {
            let done = self.process.space.detach(cpu, self.id, self.range, SLICE_PAGES, irq);
            Process::end_job(&self.process, cpu);
            done == Progress::Done
        };
        if done {
            // Release: see `is_ended`.
            self.ended.store(true, Ordering::Release);
        }
    }
}
