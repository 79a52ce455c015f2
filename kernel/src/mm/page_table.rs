//! User page tables: a radix tree that the generic kernel walks and builds itself.
//!
//! The shape and the entries are the architecture's ([`Paging`]); what is here holds for any of
//! them: tables come zeroed, are linked after that, and are charged to the space's budget. What is
//! taken out of the tree is *removed*, not freed: a CPU may still use it until it has flushed, so
//! [`PageTable::clear`] collects it in a [`Removed`], and the caller gives that back after the
//! flush that [`Removed::freed`] asks for.
//!
//! Only slots between `USER_START` and `USER_END` are touched; what the architecture keeps in the
//! rest of the root is its own.

use super::NoMemory;
use super::budget::Budget;
use super::frames::{Block, Order};
use super::memory::Memory;
use crate::object::Ref;
use crate::sync::{AtomicU64, Ordering};
use arch_contract::addr::{PAGE_SIZE, PhysAddr, VirtAddr};
use arch_contract::mutant::{self, Mutant};
use arch_contract::pte::{Entry, Leaf, Level, MemoryType, Paging, Protection, Usage};
use arch_contract::tlb::Freed;
use arch_current::Current;
use arrayvec::ArrayVec;
use core::ptr::NonNull;

const LEVELS: &[Level] = Current::LEVELS;
const LAST: usize = LEVELS.len() - 1;

const _: () = assert!(1 << LEVELS[LAST].shift == PAGE_SIZE, "the last level maps the smallest page");
const _: () = {
    let mut level = 0;
    while level < LEVELS.len() {
        assert!(LEVELS[level].table_bytes() >= PAGE_SIZE, "tables are whole frames");
        level += 1;
    }
};

/// Bytes of a large page: what one entry above the last level covers. A page, where that can be no leaf.
pub const LARGE: u64 = match LEVELS[LAST - 1].leaf {
    Leaf::Allowed => 1 << LEVELS[LAST - 1].shift,
    _ => PAGE_SIZE,
};

/// Pages that one [`Removed`] holds.
pub const BATCH: usize = 64;
/// Tables that one holds. Fewer than a step's pages can empty: it stops early then.
const TABLES: usize = 16;
/// Slots looked at in one step, at most: what bounds a walk through a hole.
const VISITS: u32 = 512;

/// A page that is mapped, or is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    pub frame: PhysAddr,
    pub protection: Protection,
    pub memory: MemoryType,
}

impl Page {
    /// One in RAM.
    pub fn ram(frame: PhysAddr, protection: Protection) -> Self {
        Self { frame, protection, memory: MemoryType::Normal }
    }
}

/// Why a page was not mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// No memory for a table, or no room in the budget.
    NoMemory,
    /// There is a page already.
    Taken,
}

/// Whose the frames are that are mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    Trees,
    Others,
}

/// What was taken out of the tree and may still be in use until a flush.
#[must_use = "pages that are dropped are lost"]
pub struct Removed {
    limit: usize,
    whose: Whose,
    pages: ArrayVec<Block, BATCH>,
    /// Pages whose frames are somebody else's.
    borrowed: usize,
    tables: ArrayVec<Block, TABLES>,
}

impl Removed {
    /// Nothing yet; room for `max_pages`, and [`BATCH`] at most.
    #[inline]
    pub fn new(max_pages: u64) -> Self {
        Self::of_pages(Whose::Trees, max_pages)
    }

    /// As [`new`](Self::new), for pages whose frames are the tree's or others'.
    // Inlined with all that lead here: it is large, and made where it stays.
    #[inline(always)]
    pub fn of_pages(whose: Whose, max_pages: u64) -> Self {
        let limit = max_pages.clamp(1, BATCH as u64) as usize;
        Self { limit, whose, pages: ArrayVec::new(), borrowed: 0, tables: ArrayVec::new() }
    }

    fn has_room(&self) -> bool {
        // One visit can empty a table on each level.
        self.pages.len() + self.borrowed < self.limit && self.tables.remaining_capacity() >= LEVELS.len()
    }

