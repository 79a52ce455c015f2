//! The local APIC: end of interrupt, interrupts to other CPUs, and the timer's registers.
//!
//! Two ways to the same registers (SDM vol. 3 §11.4, §11.12): a page of memory-mapped ones, or,
//! where CPUID has x2APIC, MSRs. The register numbers below are the MSRs' offsets; times 16 they
//! are offsets in the page.

use arch_contract::mutant::{self, Mutant};
use core::fmt;
use core::ptr::NonNull;
use volatile::VolatilePtr;
use x86::msr;

/// Vectors this port uses beside the exceptions.
pub mod vector {
    /// First of the sixteen that the masked legacy controllers could still raise.
    pub const LEGACY: u8 = 0x20;
    pub const LEGACY_END: u8 = 0x30;
    pub const CONSOLE: u8 = 0x40;
    /// First of those that functions' messages carry, up to the timer's.
    pub const DEVICES: u8 = 0x50;
    pub const TIMER: u8 = 0xf0;
    pub const IPI: u8 = 0xf1;
    pub const ERROR: u8 = 0xfe;
    /// Low four bits set, as old APICs insist.
    pub const SPURIOUS: u8 = 0xff;
}

/// A register, by its x2APIC offset from MSR 0x800 (SDM vol. 3 table 11-6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
enum Register {
    Id = 0x02,
    TaskPriority = 0x08,
    EndOfInterrupt = 0x0b,
    Spurious = 0x0f,
    ErrorStatus = 0x28,
    CommandLow = 0x30,
    CommandHigh = 0x31,
    LvtTimer = 0x32,
    LvtLint0 = 0x35,
    LvtLint1 = 0x36,
    LvtError = 0x37,
    TimerInitial = 0x38,
    TimerCurrent = 0x39,
    TimerDivide = 0x3e,
}

const X2APIC_BASE: u32 = 0x800;
/// IA32_APIC_BASE: x2APIC mode, and the enable that it needs beside it.
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ENABLE: u64 = 1 << 11;

const ENABLE: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const TSC_DEADLINE: u32 = 2 << 17;
const DELIVER_NMI: u32 = 4 << 8;
/// ICR: fixed delivery, physical destination, assert.
const ASSERT: u32 = 1 << 14;
const PENDING: u32 = 1 << 12;
/// ICR: other ways of delivery.
const DELIVER_NON_MASKABLE: u32 = 4 << 8;
const DELIVER_INIT: u32 = 5 << 8;
const DELIVER_START_UP: u32 = 6 << 8;
/// Divide the timer's clock by 1.
const DIVIDE_BY_1: u32 = 0b1011;

/// How to reach the registers.
#[derive(Clone, Copy, Debug)]
pub enum LocalApic {
    Memory(NonNull<u8>),
    Msr,
}

// SAFETY: the page holds each CPU's own registers: whoever accesses it reaches its own APIC.
unsafe impl Sync for LocalApic {}
// SAFETY: as above.
unsafe impl Send for LocalApic {}

/// How the timer counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimerMode {
    /// A countdown in [`set_countdown`](LocalApic::set_countdown).
    OneShot,
    /// A TSC value in IA32_TSC_DEADLINE.
    Deadline,
}

impl LocalApic {
    fn read(&self, register: Register) -> u32 {
        match self {
            Self::Memory(page) => self.at(*page, register).read(),
            // SAFETY: x2APIC mode is on, and the register exists in it.
            Self::Msr => unsafe { msr::rdmsr(X2APIC_BASE + register as u32) as u32 },
        }
    }

    fn write(&self, register: Register, value: u32) {
        match self {
            Self::Memory(page) => self.at(*page, register).write(value),
            // SAFETY: as in `read`; reserved bits are zero by the values of this file.
            Self::Msr => unsafe { msr::wrmsr(X2APIC_BASE + register as u32, value.into()) },
        }
    }

