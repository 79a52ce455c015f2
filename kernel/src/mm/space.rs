//! A user address space: regions that were granted, pages that are there, tables that say so.
//!
//! A *region* is a range with one protection, charged in full when it is reserved; so running out
//! of budget shows before anything is mapped, and filling it can fail only for want of frames or
//! tables. Pages and tables follow in slices: [`Space::populate`] and [`Space::release`] do a
//! bounded number and are called again, and whoever shares the space may run in between. Every
//! slice therefore looks at the regions anew and trusts nothing from before.
//!
//! What is unmapped goes back to the frames only after the flush. What is torn down needs none:
//! no CPU holds the space any more (`CTX-9`), and retiring it, which comes first, makes this CPU
//! forget all of it.

mod regions;
mod shootdown;

pub use regions::{AttachmentId, Region};

use self::regions::{Granted, Owner, Regions, Source};
use super::NoMemory;
use super::budget::Budget;
use super::frames::Order;
use super::heap::Charged;
use super::ids::HardwareIds;
use super::memory::Memory;
use super::object::MemoryObject;
use super::page_table::{LARGE, MapError, Page, PageTable, Removed, Whose, is_user};
use super::pins::Pins;
use crate::cpu::Cpu;
use crate::object::Ref;
use crate::rendezvous::{self, Point};
use crate::sync::{Guard, Lock};
use crate::trace;
use abi::trace::Kind;
use arch_contract::addr::{PAGE_SIZE, PhysAddr, VirtAddr};
use arch_contract::barrier::Barriers;
use arch_contract::context::{ContextId, Contexts, HardwareId};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::pte::{MemoryType, Paging, Protection};
use arch_contract::trap::Access;
use arch_current::Current;
use protocol::shared::Shared;

/// Why the space refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpaceError {
    NoMemory,
    /// Empty, or not wholly inside the user range.
    BadRange,
    /// Overlaps a region.
    Taken,
    /// A page of the range is not there.
    NotMapped,
    /// Address or length are not whole pages.
    Misaligned,
}

impl From<NoMemory> for SpaceError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

/// Whether work that comes in slices is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Progress {
    /// Call again.
    More,
    Done,
}

/// How a page stands that was touched.
pub enum PageIn {
    /// It is no pager's, or the access is not allowed.
    NotPaged,
    /// It is mapped: the access can be made again.
    There,
    /// The pager of the object has to supply the page at this offset.
    Absent(Ref<MemoryObject>, u64),
}

/// The large page that begins at `at` in `granted`, if there is one: all of it is an attachment's, which goes
/// as it came, as a whole. Code is published page by page, and so not mapped otherwise.
fn large_page(granted: &Granted, at: VirtAddr) -> Option<Page> {
    let (region, source) = (granted.region(), granted.source()?);
    if !at.is_aligned(LARGE) || region.end().0 - at.0 < LARGE || region.protection == Protection::ReadExecute
    {
        return None;
    }
    source.object.large_page(at.0.wrapping_sub(source.origin), region.protection)
}

/// Whether a page with this protection can be used so.
const fn allows(protection: Protection, access: Access) -> bool {
    matches!(
        (protection, access),
        (_, Access::Read)
            | (Protection::ReadWrite, Access::Write)
            | (Protection::ReadExecute, Access::Execute)
    )
}

/// Whether the port's part still exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    Usable,
    /// Retired; freed up to this address.
    Retired(VirtAddr),
}

struct Inner {
    /// `None` once it is torn down: a process that has ended may be named for long, and its root
    /// can be large.
    table: Option<PageTable>,
    regions: Regions,
    pins: Pins,
    /// Charged for all regions and for pinned frames that were unmapped, together, in bytes.
    charged: u64,
    life: Life,
}

/// An address space.
///
/// It ends by [`teardown_step`](Self::teardown_step) until that is done. Only one that was never
/// loaded may be dropped without; it gives everything back too.
pub struct Space {
    memory: &'static Memory,
    budget: Ref<Budget>,
    id: ContextId,
    hardware: HardwareId,
    /// Where `hardware` goes back to.
    ids: &'static HardwareIds,
    mm: <Current as Contexts>::Mm,
    /// Off the cache lines of the lock and of what the lock guards, so that entering a space that
    /// has run here before writes no line that another CPU reads.
    shared: Shared,
    inner: Lock<Inner>,
}

