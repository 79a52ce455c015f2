//! The regions of a space: disjoint, each with one protection, in a tree by their addresses.
//!
//! They say what was granted; the tables say what is there already. Looking one up, finding room
//! and cutting one in two is all that happens here, and none of it touches a page. All of it visits
//! as many regions as the tree is high: the summaries of its nodes say where there is room, and
//! where there are regions of the wanted kind.

use crate::mm::NoMemory;
use crate::mm::heap::Charged;
use crate::mm::object::MemoryObject;
use crate::mm::tree::{Absorbed, Item, Loose, Node, Side, Tree};
use crate::object::Ref;
use arch_contract::addr::VirtAddr;
use arch_contract::pte::{Paging, Protection};
use arch_current::Current;
use core::num::NonZeroU64;

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

/// Whose the frames in a region are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    Space,
    /// A memory object.
    Object,
}

/// What a region maps that is not the space's own.
pub(super) struct Source {
    pub(super) object: Ref<MemoryObject>,
    /// Where its first byte would be; wraps if that would be below 0.
    pub(super) origin: u64,
}

/// A region in the tree.
pub(super) struct Granted {
    region: Region,
    /// `Some` if it is an attachment.
    source: Option<Source>,
}

impl Granted {
    pub(super) fn new(region: Region, source: Option<Source>) -> Self {
        debug_assert!(region.attachment.is_some() == source.is_some());
        Self { region, source }
    }

    pub(super) fn region(&self) -> Region {
        self.region
    }

    pub(super) fn source(&self) -> Option<&Source> {
        self.source.as_ref()
    }

    fn owner(&self) -> Owner {
        if self.source.is_some() { Owner::Object } else { Owner::Space }
    }
}

/// Of some regions that follow each other.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Summary {
    /// Where the first starts.
    start: u64,
    /// Where the last ends.
    end: u64,
    /// The largest gap between two.
    gap: u64,
    /// Whether there is one of the space's own, and of an object.
    own: bool,
    objects: bool,
}

impl Summary {
    fn has(&self, owner: Owner) -> bool {
        match owner {
            Owner::Space => self.own,
            Owner::Object => self.objects,
        }
    }

    /// Of those of `self` and those of `next`, which follow them.
    fn then(self, next: Self) -> Self {
        Self {
            start: self.start,
            end: next.end,
            gap: self.gap.max(next.gap).max(next.start - self.end),
            own: self.own || next.own,
            objects: self.objects || next.objects,
        }
    }
}

/// What lies between two regions.
#[derive(Clone, Copy)]
pub(super) struct Room {
    start: u64,
    end: u64,
}

impl Item for Granted {
    type Summary = Summary;
    type Room = Room;

    fn key(&self) -> u64 {
        self.region.start.0
    }

    fn summarize(&self, [below, above]: [Option<&Summary>; 2]) -> Summary {
        let (start, end) = (self.region.start.0, self.region.end().0);
        let own = self.owner() == Owner::Space;
        let mut all = Summary { start, end, gap: 0, own, objects: !own };
        if let Some(below) = below {
            all = below.then(all);
        }
        above.map_or(all, |above| all.then(*above))
    }

    #[inline(always)]
    fn room(before: Option<&Self>, after: Option<&Self>) -> Room {
        let start = before.map_or(0, |before| before.region.end().0);
        Room { start, end: after.map_or(u64::MAX, |after| after.region.start.0) }
    }

    #[inline(always)]
    fn fits(&self, room: Room) -> bool {
        self.region.start.0 >= room.start && self.region.end().0 <= room.end
    }

    #[inline(always)]
    fn absorb(all: &Summary, new: &Summary, room: Room) -> Absorbed<Summary> {
        let (own, objects) = (all.own | new.own, all.objects | new.objects);
        let gap = match () {
            () if new.end <= all.start => all.gap.max(all.start - new.end),
            () if new.start >= all.end => all.gap.max(new.start - all.end),
            () if room.end - room.start == all.gap => return Absorbed::Unclear,
            // It was put into a gap that is not the largest.
            () if (own, objects) == (all.own, all.objects) => return Absorbed::Same,
            () => all.gap,
        };
        Absorbed::New(Summary {
            start: all.start.min(new.start),
            end: all.end.max(new.end),
            gap,
            own,
            objects,
        })
    }
}

/// The regions of one space.
pub(super) struct Regions(Tree<Granted>);

impl Regions {
    pub(super) fn new(charged: Charged) -> Self {
        Self(Tree::new(charged))
    }

    /// Whether a region can be at `start..end`.
    pub(super) fn is_free(&self, (start, end): (VirtAddr, VirtAddr)) -> bool {
        self.first_from(start).is_none_or(|next| next.region.start >= end)
    }

