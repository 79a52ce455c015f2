//! Faults of the kernel itself: what is stored, and how it is told.
//!
//! There is no way back from here. Assembly has stored every register and moved to a stack that
//! nothing else uses, chained to the one at fault so that a backtrace goes on through it.

use crate::Ppc64le;
use crate::spr::msr;
use crate::trap::print_registers;
use arch_contract::machine::{Power, Verdict};
use arch_contract::upcalls::Upcalls;
use core::cell::UnsafeCell;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};

/// Registers at the fault. Written by assembly through `trap_entry::offset`.
#[repr(C, align(16))]
pub struct Registers {
    pub(crate) vector: u64,
    pub(crate) gpr: [u64; 32],
    pub(crate) srr0: u64,
    pub(crate) srr1: u64,
    pub(crate) lr: u64,
    pub(crate) ctr: u64,
    pub(crate) xer: u64,
    pub(crate) cr: u64,
    pub(crate) dar: u64,
    pub(crate) dsisr: u64,
}

impl Registers {
    pub const ZERO: Self = Self {
        vector: 0,
        gpr: [0; 32],
        srr0: 0,
        srr1: 0,
        lr: 0,
        ctr: 0,
        xer: 0,
        cr: 0,
        dar: 0,
        dsisr: 0,
    };

    fn cause(&self) -> &'static str {
        match self.vector {
            0x100 => "system reset",
            0x200 => "machine check",
            0x300 if crate::stack::is_guard(self.dar) => "kernel stack overflow",
            0x300 => "data storage",
            0x380 => "data segment: address outside the radix range",
            0x400 => "instruction storage",
            0x480 => "instruction segment: address outside the radix range",
            0x500 | 0x900 | 0xa00 | 0xea0 => "interrupt taken where interrupts must be off",
            0x600 => "alignment",
            0x700 if self.srr1 & 1 << 17 != 0 => "trap instruction",
            0x700 => "program",
            0x800 | 0xf20 | 0xf40 => "vector or floating-point instruction",
            0xf60 => "facility unavailable",
            _ => "unexpected interrupt",
        }
    }

    fn describe(&self, out: &mut dyn Write) -> core::fmt::Result {
        let mode = if self.srr1 & msr::PR != 0 { "user mode" } else { "the kernel" };
        writeln!(out, "{} (vector {:#x}) in {mode} at {:#x}", self.cause(), self.vector, self.srr0)?;
        writeln!(out, "srr0 {:016x} srr1 {:016x} lr {:016x} ctr {:016x}", self.srr0, self.srr1, self.lr, self.ctr)?;
        writeln!(
            out,
            "dar  {:016x} dsisr {:08x} cr {:08x} xer {:016x}",
            self.dar, self.dsisr, self.cr, self.xer
        )?;
        print_registers(&self.gpr, out)
    }
}

/// Where a trap with translation off stores: the `Cpu` may not be there yet. One place for all
/// CPUs; the first to come ends the run.
#[repr(transparent)]
pub struct RealMode(UnsafeCell<Registers>);

// SAFETY: written by assembly of a trap that never returns, read by the code it calls.
unsafe impl Sync for RealMode {}

pub static REAL_MODE: RealMode = RealMode(UnsafeCell::new(Registers::ZERO));

/// Tells what happened and ends the run. A fault while telling ends it without a word more.
pub extern "C" fn on_kernel_fault<U: Upcalls<Ppc64le>>(registers: &Registers) -> ! {
    static TELLING: AtomicBool = AtomicBool::new(false);
    if TELLING.swap(true, Ordering::Relaxed) {
        Ppc64le::power_off(None, Verdict::Failed);
    }
    U::kernel_fault(None, &|out| registers.describe(out))
}
