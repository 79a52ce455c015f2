//! The kernel's own address space.
//!
//! | from | what | how |
//! | --- | --- | --- |
//! | `0xffff_8000_0000_0000` | the physical map: all RAM | data; the image's text and read-only data are read-only here too |
//! | the same | PCI: configuration space of the first bus, registers of its functions | data, uncached |
//! | `0xffff_ffff_8010_0000` | the image | text, read-only data and data apart (`PTE-3`); guard pages absent |
//! | `0xffff_ffff_c000_0000` | device registers | data, uncached |
//! | `0xffff_ffff_d000_0000` | stacks and values of the CPUs but the first | data; guard pages absent |
//!
//! The entry code's tables map the first 4 GiB at the start of the physical map and once more as
//! identity; they are used to read firmware tables and to build the real ones, and then left for
//! good. The upper half of the root is complete before the first user root copies it, and never
//! changes afterwards, so no address space ever has to be told of a kernel mapping.

use crate::cpu;
use crate::pcid::Cr3;
use crate::pte::Bits;
use arch_contract::addr::{PAGE_SIZE, PhysAddr, VirtAddr};
use arch_contract::boot::{MAX_RANGES, PhysRange};
use arrayvec::ArrayVec;
use core::cell::UnsafeCell;
use core::ops::Range;
use core::ptr::{self, NonNull};
use x86::controlregs::{cr3, cr3_write};

/// Where physical address 0 is mapped.
pub const PHYSICAL_MAP: u64 = 0xffff_8000_0000_0000;
/// What the image's addresses are above where it is loaded.
pub const IMAGE_OFFSET: u64 = 0xffff_ffff_8000_0000;
/// Where device registers are mapped, one page each.
const DEVICES: u64 = 0xffff_ffff_c000_0000;
/// How much of physical memory the entry code's tables reach.
pub const BOOT_WINDOW: u64 = 4 << 30;
/// The physical map's share of the upper half: 64 TiB.
const MAX_PHYSICAL: u64 = 64 << 40;

const ENTRIES: usize = 512;
/// First entry of the root that is the kernel's.
const KERNEL_HALF: usize = ENTRIES / 2;

/// The root of the kernel's own tables.
#[repr(C, align(4096))]
struct Root(UnsafeCell<[u64; ENTRIES]>);

// SAFETY: written by the boot CPU in `build`, before there is another; read-only afterwards.
unsafe impl Sync for Root {}

static ROOT: Root = Root(UnsafeCell::new([0; ENTRIES]));

unsafe extern "C" {
    static __image_start: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __image_end: u8;
}

fn address_of(symbol: *const u8) -> u64 {
    symbol as u64
}

/// The kernel's text, for whoever checks a return address.
pub fn text() -> Range<u64> {
    address_of(&raw const __text_start)..address_of(&raw const __text_end)
}

/// The image in physical memory, its uninitialized data included.
pub fn image() -> PhysRange {
    let start = address_of(&raw const __image_start);
    PhysRange { start: PhysAddr(start), len: address_of(&raw const __image_end) - IMAGE_OFFSET - start }
}

/// Where `at` lies in the physical map.
pub fn phys(at: PhysAddr) -> NonNull<u8> {
    debug_assert!(at.0 < MAX_PHYSICAL);
    let pointer = ptr::with_exposed_provenance_mut((PHYSICAL_MAP + at.0) as usize);
    // The map starts far above 0 and `at` is too small to wrap.
    NonNull::new(pointer).unwrap_or(NonNull::dangling())
}

/// The inverse of [`phys`].
pub fn phys_of(pointer: NonNull<u8>) -> PhysAddr {
    PhysAddr(pointer.addr().get() as u64 - PHYSICAL_MAP)
}

/// Where an object of the image lies in physical memory.
pub fn phys_of_image<T>(object: *const T) -> PhysAddr {
    PhysAddr(object as u64 - IMAGE_OFFSET)
}

/// The kernel's own tables, for `drop_lazy` and for CPUs that have no user.
pub fn kernel() -> Cr3 {
    Cr3::kernel(phys_of_image(ROOT.0.get()))
}

/// Gives a user root the kernel's half.
///
/// # Safety
/// `root` is a zeroed root table that nothing uses yet, and [`build`] has run.
pub unsafe fn share_kernel_half(root: NonNull<u64>) {
    let kernel = ROOT.0.get().cast::<u64>();
    // SAFETY: both are whole tables, and they are not the same one.
    unsafe {
        let (from, to) = (kernel.add(KERNEL_HALF), root.as_ptr().add(KERNEL_HALF));
        ptr::copy_nonoverlapping(from, to, ENTRIES - KERNEL_HALF);
    }
}