    /// The lowest gap of `len` bytes, where the kernel chooses.
    pub(super) fn choose(&self, len: u64) -> Option<VirtAddr> {
        room(self.0.root(), CHOOSE_FROM.0, Current::USER_END.0, len).map(VirtAddr)
    }

    /// The region that `at` lies in, if any.
    pub(super) fn find(&self, at: VirtAddr) -> Option<&Granted> {
        self.0.floor(at.0).filter(|granted| granted.region.end() > at)
    }

    /// The first region with a page at or above `start`.
    pub(super) fn first_from(&self, start: VirtAddr) -> Option<&Granted> {
        self.0.first(|granted| granted.region.end() > start)
    }

    /// The first region of `owner`'s with a page in `start..end`.
    pub(super) fn first_of(&self, owner: Owner, start: VirtAddr, end: VirtAddr) -> Option<Region> {
        let first = self.first_from(start).filter(|first| first.region.start < end)?;
        if first.owner() == owner {
            return Some(first.region);
        }
        first_of(self.0.root(), owner, start, end)
    }

    /// What is left of an attachment whose last page ends at `end`: it goes from below, so that is its
    /// last page to the end.
    pub(super) fn attachment(&self, id: AttachmentId, end: VirtAddr) -> Option<Region> {
        let granted = self.find(VirtAddr(end.0 - 1))?;
        (granted.region.attachment == Some(id)).then_some(granted.region)
    }

    /// A region to be put in. Only this can fail.
    pub(super) fn make(&self, granted: Granted) -> Result<Loose<Granted>, NoMemory> {
        self.0.make(granted)
    }

    /// Puts a region in, where there [is room](Self::is_free).
    pub(super) fn insert(&mut self, granted: Loose<Granted>) {
        debug_assert!(self.is_free((granted.item().region.start, granted.item().region.end())));
        self.0.insert(granted);
    }

    /// As [`insert`](Self::insert), if there is room.
    #[inline(always)]
    pub(super) fn insert_if_free(&mut self, granted: Loose<Granted>) -> Result<(), Loose<Granted>> {
        self.0.insert_if_fits(granted)
    }

    /// Makes `region`, which is the space's own, begin no earlier than `start`, which lies in it or
    /// before it: what is below becomes a region of its own. Returns the upper part.
    pub(super) fn split(&mut self, region: Region, start: VirtAddr) -> Result<Region, NoMemory> {
        if region.start >= start {
            return Ok(region);
        }
        let below = start.0 - region.start.0;
        let above = Region { start, len: region.len - below, ..region };
        let node = self.make(Granted::new(above, None))?;
        self.0.change(region.start.0, |granted| granted.region.len = below);
        self.0.insert(node);
        Ok(above)
    }

    /// Takes what lies below `start` off `region`, and all of it if that is its end: then returns it.
    pub(super) fn cut_below(&mut self, region: Region, start: VirtAddr) -> Option<Granted> {
        if start >= region.end() {
            return self.0.remove(region.start.0);
        }
        self.0.change(region.start.0, |granted| {
            granted.region = Region { start, len: region.end().0 - start.0, ..region };
        });
        None
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the first out.
    pub(super) fn pop(&mut self) -> Option<Granted> {
        self.0.pop()
    }
}

/// The lowest `len` bytes from `from` on and before `to` that none of these regions has. Those
/// before them end at `from` or earlier, those behind start at `to`.
fn room(node: Option<&Node<Granted>>, from: u64, to: u64, len: u64) -> Option<u64> {
    let fits = |start: u64, end: u64| end.checked_sub(start).is_some_and(|free| free >= len);
    let Some(node) = node else { return fits(from, to).then_some(from) };
    let all = node.summary();
    if !fits(from, to) || !(fits(from, all.start) || all.gap >= len || fits(all.end.max(from), to)) {
        return None;
    }
    let region = node.item().region;
    room(node.child(Side::Below), from, region.start.0, len)
        .or_else(|| room(node.child(Side::Above), region.end().0.max(from), to, len))
}

/// The first of these regions that is of `owner`'s and has a page in `start..end`.
fn first_of(node: Option<&Node<Granted>>, owner: Owner, start: VirtAddr, end: VirtAddr) -> Option<Region> {
    let wanted = |all: &Summary| all.has(owner) && all.end > start.0 && all.start < end.0;
    let node = node.filter(|node| wanted(node.summary()))?;
    let here = || Some(node.item()).filter(|it| it.owner() == owner && it.region.end() > start);
    first_of(node.child(Side::Below), owner, start, end)
        .or_else(|| here().map(Granted::region).filter(|region| region.start < end))
        .or_else(|| first_of(node.child(Side::Above), owner, start, end))
}
