//! CPUs on their way off, and what others make of it meanwhile: `SMP-3`.

use super::User;
use super::many::{boot, start, thread};
use crate::cpu::{Cpu, Work};
use crate::cpuset::CpuSet;
use crate::hotplug;
use crate::mm::testing::{irqs_off, kernel_cpus};
use crate::request::Kinds;
use crate::sched;
use crate::thread::Standing;
use abi::{Call, initial};
use arch_contract::irq::Interrupt;
use arch_model::{Config, Event};
use protocol::offline;

const TIMER: u64 = initial::TIMER.0 as u64;
const MACHINE: u64 = initial::MACHINE.0 as u64;

/// CPUs 0 and 1, both on.
fn two() -> (&'static Cpu, &'static Cpu) {
    let cpus = kernel_cpus(Config { cpus: 2, ..Config::default() });
    (cpus[0], cpus[1])
}

/// A request that comes after the target's last look is served: it is off. Nobody waits for it.
#[test]
fn smp_3_who_is_off_has_served() {
    let (asker, target) = two();
    let irq = irqs_off();
    let ticket = asker.ask_and_tell(CpuSet::of(target.number), Kinds::FLUSH, &irq);
    assert!(!ticket.is_served(asker.kernel));
    // It looked before.
    offline::go_off(target, &asker.kernel.online, || {});
    assert!(ticket.is_served(asker.kernel));
}

/// What is off is not asked.
#[test]
fn smp_3_who_is_off_is_not_asked() {
    let (asker, target) = two();
    offline::go_off(target, &asker.kernel.online, || {});
    asker.machine().events();
    let ticket = asker.ask_and_tell(CpuSet::of(target.number), Kinds::FLUSH, &irqs_off());
    assert!(ticket.is_served(asker.kernel));
    let sent = |event: Event| matches!(event, Event::SendIpi { .. });
    assert!(!asker.machine().events().iter().any(|logged| sent(logged.event)));
    assert_eq!(target.inbox.pending(), None);
}

/// A CPU counts as off when it touches no memory any more, not when it says so.
#[test]
fn smp_3_off_is_when_it_has_stopped() {
    let (mut run, _) = boot(2);
    let asker = run.cpu();
    let target = run.on(1).cpu();
    offline::go_off(target, &asker.kernel.online, || {});
    assert_eq!(hotplug::look_off(asker, target.number), None, "it still has something to do");
}

/// Of those who turn a CPU on at once, one at a time looks whether it is off, and starts it: the other
/// would reset a CPU that runs.
#[test]
fn smp_3_one_starts_a_cpu_at_a_time() {
    fn look(cpu: &'static arch_model::Cpu, event: Event) {
        if let Event::StartCpu { .. } = event {
            // SAFETY: the kernel has bound it.
            let kernel = unsafe { Cpu::of(cpu) }.kernel;
            assert!(kernel.starting.try_lock().is_none(), "somebody else may start it too");
        }
    }
    let (mut run, _) = boot(2);
    run.call(Call::CpuPower, &[MACHINE, 1, 0]);
    run.on(1).take_interrupts();
    assert!(!run.arch.is_started());
    run.machine.watch(look);
    let target = run.cpu();
    assert_eq!(hotplug::look_on(run.on(0).cpu(), target.number, &irqs_off()), None);
    assert!(target.arch().is_started());
}

/// Whoever gets the sleepers of a CPU that goes off arms its timer for them, though it idles.
#[test]
fn smp_3_the_heir_of_sleepers_is_told() {
    let (mut run, init) = boot(3);
    start(&mut run);
    run.on(1).take_interrupts();
    let asker = run.user();
    start(&mut run);
    run.on(2).take_interrupts();
    let sleeper = run.user();
    assert!(sleeper != asker && sleeper != init);
    run.call(Call::SleepUntil, &[TIMER, 1 << 30]);
    run.on(0).call(Call::SleepUntil, &[TIMER, 1 << 40]);
    assert!(run.idles());
    run.on(1).call(Call::CpuPower, &[MACHINE, 2, 0]);
    run.on(2).take_interrupts();
    assert!(!run.arch.is_started());
    assert!(run.cpus[0].is_pending(), "it does not know of the sleeper");
}

/// A sleeper that was doomed by somebody who then found it in no timers, because its CPU goes off, is
/// ended by that one, not when it is due.
#[test]
fn smp_3_a_doomed_sleeper_does_not_move() {
    let (mut run, _) = boot(3);
    let handle = start(&mut run);
    let sleeper = thread(&run, handle);
    run.on(1).take_interrupts();
    assert_eq!(run.user(), User(sleeper.frame()));
    run.call(Call::SleepUntil, &[TIMER, 1 << 50]);
    assert!(matches!(sleeper.standing(), Standing::Timed(_)));
    // As far as a killer gets before it looks there.
    sleeper.doom();
    run.on(0).call(Call::CpuPower, &[MACHINE, 1, 0]);
    run.on(1).take_interrupts();
    assert!(!run.arch.is_started());
    assert!(matches!(sleeper.standing(), Standing::Ended));
}

/// A CPU whose load was about to be spread when it went off has that done again in its next life,
/// whether the task waited for its time or was ready.
#[test]
fn smp_3_the_next_life_is_balanced_too() {
    for ready in [false, true] {
        let (mut run, _) = boot(2);
        start(&mut run);
        run.on(1).take_interrupts();
        start(&mut run);
        run.cpu().add_work(Work::READY);
        assert!(run.result(Call::Null, &[]).is_ok());
        assert!(run.cpu().balancing.get(), "something waits here that could go elsewhere");
        assert_ne!(run.cpu().armed.get(), sched::NEVER);
        if ready {
            run.machine.advance(sched::balance::PERIOD);
        }
        run.cpu().add_work(Work::GO_OFF);
        run.interrupt(Interrupt::Timer);
        assert!(!run.arch.is_started());
        assert!(!run.cpu().balancing.get(), "ready: {ready}");
        assert_eq!(run.cpu().armed.get(), sched::NEVER, "what it says is armed is not");
    }
}