    fn at(&self, page: NonNull<u8>, register: Register) -> VolatilePtr<'static, u32> {
        // SAFETY: the page is mapped uncached for good, and the register lies in it, aligned.
        unsafe { VolatilePtr::new(page.add(register as usize * 16).cast()) }
    }

    /// Switches this CPU's APIC on: everything masked but what the port uses. The timer counts, but
    /// interrupts only after [`start_timer`](Self::start_timer).
    ///
    /// # Safety
    /// On each CPU each time it starts, with interrupts off, after the IDT is loaded; for
    /// [`LocalApic::Msr`] the CPU has x2APIC.
    pub unsafe fn enable(&self) {
        // SAFETY: ring 0. The mode bits only ever go from off to xAPIC to x2APIC here (SDM vol. 3
        // figure 11-27), where an INIT leaves them.
        unsafe {
            let base = msr::rdmsr(msr::IA32_APIC_BASE) | BASE_ENABLE;
            msr::wrmsr(msr::IA32_APIC_BASE, base);
            if matches!(self, Self::Msr) {
                msr::wrmsr(msr::IA32_APIC_BASE, base | BASE_X2APIC);
            }
        }
        self.write(Register::TaskPriority, 0);
        self.write(Register::LvtLint0, MASKED);
        self.write(Register::LvtLint1, DELIVER_NMI);
        self.write(Register::LvtError, vector::ERROR.into());
        self.write(Register::TimerDivide, DIVIDE_BY_1);
        self.write(Register::LvtTimer, u32::from(vector::TIMER) | MASKED);
        self.write(Register::Spurious, ENABLE | u32::from(vector::SPURIOUS));
        self.write(Register::ErrorStatus, 0);
    }

    /// Switches this CPU's APIC off as far as it goes: every source is masked, and only an INIT or a
    /// start-up interrupt gets through (SDM vol. 3 §11.4.7.2).
    pub fn disable(&self) {
        self.write(Register::Spurious, vector::SPURIOUS.into());
    }

    /// Unmasks the timer.
    pub fn start_timer(&self, mode: TimerMode) {
        let bits = match mode {
            TimerMode::OneShot => 0,
            TimerMode::Deadline => TSC_DEADLINE,
        };
        self.write(Register::LvtTimer, u32::from(vector::TIMER) | bits);
        // The write to the LVT comes before any write of the deadline MSR (SDM vol. 3 §11.5.4.1).
        x86::fence::mfence();
    }

    /// Counts down from `ticks`, then interrupts once. 0 stops the timer.
    pub fn set_countdown(&self, ticks: u32) {
        self.write(Register::TimerInitial, ticks);
    }

    /// What is left of the countdown.
    pub fn countdown(&self) -> u32 {
        self.read(Register::TimerCurrent)
    }

    /// Tells the APIC that the interrupt in service is dealt with.
    pub fn end_of_interrupt(&self) {
        self.write(Register::EndOfInterrupt, 0);
    }

    /// This CPU's id.
    pub fn id(&self) -> u32 {
        match self {
            Self::Memory(_) => self.read(Register::Id) >> 24,
            Self::Msr => self.read(Register::Id),
        }
    }

    /// Interrupts the CPU with APIC id `target`. All stores before it are visible to the handler
    /// (`SMP-1`).
    pub fn send(&self, target: u32, vector: u8) {
        self.command(target, ASSERT | u32::from(vector));
    }

    /// Interrupts the CPU with APIC id `target`, whatever it does.
    pub fn send_non_maskable(&self, target: u32) {
        self.command(target, ASSERT | DELIVER_NON_MASKABLE);
    }

    /// Puts the CPU with APIC id `target` where it waits for a start-up interrupt.
    pub fn send_init(&self, target: u32) {
        self.command(target, ASSERT | DELIVER_INIT);
    }

    /// Lets the CPU with APIC id `target` begin at page `page`; one that does not wait for it ignores
    /// it (SDM vol. 3 §9.4.4). All stores before it are visible there.
    pub fn send_start_up(&self, target: u32, page: u8) {
        self.command(target, ASSERT | DELIVER_START_UP | u32::from(page));
    }

    fn command(&self, target: u32, low: u32) {
        match self {
            // An uncached store comes after all stores before it anyway.
            Self::Memory(_) => {
                // Pending means on its way out of this APIC (SDM vol. 3 §11.6.1): it ends without
                // any help of the target's software, so this waits for hardware only. Interrupts are
                // off and non-maskable handlers send nothing: the two writes stay together.
                while self.read(Register::CommandLow) & PENDING != 0 {
                    core::hint::spin_loop();
                }
                self.write(Register::CommandHigh, target << 24);
                self.write(Register::CommandLow, low);
            }
            // A `wrmsr` to an x2APIC register does not wait for them: `mfence`, then `lfence` (SDM vol. 3
            // §11.12.3).
            // SAFETY: x2APIC mode is on; the command register is one 64-bit MSR there, and is never
            // pending.
            Self::Msr => unsafe {
                if !mutant::is(Mutant::InterruptUnordered) {
                    x86::fence::mfence();
                    x86::fence::lfence();
                }
                msr::wrmsr(
                    X2APIC_BASE + Register::CommandLow as u32,
                    u64::from(target) << 32 | u64::from(low),
                );
            },
        }
    }

    /// Whether the CPU with this id can be sent anything: an id has 8 bits in memory-mapped
    /// registers, and all of them set means everyone.
    pub fn reaches(&self, target: u32) -> bool {
        match self {
            Self::Memory(_) => target < 0xff,
            Self::Msr => target < u32::MAX,
        }
    }
}

impl fmt::Display for LocalApic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory(_) => "xAPIC",
            Self::Msr => "x2APIC",
        })
    }
}
