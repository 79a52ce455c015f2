//! Where CPUs that are host threads wait: for a start, for an interrupt, for the end.
//!
//! In a script, one host thread plays all CPUs, and a halt jumps to the next thing that can end it.
//! With threads, a halted CPU sleeps until another sends it something; the clock jumps only when
//! every CPU that was started is halted, so that it never runs ahead of work.

use crate::host::{learn, thread};
use crate::machine::{Machine, Pace, lock};
use crate::{Cpu, Model};
use arch_contract::irq::Interrupt;
use arch_contract::time::{Ticks, Time};
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

/// What all CPUs wait on.
#[derive(Default)]
pub(crate) struct Halts {
    /// The CPUs that are halted, as a set.
    halted: u64,
    /// The machine ended, or one of its CPUs panicked.
    ended: bool,
}

/// What a halt unwinds with in a script of many CPUs.
pub(crate) struct Halted;

/// What a CPU unwinds with when another has ended the machine.
pub struct Ended;

/// How often a CPU may spin, within one upcall, before that counts as a deadlock. Each time, the
/// host may run another CPU.
const PATIENCE: u32 = 50_000_000;

/// Ticks that pass in one turn of a wait loop.
const SPIN: u64 = 1_000;
/// Things that interrupt a CPU.
const SOURCES: u32 = 4;

impl Machine {
    fn halts(&self) -> MutexGuard<'_, Halts> {
        lock(&self.halts)
    }

    fn wait_for_news<'a>(&'a self, halts: MutexGuard<'a, Halts>) -> MutexGuard<'a, Halts> {
        self.news.wait(&self.halts, halts)
    }

    /// Has every waiting CPU look again.
    pub(crate) fn nudge(&self) {
        // Under the lock, so that a CPU that has just found nothing is waiting by now.
        let _halts = self.halts();
        self.news.notify_all();
    }

    /// Has halted CPUs look again if one of them has something to take.
    pub(crate) fn nudge_halted(&self) {
        let halts = self.halts();
        if self.cpus().iter().any(|cpu| halts.halted & 1 << cpu.number != 0 && cpu.is_pending()) {
            self.news.notify_all();
        }
    }

    /// Makes every CPU leave with [`Ended`], whatever it does.
    pub fn end(&self) {
        self.halts().ended = true;
        self.news.notify_all();
    }

    /// Whether [`end`](Self::end) was called.
    pub fn has_ended(&self) -> bool {
        self.halts().ended
    }

    /// The first thing that an armed timer or the console will bring.
    fn next_event(&self) -> Option<Ticks> {
        let typed = self.console().later.front().map(|(at, _)| *at);
        self.cpus().iter().filter_map(Cpu::deadline).chain(typed).min()
    }
}

impl Cpu {
    /// Waits until another CPU has started this one. `false`: the machine ended instead.
    pub fn wait_for_start(&self) -> bool {
        let mut halts = self.machine.halts();
        loop {
            if halts.ended {
                return false;
            }
            if self.is_started() {
                learn(&lock(&self.machine.shared(self.number).carried));
                return true;
            }
            halts = self.machine.wait_for_news(halts);
        }
    }

    /// The interrupt that this CPU takes if it is in user mode now.
    pub fn take_interrupt(&self) -> Option<Interrupt> {
        let now = Model::now(self);
        if self.deadline.get().is_some_and(|at| at <= now) {
            self.deadline.set(None);
            return Some(Interrupt::Timer);
        }
        let shared = self.machine.shared(self.number);
        if shared.ipi.swap(false, Ordering::SeqCst) {
            learn(&core::mem::take(&mut *lock(&shared.carried)));
            return Some(Interrupt::Ipi);
        }
        // The boot CPU has the console.
        if self.number == 0 {
            let mut console = self.machine.console();
            console.arrive(now);
            if console.raise() {
                return Some(Interrupt::Console);
            }
        }
        self.take_device_interrupt()
    }

    /// Delivers all that is pending to the kernel and says whether anything was. A source that is
    /// raised anew meanwhile may have to wait for the next window.
    pub(crate) fn deliver_pending(&self) -> bool {
        let mut taken = 0;
        while taken < SOURCES
            && let Some(interrupt) = self.take_interrupt()
        {
            self.machine.deliver(self, interrupt);
            taken += 1;
        }
        taken > 0
    }

    /// Halts until something was delivered.
    pub(crate) fn halt(&self) {
        match self.machine.config.pace {
            Pace::Script => self.halt_in_script(),
            Pace::Threads => self.halt_as_thread(),
        }
    }

    fn halt_in_script(&self) {
        while !self.deliver_pending() {
            let machine = self.machine;
            if machine.cpus().len() > 1 {
                // It is another's turn, and the script's to say when time passes.
                std::panic::resume_unwind(Box::new(Halted));
            }
            let typed = match self.number {
                0 => machine.console().later.front().map(|(at, _)| *at),
                _ => None,
            };
            let next: Option<Ticks> = self.deadline.get().into_iter().chain(typed).min();
            let Some(next) = next else { panic!("CPU {}: idle with nothing armed", self.number) };
            machine.clock.fetch_max(next.0, Ordering::SeqCst);
        }
    }

    fn halt_as_thread(&self) {
        let machine = self.machine;
        let me = 1 << self.number;
        let mut halts = machine.halts();
        loop {
            leave_if(halts.ended);
            if self.is_pending() {
                halts.halted &= !me;
                drop(halts);
                self.deliver_pending();
                return;
            }
            halts.halted |= me;
            let awake = machine
                .cpus()
                .iter()
                .any(|cpu| cpu.is_started() && (halts.halted & 1 << cpu.number == 0 || cpu.is_pending()));
            if !awake {
                let Some(next) = machine.next_event() else { panic!("every CPU idles with nothing armed") };
                machine.clock.fetch_max(next.0, Ordering::SeqCst);
                machine.news.notify_all();
                continue;
            }
            halts = machine.wait_for_news(halts);
        }
    }

    /// Whether an interrupt waits to be taken. Takes nothing.
    pub fn is_pending(&self) -> bool {
        let now = Model::now(self);
        let timer = self.deadline.get().is_some_and(|at| at <= now);
        timer
            || self.machine.shared(self.number).ipi.load(Ordering::SeqCst)
            || self.number == 0 && self.machine.pci().is_raised()
            || self.number == 0 && {
                let mut console = self.machine.console();
                console.arrive(now);
                !console.raised && !console.input.is_empty()
            }
    }

    /// One turn of a wait loop.
    ///
    /// # Panics
    /// If it has turned for ever.
    pub(crate) fn spin(&self) {
        if self.machine.config.pace == Pace::Threads {
            leave_if(self.machine.has_ended());
            // Others may sleep until a time that does not come while this CPU just stands.
            self.machine.advance(SPIN);
        }
        let spins = self.spins.with(|spins| {
            *spins += 1;
            *spins
        });
        assert!(spins < PATIENCE, "CPU {} waits for what never comes", self.number);
        thread::yield_now();
    }
}

/// Leaves by unwinding, unless that is under way.
fn leave_if(ended: bool) {
    if ended && !std::thread::panicking() {
        std::panic::resume_unwind(Box::new(Ended));
    }
}