impl Space {
    /// An empty space that any CPU may load. `id` was never used before.
    pub fn new(
        cpu: &Cpu,
        memory: &'static Memory,
        budget: Ref<Budget>,
        id: ContextId,
        irq: &IrqsOff,
    ) -> Result<Self, SpaceError> {
        let table = PageTable::new(memory, budget.clone())?;
        let hardware = cpu.kernel.ids.take(cpu, irq)?;
        if !cpu.kernel.ids.are_per_cpu() {
            trace::event(cpu, Kind::IdTaken, id.get(), hardware.0.into());
        }
        let mm = Current::new_mm(memory.machine(), table.root(), id, hardware);
        let charged = Charged { memory, budget: budget.clone() };
        let (regions, pins) = (Regions::new(charged.clone()), Pins::new(charged));
        let inner = Inner { table: Some(table), regions, pins, charged: 0, life: Life::Usable };
        let shared = Shared::new();
        let ids = &cpu.kernel.ids;
        Ok(Self { memory, budget, id, hardware, ids, mm, shared, inner: Lock::new(inner) })
    }

    /// The port's part, for the context hooks.
    pub fn mm(&self) -> &<Current as Contexts>::Mm {
        &self.mm
    }

    pub fn id(&self) -> ContextId {
        self.id
    }

    /// What CPUs share of it without its lock.
    #[inline(always)]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Grants `len` bytes at `at`, or where there is room, and charges them. Maps nothing yet.
    pub fn reserve(
        &self,
        cpu: &Cpu,
        at: Option<VirtAddr>,
        len: u64,
        protection: Protection,
    ) -> Result<Region, SpaceError> {
        if !len.is_multiple_of(PAGE_SIZE) || at.is_some_and(|at| !at.is_aligned(PAGE_SIZE)) {
            return Err(SpaceError::Misaligned);
        }
        let mut inner = self.inner.lock(cpu);
        let start = inner.find_room(at, len)?;
        let region = Region { start, len, protection, attachment: None };
        let granted = inner.regions.make(Granted::new(region, None))?;
        self.budget.charge(len)?;
        inner.charged += len;
        inner.regions.insert(granted);
        Ok(region)
    }

    /// As [`reserve`](Self::reserve), for the part of `object` from `offset` on, a multiple of the page
    /// size: `id`, which was never used before. The frames are the object's, and so is their charge.
    pub fn attach(
        &self,
        cpu: &Cpu,
        at: Option<VirtAddr>,
        len: u64,
        protection: Protection,
        (id, object, offset): (AttachmentId, Ref<MemoryObject>, u64),
    ) -> Result<Region, SpaceError> {
        let mut inner = self.inner.lock(cpu);
        let start = match at {
            None if len >= LARGE => inner.find_room_for_large(len, offset),
            _ => None,
        };
        let start = start.map_or_else(|| inner.find_room(at, len), Ok)?;
        let region = Region { start, len, protection, attachment: Some(id) };
        let source = Source { object, origin: start.0.wrapping_sub(offset) };
        let granted = inner.regions.make(Granted::new(region, Some(source)))?;
        inner.regions.insert(granted);
        Ok(region)
    }

    /// As [`attach`](Self::attach) and [`populate`](Self::populate) of one page, `page`, which is no code, where
    /// nothing has to be waited for: nobody holds the space, there is room at `at`, and the tables are those
    /// that were used last. `None` if it is not so; then nothing was done.
    #[inline(always)]
    pub fn attach_beside(
        &self,
        at: UserRange,
        page: Page,
        (id, object, offset): (AttachmentId, Ref<MemoryObject>, u64),
    ) -> Option<()> {
        let mut guard = self.inner.try_lock()?;
        let inner = &mut *guard;
        let table = inner.table.as_mut()?;
        if !table.is_free_beside(at.start) {
            return None;
        }
        let (start, protection) = (at.start, page.protection);
        let region = Region { start, len: PAGE_SIZE, protection, attachment: Some(id) };
        let source = Source { object, origin: start.0.wrapping_sub(offset) };
        let granted = inner.regions.make(Granted::new(region, Some(source))).ok()?;
        inner.regions.insert_if_free(granted).ok()?;
        table.map_beside(start, page)
    }

