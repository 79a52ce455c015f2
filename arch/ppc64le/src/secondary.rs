//! How a CPU joins that another has started: from firmware's door to the generic kernel.
//!
//! Firmware starts it as it started the boot CPU, big-endian and in real mode, with one word of our
//! choosing in r3: the physical address of its [`Cpu`]. What is one for the machine stands already:
//! the byte order and place of interrupts (H_SET_MODE), the process table. What is each CPU's own is
//! set here, by the functions the boot CPU uses too.

use crate::cpu::{Cpu, UserPages};
use crate::pid::Pid;
use crate::spr::{self, msr, number};
use crate::start::{enter_user, go_virtual};
use crate::{Ppc64le, time, tlb, user};
use arch_contract::mutant::{self, Mutant};
use arch_contract::upcalls::Upcalls;
use core::arch::global_asm;

global_asm!(
    ".pushsection .text.start, \"ax\", @progbits",
    ".globl spandrel_secondary",
    "spandrel_secondary:",
    "spandrel_flip",
    "li 10, 2", // RI, not EE
    "mtmsrd 10, 1",
    // An argument of firmware is 32 bits wide; a `Cpu` is known by its address in quadrant 3.
    "clrldi 3, 3, 32",
    "li 4, 0xc",
    "sldi 4, 4, 60",
    "or 3, 3, 4",
    "mtspr 272, 3",
    "ld 1, {stack}(3)",
    "ld 2, {toc}(3)",
    "bl spandrel_secondary_boot",
    "trap",
    ".popsection",
    stack = const crate::trap_entry::offset::STACK,
    toc = const crate::trap_entry::offset::TOC,
);

unsafe extern "C" {
    static spandrel_secondary: u8;
}

/// Where firmware is to start a CPU: a physical address.
pub(crate) fn entry() -> u64 {
    &raw const spandrel_secondary as u64 & !crate::cpu::PHYSICAL_MAP
}

/// Called by the first instructions, in real mode, on the CPU's own stack.
pub fn boot<U: Upcalls<Ppc64le>>(cpu: &'static Cpu) -> ! {
    prepare_translation();
    // SAFETY: the kernel's tables, which every CPU shares, map the image at its own addresses.
    unsafe { go_virtual(go_on::<U>, core::ptr::from_ref(cpu).cast(), msr::KERNEL) }
}

/// What must be right on a CPU before translation is turned on: a context that maps no user, and
/// nothing cached from an earlier life (`SMP-3`).
pub(crate) fn prepare_translation() {
    // SPRG3 is readable in user mode.
    // SAFETY: the register has no meaning to the machine.
    unsafe { spr::write::<{ number::SPRG3 }>(0) };
    // Off PID 0, whose low quadrant would be the kernel's tables.
    // SAFETY: the empty tree's process-table entry is valid; translation is off.
    unsafe { spr::write::<{ number::PIDR }>(Pid::EMPTY.get()) };
    spr::isync();
    tlb::forget_all();
}

/// What a mutant lets through beside, on CPUs other than the first: the target address register, and branches
/// by events.
fn facilities() -> u64 {
    if mutant::is(Mutant::FacilitiesOpen) { 1 << 8 | 1 << 7 } else { 0 }
}

/// What this CPU's own registers say of user mode. Whether it heeds the authority masks.
pub(crate) fn restrict_user() -> UserPages {
    // SAFETY: only `scv` is let through of the facilities; what it does is in place.
    unsafe { spr::write::<{ number::FSCR }>(spr::FSCR_SCV | facilities()) };
    user::close()
}

/// Goes on with translation on.
extern "C" fn go_on<U: Upcalls<Ppc64le>>(cpu: *const ()) -> ! {
    // SAFETY: what `boot` passed.
    let cpu = unsafe { &*cpu.cast::<Cpu>() };
    // One answer for all CPUs, the first one's.
    let _ = restrict_user();
    time::disarm(cpu);
    // The boot CPU's was opened in the same way, so there is nothing new to refuse.
    let _ = cpu.machine.controller.open();
    enter_user(U::boot_secondary(cpu), cpu)
}
