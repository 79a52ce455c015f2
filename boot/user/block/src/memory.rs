//! What `virtio-drivers` asks of the system: memory that the device reaches, and the device's registers.
//!
//! The crate asks through functions without a receiver, so there is one device per process. All memory for
//! the device comes out of one piece, which lives as long as the process: what is handed to the device is
//! always inside it, so sharing means computing a bus address.

use core::ptr::NonNull;
use user_rt::device::PciFunction;
use user_rt::sync::Mutex;
use user_rt::{Error, Protection, abi::PAGE_BYTES};
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

const PAGE: usize = PAGE_BYTES as usize;
/// Pages of the piece. The queue takes two; the rest is for requests.
const PAGES: usize = 24;

/// Addresses are numbers here: the memory is this process's for good.
struct Known {
    start: usize,
    bus: PhysAddr,
    /// Pages that are given out, from the start.
    taken: usize,
    /// Where each BAR is mapped.
    bars: [usize; 6],
}

static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

/// BAR n seems to lie at n + 1 times this, whatever the bus says: drivers need no bus addresses of
/// registers.
pub const BAR_STRIDE: u64 = 1 << 40;

/// Maps the device's memory BARs, and memory for it.
pub fn prepare(function: &PciFunction) -> Result<(), Error> {
    let memory = function.dma(PAGES * PAGE)?;
    let bus = function.bus_address(&memory, 0)?;
    let start = memory.attach(Protection::ReadWrite)?.forever().cast::<u8>().addr().get();
    let mut bars = [0; 6];
    for (number, bar) in (0..).zip(&mut bars) {
        match function.registers(number) {
            Ok(registers) => {
                *bar = registers.attach(Protection::ReadWrite)?.forever().cast::<u8>().addr().get();
            }
            // It has none there, or only what is the kernel's.
            Err(Error::BadArgument | Error::NotSupported) => {}
            Err(error) => return Err(error),
        }
    }
    *KNOWN.lock() = Some(Known { start, bus, taken: 0, bars });
    Ok(())
}

/// Whole pages of the device's memory, zeroed, for good, and their bus address.
pub fn take(pages: usize) -> Option<(PhysAddr, NonNull<u8>)> {
    let mut known = KNOWN.lock();
    let known = known.as_mut()?;
    let offset = known.taken * PAGE;
    known.taken = known.taken.checked_add(pages).filter(|&taken| taken <= PAGES)?;
    let start = NonNull::new(core::ptr::with_exposed_provenance_mut(known.start + offset))?;
    Some((known.bus + offset as u64, start))
}

/// The system, as the crate sees it.
pub enum System {}

// SAFETY: memory from `dma_alloc` is mapped, zeroed by the kernel, aligned to a page, and given out once;
// registers stay mapped as long as the process lives.
unsafe impl Hal for System {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // No memory has the address 0, which the crate takes for a failure.
        take(pages).unwrap_or((0, NonNull::dangling()))
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        // It goes with the process.
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        let (bar, offset) = ((address / BAR_STRIDE) as usize, (address % BAR_STRIDE) as usize);
        let known = KNOWN.lock();
        let start = known.as_ref().and_then(|known| Some(*known.bars.get(bar.checked_sub(1)?)?));
        let start = start.filter(|&start| start != 0).expect("the BAR is mapped");
        NonNull::new(core::ptr::with_exposed_provenance_mut(start + offset)).expect("it is not page 0")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        let known = KNOWN.lock();
        let known = known.as_ref().expect("there is a device");
        let offset = buffer.cast::<u8>().addr().get().wrapping_sub(known.start);
        assert!(offset.checked_add(buffer.len()).is_some_and(|end| end <= PAGES * PAGE), "out of reach");
        known.bus + offset as u64
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {
        // It was written in place.
    }
}
