//! Memory that address spaces can share, and the places where it is mapped.
//!
//! A *memory object* is a fixed number of zeroed frames, charged to the budget of its maker until
//! nothing refers to it: no capability, and no region of any space. A small one is freed wherever the
//! last reference goes, what is left of a large one in slices ([`remains`](super::remains)). Or it is a
//! range of a device's registers ([`MemoryObject::device`]), which are charged to nobody, never cleared,
//! and not given back; or memory that a device reaches too ([`MemoryObject::dma`]). Or its pages come
//! from a user program ([`super::paged`]).
//!
//! Frames are taken in blocks of a large page, where there are any and so many are wanted; they are cleared
//! in slices like single ones. Where such a block lies on a multiple of its size in an address space too, one entry
//! maps all of it ([`MemoryObject::large_page`]).
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
use super::page_table::{LARGE, Page};
use super::paged::Paged;
use super::remains::AT_ONCE;
use super::space::{AttachmentId, Progress, UserRange};
use crate::cpu::Cpu;
use crate::device::dma::Dma;
use crate::device::function::Remains;
use crate::object::Ref;
use crate::process::Process;
use crate::sync::{AtomicBool, Ordering};
use crate::syscall::SLICE_PAGES;
use arch_contract::addr::{PAGE_SIZE, PhysAddr};
use arch_contract::boot::PhysRange;
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::pte::{MemoryType, Protection};

/// See the module.
pub struct MemoryObject {
    memory: &'static Memory,
    budget: Ref<Budget>,
    backing: Backing,
}

/// What its pages are.
enum Backing {
    /// Frames of its own. So many of them are cleared; while it is made there may be more.
    Frames(List<PhysAddr>, usize),
    Device {
        range: PhysRange,
        _remains: Option<Remains>,
    },
    Dma(Ref<Dma>),
    /// Those that its pager has supplied.
    Paged(Ref<Paged>),
}

impl MemoryObject {
    /// One without a page.
    pub fn new(charged: Charged) -> Self {
        let (memory, budget) = (charged.memory, charged.budget.clone());
        Self { memory, budget, backing: Backing::Frames(List::new(charged), 0) }
    }

    /// The registers of a device: whole pages outside RAM, which are the holder's to give out. `charged`
    /// pays for the object, not for the range.
    pub fn device(charged: Charged, range: PhysRange) -> Self {
        debug_assert!(range.start.is_aligned(PAGE_SIZE) && range.len.is_multiple_of(PAGE_SIZE));
        let backing = Backing::Device { range, _remains: None };
        Self { memory: charged.memory, budget: charged.budget, backing }
    }

    /// The same of a PCI function, which is not held anew while `remains` is there.
    pub fn registers(charged: Charged, range: PhysRange, remains: Remains) -> Self {
        let backing = Backing::Device { range, _remains: Some(remains) };
        Self { memory: charged.memory, budget: charged.budget, backing }
    }

    /// Memory that a function reaches, and pays for by itself.
    pub fn dma(charged: Charged, dma: Ref<Dma>) -> Self {
        Self { memory: charged.memory, budget: charged.budget, backing: Backing::Dma(dma) }
    }

    /// What a function reaches of it, if one does.
    pub fn as_dma(&self) -> Option<&Ref<Dma>> {
        match &self.backing {
            Backing::Dma(dma) => Some(dma),
            _ => None,
        }
    }

    /// Whether capabilities on it are derived from those on a function, and so in the end from the machine's.
    pub fn is_of_device(&self) -> bool {
        matches!(self.backing, Backing::Device { .. } | Backing::Dma(_))
    }

    /// One whose pages come from a pager.
    pub fn of_pager(charged: Charged, paged: Paged) -> Result<Self, NoMemory> {
        let Charged { memory, budget } = charged;
        let backing = Backing::Paged(Ref::try_new(memory, Some(&budget), paged)?);
        Ok(Self { memory, budget, backing })
    }

    /// What its pager has supplied, if it has one.
    pub fn paged(&self) -> Option<&Paged> {
        match &self.backing {
            Backing::Paged(paged) => Some(paged),
            _ => None,
        }
    }

    /// Whether it has frames of its own.
    pub fn has_frames(&self) -> bool {
        matches!(self.backing, Backing::Frames(..))
    }

