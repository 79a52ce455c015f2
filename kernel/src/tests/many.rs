//! Many CPUs, one upcall at a time: where threads go, how they are taken, moved and ended. The order
//! in which CPUs act is the script's, so a CPU that does not act is one that is stuck.

use super::{ENTRY, Run, User};
use crate::cap::Object;
use crate::mm::testing::irqs_off;
use crate::object::Ref;
use crate::request::Kinds;
use crate::sched::{self, priority};
use crate::sync::Ordering;
use crate::thread::Thread;
use abi::ipc::{FOREVER, Tag};
use abi::{Call, Ending, Error, ExitReport, Handle, ProcessInfo, Rights, initial};
use arch_contract::irq::Interrupt;
use arch_contract::time::Ticks;
use arch_model::Event;
use arch_model::profile::Profile;
use std::vec::Vec;
use zerocopy::{FromZeros, IntoBytes};

const PROCESS: u64 = initial::PROCESS.0 as u64;
const TIMER: u64 = initial::TIMER.0 as u64;
const MACHINE: u64 = initial::MACHINE.0 as u64;
/// The calling thread, where a handle of a thread is wanted.
const SELF: u64 = Handle::NONE.0 as u64;
const STACK: u64 = 0x10_0000;

/// A machine whose CPUs have all come up; init runs on CPU 0, the others idle.
pub(crate) fn boot(cpus: u32) -> (Run, User) {
    let mut run = Run::boot_many(Profile::Minimal, cpus);
    let init = run.user();
    for number in 1..cpus as usize {
        run.on(number).come_up();
        assert!(run.idles());
    }
    run.on(0);
    (run, init)
}

/// Starts a thread of the current process.
pub(crate) fn start(run: &mut Run) -> u64 {
    run.result(Call::ThreadStart, &[PROCESS, ENTRY, STACK, 0]).expect("a thread")
}

/// The thread that `handle` of the current process names.
pub(crate) fn thread(run: &Run, handle: u64) -> Ref<Thread> {
    let cpu = run.cpu();
    let process = cpu.current().expect("user mode was entered").process().clone();
    let table = process.table.lock(cpu);
    match table.get(Handle(handle as u32), Rights::empty()).map(|slot| slot.object.clone()) {
        Ok(Object::Thread(thread)) => thread,
        _ => panic!("not a thread"),
    }
}

fn user_of(thread: &Thread) -> User {
    User(thread.frame())
}

/// A new thread goes to a CPU that does nothing, which is interrupted for it once.
#[test]
fn smp_2_a_thread_goes_where_nothing_runs() {
    let (mut run, init) = boot(3);
    run.hooks();
    let handle = start(&mut run);
    let sent: Vec<_> =
        run.hooks().into_iter().filter(|event| matches!(event, Event::SendIpi { .. })).collect();
    assert_eq!(sent, [Event::SendIpi { target: 1 }]);
    let wanted = user_of(&thread(&run, handle));
    run.on(1).take_interrupts();
    assert_eq!(run.user(), wanted);
    // The next one goes to the one that is left, and the one after waits behind the caller.
    run.on(0);
    start(&mut run);
    let third = start(&mut run);
    run.on(2).take_interrupts();
    assert!(!run.idles());
    let third = user_of(&thread(run.on(0), third));
    assert_eq!(run.user(), init);
    assert_eq!(run.yield_to_other(), third);
}

/// `MIG-2`: what is ready on a CPU that does not act is taken by one that has nothing, without as
/// much as an interrupt.
#[test]
fn mig_2_nothing_is_asked_of_the_cpu_that_is_taken_from() {
    let mut run = Run::boot_many(Profile::Minimal, 2);
    let handle = start(&mut run);
    let wanted = user_of(&thread(&run, handle));
    run.hooks();
    run.on(1).come_up();
    assert_eq!(run.user(), wanted);
    assert!(!run.hooks().iter().any(|event| matches!(event, Event::SendIpi { .. })));
    // Not what may not run there.
    run.on(0);
    let bound = start(&mut run);
    assert_eq!(run.result(Call::ThreadAffinity, &[bound, 1]), Ok(u64::MAX));
    run.on(1).call(Call::ThreadExit, &[]);
    assert!(run.idles());
}

