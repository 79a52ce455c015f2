//! The global allocator of a kernel image, which refuses everything.
//!
//! Crates link `alloc`, but the kernel allocates from charged memory that can say no. What comes
//! here would have ended the kernel on a full machine, so it ends nowhere else; `tools/x check`
//! sees to it that nothing does.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;

/// See the module. For `#[global_allocator]` in `boot/<arch>`.
pub struct Refuse;

// SAFETY: a null pointer is a valid answer to every request, and nothing is ever given out that
// could come back.
unsafe impl GlobalAlloc for Refuse {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        ptr::null_mut()
    }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
