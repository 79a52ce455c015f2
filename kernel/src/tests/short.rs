//! What the short ways of the scheduler, and the long one, leave behind for those who come later: the time
//! that was used, the rest of a slice, what a CPU says it does, where a thread ran last; and what they
//! do not overlook.

use super::many::{boot, start, thread};
use super::{Run, User};
use crate::cpu::{Cpu, Work};
use crate::cpuset::CpuSet;
use crate::ipc::quick::meanwhile;
use crate::object::Ref;
use crate::sched::balance::PERIOD;
use crate::sched::ready::Load;
use crate::sched::{self, affinity, ending, priority};
use crate::sync::Ordering;
use crate::thread::{Standing, Thread};
use abi::ipc::{FOREVER, Tag};
use abi::{Call, Handle, initial};
use arch_contract::Base;
use arch_contract::irq::Interrupt;
use arch_model::profile::Profile;
use arch_model::{Event, Model};
use std::boxed::Box;
use std::cell::RefCell;

const PROCESS: u64 = initial::PROCESS.0 as u64;
const MACHINE: u64 = initial::MACHINE.0 as u64;
const SELF: u64 = Handle::NONE.0 as u64;
/// Nothing is there, but it might be much: what a kernel task does in one step.
const NOTHING: [u64; 3] = [PROCESS, 0x4000_0000, 64 * 4096];

/// init, and another thread of it that is ready.
fn pair() -> (Run, Ref<Thread>) {
    let mut run = Run::boot(Profile::Minimal);
    let handle = start(&mut run);
    let other = thread(&run, handle);
    (run, other)
}

fn current(run: &Run) -> Ref<Thread> {
    run.cpu().current().expect("user mode was entered").clone()
}

/// Ticks.
fn ran(thread: &Thread) -> u64 {
    thread.cpu_time.load(Ordering::Relaxed)
}

fn call(run: &mut Run, endpoint: u64) {
    run.call(Call::EndpointCall, &[endpoint, FOREVER, Tag::new(1, 0).0]);
}

/// A thread has run from when it was chosen to when the next was, whichever way that came.
#[test]
fn the_time_is_counted_on_every_way() {
    for closed in [false, true] {
        let (mut run, other) = pair();
        run.cpu().kernel.short_ways.closed.store(closed, Ordering::Relaxed);
        let init = current(&run);
        let before = ran(&init);
        run.machine.advance(1000);
        run.yield_to_other();
        assert!(ran(&init) - before >= 1000);
        let endpoint = run.endpoint();
        run.receive(endpoint);
        let before = ran(&init);
        run.machine.advance(1000);
        call(&mut run, endpoint);
        assert_eq!(run.user(), User(other.frame()));
        assert!(ran(&init) - before >= 1000, "closed: {closed}");
    }
}

/// Who has a rest of a slice has no whole one when its turn comes.
#[test]
fn a_rest_of_a_slice_is_not_a_slice() {
    let (mut run, other) = pair();
    other.slice_left.store(5, Ordering::Relaxed);
    run.yield_to_other();
    assert_eq!(run.cpu().slice_end.get().0, run.cpu().chosen_at.get().0 + 5);
}

/// A server that is called at the end of a slice has none of it: not a whole one.
#[test]
fn nothing_of_a_slice_is_handed_over() {
    let (mut run, _) = pair();
    run.cpu().kernel.short_ways.closed.store(true, Ordering::Relaxed);
    run.yield_to_other();
    let endpoint = run.endpoint();
    run.receive(endpoint);
    run.machine.advance(2 * sched::SLICE);
    call(&mut run, endpoint);
    assert!(run.cpu().slice_end.get().0 <= run.cpu().chosen_at.get().0 + 1);
}

/// What a CPU says it does is what it does: at another priority, and with what it took elsewhere.
#[test]
fn smp_2_what_a_cpu_does_is_said() {
    let mut run = Run::boot_many(Profile::Minimal, 2);
    let handle = start(&mut run);
    assert_eq!(run.result(Call::ThreadPriority, &[handle, 20]), Ok(0));
    run.on(1).come_up();
    assert_eq!(run.cpu().running.load(), Load::of(20), "pulled");
    assert_eq!(run.on(0).result(Call::ThreadPriority, &[handle, 30]), Ok(0));
    run.on(1).take_interrupts();
    assert_eq!(run.cpu().running.load(), Load::of(30), "changed");
}