/// Why the tables could not be built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BuildError {
    /// No free page below 4 GiB is left for a table.
    NoMemory,
    /// RAM beyond what the physical map can hold.
    TooFar(PhysAddr),
}

/// Takes pages for tables out of the free map: from the end of its largest range below 4 GiB.
pub struct Carver<'a> {
    free: &'a mut ArrayVec<PhysRange, MAX_RANGES>,
}

impl<'a> Carver<'a> {
    pub fn new(free: &'a mut ArrayVec<PhysRange, MAX_RANGES>) -> Self {
        Self { free }
    }

    /// A zeroed page, reachable through the physical map's first part.
    fn page(&mut self) -> Result<PhysAddr, BuildError> {
        let low = self.free.iter_mut().filter(|range| range.end().0 <= BOOT_WINDOW);
        let range = low.max_by_key(|range| range.len).ok_or(BuildError::NoMemory)?;
        if range.len <= PAGE_SIZE {
            return Err(BuildError::NoMemory);
        }
        range.len -= PAGE_SIZE;
        let page = range.end();
        // SAFETY: the page was free, is now the caller's alone, and lies in the window that both
        // sets of tables map.
        unsafe { phys(page).write_bytes(0, PAGE_SIZE as usize) };
        Ok(page)
    }
}

/// How a kernel page may be used. Always present, never user's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    Text,
    ReadOnly,
    Data,
    Device,
}

impl Use {
    fn bits(self) -> Bits {
        // Accessed and dirty are set ahead, so that a walker never has to write.
        let common = Bits::PRESENT | Bits::ACCESSED | Bits::DIRTY | Bits::GLOBAL;
        common
            | match self {
                Self::Text => Bits::empty(),
                Self::ReadOnly => Bits::NO_EXECUTE,
                Self::Data => Bits::NO_EXECUTE | Bits::WRITE,
                Self::Device => Bits::NO_EXECUTE | Bits::WRITE | Bits::CACHE_DISABLE | Bits::WRITE_THROUGH,
            }
    }
}

/// Largest page a mapping may use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Largest {
    Page,
    Large,
    Huge,
}

struct Builder<'a> {
    carver: Carver<'a>,
    largest: Largest,
}

