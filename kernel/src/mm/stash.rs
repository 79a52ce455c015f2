//! Objects that were freed a moment ago, for whoever wants one of that size next.
//!
//! What is made and ended in turn (a mapping, its region, a reply) would have the heap join its memory
//! with its neighbours and cut it out again each time. So a few of each small size wait here, threaded
//! through themselves, and are taken and put back in a handful of instructions. They count as free: they
//! are charged to nobody, and go back to the heap before anybody is told that there is no memory, or asks
//! how much there is.

use core::alloc::Layout;
use core::ptr::NonNull;
use talc::base::CHUNK_UNIT;

/// Sizes that are kept, in the heap's unit: up to 256 bytes.
const SIZES: usize = 256 / CHUNK_UNIT;
/// Objects of one size, at most. Each may keep a block of the heap from going back to the frames.
const DEPTH: u8 = 4;

/// What lies in one that waits.
struct Link {
    next: Option<NonNull<Link>>,
}

/// Those of one size.
#[derive(Clone, Copy)]
struct Row {
    first: Option<NonNull<Link>>,
    count: u8,
}

/// See the module. Part of the [`Heap`](super::heap::Heap).
pub(super) struct Stash([Row; SIZES]);

// SAFETY: what waits here is memory that nobody else refers to.
unsafe impl Send for Stash {}

/// Bytes that the heap sets aside for an object of `layout`: its own, and a word behind it for the heap's
/// tag, in the heap's unit.
pub(super) const fn footprint(layout: Layout) -> usize {
    (layout.size() + size_of::<usize>()).next_multiple_of(CHUNK_UNIT)
}

/// The row for `layout`, if objects like that are kept. The heap gives all of one footprint alike.
const fn row(layout: Layout) -> Option<usize> {
    let units = footprint(layout) / CHUNK_UNIT;
    if units <= SIZES && layout.align() <= CHUNK_UNIT { Some(units - 1) } else { None }
}

impl Stash {
    pub(super) const fn new() -> Self {
        Self([Row { first: None, count: 0 }; SIZES])
    }

    /// One for `layout`, of unknown contents.
    #[inline(always)]
    pub(super) fn take(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let row = &mut self.0[row(layout)?];
        let first = row.first?;
        // SAFETY: what waits holds a link.
        row.first = unsafe { first.read() }.next;
        row.count -= 1;
        Some(first.cast())
    }

    /// Keeps one that came from the heap with this `layout`. `false` if it has to go back there.
    ///
    /// # Safety
    /// It is not used any more.
    #[inline(always)]
    pub(super) unsafe fn put(&mut self, at: NonNull<u8>, layout: Layout) -> bool {
        let Some(row) = row(layout).map(|row| &mut self.0[row]).filter(|row| row.count < DEPTH) else {
            return false;
        };
        let link = at.cast();
        // SAFETY: the memory is nobody's by the caller's word, and at least a unit of the heap, aligned to one.
        unsafe { link.write(Link { next: row.first }) };
        row.first = Some(link);
        row.count += 1;
        true
    }

    /// One that waits, to go back to the heap, and a layout of its footprint.
    pub(super) fn pop(&mut self) -> Option<(NonNull<u8>, Layout)> {
        for units in 1..=SIZES {
            let bytes = units * CHUNK_UNIT - size_of::<usize>();
            let layout = Layout::from_size_align(bytes, align_of::<usize>()).ok()?;
            if let Some(at) = self.take(layout) {
                return Some((at, layout));
            }
        }
        None
    }
}
