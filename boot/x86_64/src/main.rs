//! The kernel image for x86_64: the port's entry code around the generic kernel.
#![no_std]
#![no_main]

arch_x86_64::entry!(kernel::Upcall);

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    kernel::panic::report(info)
}

#[global_allocator]
static ALLOCATOR: kernel::refuse::Refuse = kernel::refuse::Refuse;
