//! The clock is the TSC; the deadline is the local APIC's timer.
//!
//! A hypervisor keeps the TSCs of its virtual CPUs in step, and emulators do without the invariant
//! bit. Where neither says so, one TSC may be behind another, and the clock is the latest value that
//! any CPU has read: a shared word, which costs what it costs (`TIME-1`).
//!
//! The timer takes a TSC value where CPUID has TSC-deadline mode, else a countdown whose rate is
//! measured. Rates that CPUID does not state are measured against the ACPI PM timer, or the PIT
//! where the firmware names none: two readings half a millisecond apart, each the tightest of a
//! few, so that being descheduled in between lengthens the measurement and does not spoil it.

use crate::X86_64;
use crate::apic::{LocalApic, TimerMode};
use crate::cpu::Cpu;
use crate::features::Features;
use crate::machine::Machine;
use arch_contract::Base;
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::time::{Ticks, Time};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use x86::io::{inb, inl, outb};
use x86::msr;

/// How fast things count.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    tsc_hz: u64,
    /// Timer countdown per TSC tick, in units of 2⁻³².
    countdown_per_tick: u64,
    pub(crate) mode: TimerMode,
    source: Source,
    step: Step,
}

/// How the TSCs of different CPUs relate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// No reading is behind one that was made before it.
    Together,
    /// As they like.
    Apart,
}

/// Where the rates come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Cpuid,
    PmTimer,
    Pit,
}

/// Nothing counts: neither CPUID nor a reference clock tells time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoClock;

impl Rates {
    pub fn tsc_hz(&self) -> u64 {
        self.tsc_hz
    }

    /// What the clock reads at least, if TSCs alone do not make one.
    pub fn floor(&self) -> Option<AtomicU64> {
        (self.step == Step::Apart).then(|| AtomicU64::new(0))
    }

    pub fn source(&self) -> &'static str {
        match self.source {
            Source::Cpuid => "by CPUID",
            Source::PmTimer => "measured by the ACPI PM timer",
            Source::Pit => "measured by the PIT",
        }
    }

    /// Finds them out. The local APIC is enabled and its timer masked.
    pub fn find(features: &Features, apic: &LocalApic, pm_timer: Option<u16>) -> Result<Self, NoClock> {
        let step = match features.invariant_tsc || features.hypervisor {
            true => Step::Together,
            false => Step::Apart,
        };
        // A deadline in TSC ticks needs a clock that is the TSC.
        let mode = match features.tsc_deadline && step == Step::Together {
            true => TimerMode::Deadline,
            false => TimerMode::OneShot,
        };
        let per_tick = |apic: u64, tsc: u64| ((u128::from(apic) << 32) / u128::from(tsc)) as u64;
        if let Some(tsc_hz) = features.tsc_hz.filter(|&hz| hz != 0) {
            let apic_hz = features.apic_hz.unwrap_or(0);
            if mode == TimerMode::Deadline || apic_hz != 0 {
                let countdown_per_tick = per_tick(apic_hz, tsc_hz);
                return Ok(Self { tsc_hz, countdown_per_tick, mode, source: Source::Cpuid, step });
            }
        }
        let reference = match pm_timer {
            Some(port) => Reference::PmTimer(port),
            None => Reference::start_pit(),
        };
        apic.set_countdown(u32::MAX);
        let measured = reference.measure(apic);
        apic.set_countdown(0);
        let (tsc, countdown, elapsed) = measured?;
        let source = if pm_timer.is_some() { Source::PmTimer } else { Source::Pit };
        let tsc_hz = (u128::from(tsc) * u128::from(reference.hz()) / u128::from(elapsed)) as u64;
        if tsc_hz == 0 || (countdown == 0 && mode == TimerMode::OneShot) {
            return Err(NoClock);
        }
        Ok(Self { tsc_hz, countdown_per_tick: per_tick(countdown, tsc), mode, source, step })
    }
}

/// A clock of known rate.
#[derive(Clone, Copy, Debug)]
enum Reference {
    /// 24 bits, up (ACPI 6.5 §4.8.3.3).
    PmTimer(u16),
    /// Channel 0, 16 bits, down.
    Pit,
}

const PIT_CHANNEL_0: u16 = 0x40;
const PIT_COMMAND: u16 = 0x43;

/// All clocks at one moment, as far as that goes.
#[derive(Clone, Copy)]
struct Sample {
    tsc: u64,
    reference: u32,
    countdown: u32,
    /// TSC ticks the reading took.
    width: u64,
}