    /// Maps zeroed frames for up to `max_pages` pages of `region` from its `from_page`-th on, and
    /// returns how many it is through with. Pages that are there already, or whose region is gone
    /// since, count: there is nothing left to do for them. On an error some may have been mapped;
    /// the caller releases the region.
    pub fn populate(
        &self,
        cpu: &Cpu,
        region: &Region,
        from_page: u64,
        max_pages: u64,
        _irq: &IrqsOff,
    ) -> Result<u64, NoMemory> {
        let count = (region.len / PAGE_SIZE).saturating_sub(from_page).min(max_pages);
        let mut guard = self.inner.lock(cpu);
        let inner = &mut *guard;
        let Some(table) = &mut inner.table else { return Ok(count) };
        let mut at = VirtAddr(region.start.0 + from_page * PAGE_SIZE);
        let end = VirtAddr(at.0 + count * PAGE_SIZE);
        // Further than the end if a large page is.
        let mut through = end;
        while at < end {
            let Some(now) = inner.regions.first_from(at) else { break };
            at = at.max(now.region().start());
            let to = now.region().end().min(end);
            while at < to {
                if let Some(page) = large_page(now, at)
                    && table.map_large(at, page).map_err(|_| NoMemory)?
                {
                    at = VirtAddr(at.0 + LARGE);
                    through = through.max(at);
                    continue;
                }
                if table.lookup(at).is_none() {
                    self.fill(table, cpu, at, now)?;
                }
                at = VirtAddr(at.0 + PAGE_SIZE);
            }
        }
        Ok((through.0 - region.start.0) / PAGE_SIZE - from_page)
    }

    /// The page at `at`, which was touched: maps it if it is its object's pager's and is there. `NoMemory`
    /// if there is none for a table.
    pub fn page_in(&self, cpu: &Cpu, at: VirtAddr, access: Access) -> Result<PageIn, NoMemory> {
        let mut inner = self.inner.lock(cpu);
        self.page_in_held(&mut inner, cpu, at, access)
    }

    /// As [`page_in`](Self::page_in). `None` if somebody holds the space.
    pub fn try_page_in(&self, cpu: &Cpu, at: VirtAddr, access: Access) -> Option<Result<PageIn, NoMemory>> {
        let mut inner = self.inner.try_lock()?;
        Some(self.page_in_held(&mut inner, cpu, at, access))
    }

    fn page_in_held(
        &self,
        inner: &mut Inner,
        cpu: &Cpu,
        at: VirtAddr,
        access: Access,
    ) -> Result<PageIn, NoMemory> {
        let at = at.page();
        let granted = inner.regions.find(at).filter(|granted| allows(granted.region().protection, access));
        let paged = granted.and_then(|granted| {
            let source = granted.source()?;
            Some((granted, source, source.object.paged()?))
        });
        let Some((granted, source, paged)) = paged else { return Ok(PageIn::NotPaged) };
        let offset = at.0.wrapping_sub(source.origin);
        let (Some(_), Some(table)) = (paged.frame(offset), &mut inner.table) else {
            return Ok(PageIn::Absent(source.object.clone(), offset));
        };
        if table.lookup(at).is_none() {
            self.fill(table, cpu, at, granted)?;
        }
        Ok(PageIn::There)
    }

    /// Whether a page is mapped at `at`.
    #[cfg(test)]
    pub fn is_mapped(&self, cpu: &Cpu, at: VirtAddr) -> bool {
        self.inner.lock(cpu).table.as_ref().is_some_and(|table| table.lookup(at).is_some())
    }

