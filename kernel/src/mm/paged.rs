//! Memory whose pages come from a user program, its *pager*, when they are first touched.
//!
//! A paged memory object has frames of its own for none of its pages. A page is absent until the pager says
//! which page of an ordinary memory object it is; from then on the two share it. So nothing is copied and
//! nothing is charged but the list of pages, and whoever made the source pays for it, though it may be
//! gone: the paged object keeps what its pages come from alive.
//!
//! Its capability is derived from the one on the endpoint at which the pager is asked, so a revocation of that
//! takes the memory back and with it the asking.
//!
//! A fault on an absent page stops the thread and asks the pager ([`crate::ipc::exception`]); when it has
//! answered, the page is mapped and the instruction executed again. A page that is there but not yet mapped
//! where it was touched is mapped at once ([`Space::page_in`](super::space::Space::page_in)).

use super::NoMemory;
use super::heap::Charged;
use super::list::List;
use super::object::MemoryObject;
use crate::ipc::Endpoint;
use crate::object::Ref;
use crate::sync::Leaf;
use abi::{Error, MAX_SOURCES};
use arch_contract::addr::{PAGE_SIZE, PhysAddr};
use arrayvec::ArrayVec;

/// No frame.
const ABSENT: PhysAddr = PhysAddr(u64::MAX);

/// What a paged memory object has in the place of frames.
pub struct Paged {
    pub endpoint: Ref<Endpoint>,
    /// That of the capability by which it was made.
    pub badge: u64,
    /// Pages, absent or not.
    count: usize,
    pages: Leaf<Pages>,
}

struct Pages {
    frames: List<PhysAddr>,
    /// Where the frames are from. Few, so that the end of all of them takes a bounded time.
    sources: ArrayVec<Ref<MemoryObject>, MAX_SOURCES>,
}

impl Paged {
    /// `count` pages that are absent.
    pub fn new(
        charged: Charged,
        count: usize,
        endpoint: Ref<Endpoint>,
        badge: u64,
    ) -> Result<Self, NoMemory> {
        let mut frames = List::new(charged);
        frames.fill_to(count, || ABSENT)?;
        let pages = Pages { frames, sources: ArrayVec::new() };
        Ok(Self { endpoint, badge, count, pages: Leaf::new(pages) })
    }

    /// In bytes.
    pub fn length(&self) -> u64 {
        self.count as u64 * PAGE_SIZE
    }

    /// The frame `offset` bytes from the start, if it is there.
    pub fn frame(&self, offset: u64) -> Option<PhysAddr> {
        let pages = self.pages.lock();
        pages.frames.get((offset / PAGE_SIZE) as usize).copied().filter(|&frame| frame != ABSENT)
    }

    /// Its `count` pages from `to` on, in bytes, are those of `source` from `from` on. One that is there
    /// already stays what it is. All of them exist. `NoMemory` if it has too many sources.
    pub fn supply(&self, to: u64, source: &Ref<MemoryObject>, from: u64, count: u64) -> Result<(), Error> {
        let mut pages = self.pages.lock();
        if !pages.sources.iter().any(|other| Ref::ptr_eq(other, source)) {
            pages.sources.try_push(source.clone()).map_err(|_| Error::NoMemory)?;
        }
        for page in 0..count {
            let frame = source.frame(from + page * PAGE_SIZE).ok_or(Error::BadArgument)?;
            if let Some(place) = pages.frames.get_mut((to / PAGE_SIZE + page) as usize)
                && *place == ABSENT
            {
                *place = frame;
            }
        }
        Ok(())
    }
}