/// A server that is called from another CPU than it ran on runs there, and has run there.
#[test]
fn mig_1_a_server_ran_last_where_it_was_called() {
    let (mut run, _) = boot(2);
    start(&mut run);
    run.on(1).take_interrupts();
    let endpoint = run.endpoint();
    let server = current(&run);
    run.receive(endpoint);
    assert_eq!(server.entry.last(), run.cpu().number);
    call(run.on(0), endpoint);
    assert_eq!(run.user(), User(server.frame()));
    assert_eq!(server.entry.last(), run.cpu().number);
}

/// A server that may not run where its client does is put where it may, not behind what is better here.
#[test]
fn ipc_1_who_may_not_run_here_does_not_wait_here() {
    let (mut run, _) = boot(2);
    start(&mut run);
    run.on(1).take_interrupts();
    let server = current(&run);
    assert_eq!(run.result(Call::ThreadPriority, &[SELF, 50]), Ok(0));
    assert_eq!(run.result(Call::ThreadAffinity, &[SELF, 1 << 1]), Ok(u64::MAX));
    let endpoint = run.endpoint();
    run.receive(endpoint);
    start(run.on(0));
    assert_eq!(run.result(Call::ThreadPriority, &[SELF, 50]), Ok(0));
    run.on(1).take_interrupts();
    let better = current(&run);
    // It comes to CPU 0, which has not looked yet when its thread calls.
    run.call(Call::ThreadAffinity, &[SELF, 1 << 0]);
    assert!(run.idles() && run.cpus[0].is_pending());
    call(run.on(0), endpoint);
    assert_eq!(run.user(), User(better.frame()));
    assert!(matches!(server.standing(), Standing::On(at) if at.get() == 1));
}

/// Whom a thread wakes that leaves its CPU for good finds that CPU with nothing to do.
#[test]
fn smp_2_who_leaves_makes_room() {
    let (mut run, init) = boot(2);
    let handle = start(&mut run);
    assert_eq!(run.result(Call::ThreadAffinity, &[handle, 1]), Ok(u64::MAX));
    run.on(1).take_interrupts();
    assert!(run.idles());
    run.on(0).call(Call::ThreadWait, &[handle]);
    run.hooks();
    run.call(Call::ThreadExit, &[]);
    assert_eq!(run.user(), init);
    assert!(!run.hooks().iter().any(|event| matches!(event, Event::SendIpi { .. })));
}

/// A thread that has ended keeps no CPU on.
#[test]
fn smp_3_the_dead_are_bound_to_nothing() {
    let (mut run, _) = boot(2);
    let handle = start(&mut run);
    run.on(1).take_interrupts();
    run.call(Call::ThreadExit, &[]);
    assert_eq!(run.on(0).result(Call::ThreadAffinity, &[handle, 1 << 1]), Ok(u64::MAX));
    run.call(Call::CpuPower, &[MACHINE, 1, 0]);
    run.on(1).take_interrupts();
    assert!(!run.arch.is_started());
}

/// The load of a CPU is spread again and again, while something is left over.
#[test]
fn smp_2_the_load_is_spread_again() {
    let (mut run, _) = boot(2);
    start(&mut run);
    run.on(1).take_interrupts();
    start(run.on(0));
    run.cpu().add_work(Work::READY);
    assert!(run.result(Call::Null, &[]).is_ok());
    for _ in 0..3 {
        assert!(run.cpu().timers.first_due() <= run.cpu().now().0 + PERIOD);
        run.machine.advance(PERIOD);
        run.interrupt(Interrupt::Timer);
    }
}