    /// Takes those out that `keeps` says somebody else owns now, who keeps the address for the block.
    /// Says how many.
    pub fn keep(&mut self, mut keeps: impl FnMut(PhysAddr) -> bool) -> u64 {
        let before = self.pages.len();
        self.pages.retain(|page| !keeps(page.at()));
        (before - self.pages.len()) as u64
    }

    /// The flush that must come before it is given back; `None` if nothing was removed.
    pub fn freed(&self) -> Option<Freed> {
        match (self.pages.is_empty() && self.borrowed == 0, self.tables.is_empty()) {
            (true, true) => None,
            (false, true) => Some(Freed::PagesOnly),
            (_, false) => Some(Freed::Tables),
        }
    }
}

/// The page tables of one address space.
pub struct PageTable {
    memory: &'static Memory,
    /// Charged for tables, not for pages.
    budget: Ref<Budget>,
    root: PhysAddr,
    /// The table of the last level that a page was last put into, and what lies in it: addresses from here
    /// on, of which there is none while it is not known. What is mapped next often lies beside it.
    recent: (VirtAddr, PhysAddr),
}

/// As a start of what lies in a table: nothing does.
const UNKNOWN: VirtAddr = VirtAddr(u64::MAX);

/// Where a walk ended.
struct Found {
    slot: NonNull<u64>,
    level: usize,
    entry: Entry,
    /// The tables passed, by level.
    path: [PhysAddr; LEVELS.len()],
}

fn order(level: usize) -> Order {
    // A table is at most 1 MiB on any machine; the assertion in `new_table` would show otherwise.
    Order::holding(LEVELS[level].table_bytes()).unwrap_or(Order::MAX)
}

impl PageTable {
    /// An empty tree that can be loaded.
    pub fn new(memory: &'static Memory, budget: Ref<Budget>) -> Result<Self, NoMemory> {
        let root = memory.alloc_zeroed(&budget, order(0))?.at();
        // SAFETY: a zeroed table of level 0, just allocated.
        unsafe { Current::init_root(memory.machine(), root) };
        let recent = (UNKNOWN, root);
        Ok(Self { memory, budget, root, recent })
    }

    /// Where the root is.
    pub fn root(&self) -> PhysAddr {
        self.root
    }

    fn slot(&self, table: PhysAddr, level: usize, at: VirtAddr) -> NonNull<u64> {
        self.slots(table).add_index(LEVELS[level].index(at))
    }

    fn slots(&self, table: PhysAddr) -> Slots {
        Slots(Current::phys(self.memory.machine(), table).cast())
    }

    /// Follows tables down to the slot that decides about `at`.
    fn walk(&self, at: VirtAddr) -> Found {
        let mut path = [self.root; LEVELS.len()];
        let mut level = 0;
        loop {
            let slot = self.slot(path[level], level, at);
            let entry = Current::decode(read(slot), level);
            match entry {
                Entry::Table(next) if level < LAST => {
                    level += 1;
                    path[level] = next;
                }
                _ => return Found { slot, level, entry, path },
            }
        }
    }

    /// The slot of the last level for `at`, if it lies in the table that a page was last put into.
    #[inline(always)]
    fn recent_slot(&self, at: VirtAddr) -> Option<NonNull<u64>> {
        let (start, table) = self.recent;
        (covered(at) == start).then(|| self.slot(table, LAST, at))
    }

    /// Whether [`map_beside`](Self::map_beside) can map a page at `at`.
    #[inline(always)]
    pub fn is_free_beside(&self, at: VirtAddr) -> bool {
        self.recent_slot(at).is_some_and(|slot| read(slot) == 0)
    }

    /// Maps the page at `at`, if none is there and it lies in the table that a page was last put into. Else
    /// nothing is done.
    #[inline(always)]
    pub fn map_beside(&mut self, at: VirtAddr, page: Page) -> Option<()> {
        let slot = self.recent_slot(at)?;
        (read(slot) == 0).then(|| self.put(slot, page))
    }

    /// Writes the entry of a page into a slot of the last level that has none.
    #[inline(always)]
    fn put(&mut self, slot: NonNull<u64>, page: Page) {
        let Page { frame, protection, memory } = page;
        let entry = Entry::Leaf { at: frame, protection, memory, usage: Usage::default() };
        // SAFETY: a slot of a table of this tree, which `&mut self` makes ours to write. It was absent, so
        // nothing needs a flush.
        unsafe { Current::write_entry(slot, Current::encode(entry, LAST)) };
    }