    /// Maps the page at `at`, which lies in `granted`.
    fn fill(
        &self,
        table: &mut PageTable,
        cpu: &Cpu,
        at: VirtAddr,
        granted: &Granted,
    ) -> Result<(), NoMemory> {
        let protection = granted.region().protection;
        let Some(source) = granted.source() else {
            return self.map_zeroed(table, cpu, at, protection);
        };
        let Some(page) = source.object.page(at.0.wrapping_sub(source.origin), protection) else {
            return Ok(());
        };
        self.publish(cpu, page, PAGE_SIZE as usize);
        table.map_page(at, page).map_err(|_| NoMemory)
    }

    fn map_zeroed(
        &self,
        table: &mut PageTable,
        cpu: &Cpu,
        at: VirtAddr,
        protection: Protection,
    ) -> Result<(), NoMemory> {
        let late = mutant::is(Mutant::ClearedAfterItsEntry);
        let frame =
            if late { self.memory.take_block(Order::FRAME) } else { self.memory.take_zeroed(Order::FRAME) }?;
        let page = Page::ram(frame.at(), protection);
        self.publish(cpu, page, PAGE_SIZE as usize);
        match table.map_page(at, page) {
            // The tree owns the frame now.
            Ok(()) => {
                rendezvous::point(cpu, Point::PageMapped);
                if late {
                    self.memory.clear(&frame);
                }
                Ok(())
            }
            Err(MapError::NoMemory | MapError::Taken) => {
                self.memory.give_back_block(frame);
                Err(NoMemory)
            }
        }
    }

    /// Makes what was written to a page, or to the first `len` bytes from its `frame` on, visible as
    /// instructions, where it can be executed: what was fetched from there in its earlier use is stale.
    /// A device's registers are not in the physical map, and hold no instructions. `CODE-2`
    fn publish(&self, cpu: &Cpu, page: Page, len: usize) {
        let code = page.protection == Protection::ReadExecute && page.memory == MemoryType::Normal;
        if code && !mutant::is(Mutant::CodeUnpublished) {
            let start = Current::phys(self.memory.machine(), page.frame);
            // SAFETY: RAM of a frame that is held, in the physical map.
            unsafe { Current::publish_code(cpu.arch(), start, len) };
        }
    }

    /// Takes pages and regions out of `range`, as far as they reach into it; what is not
    /// mapped is skipped. Does up to `max_pages` pages; call again with the same range while there
    /// is more. Only the first call can fail, for want of memory to split a region, and has done
    /// nothing then. What is attached counts as not mapped.
    #[inline]
    pub fn release(
        &self,
        cpu: &Cpu,
        range: UserRange,
        max_pages: u64,
        irq: &IrqsOff,
    ) -> Result<Progress, SpaceError> {
        let inner = self.inner.lock(cpu);
        match inner.regions.first_of(Owner::Space, range.start, range.end) {
            None => Ok(Progress::Done),
            Some(region) => self.release_from(cpu, inner, region, range, max_pages, irq),
        }
    }

    /// Unmaps an attachment, which is all of `range`, as [`release`](Self::release) does its pages. When
    /// it is done the space refers to the object no more.
    pub fn detach(
        &self,
        cpu: &Cpu,
        id: AttachmentId,
        range: UserRange,
        max_pages: u64,
        irq: &IrqsOff,
    ) -> Progress {
        let inner = self.inner.lock(cpu);
        let Some(region) = inner.regions.attachment(id, range.end) else { return Progress::Done };
        // It begins inside the range, so there is nothing to split, and this cannot fail.
        self.release_from(cpu, inner, region, range, max_pages, irq).unwrap_or(Progress::Done)
    }