impl Builder<'_> {
    /// The entry for `at` in a table at `level` (0 is the root), making tables on the way.
    fn slot(&mut self, at: VirtAddr, level: usize) -> Result<NonNull<u64>, BuildError> {
        let mut table = ROOT.0.get().cast::<u64>();
        for depth in 0.. {
            let index = crate::pte::LEVELS[depth].index(at);
            // SAFETY: `table` is a whole table, mapped by the tables in use, and `index` < 512.
            let slot = unsafe { NonNull::new_unchecked(table.add(index)) };
            if depth == level {
                return Ok(slot);
            }
            // SAFETY: as above; nobody else knows the table yet.
            let mut entry = unsafe { slot.read() };
            if entry == 0 {
                let bits = Bits::PRESENT | Bits::WRITE | Bits::ACCESSED;
                entry = self.carver.page()?.0 | bits.bits();
                // SAFETY: as above.
                unsafe { slot.write(entry) };
            }
            table = phys(PhysAddr(entry & 0x000f_ffff_ffff_f000)).cast().as_ptr();
        }
        unreachable!("`level` is one of the four")
    }

    /// Maps `len` bytes, with the largest pages that alignment allows. All of it is page-aligned
    /// and not mapped yet.
    fn map(
        &mut self,
        mut virt: u64,
        mut at: u64,
        mut len: u64,
        use_: Use,
        largest: Largest,
    ) -> Result<(), BuildError> {
        while len != 0 {
            let fits = |size: u64| (virt | at) & (size - 1) == 0 && len >= size;
            let (size, level, large) = if largest >= Largest::Huge && fits(1 << 30) {
                (1 << 30, 1, Bits::LARGE)
            } else if largest >= Largest::Large && fits(1 << 21) {
                (1 << 21, 2, Bits::LARGE)
            } else {
                (PAGE_SIZE, 3, Bits::empty())
            };
            let slot = self.slot(VirtAddr(virt), level)?;
            // SAFETY: an entry of a table that only this CPU knows.
            unsafe { slot.write(at | (use_.bits() | large).bits()) };
            virt += size;
            at += size;
            len -= size;
        }
        Ok(())
    }

    /// Maps RAM in the physical map; the part that is the image's text and constants read-only.
    fn map_ram(&mut self, range: &PhysRange) -> Result<(), BuildError> {
        if range.end().0 > MAX_PHYSICAL {
            return Err(BuildError::TooFar(range.start));
        }
        let constant = address_of(&raw const __text_start) - IMAGE_OFFSET
            ..address_of(&raw const __rodata_end) - IMAGE_OFFSET;
        let (start, end) = (range.start.0, range.end().0);
        let cut = constant.start.clamp(start, end)..constant.end.clamp(start, end);
        for (from, to, use_) in
            [(start, cut.start, Use::Data), (cut.start, cut.end, Use::ReadOnly), (cut.end, end, Use::Data)]
        {
            self.map(PHYSICAL_MAP + from, from, to.saturating_sub(from), use_, self.largest)?;
        }
        Ok(())
    }

    /// Makes and maps the block of the `index`-th CPU after the first, without its guard pages.
    fn map_block(&mut self, index: usize) -> Result<(), BuildError> {
        for page in cpu::pages_of_other(index) {
            let at = self.carver.page()?;
            self.map(page.0, at.0, PAGE_SIZE, Use::Data, Largest::Page)?;
        }
        Ok(())
    }

    /// Maps the image where it is linked, without its guard pages.
    fn map_image(&mut self) -> Result<(), BuildError> {
        let text = text();
        let rodata_end = address_of(&raw const __rodata_end);
        let end = address_of(&raw const __image_end);
        let mut virt = text.start;
        while virt < end {
            let use_ = match virt {
                _ if virt < text.end => Use::Text,
                _ if virt < rodata_end => Use::ReadOnly,
                _ => Use::Data,
            };
            if cpu::boot().guards().all(|guard| guard.0 != virt) {
                self.map(virt, virt - IMAGE_OFFSET, PAGE_SIZE, use_, Largest::Page)?;
            }
            virt += PAGE_SIZE;
        }
        Ok(())
    }
}

/// Whether 1 GiB pages exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HugePages {
    Available,
    Missing,
}

/// Builds the kernel's tables for `ram`, with table pages out of `free`, a page of device registers
/// for each of `devices`, in their order, the `registers` of PCI functions, and stacks for as many `others`
/// beside the boot CPU.
///
/// # Safety
/// On the boot CPU, once, under the entry code's tables; `free` is free RAM and `ram` is RAM; no RAM is among
/// the `registers`, which are disjoint whole pages below the end of the physical map.
pub unsafe fn build(
    ram: &[PhysRange],
    free: &mut ArrayVec<PhysRange, MAX_RANGES>,
    devices: &[PhysAddr],
    registers: &[PhysRange],
    others: usize,
    huge: HugePages,
) -> Result<(), BuildError> {
    let largest = if huge == HugePages::Available { Largest::Huge } else { Largest::Large };
    let mut builder = Builder { carver: Carver::new(free), largest };
    for range in ram {
        builder.map_ram(range)?;
    }
    builder.map_image()?;
    for (index, at) in devices.iter().enumerate() {
        builder.map(DEVICES + index as u64 * PAGE_SIZE, at.0, PAGE_SIZE, Use::Device, Largest::Page)?;
    }
    for PhysRange { start, len } in registers {
        builder.map(PHYSICAL_MAP + start.0, start.0, *len, Use::Device, Largest::Large)?;
    }
    (0..others).try_for_each(|index| builder.map_block(index))
}

/// Where the `index`-th of the devices given to [`build`] is mapped.
pub fn device(index: usize) -> NonNull<u8> {
    let pointer = ptr::with_exposed_provenance_mut((DEVICES + index as u64 * PAGE_SIZE) as usize);
    NonNull::new(pointer).unwrap_or(NonNull::dangling())
}

/// Loads CR3.
///
/// # Safety
/// `value` names a complete root with the kernel's half, which stays one while it is loaded; where it
/// keeps what is cached, that is of this root.
pub unsafe fn load(value: Cr3) {
    // SAFETY: ring 0, and the caller's obligation.
    unsafe { cr3_write(value.bits()) };
}

/// What this CPU's MMU holds.
pub fn loaded() -> Cr3 {
    // SAFETY: ring 0.
    Cr3::from_register(unsafe { cr3() })
}