    /// The page that `at` lies in.
    pub fn lookup(&self, at: VirtAddr) -> Option<Page> {
        debug_assert!(is_user(at));
        if let Some(slot) = self.recent_slot(at)
            && Current::decode(read(slot), LAST) == Entry::Absent
        {
            return None;
        }
        let found = self.walk(at);
        match found.entry {
            Entry::Leaf { at: frame, protection, memory, .. } => {
                let inside = at.page().0 & ((1 << LEVELS[found.level].shift) - 1);
                Some(Page { frame: PhysAddr(frame.0 + inside), protection, memory })
            }
            _ => None,
        }
    }

    /// Maps one page. New tables stay if a later one is refused; [`clear`](Self::clear) takes empty
    /// ones along.
    pub fn map_page(&mut self, at: VirtAddr, page: Page) -> Result<(), MapError> {
        debug_assert!(is_user(at) && at.is_aligned(PAGE_SIZE) && page.frame.is_aligned(PAGE_SIZE));
        if self.map_beside(at, page).is_some() {
            return Ok(());
        }
        let found = self.reach(at, LAST)?;
        if found.entry != Entry::Absent {
            return Err(MapError::Taken);
        }
        self.recent = (covered(at), found.path[LAST]);
        self.put(found.slot, page);
        Ok(())
    }

    /// Maps a large page at `at`: `page` is its first. `false` if that is not possible, since something is
    /// mapped there, or a table is there: nothing was done. It is taken out as it was put in, whole: so no leaf is
    /// ever split, which would take memory for a table.
    pub fn map_large(&mut self, at: VirtAddr, page: Page) -> Result<bool, MapError> {
        debug_assert!(is_user(at) && at.is_aligned(LARGE) && page.frame.is_aligned(LARGE));
        let found = self.reach(at, LAST - 1)?;
        if LARGE == PAGE_SIZE || found.level != LAST - 1 || found.entry != Entry::Absent {
            return Ok(false);
        }
        let Page { frame, protection, memory } = page;
        let protection =
            if mutant::is(Mutant::LargePagesAreWritable) { Protection::ReadWrite } else { protection };
        let entry = Entry::Leaf { at: frame, protection, memory, usage: Usage::default() };
        // SAFETY: a slot of a table of this tree, which `&mut self` makes ours to write. It was absent, so
        // nothing needs a flush.
        unsafe { Current::write_entry(found.slot, Current::encode(entry, LAST - 1)) };
        Ok(true)
    }

    /// Where the walk to `at` ends, with tables made down to that of level `last`, unless a leaf comes first.
    fn reach(&mut self, at: VirtAddr, last: usize) -> Result<Found, MapError> {
        let mut found = self.walk(at);
        while found.level < last && found.entry == Entry::Absent {
            let next = found.level + 1;
            let table =
                self.memory.alloc_zeroed(&self.budget, order(next)).map_err(|_| MapError::NoMemory)?.at();
            // SAFETY: a slot of a table of this tree, which `&mut self` makes ours to write.
            unsafe { Current::write_entry(found.slot, Current::encode(Entry::Table(table), found.level)) };
            found.path[next] = table;
            found = Found {
                slot: self.slot(table, next, at),
                level: next,
                entry: Entry::Absent,
                path: found.path,
            };
        }
        Ok(found)
    }

