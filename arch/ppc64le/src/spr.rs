//! Special-purpose registers and bits of the machine state register, by the manual's names.

use core::arch::asm;

/// MSR bits (Power ISA 3.0B Book III §4.2.1).
pub mod msr {
    /// 64-bit mode.
    pub const SF: u64 = 1 << 63;
    /// AltiVec available.
    pub const VEC: u64 = 1 << 25;
    /// VSX available.
    pub const VSX: u64 = 1 << 23;
    /// External interrupts (the decrementer too) enabled.
    pub const EE: u64 = 1 << 15;
    /// Problem state: user mode.
    pub const PR: u64 = 1 << 14;
    /// Floating point available.
    pub const FP: u64 = 1 << 13;
    /// Machine checks enabled.
    pub const ME: u64 = 1 << 12;
    /// Floating-point exceptions are taken, precisely.
    pub const FE0: u64 = 1 << 11;
    pub const FE1: u64 = 1 << 8;
    /// One instruction, then a trace interrupt (Book III §6.5.15).
    pub const SE: u64 = 1 << 10;
    /// Instruction and data translation.
    pub const IR: u64 = 1 << 5;
    pub const DR: u64 = 1 << 4;
    /// An interrupt taken now can be recovered from: SRR0 and SRR1 hold nothing needed.
    pub const RI: u64 = 1 << 1;
    pub const LE: u64 = 1;

    /// What the kernel runs with.
    pub const KERNEL: u64 = SF | ME | IR | DR | RI | LE;
    /// What user code runs with until it first uses the vector units.
    pub const USER: u64 = KERNEL | EE | PR;
    /// What is added while a thread has the units.
    pub const UNITS: u64 = VEC | VSX | FP | FE0 | FE1;
}

/// The numbers `mfspr` and `mtspr` take.
pub mod number {
    pub const DSISR: u32 = 18;
    pub const DAR: u32 = 19;
    pub const DEC: u32 = 22;
    pub const AMR: u32 = 29;
    pub const PIDR: u32 = 48;
    pub const IAMR: u32 = 61;
    pub const FSCR: u32 = 153;
    pub const UAMOR: u32 = 157;
    pub const TB: u32 = 268;
    /// This CPU's `Cpu`.
    pub const SPRG0: u32 = 272;
    pub const SPRG3: u32 = 275;
    pub const PVR: u32 = 287;
}

/// `scv` is available in user mode (FSCR, Book III §6.2.11... facility bit 51).
pub const FSCR_SCV: u64 = 1 << 12;

/// Reads a register that has no side effect when read.
#[inline(always)]
pub fn read<const SPR: u32>() -> u64 {
    let value;
    // SAFETY: reading a privileged register the caller names from this module changes nothing.
    unsafe { asm!("mfspr {}, {}", out(reg) value, const SPR, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes a register, without context synchronization.
///
/// # Safety
/// The value is right for the register at this point; what must be synchronized is.
#[inline(always)]
pub unsafe fn write<const SPR: u32>(value: u64) {
    // SAFETY: the caller's.
    unsafe { asm!("mtspr {}, {}", const SPR, in(reg) value, options(nostack, preserves_flags)) };
}

/// Context synchronization: instructions after it are fetched and executed in the context that
/// those before it made. Not a memory barrier.
#[inline(always)]
pub fn isync() {
    // SAFETY: orders, and changes nothing.
    unsafe { asm!("isync", options(nostack, preserves_flags)) };
}

/// Full barrier (Book II §4.6.3).
#[inline(always)]
pub fn sync() {
    // SAFETY: orders, and changes nothing.
    unsafe { asm!("sync", options(nostack, preserves_flags)) };
}

/// Orders page-table stores before later translations and invalidations, and completes the
/// invalidations before it (Book III §5.9.3.3).
#[inline(always)]
pub fn ptesync() {
    // SAFETY: orders, and changes nothing.
    unsafe { asm!("ptesync", options(nostack, preserves_flags)) };
}

/// In a loop that waits for another CPU: lowers and restores this thread's priority (Book II §3.2).
/// A hint, which an emulator takes as leave to run another CPU.
#[inline(always)]
pub fn pause() {
    // SAFETY: changes no register.
    unsafe { asm!("or 1, 1, 1", "or 2, 2, 2", options(nomem, nostack, preserves_flags)) };
}
