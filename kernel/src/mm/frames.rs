//! Physical frames, in blocks of powers of two aligned to their size.
//!
//! A buddy allocator with two properties that decided its form. Every step is bounded by the
//! number of orders, giving a block back included, because it runs with interrupts off: a free
//! block is on a doubly linked list threaded through the free frames themselves, and one byte per
//! frame says which blocks are free, so that a buddy is found without a search. And it is ready
//! after clearing those bytes: 64 KiB for 256 MiB of memory.
//!
//! Each range of the boot memory map is a [`Zone`] with its own bytes, which lie at its start;
//! blocks never cross zones, so holes in the map cost nothing.

use super::{Machine, NoMemory};
use arch_contract::addr::{PAGE_SIZE, PhysAddr};
use arch_contract::boot::{MAX_RANGES, PhysRange};
use arch_contract::pte::Paging;
use arch_current::Current;
use arrayvec::ArrayVec;
use core::ptr::NonNull;

/// log2 of a block's frames.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Order(u8);

impl Order {
    /// One frame.
    pub const FRAME: Self = Self(0);
    /// The largest: 1 GiB.
    pub const MAX: Self = Self(18);

    /// The smallest block of at least `bytes`. `None` beyond [`MAX`](Self::MAX).
    pub const fn holding(bytes: u64) -> Option<Self> {
        let frames = bytes.div_ceil(PAGE_SIZE);
        if frames > 1 << Self::MAX.0 {
            return None;
        }
        Some(Self(frames.next_power_of_two().trailing_zeros() as u8))
    }

    /// Bytes of a block, which is also its alignment.
    pub const fn bytes(self) -> u64 {
        PAGE_SIZE << self.0
    }

    const fn up(self) -> Self {
        Self(self.0 + 1)
    }

    const fn down(self) -> Self {
        Self(self.0 - 1)
    }
}

/// A block that somebody owns. It has no destructor, since giving it back needs the allocator:
/// whoever drops one leaks it.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a block that is dropped is lost"]
pub struct Block {
    at: PhysAddr,
    order: Order,
}

impl Block {
    /// Where it starts; aligned to its size.
    pub const fn at(&self) -> PhysAddr {
        self.at
    }

    pub const fn order(&self) -> Order {
        self.order
    }

    pub const fn bytes(&self) -> u64 {
        self.order.bytes()
    }

    /// The block at `at`, which its owner kept as an address only: in a page-table entry, or in
    /// the heap's own structures.
    ///
    /// # Safety
    /// The caller owns a block of `order` at `at` and has no other [`Block`] for it.
    pub const unsafe fn from_owned(at: PhysAddr, order: Order) -> Self {
        Self { at, order }
    }
}

/// What the byte of a frame says. The byte of a block's first frame counts; in all others it is
/// [`INNER`].
const INNER: u8 = 0;
/// First frame of a free block; the order is in the low bits.
const FREE: u8 = 0x80;
/// First frame of a block that was given out; the order is in the low bits.
const OWNED: u8 = 0x40;

/// A range of the memory map.
struct Zone {
    /// The first frame that can be given out.
    start: PhysAddr,
    frames: u64,
    /// One byte per frame, in the frames before `start`.
    bytes: NonNull<u8>,
}

// SAFETY: the bytes belong to the zone, and are reached through `&mut Frames` only.
unsafe impl Send for Zone {}

impl Zone {
    fn holds(&self, at: PhysAddr) -> bool {
        at >= self.start && at.0 < self.start.0 + self.frames * PAGE_SIZE
    }

    fn index(&self, at: PhysAddr) -> usize {
        ((at.0 - self.start.0) / PAGE_SIZE) as usize
    }

    fn state(&self, at: PhysAddr) -> u8 {
        // SAFETY: `at` lies in this zone, which the callers have checked, so its byte does.
        unsafe { self.bytes.add(self.index(at)).read() }
    }

    fn set_state(&mut self, at: PhysAddr, state: u8) {
        // SAFETY: as in `state`.
        unsafe { self.bytes.add(self.index(at)).write(state) }
    }
}

/// What lies in the first bytes of a free block.
#[derive(Clone, Copy)]
struct Link {
    next: Option<PhysAddr>,
    before: Option<PhysAddr>,
}

/// All frames of the machine.
pub struct Frames {
    machine: &'static Machine,
    /// Sorted by address.
    zones: ArrayVec<Zone, MAX_RANGES>,
    /// Free blocks, by order.
    lists: [Option<PhysAddr>; Order::MAX.0 as usize + 1],
    free: u64,
    total: u64,
}

