//! The ppc64le kernel image: the port's entry code, instantiated with the generic kernel.
//!
//! Nothing else is here. Firmware enters at the first byte of the image (`kernel.ld`).
#![no_std]
#![no_main]

arch_ppc64le::entry!(kernel::Upcall);

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    kernel::panic::report(info)
}