    /// As [`release`](Self::release) for `range`; `region`, which has a page in it, is what goes. Out of
    /// line: what it keeps on the stack is paid for where there is something to release.
    #[inline(never)]
    fn release_from(
        &self,
        cpu: &Cpu,
        mut guard: Guard<'_, Inner>,
        region: Region,
        range: UserRange,
        max_pages: u64,
        irq: &IrqsOff,
    ) -> Result<Progress, SpaceError> {
        let UserRange { start, end } = range;
        let inner = &mut *guard;
        let of = region.attachment;
        let region = inner.regions.split(region, start)?;
        let (from, to) = (region.start, region.end().min(end));

        let Some(table) = &mut inner.table else { return Ok(Progress::Done) };
        let mut removed = Removed::of(of, max_pages);
        let reached = table.clear(from, to, &mut removed);
        let bytes = reached.0 - from.0;
        // What it refers to goes after the flush, and outside the lock.
        let gone = inner.regions.cut_below(region, reached);
        let pages = bytes / PAGE_SIZE;
        let pages =
            if mutant::is(Mutant::LargePageFlushedAsSmall) && pages >= LARGE / PAGE_SIZE { 1 } else { pages };
        self.flush(cpu, from, pages, &removed, irq);
        let kept = inner.pins.take_over(&mut removed) * PAGE_SIZE;
        table.give_back(removed);
        if of.is_none() {
            inner.charged -= bytes - kept;
            self.budget.refund(bytes - kept);
        }
        let more = match of {
            None => inner.regions.first_of(Owner::Space, start, end).is_some(),
            Some(_) => gone.is_none(),
        };
        drop(guard);
        drop(gone);
        Ok(if more { Progress::More } else { Progress::Done })
    }

    /// Fills pages that are mapped, through the physical map and whatever they allow: for the
    /// program loader. Bytes before the first page that is missing are written.
    pub fn write_bytes(&self, cpu: &Cpu, at: VirtAddr, bytes: &[u8]) -> Result<(), SpaceError> {
        if bytes.is_empty() {
            return Ok(());
        }
        user_range(at, bytes.len() as u64)?;
        let inner = self.inner.lock(cpu);
        let mut done = 0;
        while done < bytes.len() {
            let at = VirtAddr(at.0 + done as u64);
            let inside = at.0 - at.page().0;
            let piece = (bytes.len() - done).min((PAGE_SIZE - inside) as usize);
            let mapped = inner.table.as_ref().and_then(|table| table.lookup(at));
            let page = mapped.filter(|page| page.memory == MemoryType::Normal);
            let page = page.ok_or(SpaceError::NotMapped)?;
            let page = Page { frame: PhysAddr(page.frame.0 + inside), ..page };
            let to = Current::phys(self.memory.machine(), page.frame);
            let from = &bytes[done..done + piece];
            // SAFETY: the bytes lie in one frame, which the mapping holds while the space is
            // locked; user programs are no Rust code, so nothing here refers to it.
            unsafe { to.as_ptr().copy_from_nonoverlapping(from.as_ptr(), piece) };
            self.publish(cpu, page, piece);
            done += piece;
        }
        Ok(())
    }

    /// Puts bytes where user mode could, through the physical map. Says how many: up to the first that
    /// it could not write, or that is a device's. At most a page of them, for the time the lock is held.
    pub fn store(&self, cpu: &Cpu, at: VirtAddr, bytes: &[u8]) -> usize {
        debug_assert!(bytes.len() <= PAGE_SIZE as usize);
        if user_range(at, bytes.len() as u64).is_err() {
            return 0;
        }
        let inner = self.inner.lock(cpu);
        let mut done = 0;
        while done < bytes.len() {
            let at = VirtAddr(at.0 + done as u64);
            let inside = at.0 - at.page().0;
            let piece = (bytes.len() - done).min((PAGE_SIZE - inside) as usize);
            let mapped = inner.table.as_ref().and_then(|table| table.lookup(at));
            let may = |page: &Page| {
                page.memory == MemoryType::Normal
                    && (page.protection == Protection::ReadWrite || mutant::is(Mutant::CopiedAnywhere))
            };
            let Some(page) = mapped.filter(may) else { break };
            let to = Current::phys(self.memory.machine(), PhysAddr(page.frame.0 + inside));
            // SAFETY: the bytes lie in one frame of RAM, which the mapping holds while the space is
            // locked; user programs are no Rust code, so nothing here refers to it.
            unsafe { to.as_ptr().copy_from_nonoverlapping(bytes[done..].as_ptr(), piece) };
            done += piece;
        }
        done
    }

