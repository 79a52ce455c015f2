//! Floating-point and vector state: the 64 VSX registers, which hold the 32 floating-point and the
//! 32 AltiVec registers, with FPSCR, VSCR and VRSAVE.
//!
//! This file holds the only instructions of the kernel that touch them, as words, since the kernel
//! is built for a target without the units. They are on only inside the two routines below; in user
//! mode the frame's MSR decides.

use crate::Ppc64le;
use crate::cpu::{Cpu, Machine};
use crate::spr::{self, msr};
use crate::trap::Frame;
use arch_contract::irq::IrqsOff;
use arch_contract::vector::{MAX_VECTOR_WORDS, Vector, VectorWords};
use core::alloc::Layout;
use core::arch::global_asm;
use core::ptr::NonNull;

/// A cache line: what two threads save on two CPUs lies in lines of their own.
const LINE: usize = 128;
/// VSX registers at 0, FPSCR at 1024, VSCR at 1040, VRSAVE at 1056.
const AREA: Layout = match Layout::from_size_align(1072_usize.next_multiple_of(LINE), LINE) {
    Ok(layout) => layout,
    Err(_) => panic!("the alignment is a power of two"),
};

/// The doubleword of FPSCR in it.
const FPSCR: usize = 128;

/// VRSAVE is the one register here that user mode can always read.
const VRSAVE: u32 = 256;

global_asm!(
    ".pushsection .text.vector, \"ax\", @progbits",
    // Turns VEC, VSX and FP on; r9 keeps the MSR to go back to.
    ".macro units_on",
    "mfmsr 9",
    "oris 10, 9, 0x0280",
    "ori 10, 10, 0x2000",
    "mtmsrd 10",
    "isync",
    ".endm",
    ".macro units_off",
    "mtmsrd 9",
    "isync",
    ".endm",

    // Stores the units into the area at r3.
    ".balign 16",
    ".globl spandrel_vector_save",
    "spandrel_vector_save:",
    "units_on",
    "mr 4, 3",
    ".set vsr, 0",
    ".rept 64",
    ".long 31 << 26 | (vsr & 31) << 21 | 4 << 11 | 972 << 1 | vsr >> 5", // stxvd2x vsr, 0, 4
    "addi 4, 4, 16",
    ".set vsr, vsr + 1",
    ".endr",
    ".long 63 << 26 | 583 << 1",           // mffs 0
    ".long 54 << 26 | 4 << 16",            // stfd 0, 0(4)
    "addi 4, 4, 16",
    ".long 4 << 26 | 1540",                // mfvscr 0
    ".long 31 << 26 | 4 << 11 | 231 << 1", // stvx 0, 0, 4
    "mfspr 5, 256",
    "std 5, 16(4)",
    "units_off",
    "blr",

    // Loads the units from the area at r3: status registers first, they pass through registers.
    ".balign 16",
    ".globl spandrel_vector_load",
    "spandrel_vector_load:",
    "units_on",
    "addi 4, 3, 1024",
    ".long 50 << 26 | 4 << 16",            // lfd 0, 0(4)
    ".long 63 << 26 | 1 << 25 | 711 << 1", // mtfsf 255, 0, 1, 0
    "addi 4, 4, 16",
    ".long 31 << 26 | 4 << 11 | 103 << 1", // lvx 0, 0, 4
    ".long 4 << 26 | 1604",                // mtvscr 0
    "ld 5, 16(4)",
    "mtspr 256, 5",
    "mr 4, 3",
    ".set vsr, 0",
    ".rept 64",
    ".long 31 << 26 | (vsr & 31) << 21 | 4 << 11 | 844 << 1 | vsr >> 5", // lxvd2x vsr, 0, 4
    "addi 4, 4, 16",
    ".set vsr, vsr + 1",
    ".endr",
    "units_off",
    "blr",
    ".popsection",
);

unsafe extern "C" {
    fn spandrel_vector_save(area: *mut u8);
    fn spandrel_vector_load(area: *const u8);
}

/// Leaves nothing in the register that stays readable with the units off.
fn clear_vrsave() {
    // SAFETY: a register that means nothing to the machine.
    unsafe { spr::write::<VRSAVE>(0) };
}

impl Vector for Ppc64le {
    fn area_layout(_machine: &Machine) -> Layout {
        AREA
    }

    unsafe fn init_area(_machine: &Machine, area: NonNull<u8>) {
        // All zero: round to nearest, no exception enabled, IEEE denormals.
        // SAFETY: the caller's area is valid for writing that much.
        unsafe { area.write_bytes(0, AREA.size()) };
    }

    unsafe fn load(_cpu: &Cpu, frame: &mut Frame, area: NonNull<u8>, _irq: &IrqsOff) {
        // SAFETY: the caller's area is initialized, and what the units held may be overwritten.
        unsafe { spandrel_vector_load(area.as_ptr()) };
        frame.msr |= msr::UNITS;
    }

    unsafe fn save(_cpu: &Cpu, frame: &mut Frame, area: NonNull<u8>, _irq: &IrqsOff) {
        // SAFETY: the caller's area is valid for writing.
        unsafe { spandrel_vector_save(area.as_ptr()) };
        clear_vrsave();
        frame.msr &= !msr::UNITS;
    }

    // The area is laid out as `abi::registers::Ppc64leVectors`, but for FPSCR, behind which a doubleword is
    // left out.
    const WORDS: usize = FPSCR + 4;

    unsafe fn words(_machine: &Machine, area: NonNull<u8>) -> VectorWords {
        let mut words = [0; MAX_VECTOR_WORDS];
        // SAFETY: the area is initialized, and as long and aligned as this.
        let area = unsafe { area.cast::<[u64; AREA.size() / 8]>().as_ref() };
        words[..=FPSCR].copy_from_slice(&area[..=FPSCR]);
        words[FPSCR + 1..Self::WORDS].copy_from_slice(&area[FPSCR + 2..=FPSCR + 4]);
        words
    }

    // The load takes any value: the status registers have no bit that it would refuse, and the kernel runs
    // without floating-point exceptions (FE0, FE1).
    unsafe fn set_words(_machine: &Machine, area: NonNull<u8>, words: &VectorWords) {
        // SAFETY: as in `words`, and nobody else refers to it.
        let area = unsafe { area.cast::<[u64; AREA.size() / 8]>().as_mut() };
        area[..=FPSCR].copy_from_slice(&words[..=FPSCR]);
        area[FPSCR + 2..=FPSCR + 4].copy_from_slice(&words[FPSCR + 1..Self::WORDS]);
    }

    fn discard(_cpu: &Cpu, _irq: &IrqsOff) {
        // They are off in every frame whose thread has not loaded its own area.
        clear_vrsave();
    }
}
