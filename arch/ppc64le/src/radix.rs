//! The kernel's own translations, and the process table.
//!
//! Quadrant 3 maps all RAM at [`PHYSICAL_MAP`], the kernel image within it: text and vectors
//! executable, constants read-only, guard pages absent, everything else writable and never
//! executable. Built in real mode, where the same pointers work; never changed afterwards.

use crate::boot_memory;
use crate::cpu::PHYSICAL_MAP;
use crate::entry_bits::{self, KernelPage, LEVELS};
use crate::hcall::{self, Call, Status};
use crate::pid::{self, Pid};
use crate::spr;
use crate::stack;
use crate::tree::Grant;
use arch_contract::addr::{PAGE_SIZE, PhysAddr};
use arch_contract::boot::{MAX_RANGES, PhysRange};
use arch_contract::pte::{Entry, Leaf};
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicU64, Ordering};

/// Process table (Power ISA 3.0B Book III §5.7.6): its physical address, for `set_process_root`.
static PROCESS_TABLE: AtomicU64 = AtomicU64::new(0);
/// The root of the tree that maps nothing.
static EMPTY_ROOT: AtomicU64 = AtomicU64::new(0);

const PROCESS_TABLE_BYTES: u64 = 16 << pid::TABLE_BITS;

/// Why translation could not be set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RadixError {
    /// No free range is large enough for the kernel's tables.
    NoRoom,
    /// The hypervisor does not take a process table.
    Refused(Status),
}

impl core::fmt::Display for RadixError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoRoom => write!(f, "no room for the kernel's page tables: give the machine more memory"),
            Self::Refused(status) => write!(
                f,
                "the hypervisor refuses a radix process table (H_REGISTER_PROC_TBL: {}): \
                 use a POWER9 or later CPU in radix mode",
                status.0
            ),
        }
    }
}

unsafe extern "C" {
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __vectors_start: u8;
    static __vectors_end: u8;
    static __image_end: u8;
}

/// The physical address of something in the image.
fn physical(symbol: *const u8) -> u64 {
    symbol as u64 & !PHYSICAL_MAP
}

/// Physical addresses the vectors run at, and the image lies at.
pub fn image() -> [PhysRange; 2] {
    let between = |start: *const u8, end: *const u8| PhysRange {
        start: PhysAddr(physical(start)),
        len: physical(end) - physical(start),
    };
    [
        between(&raw const __vectors_start, &raw const __vectors_end),
        between(&raw const __text_start, &raw const __image_end),
    ]
}

/// What a page of RAM is for the kernel. `None`: it must fault.
fn page_kind(at: u64) -> Option<KernelPage> {
    if stack::is_guard(at | PHYSICAL_MAP) {
        return None;
    }
    if at < physical(&raw const __vectors_end) {
        return Some(KernelPage::ReadExecute);
    }
    if at < physical(&raw const __text_start) || at >= physical(&raw const __image_end) {
        return Some(KernelPage::ReadWrite);
    }
    if at < physical(&raw const __text_end) {
        return Some(KernelPage::ReadExecute);
    }
    if at < physical(&raw const __rodata_end) {
        return Some(KernelPage::Read);
    }
    Some(KernelPage::ReadWrite)
}

/// Memory for the tables, zeroed as it is handed out.
struct Arena {
    next: u64,
    end: u64,
}

impl Arena {
    /// `bytes` zeroed bytes, aligned to their size.
    fn table(&mut self, bytes: u64) -> Result<PhysAddr, RadixError> {
        let at = self.next.next_multiple_of(bytes);
        if at + bytes > self.end {
            return Err(RadixError::NoRoom);
        }
        self.next = at + bytes;
        // SAFETY: the arena was cut out of free memory and nothing else uses it.
        unsafe { ((at | PHYSICAL_MAP) as *mut u8).write_bytes(0, bytes as usize) };
        Ok(PhysAddr(at))
    }
}

/// Pointer to entry `index` of the table at `table`.
fn slot(table: PhysAddr, index: usize) -> *mut u64 {
    ((table.0 | PHYSICAL_MAP) as *mut u64).wrapping_add(index)
}

