//! The kernel image for ppc64le: the port's entry code around the generic kernel.
#![no_std]
#![no_main]

arch_ppc64le::entry!(kernel::Upcall);

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    kernel::panic::report(info)
}

#[global_allocator]
static ALLOCATOR: kernel::refuse::Refuse = kernel::refuse::Refuse;
