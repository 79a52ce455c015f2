//! Faults of the kernel itself: what is stored, and how it is told.
//!
//! There is no way back from here. Assembly has stored every register and moved to a stack that
//! nothing else uses, chained to the one at fault so that a backtrace goes on through it.

use crate::Ppc64le;
use crate::cpu::Cpu;
use crate::spr::{self, msr, number};
use crate::trap::print_registers;
use arch_contract::machine::{Power, Verdict};
use arch_contract::upcalls::Upcalls;
use core::cell::UnsafeCell;
use core::fmt::Write;
use core::mem::offset_of;
use core::sync::atomic::{AtomicUsize, Ordering};

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
    /// What the report runs on: where assembly leaves the interrupted stack for.
    pub(crate) stack: u64,
}

impl Registers {
    /// Nothing yet, to be reported on `stack`.
    pub const fn new(stack: u64) -> Self {
        Self {
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
            stack,
        }
    }

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

/// What stands in for the boot CPU's [`Cpu`] until there is one: the part that a fault of the kernel
/// uses, at the same offsets.
#[repr(C, align(128))]
struct EarlyCpu {
    before: [u64; offset_of!(Cpu, faulted) / 8],
    registers: Registers,
}

#[repr(transparent)]
struct Early(UnsafeCell<EarlyCpu>);

// SAFETY: only the boot CPU comes here, and its fault does not return.
unsafe impl Sync for Early {}

static EARLY: Early =
    Early(UnsafeCell::new(EarlyCpu { before: [0; _], registers: Registers::new(0) }));

const _: () = assert!(offset_of!(EarlyCpu, registers) == offset_of!(Cpu, faulted));

/// From here on a fault of the kernel is reported, on `stack`.
///
/// # Safety
/// By the boot CPU alone, before the vectors are in place.
pub(crate) unsafe fn report_early(stack: u64) {
    // SAFETY: nobody else refers to it.
    unsafe { (*EARLY.0.get()).registers = Registers::new(stack) };
    // SAFETY: a kernel that faults uses no more of a `Cpu` than there is.
    unsafe { spr::write::<{ number::SPRG0 }>(EARLY.0.get() as u64) };
}

/// Tells what happened and ends the run. A fault while telling ends it without a word more; other
/// CPUs that fault meanwhile let the first one finish.
pub extern "C" fn on_kernel_fault<U: Upcalls<Ppc64le>>(registers: &Registers) -> ! {
    /// Address of the registers that are being told of, one per CPU.
    static TELLING: AtomicUsize = AtomicUsize::new(0);
    let mine = core::ptr::from_ref(registers) as usize;
    match TELLING.compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => {}
        Err(telling) if telling == mine => Ppc64le::power_off(None, Verdict::Failed),
        Err(_) => loop {
            spr::pause();
        },
    }
    let cpu = spr::read::<{ number::SPRG0 }>();
    let cpu = (cpu != EARLY.0.get() as u64).then(|| {
        // SAFETY: this CPU's value, which lives for ever; with translation off the same pointer
        // works.
        unsafe { &*(cpu as *const Cpu) }
    });
    U::kernel_fault(cpu, &|out| registers.describe(out))
}