/// A process ends when both its threads are off the CPUs that they run on, not before; the CPUs are
/// asked once each.
#[test]
fn ctx_9_killed_while_it_runs_on_two_cpus() {
    let (mut run, init) = boot(3);
    let page = run.page();
    let child = run.spawn(page, u64::MAX).expect("a child");
    run.on(1).take_interrupts();
    let main = run.user();
    assert_ne!(main, init);
    start(&mut run);
    run.on(2).take_interrupts();
    assert_ne!(run.user(), main);
    run.on(0).hooks();
    assert_eq!(run.result(Call::ProcessKill, &[child]), Ok(0));
    let sent = run.hooks().into_iter().filter(|event| matches!(event, Event::SendIpi { .. })).count();
    assert_eq!(sent, 2);
    let ended = |run: &mut Run| {
        let mut info = ProcessInfo::new_zeroed();
        assert_eq!(run.on(0).result(Call::ProcessInfo, &[child, page]), Ok(0));
        run.peek(page, info.as_mut_bytes());
        info.ended
    };
    assert_eq!(ended(&mut run), 0);
    run.on(1).take_interrupts();
    assert!(run.idles());
    assert_eq!(ended(&mut run), 0, "one of two has left");
    run.on(2).take_interrupts();
    assert_eq!(ended(&mut run), 1);
    let killed = ExitReport::new(Ending::Killed, abi::KILL_STATUS).0;
    assert_eq!(run.on(0).result(Call::ProcessWait, &[child]), Ok(killed));
}

/// Threads of one process: its last one's end is its end, and is waited for like any.
#[test]
fn threads_end_and_are_waited_for() {
    let mut run = Run::boot(Profile::Minimal);
    let page = run.page();
    let init = run.user();
    let child = run.spawn(page, u64::MAX).expect("a child");
    let main = run.yield_to_other();
    let other = start(&mut run);
    assert_eq!(run.result(Call::ThreadWait, &[SELF]), Err(Error::BadHandle));
    run.call(Call::ThreadWait, &[other]);
    while run.user() == init {
        run.yield_to_other();
    }
    assert_ne!(run.user(), main, "it waits");
    run.call(Call::ThreadExit, &[]);
    while run.user() == init {
        run.yield_to_other();
    }
    assert_eq!(run.user(), main);
    assert_eq!(run.result(Call::ThreadWait, &[other]), Ok(0));
    run.call(Call::ThreadExit, &[]);
    assert_eq!(run.user(), init);
    assert_eq!(run.result(Call::ProcessWait, &[child]), Ok(0));
}

/// A thread that runs where it may not any more has left when the call returns; the caller does not
/// keep its CPU from others meanwhile.
#[test]
fn a_set_of_cpus_holds_when_the_call_returns() {
    let (mut run, init) = boot(3);
    let handle = start(&mut run);
    let moved = user_of(&thread(&run, handle));
    run.on(1).take_interrupts();
    assert_eq!(run.user(), moved);
    run.on(0).call(Call::ThreadAffinity, &[handle, 1 << 2]);
    assert!(run.idles(), "the call waits");
    run.on(1).take_interrupts();
    assert!(run.idles(), "it has left");
    run.on(2).take_interrupts();
    assert_eq!(run.user(), moved);
    run.machine.advance(1 << 20);
    run.on(0).take_interrupts();
    assert_eq!(run.user(), init);
    assert_eq!(run.returned(), Ok(u64::MAX), "the set before");
    assert_eq!(run.result(Call::ThreadAffinity, &[handle, 0]), Ok(1 << 2));
    assert_eq!(run.result(Call::ThreadAffinity, &[handle, 1 << 5]), Err(Error::BadArgument));
}

/// `MIG-1`: moved again and again, a thread finds its registers and its vector registers.
#[test]
fn mig_1_a_hundred_thousand_moves() {
    let (mut run, _) = boot(2);
    let words = [0x5a5a_1234_abcd_0001; arch_model::VECTOR_WORDS];
    run.vector_unit_off();
    run.arch.set_vectors(words);
    let user = run.user();
    let sp = run.registers().sp;
    for turn in 0..100_000usize {
        let there = (turn + 1) % 2;
        run.call(Call::ThreadAffinity, &[SELF, 1 << there]);
        assert!(run.idles());
        run.on(there).take_interrupts();
        assert_eq!((run.user(), run.registers().sp), (user, sp));
        assert!(run.returned().is_ok());
        assert_eq!(run.arch.vectors(), Some(words));
        if turn % 1000 == 0 {
            run.machine.events();
        }
    }
}

