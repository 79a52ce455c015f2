//! The kernel image for ppc64le: the port's entry code around the generic kernel.
#![no_std]
#![no_main]

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;

arch_ppc64le::entry!(kernel::Upcall);

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    kernel::panic::report(info)
}

/// Refuses everything. Crates link `alloc`, but the kernel allocates from charged slabs that can
/// say no; whatever comes here would have panicked on an empty machine.
struct Refuse;

// SAFETY: a null pointer is a valid answer to every request, and nothing is ever given out that
// could come back.
unsafe impl GlobalAlloc for Refuse {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        ptr::null_mut()
    }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Refuse = Refuse;
