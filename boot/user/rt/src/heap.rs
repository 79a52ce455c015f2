//! The heap: `talc` on memory from the kernel, in chunks, on demand.
//!
//! Running out is an error to whoever asks (`try_reserve`); what asks infallibly panics.
//! Chunks are not given back before the program ends.

use crate::memory::Mapping;
use crate::sync::Yielding;
use core::alloc::Layout;
use talc::base::Talc;
use talc::base::binning::Binning;
use talc::source::Source;
use talc::{TalcLock, min_first_heap_size};

/// Bytes asked of the kernel at a time, at least.
const CHUNK: usize = 128 * 1024;

#[global_allocator]
static HEAP: TalcLock<spin::mutex::SpinMutex<(), Yielding>, Grow> = TalcLock::new(Grow);

/// Takes more memory from the kernel when the heap is full.
#[derive(Debug)]
struct Grow;

// SAFETY: `acquire` uses the allocator it was given and nothing that allocates.
unsafe impl Source for Grow {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        // Room for the allocation wherever it gets aligned to, and for the bookkeeping, which
        // is all in the first chunk.
        let overhead = layout.align() + min_first_heap_size::<B>() + 64;
        let len = layout.size().checked_add(overhead).ok_or(())?.max(CHUNK);
        let memory = Mapping::new(len).map_err(|_| ())?.forever();
        // SAFETY: freshly mapped, kept for good, and known to nobody else.
        let claimed = unsafe { talc.claim(memory.as_ptr().cast(), memory.len()) };
        claimed.map(|_| ()).ok_or(())
    }
}