/// The first equal that comes to a CPU has it look, though nothing better is there: no timer would ever
/// give the new one a turn.
#[test]
fn time_2_the_first_equal_is_noticed() {
    let (mut run, _) = boot(2);
    start(&mut run);
    run.on(1).take_interrupts();
    assert_eq!(run.arch.deadline(), None, "alone");
    run.on(0);
    let second = start(&mut run);
    assert!(!run.cpus[1].is_pending());
    assert_eq!(run.result(Call::ThreadAffinity, &[second, 1 << 1]), Ok(u64::MAX));
    run.on(1).take_interrupts();
    assert!(run.arch.deadline().is_some(), "its turn will come");
}

/// A server that may not run where its client does goes where it may, and so does the client that is
/// answered there; by the short way and the long one.
#[test]
fn ipc_1_who_may_not_run_here_goes_where_it_may() {
    for closed in [false, true] {
        let (mut run, client) = boot(2);
        run.cpu().kernel.short_ways.closed.store(closed, Ordering::Relaxed);
        let endpoint = run.result(Call::EndpointCreate, &[]).expect("an endpoint");
        start(&mut run);
        run.on(1).take_interrupts();
        let server = run.user();
        for cpu in 0..2 {
            assert_eq!(run.on(cpu).result(Call::ThreadAffinity, &[SELF, 1 << cpu]), Ok(u64::MAX));
        }
        run.on(1).call(Call::EndpointReceive, &[endpoint, FOREVER]);
        assert!(run.idles());
        run.on(0).call(Call::EndpointCall, &[endpoint, FOREVER, Tag::new(1, 0).0]);
        assert!(run.idles(), "the server may not run here");
        run.on(1).take_interrupts();
        assert_eq!(run.user(), server);
        run.call(Call::ReplyReceive, &[endpoint, FOREVER, Tag::new(2, 0).0]);
        assert!(run.idles(), "nor the client there");
        run.on(0).take_interrupts();
        assert_eq!(run.user(), client);
        assert_eq!(run.returned().map(Tag), Ok(Tag::new(2, 0)));
    }
}

/// A thread that has used its budget waits for the next period, though nothing else is ready.
#[test]
fn time_2_a_budget_ends_and_comes_back() {
    const MS: u64 = 1_000_000;
    let mut run = Run::boot(Profile::Minimal);
    let began = run.cpu().now().0;
    for (budget, period) in [(1, 10 * MS), (MS, MS - 1), (MS, 0), (0, 1)] {
        let refused = run.result(Call::ThreadBudget, &[SELF, budget, period]);
        assert_eq!(refused, Err(Error::BadArgument), "{budget} in {period}");
    }
    assert_eq!(run.result(Call::ThreadBudget, &[SELF, MS, 10 * MS]), Ok(0));
    assert_eq!(run.arch.deadline(), Some(Ticks(began + MS)), "the timer is armed for its end");
    run.machine.advance(MS - 1);
    run.interrupt(Interrupt::Timer);
    assert_eq!(run.cpu().now().0, began + MS - 1, "some of it is left");
    run.machine.advance(1);
    run.interrupt(Interrupt::Timer);
    assert_eq!(run.cpu().now().0, began + 10 * MS, "it waited, and nothing else was ready");
    assert_eq!(run.result(Call::ThreadBudget, &[SELF, 0, 0]), Ok(0));
    run.machine.advance(20 * MS);
    run.interrupt(Interrupt::Timer);
    assert_eq!(run.cpu().now().0, began + 30 * MS);
}

/// A budget is for what a thread runs from then on, wherever it runs.
#[test]
fn time_2_a_budget_is_not_charged_for_the_past() {
    const MS: u64 = 1_000_000;
    let (mut run, _) = boot(2);
    let handle = start(&mut run);
    run.on(1).take_interrupts();
    let other = run.user();
    run.machine.advance(5 * MS);
    assert!(!run.cpus[1].is_pending());
    assert_eq!(run.on(0).result(Call::ThreadBudget, &[handle, MS, 10 * MS]), Ok(0));
    assert!(run.cpus[1].is_pending(), "its CPU is asked to look");
    run.on(1).take_interrupts();
    assert!(!run.idles() && run.user() == other);
    run.machine.advance(MS);
    run.interrupt(Interrupt::Timer);
    assert!(run.idles() || run.user() != other, "it is used up");
}

