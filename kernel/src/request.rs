//! Requests from CPU to CPU.
//!
//! Each CPU has an [`Inbox`]: a word of [`Kinds`] that others set bits in, and two counts that tell
//! an asker when a request is served. Requests carry no other payload. What a flush or a barrier
//! is about, the target finds in what it has loaded: so requests merge, none can be lost for want
//! of room, and serving one is a few loads and stores that take no lock.
//!
//! A request is served wherever its target is: by the interrupt in user mode and in windows, and
//! by every wait loop of the kernel ([`Lock::lock`](crate::sync::Lock::lock)), because two CPUs that
//! waited for each other with interrupts off would wait for ever (`TLB-5`).

use crate::cpu::{Cpu, Work};
use crate::cpuset::{CpuId, CpuSet};
use crate::kernel::Kernel;
use crate::sched::context;
use crate::trace;
use abi::testing::Counter;
use abi::trace::Kind;
use arch_contract::barrier::Site;
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::smp::Smp;
use arch_contract::tlb::Tlb;
use arch_current::Current;
use protocol::inbox::{self, Pending};
pub use protocol::inbox::{Inbox, Kinds};
use protocol::offline;

/// A request to some CPUs that can be waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket {
    number: u64,
    targets: CpuSet,
}

impl Ticket {
    /// Whether every target has served it, or is off: a CPU that goes off serves what was asked by
    /// then as the last thing it does.
    pub fn is_served(&self, kernel: &Kernel) -> bool {
        self.targets.iter().all(|number| {
            offline::is_off(&kernel.online, number)
                || kernel.any_cpu(number).is_none_or(|target| target.inbox.has_served(self.number))
        })
    }
}

impl Cpu {
    /// Asks `target` without caring when: interrupts it if no request is pending there already,
    /// since whoever made that one has sent, or is about to send, the interrupt.
    pub fn ask(&self, target: &Cpu, kinds: Kinds, irq: &IrqsOff) {
        trace::event(self, Kind::Request, CpuSet::of(target.number).0, kinds.bits().into());
        if mutant::is(Mutant::InterruptBeforeRequest) {
            interrupt(self, target, irq);
        }
        if target.inbox.ask(kinds) == Pending::No {
            interrupt(self, target, irq);
        }
    }

    /// Asks all of `targets`, and says how to learn that they have served it. This CPU may be one
    /// of them, and serves it before this returns. CPUs that are off are left out.
    pub fn ask_and_tell(&self, targets: CpuSet, kinds: Kinds, irq: &IrqsOff) -> Ticket {
        let kernel = self.kernel;
        trace::event(self, Kind::Request, targets.0, kinds.bits().into());
        // Once: a CPU that is off now and on later was never asked, and would not answer.
        let targets = targets.and(kernel.online());
        let cpus = || targets.iter().filter_map(|target| kernel.any_cpu(target));
        let number = inbox::post(cpus().map(|target| &target.inbox), kinds, || kernel.requests.next());
        for target in cpus() {
            if target.number == self.number {
                self.serve();
            } else {
                // Always: the request that is pending there may have been taken before the number.
                interrupt(self, target, irq);
            }
        }
        Ticket { number, targets }
    }

    /// Serves what other CPUs ask of this one. Takes no lock, never schedules: what must be decided
    /// is noted as [`Work`]. Callable anywhere in the kernel but in the middle of a switch.
    #[inline]
    pub fn serve(&self) {
        if let Some(number) = self.inbox.pending() {
            self.serve_up_to(number);
        }
    }

    #[cold]
    fn serve_up_to(&self, number: u64) {
        // SAFETY: the kernel runs with interrupts off; serving opens no window.
        let irq = unsafe { IrqsOff::assume() };
        self.inbox.serve_up_to(number, |kinds| {
            if kinds.has(Kinds::FLUSH) {
                context::catch_up(self, &irq);
            }
            if kinds.has(Kinds::FLUSH_ALL) {
                Current::flush_local_all(self.arch(), &irq);
                trace::event(self, Kind::FlushAll, 0, 0);
            }
            if kinds.has(Kinds::REGISTRATIONS) {
                context::read_registrations(self);
            }
            if kinds.has(Kinds::DROP) {
                context::drop_when_lazy(self, &irq);
            }
            if kinds.has(Kinds::BARRIER) {
                // What user code did here before, and what the asker did before it asked, on one side;
                // the acknowledgement and what user code does next on the other. `BAR-6`
                self.full_barrier(Site::IpiHandler);
            }
            let goes_elsewhere = kinds.has(Kinds::RESCHEDULE) && mutant::is(Mutant::M14);
            if kinds.has(Kinds::CORE_SYNC) && !mutant::is(Mutant::M13) && !goes_elsewhere {
                self.owe_core_sync();
            }
            if kinds.has(Kinds::RSEQ) && !mutant::is(Mutant::RseqNotRestarted) {
                self.add_work(Work::RSEQ);
            }
            if kinds.has(Kinds::RESCHEDULE) {
                self.add_work(Work::READY);
            }
            if kinds.has(Kinds::GO_OFF) {
                self.add_work(Work::GO_OFF);
            }
            trace::event(self, Kind::Served, kinds.bits().into(), number);
        });
    }
}