impl Frames {
    /// Takes over the lowest `limit` bytes of `ranges`, which are page-aligned, sorted and
    /// disjoint.
    ///
    /// # Safety
    /// The ranges are RAM in the physical map that nothing else uses, now or later.
    pub unsafe fn new(machine: &'static Machine, ranges: &[PhysRange], limit: u64) -> Self {
        let mut frames = Self {
            machine,
            zones: ArrayVec::new(),
            lists: [None; Order::MAX.0 as usize + 1],
            free: 0,
            total: 0,
        };
        let mut left = limit & !(PAGE_SIZE - 1);
        for range in ranges {
            let len = range.len.min(left);
            left -= len;
            let count = len / PAGE_SIZE;
            let inventory = count.next_multiple_of(PAGE_SIZE);
            if len <= inventory {
                continue;
            }
            let bytes = Current::phys(machine, range.start);
            // SAFETY: the range is ours and unused, and longer than its bytes.
            unsafe { bytes.write_bytes(INNER, count as usize) };
            let zone = Zone {
                start: PhysAddr(range.start.0 + inventory),
                frames: (len - inventory) / PAGE_SIZE,
                bytes,
            };
            let (start, zone_frames) = (zone.start, zone.frames);
            // A memory map has at most as many ranges as there are zones.
            frames.zones.push(zone);
            frames.fill(start, zone_frames);
        }
        frames.total = frames.free;
        frames
    }

    /// Frees `count` frames from `at`, in blocks as large as their alignment lets them be.
    fn fill(&mut self, at: PhysAddr, count: u64) {
        let end = at.0 + count * PAGE_SIZE;
        let mut at = at.0;
        while at < end {
            let aligned = at.trailing_zeros() - PAGE_SIZE.trailing_zeros();
            let fits = ((end - at) / PAGE_SIZE).ilog2();
            let order = Order(aligned.min(fits).min(Order::MAX.0.into()) as u8);
            self.link(PhysAddr(at), order);
            self.free += order.bytes();
            at += order.bytes();
        }
    }

    /// Bytes that are free.
    pub fn free_bytes(&self) -> u64 {
        self.free
    }

    /// Bytes that were free at the start.
    pub fn total_bytes(&self) -> u64 {
        self.total
    }

    /// A block of unknown contents.
    pub fn take(&mut self, order: Order) -> Result<Block, NoMemory> {
        let mut found = order;
        while self.lists.get(usize::from(found.0)).ok_or(NoMemory)?.is_none() {
            found = found.up();
        }
        let at = self.lists[usize::from(found.0)].ok_or(NoMemory)?;
        self.unlink(at, found);
        while found > order {
            found = found.down();
            self.link(PhysAddr(at.0 + found.bytes()), found);
        }
        self.zone(at).set_state(at, OWNED | order.0);
        self.free -= order.bytes();
        Ok(Block { at, order })
    }

    /// Takes a block back and joins it with its free neighbours.
    ///
    /// # Panics
    /// If it is not a block that was given out: memory was freed twice.
    pub fn give_back(&mut self, block: Block) {
        let Block { mut at, mut order } = block;
        self.free += order.bytes();
        let zone = self.zone(at);
        assert!(zone.state(at) == OWNED | order.0, "{at:?}: given back, but not given out");
        zone.set_state(at, INNER);
        while order < Order::MAX {
            let buddy = PhysAddr(at.0 ^ order.bytes());
            let zone = self.zone(at);
            if !zone.holds(buddy) || zone.state(buddy) != FREE | order.0 {
                break;
            }
            self.unlink(buddy, order);
            at = at.min(buddy);
            order = order.up();
        }
        self.link(at, order);
    }

    /// Makes single frames of a block that was given out: its owner owns each of them from here on. A block
    /// of [`LARGE`](super::page_table::LARGE) at most, which bounds the time.
    pub fn split(&mut self, block: &Block) {
        let zone = self.zone(block.at);
        for offset in (0..block.bytes()).step_by(PAGE_SIZE as usize) {
            zone.set_state(PhysAddr(block.at.0 + offset), OWNED | Order::FRAME.0);
        }
    }

    fn zone(&mut self, at: PhysAddr) -> &mut Zone {
        let after = self.zones.partition_point(|zone| zone.start <= at);
        match after.checked_sub(1).map(|index| &mut self.zones[index]) {
            Some(zone) if zone.holds(at) => zone,
            _ => panic!("{at:?}: not a frame of this allocator"),
        }
    }

    fn slot(&self, at: PhysAddr) -> NonNull<Link> {
        Current::phys(self.machine, at).cast()
    }

    /// Puts a free block on its list.
    fn link(&mut self, at: PhysAddr, order: Order) {
        self.zone(at).set_state(at, FREE | order.0);
        let next = self.lists[usize::from(order.0)].replace(at);
        // SAFETY: the block is free: nothing but its link is in it. It is aligned to a page.
        unsafe { self.slot(at).write(Link { next, before: None }) };
        if let Some(next) = next {
            // SAFETY: whatever is on a list is free and holds a link.
            unsafe { self.slot(next).as_mut().before = Some(at) };
        }
    }

    /// Takes a free block off its list.
    fn unlink(&mut self, at: PhysAddr, order: Order) {
        self.zone(at).set_state(at, INNER);
        // SAFETY: the block is on a list, so it is free and holds a link.
        let Link { next, before } = unsafe { self.slot(at).read() };
        if let Some(next) = next {
            // SAFETY: as above.
            unsafe { self.slot(next).as_mut().before = before };
        }
        match before {
            // SAFETY: as above.
            Some(before) => unsafe { self.slot(before).as_mut().next = next },
            None => self.lists[usize::from(order.0)] = next,
        }
    }
}