/// A process ends though its threads run at a higher priority than its own and leave it no CPU.
#[test]
fn a_process_that_keeps_all_cpus_ends() {
    let mut run = Run::boot(Profile::Minimal);
    let page = run.page();
    let init = run.user();
    let child = run.spawn(page, u64::MAX).expect("a child");
    let main = run.yield_to_other();
    for _ in 0..40 {
        let handle = start(&mut run);
        let priority = abi::DEFAULT_PRIORITY;
        assert_eq!(run.result(Call::ThreadPriority, &[handle, priority]), Ok(0));
    }
    while run.user() != init {
        run.call(Call::Yield, &[]);
    }
    assert_eq!(run.result(Call::ProcessPriority, &[child, 10]), Ok(0));
    run.call(Call::ProcessWait, &[child]);
    while run.user() == main {
        run.call(Call::Yield, &[]);
    }
    run.call(Call::Exit, &[3]);
    for _ in 0..100 {
        if run.user() == init {
            break;
        }
        run.machine.advance(sched::SLICE);
        run.interrupt(Interrupt::Timer);
    }
    assert_eq!(run.user(), init, "it goes on");
    assert_eq!(run.result(Call::ProcessWait, &[child]), Ok(ExitReport::new(Ending::Exited, 3).0));
}

/// Who is lent a priority runs before what is between, at once, and not after it was taken back;
/// along a chain each is lent to.
#[test]
fn priorities_are_lent_along_a_chain() {
    let mut run = Run::boot(Profile::Minimal);
    let handles = [50, 60, 70].map(|own| {
        let handle = start(&mut run);
        assert_eq!(run.result(Call::ThreadPriority, &[handle, own]), Ok(0));
        handle
    });
    assert_eq!(run.result(Call::ThreadPriority, &[handles[0], 101]), Err(Error::BadArgument));
    let [low, middle, high] = handles.map(|handle| thread(&run, handle));
    // Somebody of 100 waits for `middle`, which waits for `low`.
    let cpu = run.cpu();
    for thread in [&middle, &low] {
        priority::lend(cpu, thread, 100);
    }
    let order = |run: &mut Run| {
        let init = run.user();
        let mut order = Vec::new();
        for _ in 0..2 {
            run.call(Call::Yield, &[]);
            order.push(run.user());
        }
        while run.user() != init {
            run.call(Call::Yield, &[]);
        }
        order
    };
    assert_eq!(order(&mut run), [user_of(&middle), user_of(&low)]);
    priority::give_back(cpu, &low, 0);
    priority::give_back(cpu, &middle, 0);
    run.call(Call::SleepUntil, &[TIMER, 1 << 40]);
    assert_eq!(run.user(), user_of(&high), "the priorities are their own again");
}

/// A CPU that goes off leaves nothing behind; it stays if a thread may run nowhere else.
#[test]
fn smp_3_a_cpu_that_goes_off_is_empty() {
    let (mut run, init) = boot(2);
    let handle = start(&mut run);
    let mover = user_of(&thread(&run, handle));
    run.on(1).take_interrupts();
    assert_eq!(run.user(), mover);
    run.on(0);
    let bound = start(&mut run);
    assert_eq!(run.result(Call::ThreadAffinity, &[bound, 1 << 1]), Ok(u64::MAX));
    let power_off = |run: &mut Run| {
        run.on(0).call(Call::CpuPower, &[MACHINE, 1, 0]);
        run.on(1).take_interrupts();
        run.machine.advance(1 << 20);
        run.on(0).take_interrupts();
        while run.user() != init {
            run.call(Call::Yield, &[]);
        }
        run.returned()
    };
    assert_eq!(power_off(&mut run), Err(Error::BadArgument), "a thread is bound to it");
    assert_eq!(run.result(Call::ThreadAffinity, &[bound, 3]), Ok(1 << 1));
    assert_eq!(power_off(&mut run), Ok(0));
    assert!(!run.on(1).arch.is_started());
    let mut found = Vec::new();
    for _ in 0..3 {
        found.push(run.on(0).user());
        run.call(Call::Yield, &[]);
    }
    assert!(found.contains(&mover), "what ran there runs here");
    assert_eq!(run.on(0).result(Call::ThreadAffinity, &[bound, 1 << 1]), Err(Error::BadArgument));
}

