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
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::trace;
use abi::testing::Counter;
use abi::trace::Kind;
use arch_contract::barrier::Site;
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::smp::Smp;
use arch_contract::tlb::Tlb;
use arch_current::Current;

/// What can be asked of a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kinds(u32);

impl Kinds {
    pub const NONE: Self = Self(0);
    /// Something was put into its run queue, or its current thread is wanted elsewhere or doomed.
    pub const RESCHEDULE: Self = Self(1);
    /// The generation of what it has loaded was raised.
    pub const FLUSH: Self = Self(2);
    /// A full barrier (`BAR-6`).
    pub const BARRIER: Self = Self(4);
    /// Serialize before the next user instruction (`RET-2`).
    pub const CORE_SYNC: Self = Self(8);
    /// Restart the current thread's restartable sequence.
    pub const RSEQ: Self = Self(16);
    /// Look up the registrations of the current mm again.
    pub const REGISTRATIONS: Self = Self(32);
    /// Let go of an mm that is loaded lazily: it is being taken apart.
    pub const DROP: Self = Self(64);
    /// Forget all translations of all mms: hardware ids are about to be reused (`CTX-12`).
    pub const FLUSH_ALL: Self = Self(128);
    /// Go off.
    pub const GO_OFF: Self = Self(256);

    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// What others ask of one CPU. On a cache line of its own: it is written only when something is
/// asked.
#[repr(align(128))]
pub struct Inbox {
    kinds: AtomicU32,
    /// The number of the last request that wants to know when it is served.
    asked: AtomicU64,
    /// The number of the last such request that was.
    served: AtomicU64,
}

impl Inbox {
    pub const fn new() -> Self {
        Self { kinds: AtomicU32::new(0), asked: AtomicU64::new(0), served: AtomicU64::new(0) }
    }
}

/// Puts `kinds` into all `inboxes` and then a number, for which `next` is asked in between: never
/// the same one, and later calls get larger ones.
///
/// In this order: other requests are under way, and whoever serves a larger number serves this one
/// with it. So before the number exists the kinds must be there.
fn post<'a>(
    inboxes: impl Iterator<Item = &'a Inbox> + Clone,
    kinds: Kinds,
    mut next: impl FnMut() -> u64,
) -> u64 {
    let early = mutant::is(Mutant::NumberBeforeKinds).then(&mut next);
    for inbox in inboxes.clone() {
        inbox.kinds.fetch_or(kinds.0, Ordering::AcqRel);
    }
    let number = early.unwrap_or_else(next);
    for inbox in inboxes {
        // Release: who reads this number, or a larger one, also reads the kinds.
        inbox.asked.fetch_max(number, Ordering::AcqRel);
    }
    number
}

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
        self.targets.iter().all(|target| match kernel.cpu(target) {
            // Acquire: pairs with the release in `serve`: what the target did for the request comes
            // before what the asker does next.
            Some(target) => target.inbox.served.load(Ordering::Acquire) >= self.number,
            None => true,
        })
    }
}

impl Cpu {
    /// Asks `target` without caring when: interrupts it if no request is pending there already,
    /// since whoever made that one has sent, or is about to send, the interrupt.
    pub fn ask(&self, target: &Cpu, kinds: Kinds, irq: &IrqsOff) {
        trace::event(self, Kind::Request, CpuSet::of(target.number).0, kinds.0.into());
        // Release: what this CPU wrote comes before the request. Pairs with the acquire in `serve`.
        if mutant::is(Mutant::InterruptBeforeRequest) {
            interrupt(self, target, irq);
        }
        let before = target.inbox.kinds.fetch_or(kinds.0, Ordering::AcqRel);
        if before == 0 || mutant::is(Mutant::InterruptStorm) {
            interrupt(self, target, irq);
        }
    }

    /// Asks all of `targets`, and says how to learn that they have served it. This CPU may be one
    /// of them, and serves it before this returns. CPUs that are off are left out.
    pub fn ask_and_tell(&self, targets: CpuSet, kinds: Kinds, irq: &IrqsOff) -> Ticket {
        let kernel = self.kernel;
        trace::event(self, Kind::Request, targets.0, kinds.0.into());
        // Once: a CPU that is off now and on later was never asked, and would not answer.
        let targets = targets.and(kernel.online());
        let cpus = || targets.iter().filter_map(|target| kernel.any_cpu(target));
        let number = post(cpus().map(|target| &target.inbox), kinds, || kernel.next_request());
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
        let inbox = &self.inbox;
        // Acquire: pairs with the releases of the askers; the number before the kinds.
        let number = inbox.asked.load(Ordering::Acquire);
        if inbox.kinds.load(Ordering::Relaxed) != 0 || inbox.served.load(Ordering::Relaxed) != number {
            self.serve_up_to(number);
        }
    }

    #[cold]
    fn serve_up_to(&self, number: u64) {
        let kinds = Kinds(self.inbox.kinds.swap(0, Ordering::AcqRel));
        // SAFETY: the kernel runs with interrupts off; serving opens no window.
        let irq = unsafe { IrqsOff::assume() };
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
        if kinds.has(Kinds::CORE_SYNC) {
            self.owe_core_sync();
        }
        if kinds.has(Kinds::RSEQ) {
            self.add_work(Work::RSEQ);
        }
        if kinds.has(Kinds::RESCHEDULE) {
            self.add_work(Work::READY);
        }
        if kinds.has(Kinds::GO_OFF) {
            self.add_work(Work::GO_OFF);
        }
        trace::event(self, Kind::Served, kinds.0.into(), number);
        // Release: all of the above comes before the asker goes on. Pairs with the acquire in
        // `Ticket::is_served`. Only this CPU writes it, and `number` never falls.
        self.inbox.served.store(number, Ordering::Release);
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
        let asked = |cpu: &Cpu| cpu.inbox.kinds.load(Ordering::Relaxed) != 0;
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
        for _ in 0..100_000 {
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
                assert!(inbox.kinds.load(Ordering::Relaxed) != 0, "interrupted for nothing");
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

    /// What a target has by the time it serves `number`.
    fn take(inbox: &Inbox) -> (Kinds, u64) {
        let number = inbox.asked.load(Ordering::Acquire);
        (Kinds(inbox.kinds.swap(0, Ordering::AcqRel)), number)
    }

    /// `SMP-2`: two CPUs ask the same one, and the one whose number is smaller is the slower. What
    /// is served with the larger number answers both, so it must hold what both asked for.
    #[test]
    fn smp_2_a_number_that_is_served_was_served_with_all_smaller_ones() {
        arch_model::select_mutant();
        let inbox = Inbox::new();
        let mut served = Kinds::NONE;
        let slow = post(core::iter::once(&inbox), Kinds::FLUSH_ALL, || {
            let number = 1;
            // Meanwhile another CPU asks, with the next number, and is served.
            assert_eq!(post(core::iter::once(&inbox), Kinds::BARRIER, || 2), 2);
            let (kinds, up_to) = take(&inbox);
            assert_eq!(up_to, 2);
            served = kinds;
            number
        });
        assert!(slow < 2 && served.has(Kinds::BARRIER) && served.has(Kinds::FLUSH_ALL));
    }
}
