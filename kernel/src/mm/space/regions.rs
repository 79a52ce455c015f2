//! The regions of a space: sorted, disjoint, each with one protection.
//!
//! They say what was granted; the tables say what is there already. Looking one up, finding room
//! and cutting one in two is all that happens here, and none of it touches a page.

use super::SpaceError;
use crate::mm::NoMemory;
use crate::mm::heap::Charged;
use crate::mm::list::List;
use arch_contract::addr::VirtAddr;
use arch_contract::pte::{Paging, Protection};
use arch_current::Current;
use core::num::NonZeroU64;
use core::ops::Index;

/// Where the kernel looks first when the caller leaves the address to it: beyond what programs are
/// usually linked at, and beyond what a null pointer with an offset reaches.
const CHOOSE_FROM: VirtAddr = VirtAddr(1 << 32);

const _: () = assert!(CHOOSE_FROM.0 > Current::USER_START.0 && CHOOSE_FROM.0 < Current::USER_END.0);

/// A range of pages with one protection. Never empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    pub(super) start: VirtAddr,
    pub(super) len: u64,
    pub(super) protection: Protection,
    /// Whose frames are mapped in it: `None` for the space's own.
    pub(super) attachment: Option<AttachmentId>,
}

/// A memory object in one place. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AttachmentId(NonZeroU64);

impl AttachmentId {
    /// `None` for 0.
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }
}

impl Region {
    pub fn start(&self) -> VirtAddr {
        self.start
    }

    /// In bytes.
    #[allow(clippy::len_without_is_empty, reason = "a region is never empty")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// One past the last byte; inside the user range or its end, so it does not wrap.
    pub fn end(&self) -> VirtAddr {
        VirtAddr(self.start.0 + self.len)
    }

    pub fn protection(&self) -> Protection {
        self.protection
    }
}

/// The regions of one space.
pub(super) struct Regions {
    /// By address, disjoint.
    sorted: List<Region>,
}

impl Regions {
    pub(super) fn new(charged: Charged) -> Self {
        Self { sorted: List::new(charged) }
    }

    /// Where a region `start..end` goes in the order.
    pub(super) fn place(&self, (start, end): (VirtAddr, VirtAddr)) -> Result<usize, SpaceError> {
        let index = self.sorted.partition_point(|region| region.end() <= start);
        match self.sorted.get(index) {
            Some(next) if next.start < end => Err(SpaceError::Taken),
            _ => Ok(index),
        }
    }

    /// The lowest gap of `len` bytes, and the index a region there gets.
    pub(super) fn choose(&self, len: u64) -> Option<(VirtAddr, usize)> {
        let mut start = CHOOSE_FROM;
        let mut index = self.sorted.partition_point(|region| region.end() <= start);
        loop {
            let end = start.checked_add(len).filter(|end| *end <= Current::USER_END)?;
            match self.sorted.get(index) {
                Some(next) if next.start < end => start = next.end(),
                _ => return Some((start, index)),
            }
            index += 1;
        }
    }

    /// The region that `at` lies in, if any.
    pub(super) fn find(&self, at: VirtAddr) -> Option<Region> {
        let index = self.sorted.partition_point(|region| region.end() <= at);
        self.sorted.get(index).copied().filter(|region| region.start <= at)
    }

    /// The first region with a page in `start..end` that is of `attachment`, or of none.
    pub(super) fn first_in(
        &self,
        start: VirtAddr,
        end: VirtAddr,
        attachment: Option<AttachmentId>,
    ) -> Option<usize> {
        let first = self.sorted.partition_point(|region| region.end() <= start);
        (first..self.sorted.len())
            .take_while(|&index| self.sorted[index].start < end)
            .find(|&index| self.sorted[index].attachment == attachment)
    }

    /// The first region from `start` on whose frames are not the space's own.
    pub(super) fn first_attached(&self, start: VirtAddr) -> Option<Region> {
        let first = self.sorted.partition_point(|region| region.end() <= start);
        self.sorted[first..].iter().find(|region| region.attachment.is_some()).copied()
    }

    /// Makes the region at `index` begin no earlier than `start`, which lies in it or before it:
    /// what is below becomes a region of its own. Returns the index of the upper part.
    pub(super) fn split(&mut self, index: usize, start: VirtAddr) -> Result<usize, SpaceError> {
        let whole = self.sorted[index];
        if whole.start >= start {
            return Ok(index);
        }
        self.make_room()?;
        let below = start.0 - whole.start.0;
        self.sorted[index].len = below;
        // There is room: cannot fail.
        self.insert(index + 1, Region { start, len: whole.len - below, ..whole })?;
        Ok(index + 1)
    }

    /// So that the next [`insert`](Self::insert) does not fail.
    pub(super) fn make_room(&mut self) -> Result<(), NoMemory> {
        self.sorted.reserve(1)
    }

    /// `region` becomes the one at `index`, where [`place`](Self::place) or
    /// [`choose`](Self::choose) put it.
    pub(super) fn insert(&mut self, index: usize, region: Region) -> Result<(), NoMemory> {
        self.sorted.insert(index, region)
    }

    /// Takes what lies below `start` off the region at `index`, and all of it if that is its end.
    pub(super) fn cut_below(&mut self, index: usize, start: VirtAddr) {
        let region = &mut self.sorted[index];
        region.len = region.end().0 - start.0;
        region.start = start;
        if region.len == 0 {
            self.sorted.remove(index);
        }
    }

    pub(super) fn clear(&mut self) {
        self.sorted.clear();
    }
}

impl Index<usize> for Regions {
    type Output = Region;

    fn index(&self, index: usize) -> &Region {
        &self.sorted[index]
    }
}