type Then = Box<dyn FnOnce(&'static Cpu)>;

std::thread_local! {
    /// What happens when a CPU next becomes lazy: in the middle of a short way to a kernel task and back.
    static NEXT: RefCell<Option<Then>> = const { RefCell::new(None) };
}

fn when_lazy(run: &Run, then: impl FnOnce(&'static Cpu) + 'static) {
    run.machine.watch(|cpu, event| {
        if let Event::EnterLazy(_) = event
            && !Model::upper(cpu).is_null()
            && let Some(then) = NEXT.take()
        {
            // SAFETY: the kernel has bound it.
            then(unsafe { Cpu::of(cpu) });
        }
    });
    NEXT.set(Some(Box::new(then)));
}

/// What is noted while a kernel task works for a call is looked at before its caller goes on.
#[test]
fn smp_2_what_is_noted_during_a_job_is_looked_at() {
    let mut run = Run::boot(Profile::Minimal);
    when_lazy(&run, |cpu| cpu.add_work(Work::READY));
    let user = run.user();
    run.call(Call::MemoryUnmap, &NOTHING);
    assert!(run.user() == user && NEXT.take().is_none());
    assert_eq!(run.cpu().work(), Work::NONE);
}

/// A thread that is doomed while a kernel task works for its call does not go on.
#[test]
fn who_is_doomed_during_a_job_does_not_go_on() {
    let (mut run, other) = pair();
    // The other is better, and alone.
    run.call(Call::ThreadPriority, &[SELF, 50]);
    assert_eq!(run.user(), User(other.frame()));
    let doomed = other.clone();
    when_lazy(&run, move |_| drop(doomed.doom()));
    run.call(Call::MemoryUnmap, &NOTHING);
    assert!(matches!(other.standing(), Standing::Ended));
}

/// A thread that may not run here any more since a kernel task began to work for its call goes on where it
/// may.
#[test]
fn mig_1_who_is_moved_during_a_job_goes_on_elsewhere() {
    let (mut run, init) = boot(2);
    let thread = current(&run);
    let elsewhere = run.cpus[1];
    when_lazy(&run, move |_| {
        // SAFETY: the kernel has bound it.
        let other = unsafe { Cpu::of(elsewhere) };
        let set = CpuSet::of(other.number);
        assert!(affinity::set(other, &thread, set).is_ok());
    });
    run.call(Call::MemoryUnmap, &NOTHING);
    assert!(run.idles());
    run.on(1).take_interrupts();
    assert_eq!(run.user(), init);
}

/// What was noted for a CPU is looked at by a call, though a server waits for it.
#[test]
fn smp_2_what_is_noted_is_looked_at_by_a_call() {
    let (mut run, _) = pair();
    run.yield_to_other();
    let endpoint = run.endpoint();
    run.receive(endpoint);
    run.cpu().add_work(Work::READY);
    call(&mut run, endpoint);
    assert_eq!(run.cpu().work(), Work::NONE);
}

/// A client, which runs at priority 50, and a server at `priority`, which waits at the endpoint; a third is ready
/// at 40.
fn three(priority: u64) -> (Run, [Ref<Thread>; 3], u64) {
    let mut run = Run::boot(Profile::Minimal);
    let client = current(&run);
    let endpoint = run.endpoint();
    let [server, third] = [(); 2].map(|()| start(&mut run));
    let threads = [client, thread(&run, server), thread(&run, third)];
    run.to(User(threads[1].frame()));
    run.receive(endpoint);
    run.to(User(threads[0].frame()));
    for (handle, priority) in [(server, priority), (third, 40), (SELF, 50)] {
        run.call(Call::ThreadPriority, &[handle, priority]);
        run.to(User(threads[0].frame()));
    }
    (run, threads, endpoint)
}

/// The third goes first, and the CPU says so.
fn third_goes_first(run: &Run, third: &Thread, why: &str) {
    assert_eq!(run.user(), User(third.frame()), "{why}");
    assert_eq!(run.cpu().running.load(), Load::of(40), "{why}");
}

/// Who is called, or is replied to, and became worse on the way does not go before who is better by now: it has
/// another priority, or its caller ended and has taken back what it lent.
#[test]
fn ipc_7_who_becomes_worse_on_the_way_goes_behind() {
    let (mut run, [_, server, third], endpoint) = three(50);
    let cpu = run.cpu();
    meanwhile::once(move || priority::set(cpu, &server, 20));
    call(&mut run, endpoint);
    third_goes_first(&run, &third, "a server");

    let (mut run, [client, server, third], endpoint) = three(30);
    let cpu = run.cpu();
    meanwhile::once(move || ending::doom(cpu, &client));
    call(&mut run, endpoint);
    assert_eq!(server.priority(), 30);
    third_goes_first(&run, &third, "a loan");

    let (mut run, [client, server, third], endpoint) = three(50);
    call(&mut run, endpoint);
    assert_eq!(run.user(), User(server.frame()));
    let cpu = run.cpu();
    meanwhile::once(move || priority::set(cpu, &client, 20));
    run.call(Call::ReplyReceive, &[endpoint, FOREVER, Tag::new(1, 0).0]);
    third_goes_first(&run, &third, "a client");
}