/// Maps `range` of RAM under `root` with the largest leaves that fit; what touches `special` page by
/// page.
fn map(
    root: PhysAddr,
    range: PhysRange,
    special: &[PhysRange],
    arena: &mut Arena,
) -> Result<(), RadixError> {
    let mut at = range.start.0;
    while at < range.end().0 {
        let (mut table, mut level) = (root, 0);
        loop {
            let shape = &LEVELS[level];
            let size = 1 << shape.shift;
            let block = PhysRange { start: PhysAddr(at), len: size };
            let uniform = size == PAGE_SIZE || !special.iter().any(|special| special.overlaps(&block));
            let fits = at.is_multiple_of(size) && size <= range.end().0 - at;
            let index = shape.index(arch_contract::addr::VirtAddr(at));
            if shape.leaf != Leaf::Never && uniform && fits {
                if let Some(page) = page_kind(at) {
                    // SAFETY: a slot of a table in the arena, used by no walker yet.
                    unsafe { slot(table, index).write(entry_bits::kernel_leaf(PhysAddr(at), page)) };
                }
                at += size;
                break;
            }
            // SAFETY: as above.
            let entry = entry_bits::decode(unsafe { slot(table, index).read() }, level);
            table = match entry {
                Entry::Table(next) => next,
                _ => {
                    let next = arena.table(LEVELS[level + 1].table_bytes())?;
                    // SAFETY: as above.
                    unsafe { slot(table, index).write(entry_bits::encode(Entry::Table(next), level)) };
                    next
                }
            };
            level += 1;
        }
    }
    Ok(())
}

/// Builds the kernel's tree and registers the process table. Memory for it is cut out of `free`.
/// `stacks` is where the other CPUs' stacks lie; `gtse` says whether the guest may broadcast
/// invalidations.
///
/// # Safety
/// Translation is off, `ram` is RAM, and what is in `free` is used by nobody.
pub unsafe fn build(
    ram: &ArrayVec<PhysRange, MAX_RANGES>,
    free: &mut ArrayVec<PhysRange, MAX_RANGES>,
    stacks: PhysRange,
    gtse: Grant,
) -> Result<(), RadixError> {
    const ROOT: u64 = entry_bits::ROOT_BYTES;
    // Two roots and the process table, then a few tables for each range's ends, for the image and
    // for the stacks.
    let total: u64 = ram.iter().map(|range| range.len).sum();
    let tables = 8 + 4 * ram.len() as u64 + (total >> LEVELS[0].shift) + (stacks.len >> LEVELS[2].shift);
    let bytes = (2 * ROOT + PROCESS_TABLE_BYTES + tables * PAGE_SIZE).next_multiple_of(ROOT);
    let kept = boot_memory::keep(free, bytes, ROOT).ok_or(RadixError::NoRoom)?;
    let mut arena = Arena { next: kept.start.0, end: kept.end().0 };

    let process_table = arena.table(PROCESS_TABLE_BYTES)?;
    let root = arena.table(ROOT)?;
    let empty = arena.table(ROOT)?;
    let [vectors, image] = image();
    for range in ram {
        map(root, *range, &[vectors, image, stacks], &mut arena)?;
    }
    PROCESS_TABLE.store(process_table.0, Ordering::Relaxed);
    EMPTY_ROOT.store(empty.0, Ordering::Relaxed);
    set_process_root(Pid::KERNEL, Some(root));
    set_process_root(Pid::EMPTY, None);

    // Modify and register; radix. Size: log2 of the bytes, less 12 (PAPR, H_REGISTER_PROC_TBL).
    const FLAGS: u64 = 0x1c;
    const GTSE: u64 = 1;
    // A hypervisor that says nothing was not asked, and takes the guest's word.
    let flags = if gtse == Grant::Refused { FLAGS } else { FLAGS | GTSE };
    let size = u64::from(PROCESS_TABLE_BYTES.ilog2() - 12);
    // SAFETY: the table is aligned to its size and valid from here on.
    let (status, _) =
        unsafe { hcall::call(Call::RegisterProcessTable, [flags, process_table.0, 0, size]) };
    if status == Status::SUCCESS { Ok(()) } else { Err(RadixError::Refused(status)) }
}

/// Points a PID at a tree, or at the empty one. On return every walker sees it (`CTX-11`).
pub(crate) fn set_process_root(pid: Pid, root: Option<PhysAddr>) {
    let root = root.unwrap_or(PhysAddr(EMPTY_ROOT.load(Ordering::Relaxed)));
    let table = PhysAddr(PROCESS_TABLE.load(Ordering::Relaxed));
    // SAFETY: a `Pid` indexes the table; its entry belongs to whoever owns the PID. One aligned
    // doubleword, so that no walker sees half of it; the second stays zero.
    unsafe { slot(table, 2 * pid.get() as usize).write_volatile(entry_bits::process_entry(root)) };
    // The tree's contents and this entry, before any `mtspr PID` that follows, on any CPU that
    // learns of the PID after this.
    spr::ptesync();
    spr::isync();
}