    /// Keeps the frame that `at` lies in allocated, whatever becomes of the mapping, until
    /// [`unpin`](Self::unpin) or the end of the space. Returns where `at` lies in it. `NotMapped` if
    /// user mode cannot write there, or if it is attached: its frame is the object's.
    pub fn pin(&self, cpu: &Cpu, at: VirtAddr) -> Result<PhysAddr, SpaceError> {
        let mut inner = self.inner.lock(cpu);
        let own = inner.regions.find(at).is_some_and(|granted| granted.source().is_none());
        if !is_user(at) || inner.life != Life::Usable || !own {
            return Err(SpaceError::NotMapped);
        }
        match inner.table.as_ref().and_then(|table| table.lookup(at)) {
            Some(Page { frame, protection: Protection::ReadWrite, .. }) => {
                inner.pins.pin(frame)?;
                Ok(PhysAddr(frame.0 + (at.0 - at.page().0)))
            }
            _ => Err(SpaceError::NotMapped),
        }
    }

    /// Undoes a [`pin`](Self::pin), which returned `at`.
    pub fn unpin(&self, cpu: &Cpu, at: PhysAddr) {
        let mut inner = self.inner.lock(cpu);
        if let Some(block) = inner.pins.unpin(PhysAddr(at.0 & !(PAGE_SIZE - 1))) {
            inner.charged -= block.bytes();
            self.memory.free_block(&self.budget, block);
        }
    }

    /// The writer's part of code modification for `at..at + len`: bytes before the first page that
    /// is missing are published. `CODE-2`
    pub fn publish_range(&self, cpu: &Cpu, at: VirtAddr, len: u64) -> Result<(), SpaceError> {
        if len == 0 {
            return Ok(());
        }
        let (mut at, end) = user_range(at, len)?;
        let inner = self.inner.lock(cpu);
        while at < end {
            let mapped = inner.table.as_ref().and_then(|table| table.lookup(at));
            let page = mapped.ok_or(SpaceError::NotMapped)?;
            let inside = at.0 - at.page().0;
            let piece = (end.0 - at.0).min(PAGE_SIZE - inside);
            // Whatever the page allows: it may be mapped for execution elsewhere.
            let frame = PhysAddr(page.frame.0 + inside);
            self.publish(cpu, Page { frame, protection: Protection::ReadExecute, ..page }, piece as usize);
            at = VirtAddr(at.0 + piece);
        }
        Ok(())
    }

    /// What the region around `at` allows; `None` where nothing was ever granted. For messages
    /// about faults.
    pub fn protection_at(&self, cpu: &Cpu, at: VirtAddr) -> Option<Protection> {
        self.inner.lock(cpu).regions.find(at).map(|granted| granted.region().protection)
    }

    /// The page that is mapped at `at`.
    #[cfg(test)]
    pub(super) fn page_at(&self, cpu: &Cpu, at: VirtAddr) -> Option<Page> {
        self.inner.lock(cpu).table.as_ref().and_then(|table| table.lookup(at))
    }

    /// One slice of taking the space apart: the port's part, then up to `max_pages` pages and the
    /// tables that are empty then, then the charge.
    ///
    /// The space is loaded on no CPU, not even lazily, and never will be again (`CTX-9`); no other
    /// operation on it is under way.
    pub fn teardown_step(&self, cpu: &Cpu, max_pages: u64) -> Progress {
        let mut inner = self.inner.lock(cpu);
        if inner.life == Life::Usable {
            if !self.ids.are_per_cpu() {
                trace::event(cpu, Kind::IdRetired, self.id.get(), self.hardware.0.into());
            }
            trace::event(cpu, Kind::FreeTables, self.id.get(), 0);
            // SAFETY: the caller's obligation, `CTX-9`.
            unsafe { Current::retire_mm(self.memory.machine(), &self.mm) };
            self.ids.retire(self.hardware);
            inner.life = Life::Retired(Current::USER_START);
        }
        inner.free_slice(&self.budget, max_pages)
    }
}

