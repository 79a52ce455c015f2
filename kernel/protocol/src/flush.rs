//! TLB generations: what changed in an address space, in order, so that every CPU can tell by a
//! number what it has yet to forget.
//!
//! A flush raises the generation and notes the range that it is for. A CPU that holds the space
//! knows the generation up to which it has forgotten; what lies between is in the log, or, if that
//! is too long ago or too much, everything. So a CPU that was not interrupted, because it held the
//! space lazily or not at all, settles what it owes when it next has a user of the space, at the
//! price of what really changed.
//!
//! # Switch against flush (`TLB-1`, `CTX-3`)
//!
//! | flusher | CPU that enters M |
//! | --- | --- |
//! | 1. changes the entries | 1. `loaded` = switching to M, or active; joins M's set |
//! | 2. raises the generation | 2. barrier (e) |
//! | 3. barrier `FlushSample` | 3. reads the generation |
//! | 4. reads M's set, each CPU's `loaded` and `seen` | 4. loads M's tables; forgets what it missed |
//!
//! Store buffering: not both can miss. If the flusher does not see the CPU, the CPU sees the new
//! generation at its step 3 and, before it uses anything, forgets the old translations; and since
//! walks through M's tables on it begin after its barrier, they find the new entries. If the flusher
//! does see it, it waits until the CPU says that it has forgotten, or holds something else.

use crate::sync::{AtomicU64, Ordering, atomic};
use crate::unless;
use arch_contract::addr::VirtAddr;
use arch_contract::mutant::{self, Mutant};
use arch_contract::tlb::Freed;
use arrayvec::ArrayVec;
use core::array;

/// Generations that the log reaches back.
pub const DEPTH: usize = 8;

/// What one generation was raised for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    pub start: VirtAddr,
    pub pages: u64,
    pub freed: Freed,
}

/// What a CPU has yet to forget.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Missed {
    Nothing,
    Ranges(ArrayVec<Range, DEPTH>),
    Everything,
}

impl Missed {
    /// Whether it must be forgotten before the space is loaded. What the walker has cached on its
    /// way to the pages leads into tables that are freed by now: it may follow that as soon as the
    /// space is loaded, and writes accessed bits where it does. `TLB-3`
    pub fn is_due_before_load(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Ranges(ranges) => ranges.iter().any(|range| range.freed == Freed::Tables),
            Self::Everything => true,
        }
    }
}

/// One note. A sequence lock: `generation` is 0 while it is rewritten.
struct Note {
    generation: AtomicU64,
    start: AtomicU64,
    /// Pages, and bit 63 if tables were freed.
    extent: AtomicU64,
}

impl Note {
    fn new() -> Self {
        Self { generation: AtomicU64::new(0), start: AtomicU64::new(0), extent: AtomicU64::new(0) }
    }
}

const TABLES: u64 = 1 << 63;

/// The generation of one address space and the log of the last changes.
pub struct FlushLog {
    generation: AtomicU64,
    notes: [Note; DEPTH],
}

impl FlushLog {
    pub fn new() -> Self {
        Self { generation: AtomicU64::new(0), notes: array::from_fn(|_| Note::new()) }
    }

    /// The generation now. Acquire: pairs with the release in [`raise`](Self::raise); who reads it
    /// also reads its note, and walks the tables as they were then or later.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether it is still `seen`, which the caller has read before and forgotten up to. Relaxed:
    /// there is nothing new that it would have to read.
    #[inline(always)]
    pub(crate) fn is_still(&self, seen: u64) -> bool {
        self.generation.load(Ordering::Relaxed) == seen
    }

    /// Raises the generation for `range`, whose entries are changed already. One caller at a time:
    /// the lock of the space orders them. A full barrier of the caller follows.
    pub fn raise(&self, range: Range) -> u64 {
        let next = self.generation.load(Ordering::Relaxed) + 1;
        let note = &self.notes[next as usize % DEPTH];
        note.generation.store(0, Ordering::Relaxed);
        // Release: the 0 comes before the new contents. Pairs with the acquire fence in `note`.
        atomic::fence(Ordering::Release);
        note.start.store(range.start.0, Ordering::Relaxed);
        let tables = if range.freed == Freed::Tables { TABLES } else { 0 };
        note.extent.store(range.pages | tables, Ordering::Relaxed);
        // Relaxed: who looks for this note has acquired the generation, after which all of it is there.
        note.generation.store(next, Ordering::Relaxed);
        // Release: the entries and the note come before. Pairs with the acquire in `generation`.
        self.generation.store(next, unless(Mutant::GenerationRelaxed, Ordering::Release));
        next
    }

