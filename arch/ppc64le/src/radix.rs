//! The kernel's own translations, and the process table.
//!
//! Quadrant 3 maps all RAM at [`PHYSICAL_MAP`], the kernel image within it: text and vectors
//! executable, constants read-only, guard pages absent, everything else writable and never
//! executable. Built in real mode, where the same pointers work; afterwards only registers of devices that
//! were not known then are added (`late_map.rs`).

use crate::boot_memory;
use crate::cpu::PHYSICAL_MAP;
use crate::entry_bits::{self, KernelPage, LEVELS};
use crate::hcall::{self, Call, Status};
use crate::late_map;
use crate::pid::{self, Pid};
use crate::spr;
use crate::stack;
use crate::tree::Grant;
use crate::watch;
use arch_contract::addr::{PAGE_SIZE, PhysAddr, VirtAddr};
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

type FreeMap = ArrayVec<PhysRange, MAX_RANGES>;

/// `bytes` zeroed bytes, aligned to their size.
fn new_table(bytes: u64, free: &mut FreeMap) -> Result<PhysAddr, RadixError> {
    let at = boot_memory::keep(free, bytes, bytes).ok_or(RadixError::NoRoom)?.start;
    // SAFETY: it was free until now; translation is off.
    unsafe { ((at.0 | PHYSICAL_MAP) as *mut u8).write_bytes(0, bytes as usize) };
    Ok(at)
}

/// Pointer to entry `index` of the table at `table`.
pub(crate) fn slot(table: PhysAddr, index: usize) -> *mut u64 {
    ((table.0 | PHYSICAL_MAP) as *mut u64).wrapping_add(index)
}

/// The slot of level `depth` for `at` under `root`. Makes the tables on the way.
fn slot_for(root: PhysAddr, at: u64, depth: usize, free: &mut FreeMap) -> Result<*mut u64, RadixError> {
    let mut table = root;
    for (level, shape) in LEVELS[..depth].iter().enumerate() {
        let slot = slot(table, shape.index(VirtAddr(at)));
        // SAFETY: a slot of a table of ours, used by no walker yet.
        table = match entry_bits::decode(unsafe { slot.read() }, level) {
            Entry::Table(next) => next,
            _ => {
                let next = new_table(LEVELS[level + 1].table_bytes(), free)?;
                // SAFETY: as above.
                unsafe { slot.write(entry_bits::encode(Entry::Table(next), level)) };
                next
            }
        };
    }
    Ok(slot(table, LEVELS[depth].index(VirtAddr(at))))
}

/// The level of the largest leaf that maps something from `at` on and ends by `end`, both on page
/// boundaries, of those `uniform` accepts. The last level always fits.
fn depth_for(at: u64, end: u64, uniform: impl Fn(PhysRange) -> bool) -> usize {
    let fits = |&depth: &usize| {
        let size = 1 << LEVELS[depth].shift;
        let whole = at.is_multiple_of(size) && size <= end - at;
        LEVELS[depth].leaf != Leaf::Never && whole && uniform(PhysRange { start: PhysAddr(at), len: size })
    };
    (0..LEVELS.len()).find(fits).unwrap_or(LEVELS.len() - 1)
}

/// Maps `range` of RAM under `root` with the largest leaves that fit; what touches `special` page by
/// page.
fn map(root: PhysAddr, range: PhysRange, special: &[PhysRange], free: &mut FreeMap) -> Result<(), RadixError> {
    let mut at = range.start.0;
    while at < range.end().0 {
        let plain = |block: PhysRange| !special.iter().any(|special| special.overlaps(&block));
        let depth = depth_for(at, range.end().0, |block| block.len == PAGE_SIZE || plain(block));
        if let Some(page) = page_kind(at) {
            let slot = slot_for(root, at, depth, free)?;
            // SAFETY: as in `slot_for`.
            unsafe { slot.write(entry_bits::kernel_leaf(PhysAddr(at), page)) };
        }
        at += 1 << LEVELS[depth].shift;
    }
    Ok(())
}

/// Maps `range`, which is device registers, with the largest leaves that fit.
fn map_device(root: PhysAddr, range: PhysRange, free: &mut FreeMap) -> Result<(), RadixError> {
    let mut at = range.start.0;
    while at < range.end().0 {
        let depth = depth_for(at, range.end().0, |_| true);
        let slot = slot_for(root, at, depth, free)?;
        // SAFETY: as in `slot_for`.
        unsafe { slot.write(entry_bits::kernel_leaf(PhysAddr(at), KernelPage::Device)) };
        at += 1 << LEVELS[depth].shift;
    }
    Ok(())
}

/// Builds the kernel's tree and registers the process table. Memory for it is cut out of `free`.
/// `stacks` is where the other CPUs' stacks lie, `devices` what is to be mapped beside RAM, each in
/// whole pages; `gtse` says whether the guest may broadcast invalidations.
///
/// # Safety
/// Translation is off, `ram` is RAM, and what is in `free` is used by nobody.
pub unsafe fn build(
    ram: &FreeMap,
    free: &mut FreeMap,
    stacks: PhysRange,
    devices: impl Iterator<Item = PhysRange>,
    gtse: Grant,
) -> Result<(), RadixError> {
    const ROOT: u64 = entry_bits::ROOT_BYTES;
    let process_table = new_table(PROCESS_TABLE_BYTES, free)?;
    let root = new_table(ROOT, free)?;
    let empty = new_table(ROOT, free)?;
    let [vectors, image] = image();
    for range in ram {
        map(root, *range, &[vectors, image, stacks], free)?;
    }
    for range in devices {
        map_device(root, range, free)?;
    }
    let mut spare = ArrayVec::new();
    for _ in 0..spare.capacity() {
        spare.push(new_table(late_map::TABLE_BYTES, free)?);
    }
    late_map::begin(root, spare);
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
    watch::stored_process_entry();
    // The tree's contents and this entry, before any `mtspr PID` that follows, on any CPU that
    // learns of the PID after this.
    spr::ptesync();
    spr::isync();
}