    /// Takes pages from `start` on out of the tree, and tables that are empty then. Stops before
    /// `end` when `removed` is full or enough was looked at; returns where to go on. Both ends are
    /// page-aligned and inside the user range.
    pub fn clear(&mut self, start: VirtAddr, end: VirtAddr, removed: &mut Removed) -> VirtAddr {
        let mut at = start;
        let mut visits = 0;
        while at < end && removed.has_room() && visits < VISITS {
            visits += 1;
            let found = self.walk(at);
            if let Entry::Leaf { at: frame, .. } = found.entry {
                let pages = 1 << LEVELS[found.level].shift;
                // Large ones are others', who take all of what they have put in.
                let whole = at.is_aligned(pages) && pages <= end.0 - at.0;
                assert!(whole && (found.level == LAST || removed.whose == Whose::Others), "a part of a page");
                // SAFETY: a slot of a table of this tree, ours to write; the caller flushes.
                unsafe { Current::write_entry(found.slot, Current::encode(Entry::Absent, found.level)) };
                match removed.whose {
                    // SAFETY: the tree owns the frame, and it is out of the tree now.
                    Whose::Trees => removed.pages.push(unsafe { Block::from_owned(frame, Order::FRAME) }),
                    Whose::Others => removed.borrowed += 1,
                }
            }
            let covered = 1 << LEVELS[found.level].shift;
            // USER_END is far from wrapping.
            let next = VirtAddr((at.0 & !(covered - 1)) + covered).min(end);
            self.prune(&found, at, next, end, removed);
            at = next;
        }
        at
    }

    /// Unlinks the tables on the path to `at` that are empty, if the clearing is through with
    /// them: `next`, where it goes on, lies beyond them or is the end.
    fn prune(&mut self, found: &Found, at: VirtAddr, next: VirtAddr, end: VirtAddr, removed: &mut Removed) {
        for level in (1..=found.level).rev() {
            let above = LEVELS[level - 1];
            let inside = at.0 >> above.shift == next.0 >> above.shift;
            if (inside && next < end) || !self.is_empty(found.path[level], level) {
                return;
            }
            let slot = self.slot(found.path[level - 1], level - 1, at);
            // SAFETY: as in `clear`.
            unsafe { Current::write_entry(slot, Current::encode(Entry::Absent, level - 1)) };
            self.recent = (UNKNOWN, self.root);
            // SAFETY: a table in the tree owns its block, and it is out of the tree now.
            removed.tables.push(unsafe { Block::from_owned(found.path[level], order(level)) });
        }
    }

    fn is_empty(&self, table: PhysAddr, level: usize) -> bool {
        let slots = self.slots(table);
        (0..1 << LEVELS[level].index_bits).all(|index| read(slots.add_index(index)) == 0)
    }

    /// Gives back what was removed. The flush that [`Removed::freed`] asks for is done, or no CPU
    /// can have cached anything of this tree. The pages' charge is the caller's to refund.
    pub fn give_back(&self, mut removed: Removed) {
        // Out of where they lie: there is room for many more than there mostly are.
        while let Some(page) = removed.pages.pop() {
            self.memory.give_back_block(page);
        }
        while let Some(table) = removed.tables.pop() {
            self.memory.free_block(&self.budget, table);
        }
    }
}

impl Drop for PageTable {
    /// The tree is loaded nowhere. Usually it is empty by now; if its space was never used, what
    /// is in it goes here at once.
    fn drop(&mut self) {
        let mut at = Current::USER_START;
        while at < Current::USER_END {
            let mut removed = Removed::new(BATCH as u64);
            at = self.clear(at, Current::USER_END, &mut removed);
            self.give_back(removed);
        }
        // SAFETY: the tree owns its root, and ends here.
        let root = unsafe { Block::from_owned(self.root, order(0)) };
        self.memory.free_block(&self.budget, root);
    }
}

/// The slots of a table, through the physical map.
#[derive(Clone, Copy)]
struct Slots(NonNull<u64>);

impl Slots {
    fn add_index(self, index: usize) -> NonNull<u64> {
        // SAFETY: a level's index is smaller than its table, and a table is contiguous in the
        // physical map.
        unsafe { self.0.add(index) }
    }
}

fn read(slot: NonNull<u64>) -> u64 {
    // SAFETY: an aligned slot of a live table. Atomic, since hardware may set bits in it.
    unsafe { AtomicU64::from_ptr(slot.as_ptr()) }.load(Ordering::Relaxed)
}

/// Where that begins which lies in one table of the last level with `at`.
fn covered(at: VirtAddr) -> VirtAddr {
    VirtAddr(at.0 & !((1 << LEVELS[LAST - 1].shift) - 1))
}

/// Whether `at` can be a user's address.
pub fn is_user(at: VirtAddr) -> bool {
    at >= Current::USER_START && at < Current::USER_END
}
