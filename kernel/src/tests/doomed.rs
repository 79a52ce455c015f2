//! Threads that somebody has doomed, and then found nowhere because they were on their way: whoever
//! has them ends them before they stand where nobody would look again. The protocol is that of
//! [`crate::thread`]; a killer here goes as far as its first step.

use super::Run;
use super::many::{start, thread};
use crate::cpu::Work;
use crate::object::Ref;
use crate::pending::PAUSE;
use crate::sync::Ordering;
use crate::thread::{Standing, Thread};
use abi::ipc::{FOREVER, Tag};
use abi::{Call, Handle, initial};
use arch_contract::irq::Interrupt;
use arch_model::Event;
use arch_model::profile::Profile;
use std::cell::RefCell;

const TIMER: u64 = initial::TIMER.0 as u64;
const SELF: u64 = Handle::NONE.0 as u64;

/// init, and another thread of it that is current, by the long ways.
fn two() -> (Run, Ref<Thread>) {
    let mut run = Run::boot(Profile::Minimal);
    run.cpu().kernel.short_ways.closed.store(true, Ordering::Relaxed);
    let handle = start(&mut run);
    let other = thread(&run, handle);
    run.yield_to_other();
    (run, other)
}

fn has_ended(thread: &Thread) -> bool {
    matches!(thread.standing(), Standing::Ended)
}

/// A thread that is ready, and was doomed, does not run.
#[test]
fn the_doomed_are_not_chosen() {
    let mut run = Run::boot(Profile::Minimal);
    let init = run.user();
    let handle = start(&mut run);
    let other = thread(&run, handle);
    other.doom();
    run.cpu().add_work(Work::READY);
    run.call(Call::Yield, &[]);
    assert!(run.user() == init && has_ended(&other));
}

/// A call that would wait ends a caller that was doomed since it entered the kernel.
#[test]
fn the_doomed_do_not_wait() {
    type Wait = fn(&mut Run);
    let waits: [(&str, Wait); 5] = [
        ("sleeps", |run| run.call(Call::SleepUntil, &[TIMER, 1 << 40])),
        ("receives", |run| {
            let endpoint = run.endpoint();
            run.receive(endpoint);
        }),
        ("sends", |run| {
            let endpoint = run.endpoint();
            run.call(Call::EndpointSend, &[endpoint, FOREVER, Tag::new(1, 0).0]);
        }),
        ("calls", |run| {
            let endpoint = run.endpoint();
            run.call(Call::EndpointCall, &[endpoint, FOREVER, Tag::new(1, 0).0]);
        }),
        ("waits for bits", |run| {
            let notification = run.notification();
            run.call(Call::NotificationWait, &[notification, FOREVER]);
        }),
    ];
    for (what, wait) in waits {
        let (mut run, other) = two();
        other.doom();
        let user = run.user();
        wait(&mut run);
        assert!(has_ended(&other) && run.user() != user, "{what}");
    }
}

std::thread_local! {
    /// Who is to be doomed when a thread is next taken off a CPU.
    static NEXT: RefCell<Option<Ref<Thread>>> = const { RefCell::new(None) };
}

/// `doomed` is doomed when it is next taken off its CPU: it has looked before.
fn doom_when_taken_off(run: &Run, doomed: &Ref<Thread>) {
    run.machine.watch(|_, event| {
        if event == Event::UserAccessesComplete
            && let Some(thread) = NEXT.take()
        {
            thread.doom();
        }
    });
    NEXT.set(Some(doomed.clone()));
}

/// A thread that gives the CPU to another is not put back if it was doomed meanwhile.
#[test]
fn the_doomed_are_not_put_back() {
    let (mut run, other) = two();
    doom_when_taken_off(&run, &other);
    // By the long way.
    run.cpu().add_work(Work::READY);
    run.yield_to_other();
    assert!(has_ended(&other));
}

/// A thread that is out of budget does not wait for more of it if it was doomed meanwhile.
#[test]
fn the_doomed_do_not_wait_for_a_budget() {
    const MS: u64 = 1_000_000;
    let (mut run, other) = two();
    assert_eq!(run.result(Call::ThreadBudget, &[SELF, MS, 10 * MS]), Ok(0));
    doom_when_taken_off(&run, &other);
    run.machine.advance(MS);
    run.interrupt(Interrupt::Timer);
    assert!(has_ended(&other));
}

/// A call that waits for other CPUs is given up if its caller was doomed meanwhile: nobody else will.
#[test]
fn the_doomed_do_not_wait_for_other_cpus() {
    let (mut run, other) = two();
    run.cpu().kernel.teardown_begins();
    doom_when_taken_off(&run, &other);
    run.call(Call::Quiesce, &[initial::MACHINE.0.into()]);
    assert!(has_ended(&other) && !run.cpu().kernel.is_hurried());
}

/// A caller that was doomed when it was told what it had waited for gives nothing up a second time.
#[test]
fn the_doomed_have_waited_once() {
    let (mut run, other) = two();
    let kernel = run.cpu().kernel;
    kernel.teardown_begins();
    run.call(Call::Quiesce, &[initial::MACHINE.0.into()]);
    assert!(kernel.is_hurried());
    kernel.teardown_ended();
    other.doom();
    run.machine.advance(PAUSE);
    run.interrupt(Interrupt::Timer);
    assert!(has_ended(&other) && !kernel.is_hurried());
}

/// A client whose message was taken does not wait for the reply if it was doomed meanwhile.
#[test]
fn the_doomed_do_not_wait_for_a_reply() {
    let (mut run, client) = two();
    let endpoint = run.endpoint();
    run.yield_to_other();
    let server = run.user();
    run.receive(endpoint);
    doom_when_taken_off(&run, &client);
    run.call(Call::EndpointCall, &[endpoint, FOREVER, Tag::new(1, 0).0]);
    assert!(has_ended(&client) && run.user() == server);
}

/// A client that was doomed on the short way, to a server that it lends its priority, takes that back with
/// nothing held: the server is put into its place at the endpoint anew.
#[test]
fn the_doomed_lend_nothing() {
    let mut run = Run::boot(Profile::Minimal);
    let init = run.cpu().current().expect("init").clone();
    let handle = start(&mut run);
    let server = thread(&run, handle);
    let endpoint = run.endpoint();
    run.yield_to_other();
    run.receive(endpoint);
    assert_eq!(run.result(Call::ThreadPriority, &[handle, 50]), Ok(0));
    // Who goes on then.
    start(&mut run);
    doom_when_taken_off(&run, &init);
    run.call(Call::EndpointCall, &[endpoint, FOREVER, Tag::new(1, 0).0]);
    assert!(has_ended(&init) && server.lent() == 0);
    assert!(matches!(server.standing(), Standing::Receiving(_)));
}

/// A thread that was doomed on the short way does not wait again where it waited before.
#[test]
fn the_doomed_do_not_wait_for_a_signal_again() {
    let mut run = Run::boot(Profile::Minimal);
    let init = run.cpu().current().expect("init").clone();
    start(&mut run);
    let notification = run.notification();
    let wait = [notification, FOREVER];
    run.call(Call::NotificationWait, &wait);
    run.call(Call::NotificationSignal, &[notification, 1]);
    run.yield_to_other();
    doom_when_taken_off(&run, &init);
    run.call(Call::NotificationWait, &wait);
    assert!(has_ended(&init));
}
