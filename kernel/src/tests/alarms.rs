//! Alarms that go off where a wait ends, or between two waits: `IPC-3`. An alarm is taken out of the timers
//! first, and looks for the wait then. And many that go off at once.

use super::ipc::NONE;
use super::many::{boot, start, thread};
use super::{Run, User};
use crate::cpu::Cpu;
use crate::cpuset::{CpuId, CpuSet};
use crate::ipc;
use crate::mm::testing::irqs_off;
use crate::object::Ref;
use crate::request::Kinds;
use crate::sync::{AtomicU32, Ordering};
use crate::thread::Thread;
use abi::ipc::{FOREVER, Tag};
use abi::{Call, Error, initial};
use arch_contract::irq::Interrupt;
use arch_model::Event;
use arch_model::profile::Profile;

const TAG: u64 = Tag::new(1, 0).0;

/// init, and another thread of it, which is current; and an endpoint.
fn two() -> (Run, User, Ref<Thread>, u64) {
    let mut run = Run::boot(Profile::Minimal);
    let init = run.user();
    let endpoint = run.endpoint();
    let handle = start(&mut run);
    let other = thread(&run, handle);
    run.yield_to_other();
    (run, init, other, endpoint)
}

/// What the last call of `thread`, which waits or is ready, has returned.
fn returned(thread: &Thread) -> Option<Error> {
    // SAFETY: nothing runs.
    Error::from_number(unsafe { thread.frame().as_ref() }.status)
}

/// An alarm of an earlier wait that comes late ends no later one.
#[test]
fn ipc_3_an_alarm_ends_its_own_wait_only() {
    for closed in [false, true] {
        // A call, after a wait whose deadline has passed.
        let (mut run, init, other, endpoint) = two();
        run.cpu().kernel.short_ways.closed.store(closed, Ordering::Relaxed);
        let deadline = run.cpu().now().0 + 1;
        run.machine.advance(1000);
        run.call(Call::EndpointReceive, &[endpoint, deadline]);
        assert_eq!(run.returned(), Err(Error::TimedOut));
        run.to(init);
        run.receive(endpoint);
        run.to(User(other.frame()));
        run.call(Call::EndpointCall, &[endpoint, FOREVER, TAG]);
        let before = returned(&other);
        ipc::timed_out(run.cpu(), &other);
        run.call(Call::Yield, &[]);
        assert!(run.user() == init && returned(&other) == before, "closed: {closed}");
    }
    // A wait for bits, and one for a message.
    let (mut run, init, other, endpoint) = two();
    let notification = run.notification();
    for (call, object) in [(Call::NotificationWait, notification), (Call::EndpointReceive, endpoint)] {
        run.to(User(other.frame()));
        run.call(call, &[object, 1 << 60]);
        ipc::timed_out(run.cpu(), &other);
        run.call(Call::Yield, &[]);
        assert_eq!(run.user(), init, "{call:?}");
        match call {
            Call::NotificationWait => run.call(Call::NotificationSignal, &[notification, 1]),
            _ => return,
        }
    }
}

/// A caller whose alarm goes off when its message has just been taken, and it waits for no reply yet, does
/// not wait for ever.
#[test]
fn ipc_3_an_alarm_between_two_waits_is_not_lost() {
    let (mut run, init, client, endpoint) = two();
    let deadline = run.cpu().now().0 + 1000;
    run.call(Call::EndpointCall, &[endpoint, deadline, TAG]);
    assert_eq!(run.user(), init);
    run.machine.advance(2000);
    // As far as the timers get.
    let cpu = run.cpu();
    let mut timers = cpu.timers.lock();
    let due = timers.pop_up_to(deadline);
    assert!(due.is_some() && client.ipc.alarm.taken(cpu));
    drop(timers);
    run.receive(endpoint);
    run.to(User(client.frame()));
    assert_eq!(run.returned(), Err(Error::TimedOut));
}

/// A CPU that wakes many serves meanwhile: what is asked of it when the first is woken is done when the
/// next is.
#[test]
fn tlb_5_who_wakes_many_serves_meanwhile() {
    static POKES: AtomicU32 = AtomicU32::new(0);
    /// The CPU that wakes pokes another for each.
    fn look(cpu: &'static arch_model::Cpu, event: Event) {
        // SAFETY: the kernel has bound it.
        let cpu = unsafe { Cpu::of(cpu) };
        if cpu.number != CpuId::BOOT || !matches!(event, Event::SendIpi { .. }) {
            return;
        }
        if POKES.fetch_add(1, Ordering::Relaxed) == 0 {
            let asker = cpu.kernel.cpu(CpuId::new(1).expect("a number")).expect("it is on");
            let _ = asker.ask_and_tell(CpuSet::of(cpu.number), Kinds::FLUSH, &irqs_off());
            assert!(cpu.inbox.pending().is_some());
        } else {
            assert_eq!(cpu.inbox.pending(), None, "it was asked before it woke this one");
        }
    }
    let (mut run, init) = boot(3);
    // Two go to sleep here, and are to run elsewhere.
    for cpu in [1, 2] {
        let handle = start(&mut run);
        run.on(cpu).take_interrupts();
        run.call(Call::ThreadAffinity, &[NONE, 1]);
        run.on(0).yield_to_other();
        let due = run.cpu().now().0 + 1000;
        run.call(Call::SleepUntil, &[initial::TIMER.0.into(), due]);
        assert_eq!(run.user(), init);
        run.call(Call::ThreadAffinity, &[handle, 1 << cpu]);
    }
    run.on(1).take_interrupts();
    run.on(0);
    run.machine.advance(1 << 20);
    run.machine.watch(look);
    run.interrupt(Interrupt::Timer);
    assert!(POKES.load(Ordering::Relaxed) > 1, "nobody was poked");
}