fn interrupt(cpu: &Cpu, target: &Cpu, irq: &IrqsOff) {
    if mutant::is(Mutant::InterruptLost) {
        return;
    }
    trace::count(cpu, Counter::InterruptsSent);
    if let Err(missing) = Current::send_ipi(cpu.arch(), target.arch(), irq) {
        panic!("CPU {} cannot be interrupted: {} is not implemented", target.number, missing.0.id());
    }
}

/// Spins until `done`, and serves meanwhile (`TLB-5`).
pub fn wait_until(cpu: &Cpu, mut done: impl FnMut() -> bool) {
    while !done() {
        if !mutant::is(Mutant::WaitersAreDeaf) {
            cpu.serve();
        }
        Current::relax(cpu.arch());
    }
}

impl Kernel {
    /// Asks every CPU that is on but `cpu` itself and waits until all have served it.
    pub fn ask_all_others(&self, cpu: &Cpu, kinds: Kinds, irq: &IrqsOff) {
        let others = self.online().without(cpu.number);
        if !others.is_empty() {
            let ticket = cpu.ask_and_tell(others, kinds, irq);
            wait_until(cpu, || ticket.is_served(self));
        }
    }

    /// The CPU with this number, if it is on.
    pub fn cpu(&self, number: CpuId) -> Option<&'static Cpu> {
        if self.online().has(number) { self.any_cpu(number) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::testing::{irqs_off, kernel_cpus};
    use crate::sync::Lock;
    use crate::tests::worker::Worker;
    use arch_model::{Config, Event};
    use std::boxed::Box;

    /// `TLB-5`: whoever waits for another CPU, or for a lock that another holds, serves what is asked
    /// of it meanwhile.
    #[test]
    fn tlb_5_whoever_waits_serves() {
        let cpus = kernel_cpus(Config { cpus: 2, ..Config::default() });
        let irq = irqs_off();
        let asked = |cpu: &Cpu| cpu.inbox.pending().is_some();
        cpus[0].ask(cpus[0], Kinds::RESCHEDULE, &irq);
        let mut looks = 0;
        wait_until(cpus[0], || {
            looks += 1;
            looks == 3
        });
        assert!(!asked(cpus[0]), "a wait for a condition");

        let lock: &Lock<()> = Box::leak(Box::new(Lock::new(())));
        let held = lock.lock(cpus[0]);
        let waiter = Worker::new(cpus[1]);
        let (begins, began) = std::sync::mpsc::channel();
        let waits = waiter.start(move |cpu| {
            begins.send(()).expect("the test waits");
            drop(lock.lock(cpu));
        });
        began.recv().expect("it begins");
        cpus[0].ask(cpus[1], Kinds::RESCHEDULE, &irq);
        for _ in 0..1_000_000 {
            if !asked(cpus[1]) {
                break;
            }
            std::thread::yield_now();
        }
        let served = !asked(cpus[1]);
        drop(held);
        waits.recv().expect("it has had the lock");
        assert!(served, "a wait for a lock");
    }

    /// `SMP-1`: when a CPU is interrupted, what is asked of it is there to be found.
    #[test]
    fn smp_1_a_request_is_there_before_its_interrupt() {
        fn look(cpu: &'static arch_model::Cpu, event: Event) {
            if let Event::SendIpi { target } = event {
                let target = &cpu.machine().cpus()[target as usize];
                // SAFETY: the kernel has bound it.
                let inbox = unsafe { &Cpu::of(target).inbox };
                assert!(inbox.pending().is_some(), "interrupted for nothing");
            }
        }
        let cpus = kernel_cpus(Config { cpus: 2, ..Config::default() });
        let irq = irqs_off();
        cpus[0].machine().watch(look);
        cpus[0].ask(cpus[1], Kinds::FLUSH, &irq);
        cpus[1].serve();
        let ticket = cpus[0].ask_and_tell(CpuSet::of(cpus[1].number), Kinds::BARRIER, &irq);
        cpus[1].serve();
        assert!(ticket.is_served(cpus[0].kernel));
        let sent = |event: &Event| matches!(event, Event::SendIpi { .. });
        assert_eq!(cpus[0].machine().events().iter().filter(|logged| sent(&logged.event)).count(), 2);
    }
}
