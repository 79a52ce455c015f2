//! Points where a test stops a CPU, so that a race is a script and not a matter of luck.
//!
//! A script, which is a user program or a host test, arms a point for one CPU; when that CPU next
//! passes the point it stands there until it is released. It either serves what other CPUs ask of
//! it meanwhile, as every wait loop does, or is deaf, like a CPU that is busy with interrupts off.
//!
//! A CPU that stands drains its store buffer. So a script shows what depends on the *order of
//! steps*; what depends on a barrier is for the model and for litmus tests without any of this.
//! In an ordinary kernel a point compiles to nothing.

use crate::cpu::Cpu;
use crate::sync::{AtomicU32, Ordering};
use crate::trace;
pub use abi::testing::Point;
use arch_contract::smp::Smp;
use arch_current::Current;

/// What a CPU that stands does with the requests of others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    Serving = 0,
    Deaf = 1,
}

/// What is armed on one CPU, on a line of its own: [`PASSES`], [`STANDS`], or what [`armed`] says.
#[repr(align(128))]
struct Line(AtomicU32);

/// The state of one CPU. Empty in an ordinary kernel.
pub struct Rendezvous([Line; if trace::ENABLED { 1 } else { 0 }]);

const PASSES: u32 = 0;
const STANDS: u32 = u32::MAX;

const fn armed(point: Point, stop: Stop) -> u32 {
    (1 + point as u32) << 1 | stop as u32
}

/// `cpu`, the calling CPU, passes `point`, or stands there.
#[inline(always)]
pub fn point(cpu: &Cpu, point: Point) {
    if trace::ENABLED {
        cpu.rendezvous.pass(cpu, point);
    }
}

impl Rendezvous {
    pub const fn new() -> Self {
        Self([const { Line(AtomicU32::new(PASSES)) }; if trace::ENABLED { 1 } else { 0 }])
    }

    fn word(&self) -> Option<&AtomicU32> {
        self.0.first().map(|line| &line.0)
    }

    fn pass(&self, cpu: &Cpu, point: Point) {
        let Some(word) = self.word() else { return };
        for stop in [Stop::Serving, Stop::Deaf] {
            // Release: what came before the point, before whoever sees that it stands. Pairs with
            // the acquire in `stands`.
            let stands =
                word.compare_exchange(armed(point, stop), STANDS, Ordering::Release, Ordering::Relaxed);
            if stands.is_ok() {
                self.stand(cpu, stop);
            }
        }
    }

    /// Until released. Acquire: pairs with the release in [`release`](Self::release).
    fn stand(&self, cpu: &Cpu, stop: Stop) {
        while self.stands() {
            if stop == Stop::Serving {
                cpu.serve();
            }
            Current::relax(cpu.arch());
        }
    }

    /// The next time its CPU passes `point`, it stands.
    pub fn arm(&self, point: Point, stop: Stop) {
        if let Some(word) = self.word() {
            word.store(armed(point, stop), Ordering::Release);
        }
    }

    /// Whether its CPU stands at a point.
    pub fn stands(&self) -> bool {
        self.word().is_some_and(|word| word.load(Ordering::Acquire) == STANDS)
    }

    /// Lets its CPU go on, or pass what was armed. Whether it stood.
    pub fn release(&self) -> bool {
        self.word().is_some_and(|word| word.swap(PASSES, Ordering::AcqRel) == STANDS)
    }

    /// Makes the calling CPU, whose state it is, stand here, deaf.
    pub fn stick(&self, cpu: &Cpu) {
        if let Some(word) = self.word() {
            word.store(STANDS, Ordering::Release);
            self.stand(cpu, Stop::Deaf);
        }
    }
}