impl Inner {
    /// Where a region of `len` bytes goes.
    fn find_room(&self, at: Option<VirtAddr>, len: u64) -> Result<VirtAddr, SpaceError> {
        match at {
            Some(at) if self.regions.is_free(user_range(at, len)?) => Ok(at),
            Some(_) => Err(SpaceError::Taken),
            None if len == 0 => Err(SpaceError::BadRange),
            None => self.regions.choose(len).ok_or(SpaceError::NoMemory),
        }
    }

    /// Where the kernel puts `len` bytes of an object from `offset` on, if there is room where its large pages
    /// can be.
    fn find_room_for_large(&self, len: u64, offset: u64) -> Option<VirtAddr> {
        let room = self.regions.choose(len.checked_add(LARGE)?)?;
        Some(VirtAddr(room.0 + (offset.wrapping_sub(room.0) & (LARGE - 1))))
    }

    /// Frees up to `max_pages` pages of a space that is retired.
    fn free_slice(&mut self, budget: &Budget, max_pages: u64) -> Progress {
        let Life::Retired(from) = self.life else { return Progress::Done };
        let Some(table) = &mut self.table else { return Progress::Done };
        // Up to the next region whose frames are others', or through it.
        let end = Current::USER_END;
        let (to, of) = match self.regions.first_of(Owner::Object, from, end) {
            None => (end, None),
            Some(region) if region.start > from => (region.start, None),
            Some(region) => (region.end(), region.attachment),
        };
        let mut removed = Removed::of(of, max_pages);
        let reached = table.clear(from, to, &mut removed);
        table.give_back(removed);
        self.life = Life::Retired(reached);
        if reached < Current::USER_END {
            return Progress::More;
        }
        for _ in 0..max_pages {
            match self.regions.pop() {
                None => break,
                // One at a time: it may be the last reference to an object.
                Some(granted) if granted.source().is_some() => return Progress::More,
                Some(_) => {}
            }
        }
        if !self.regions.is_empty() {
            return Progress::More;
        }
        debug_assert!(self.pins.is_empty(), "a thread ended with its pin");
        self.table = None;
        budget.refund(core::mem::take(&mut self.charged));
        Progress::Done
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let inner = self.inner.get_mut();
        if inner.life == Life::Usable {
            // SAFETY: a space that was loaded is torn down before it is dropped: this one was not.
            unsafe { Current::retire_mm(self.memory.machine(), &self.mm) };
            self.ids.give_back(self.hardware);
            inner.life = Life::Retired(Current::USER_START);
        }
        while inner.free_slice(&self.budget, u64::MAX) == Progress::More {}
    }
}

impl Removed {
    /// For pages of an attachment, or of none.
    #[inline(always)]
    fn of(attachment: Option<AttachmentId>, max_pages: u64) -> Self {
        let whose = if attachment.is_some() { Whose::Others } else { Whose::Trees };
        Self::of_pages(whose, max_pages)
    }
}

/// Pages of a user's, at least one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserRange {
    start: VirtAddr,
    end: VirtAddr,
}

impl UserRange {
    /// `len` bytes at `at`. `Misaligned` if those are no pages, `BadRange` if it is empty or not wholly
    /// user's.
    pub fn new(at: VirtAddr, len: u64) -> Result<Self, SpaceError> {
        if !at.is_aligned(PAGE_SIZE) || !len.is_multiple_of(PAGE_SIZE) {
            return Err(SpaceError::Misaligned);
        }
        let (start, end) = user_range(at, len)?;
        Ok(Self { start, end })
    }

    pub fn start(&self) -> VirtAddr {
        self.start
    }

    /// In bytes.
    #[allow(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub fn len(&self) -> u64 {
        self.end.0 - self.start.0
    }
}

impl From<Region> for UserRange {
    fn from(region: Region) -> Self {
        Self { start: region.start(), end: region.end() }
    }
}

/// `at..at + len`, if that is not empty and wholly user's.
fn user_range(at: VirtAddr, len: u64) -> Result<(VirtAddr, VirtAddr), SpaceError> {
    match at.checked_add(len) {
        Some(end) if len > 0 && is_user(at) && end <= Current::USER_END => Ok((at, end)),
        _ => Err(SpaceError::BadRange),
    }
}