/// `SMP-3`: what a CPU runs when it goes off goes elsewhere, though no other CPU is idle to take it.
#[test]
fn smp_3_what_ran_on_a_cpu_that_goes_off_is_not_lost() {
    let (mut run, init) = boot(2);
    let handle = start(&mut run);
    let mover = user_of(&thread(&run, handle));
    run.on(1).take_interrupts();
    assert_eq!(run.user(), mover);
    run.on(0);
    let busy = start(&mut run);
    let busy = user_of(&thread(&run, busy));
    run.call(Call::CpuPower, &[MACHINE, 1, 0]);
    assert_eq!(run.user(), busy);
    run.on(1).take_interrupts();
    assert!(!run.arch.is_started());
    run.machine.advance(1 << 20);
    run.on(0).take_interrupts();
    let mut found = Vec::new();
    for _ in 0..4 {
        found.push(run.user());
        run.call(Call::Yield, &[]);
    }
    assert!(found.contains(&mover) && found.contains(&init) && found.contains(&busy));
}

/// `SMP-3`: a CPU that was asked twice to go off goes once: what was asked of it in its last life is
/// forgotten when it comes up.
#[test]
fn smp_3_a_cpu_that_comes_up_stays() {
    let (mut run, _) = boot(2);
    start(&mut run);
    run.on(1).take_interrupts();
    let other = run.cpu();
    run.on(0).call(Call::CpuPower, &[MACHINE, 1, 0]);
    run.on(1).take_interrupts();
    assert!(!run.arch.is_started());
    assert_eq!(other.armed.get(), crate::sched::NEVER, "what it says is armed is not");
    // By one who still saw it on.
    run.on(0).take_interrupts();
    run.cpu().ask(other, Kinds::GO_OFF, &irqs_off());
    run.machine.advance(1 << 20);
    run.interrupt(Interrupt::Timer);
    run.call(Call::CpuPower, &[MACHINE, 1, 1]);
    assert!(other.arch().is_started());
    run.on(1).come_up();
    assert!(other.arch().is_started(), "it went off at once");
}

/// A CPU that looks for work and finds a thread that is doomed ends it; who waited for that is ready
/// on the same CPU, which does not go idle over it.
#[test]
fn time_4_a_cpu_does_not_idle_over_whom_it_woke() {
    let (mut run, _) = boot(2);
    let handle = start(&mut run);
    let joiner = user_of(&thread(&run, handle));
    run.on(1).take_interrupts();
    assert_eq!(run.user(), joiner);
    run.on(0);
    let doomed = start(&mut run);
    // As far as a killer gets before it looks into the queue.
    thread(&run, doomed).doom();
    run.on(1).call(Call::ThreadWait, &[doomed]);
    assert!(!run.idles(), "it has woken the joiner");
    assert_eq!(run.user(), joiner);
}

/// A CPU that has more than it runs interrupts one that has nothing, if that was not done before; and
/// has no timer once nothing is left over.
#[test]
fn what_is_left_over_is_spread() {
    let (mut run, init) = boot(2);
    start(&mut run);
    let left_over = start(&mut run);
    run.on(1).take_interrupts();
    // It waits on CPU 0, where it became ready while both were busy.
    let left_over = user_of(&thread(run.on(0), left_over));
    run.on(1).call(Call::SleepUntil, &[TIMER, 1 << 50]);
    assert_eq!(run.user(), left_over, "pulled");
    run.on(0);
    let again = start(&mut run);
    let again = thread(&run, again);
    run.on(1).call(Call::ThreadExit, &[]);
    assert_eq!(run.user(), user_of(&again), "pulled too");
    run.on(0);
    assert_eq!(run.user(), init);
    sched::look_again(run.cpu(), &again);
    run.machine.advance(2 * sched::balance::PERIOD);
    run.interrupt(Interrupt::Timer);
    assert_eq!(run.user(), init);
    assert_eq!(run.arch.deadline(), None, "nothing is left over");
}