    /// What changed after generation `seen` up to `now`, which [`generation`](Self::generation) has said;
    /// everything, if that is more than `ceiling` pages.
    pub fn since(&self, seen: u64, now: u64, ceiling: u64) -> Missed {
        if seen >= now {
            return Missed::Nothing;
        }
        let mut ranges = ArrayVec::new();
        let mut pages = 0;
        let seen = if mutant::is(Mutant::M28) { now - 1 } else { seen };
        for generation in seen + 1..=now {
            // More than the log holds, rewritten meanwhile, or dearer than flushing all: `TLB-4`.
            let Some(range) = self.note(generation) else { return Missed::Everything };
            pages += range.pages;
            if pages > ceiling || ranges.try_push(range).is_err() {
                return Missed::Everything;
            }
        }
        Missed::Ranges(ranges)
    }

    fn note(&self, generation: u64) -> Option<Range> {
        let note = &self.notes[generation as usize % DEPTH];
        // Relaxed: that it was written comes with the generation that the caller has read; that it is
        // rewritten shows in the second look.
        let named =
            || note.generation.load(Ordering::Relaxed) == generation || mutant::is(Mutant::RewrittenNotes);
        if !named() {
            return None;
        }
        let start = VirtAddr(note.start.load(Ordering::Relaxed));
        let extent = note.extent.load(Ordering::Relaxed);
        // Acquire: the contents come before the second look at the number. Pairs with the release
        // fence in `raise`.
        atomic::fence(Ordering::Acquire);
        let freed = if extent & TABLES != 0 { Freed::Tables } else { Freed::PagesOnly };
        named().then_some(Range { start, pages: extent & !TABLES, freed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arch_contract::addr::PAGE_SIZE;

    const CEILING: u64 = 32;

    fn range(page: u64, pages: u64) -> Range {
        Range { start: VirtAddr(page * PAGE_SIZE), pages, freed: Freed::PagesOnly }
    }

    /// `TLB-4`: who is behind is told exactly what changed, as long as the log knows.
    #[test]
    fn tlb_4_a_gap_is_what_changed_or_everything() {
        crate::select_mutant();
        let log = FlushLog::new();
        assert_eq!(log.since(0, log.generation(), CEILING), Missed::Nothing);
        let tables = Range { freed: Freed::Tables, ..range(7, 3) };
        assert_eq!(log.raise(range(1, 2)), 1);
        assert_eq!(log.raise(tables), 2);
        assert_eq!(log.since(2, 2, CEILING), Missed::Nothing);
        assert_eq!(log.since(1, 2, CEILING), Missed::Ranges([tables].into_iter().collect()));
        assert_eq!(log.since(0, 2, CEILING), Missed::Ranges([range(1, 2), tables].into_iter().collect()));
        for page in 0..DEPTH as u64 - 1 {
            log.raise(range(page, 1));
        }
        assert!(
            matches!(log.since(1, log.generation(), CEILING), Missed::Ranges(ranges) if ranges.len() == DEPTH)
        );
        assert_eq!(log.since(0, log.generation(), CEILING), Missed::Everything);
    }

    /// `TLB-4`: many small changes are one large one.
    #[test]
    fn tlb_4_beyond_the_ceiling_it_is_everything() {
        let log = FlushLog::new();
        log.raise(range(0, CEILING));
        assert!(matches!(log.since(0, 1, CEILING), Missed::Ranges(_)));
        log.raise(range(0, 1));
        assert_eq!(log.since(0, 2, CEILING), Missed::Everything);
        assert!(matches!(log.since(1, 2, CEILING), Missed::Ranges(_)));
    }

    /// `TLB-4`: a note that is rewritten under the reader is not believed.
    #[test]
    fn tlb_4_a_rewritten_note_is_everything() {
        crate::select_mutant();
        let log = FlushLog::new();
        for _ in 0..=DEPTH {
            log.raise(range(1, 1));
        }
        assert_eq!(log.note(1), None);
        log.notes[2].generation.store(0, Ordering::Relaxed);
        assert_eq!(log.since(1, log.generation(), CEILING), Missed::Everything);
    }
}