impl Reference {
    fn start_pit() -> Self {
        // SAFETY: the PIT's ports; its interrupt is masked. Mode 2, low byte then high, reload
        // 65536.
        unsafe {
            outb(PIT_COMMAND, 0x34);
            outb(PIT_CHANNEL_0, 0);
            outb(PIT_CHANNEL_0, 0);
        }
        Self::Pit
    }

    fn hz(self) -> u32 {
        match self {
            Self::PmTimer(_) => 3_579_545,
            Self::Pit => 1_193_182,
        }
    }

    fn read(self) -> u32 {
        // SAFETY: reads counters; latching the PIT's changes nothing else.
        unsafe {
            match self {
                Self::PmTimer(port) => inl(port),
                Self::Pit => {
                    outb(PIT_COMMAND, 0);
                    u32::from(inb(PIT_CHANNEL_0)) | u32::from(inb(PIT_CHANNEL_0)) << 8
                }
            }
        }
    }

    /// Ticks from `from` to `to`, within one turn of the counter.
    fn elapsed(self, from: u32, to: u32) -> u32 {
        match self {
            Self::PmTimer(_) => to.wrapping_sub(from) & 0xff_ffff,
            Self::Pit => from.wrapping_sub(to) & 0xffff,
        }
    }

    /// The tightest of a few readings.
    fn sample(self, apic: &LocalApic) -> Sample {
        let once = || {
            let before = tsc();
            let reference = self.read();
            let countdown = apic.countdown();
            let width = tsc() - before;
            Sample { tsc: before + width / 2, reference, countdown, width }
        };
        (0..2).map(|_| once()).fold(once(), |best, next| if next.width < best.width { next } else { best })
    }

    /// TSC ticks, timer ticks and reference ticks over at least half a millisecond.
    fn measure(self, apic: &LocalApic) -> Result<(u64, u64, u32), NoClock> {
        /// Far more readings than half a millisecond holds: the reference stands still.
        const TOO_MANY: u32 = 1 << 20;
        let enough = self.hz() / 2000;
        let first = self.sample(apic);
        for _ in 0..TOO_MANY {
            if self.elapsed(first.reference, self.read()) >= enough {
                let last = self.sample(apic);
                let countdown = first.countdown.wrapping_sub(last.countdown);
                let elapsed = self.elapsed(first.reference, last.reference);
                return Ok((last.tsc - first.tsc, countdown.into(), elapsed));
            }
        }
        Err(NoClock)
    }
}

/// The TSC, not before earlier loads are done (SDM vol. 2 RDTSC).
#[inline(always)]
fn tsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a counter that every x86_64 has; CR4.TSD does not count in ring 0.
    unsafe { asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

impl Time for X86_64 {
    #[inline(always)]
    fn now(cpu: &Cpu) -> Ticks {
        let tsc = tsc();
        match cpu.clock_floor.get() {
            None => Ticks(tsc),
            // Relaxed: whoever synchronized with the reader of a value finds it, or a later one, in
            // the word.
            Some(floor) => Ticks(floor.fetch_max(tsc, Ordering::Relaxed).max(tsc)),
        }
    }

    fn ticks_per_second(machine: &Machine) -> u64 {
        machine.rates.tsc_hz
    }

    fn set_deadline(cpu: &Cpu, at: Option<Ticks>, _: &IrqsOff) {
        let Machine { rates, local_apic, .. } = Self::machine(cpu);
        match (rates.mode, at) {
            // 0 disarms in either mode.
            (TimerMode::OneShot, None) => local_apic.set_countdown(0),
            // SAFETY: the mode says that the MSR exists.
            (TimerMode::Deadline, None) => unsafe { msr::wrmsr(msr::IA32_TSC_DEADLINE, 0) },
            (TimerMode::OneShot, Some(Ticks(at))) => {
                let ticks = at.saturating_sub(Self::now(cpu).0);
                if mutant::is(Mutant::PastDeadlineDropped) && ticks == 0 {
                    return local_apic.set_countdown(0);
                }
                let countdown = (u128::from(ticks) * u128::from(rates.countdown_per_tick)) >> 32;
                // One more than the exact value, rounded up: late rather than early (TIME-2). At
                // least 1, so that what is past fires (TIME-3). What does not fit fires early.
                local_apic.set_countdown(u32::try_from(countdown.saturating_add(2)).unwrap_or(u32::MAX));
            }
            // A deadline that is past interrupts at once (SDM vol. 3 §11.5.4.1); 0 would disarm.
            // SAFETY: as above.
            (TimerMode::Deadline, Some(Ticks(at))) => unsafe {
                msr::wrmsr(msr::IA32_TSC_DEADLINE, at.max(1))
            },
        }
    }
}