    /// Adds up to `max_pages` pages of zeroes while there are fewer than `pages`. For its maker, before
    /// anybody else knows of it. One of a device is complete.
    pub fn grow(&mut self, pages: u64, max_pages: u64) -> Result<Progress, NoMemory> {
        let Backing::Frames(frames, cleared) = &mut self.backing else { return Ok(Progress::Done) };
        let pages = pages as usize;
        frames.reserve(pages.saturating_sub(frames.len()))?;
        for _ in 0..max_pages {
            if *cleared == pages {
                break;
            }
            if *cleared == frames.len() {
                let offset = *cleared as u64 * PAGE_SIZE;
                let fits = offset.is_multiple_of(LARGE) && (pages - *cleared) as u64 * PAGE_SIZE >= LARGE;
                let large = fits.then(|| self.memory.alloc_large(&self.budget)).and_then(Result::ok);
                let taken = match large {
                    Some(large) => large,
                    None => {
                        let frame = self.memory.alloc_block(&self.budget, Order::FRAME)?;
                        PhysRange { start: frame.at(), len: PAGE_SIZE }
                    }
                };
                for at in (taken.start.0..taken.end().0).step_by(PAGE_SIZE as usize) {
                    // There is room: cannot fail.
                    frames.push(PhysAddr(at))?;
                }
            }
            // SAFETY: the block is ours, and nobody has it but the list, as an address.
            self.memory.clear(&unsafe { Block::from_owned(frames[*cleared], Order::FRAME) });
            *cleared += 1;
        }
        Ok(if *cleared < pages { Progress::More } else { Progress::Done })
    }

    /// Lets others refer to it.
    pub fn shared(self) -> Result<Ref<Self>, NoMemory> {
        let (memory, budget) = (self.memory, self.budget.clone());
        Ref::try_new(memory, Some(&budget), self)
    }

    /// In bytes.
    pub fn length(&self) -> u64 {
        match &self.backing {
            Backing::Frames(frames, _) => frames.len() as u64 * PAGE_SIZE,
            Backing::Device { range, .. } => range.len,
            Backing::Dma(dma) => dma.length,
            Backing::Paged(paged) => paged.length(),
        }
    }

    /// The frame `offset` bytes from the start, if that lies in it and is there. It stays the object's as long as
    /// that is referred to.
    pub fn frame(&self, offset: u64) -> Option<PhysAddr> {
        match &self.backing {
            Backing::Frames(frames, _) => frames.get((offset / PAGE_SIZE) as usize).copied(),
            Backing::Dma(dma) => dma.frame(offset),
            Backing::Device { range, .. } => {
                (offset < range.len).then(|| PhysAddr(range.start.0 + (offset & !(PAGE_SIZE - 1))))
            }
            Backing::Paged(paged) => paged.frame(offset),
        }
    }

    /// As [`frame`](Self::frame), as it is mapped with `protection`.
    pub(crate) fn page(&self, offset: u64, protection: Protection) -> Option<Page> {
        let memory = match &self.backing {
            Backing::Device { .. } if !mutant::is(Mutant::DeviceMemoryCached) => MemoryType::Device,
            _ => MemoryType::Normal,
        };
        self.frame(offset).map(|frame| Page { frame, protection, memory })
    }
}

impl MemoryObject {
    /// As [`page`](Self::page), the first of those of a large page, if they follow each other as in one.
    pub(super) fn large_page(&self, offset: u64, protection: Protection) -> Option<Page> {
        let page = self.page(offset, protection).filter(|page| page.frame.is_aligned(LARGE))?;
        let all_follow = match &self.backing {
            Backing::Frames(frames, _) => {
                let first = (offset / PAGE_SIZE) as usize;
                let all = frames.get(first..first + (LARGE / PAGE_SIZE) as usize)?;
                all.iter().zip((page.frame.0..).step_by(PAGE_SIZE as usize)).all(|(frame, at)| frame.0 == at)
            }
            // One range, of frames or registers.
            Backing::Dma(_) | Backing::Device { .. } => self.frame(offset + LARGE - PAGE_SIZE).is_some(),
            Backing::Paged(_) => false,
        };
        all_follow.then_some(page)
    }
}

impl Drop for MemoryObject {
    fn drop(&mut self) {
        let Backing::Frames(frames, _) = &mut self.backing else { return };
        if frames.len() > AT_ONCE {
            let charged = Charged { memory: self.memory, budget: self.budget.clone() };
            let frames = core::mem::replace(frames, List::new(charged));
            return self.memory.lay_down(frames, self.budget.clone());
        }
        while let Some(frame) = frames.pop() {
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
