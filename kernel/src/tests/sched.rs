//! Who runs when: priorities, slices, sleep, and ends in every standing.

use super::{Run, User, ends};
use abi::{Call, Ending, Error, ExitReport, ProcessInfo, initial};
use arch_contract::addr::VirtAddr;
use arch_contract::irq::Interrupt;
use arch_contract::machine::Verdict;
use arch_contract::time::Ticks;
use arch_contract::trap::{Access, Fault, FaultCause};
use arch_model::Event;
use arch_model::profile::Profile;
use zerocopy::{FromZeros, IntoBytes};

const TIMER: u64 = initial::TIMER.0 as u64;
const CONSOLE: u64 = initial::CONSOLE.0 as u64;

fn pair() -> (Run, User, u64, u64) {
    let mut run = Run::boot(Profile::Minimal);
    let init = run.user();
    let page = run.page();
    let child = run.spawn(page, u64::MAX).expect("a child");
    (run, init, child, page)
}

fn killed() -> u64 {
    ExitReport::new(Ending::Killed, abi::KILL_STATUS).0
}

/// Two of one priority share the CPU by slices, and a slice that is not over is not cut.
#[test]
fn equal_priorities_take_turns() {
    let (mut run, init, ..) = pair();
    run.call(Call::Yield, &[]);
    let child = run.user();
    assert_ne!(child, init);
    for turn in [init, child, init] {
        let before = run.user();
        run.machine.advance(crate::sched::SLICE - 1);
        run.interrupt(Interrupt::Timer);
        assert_eq!(run.user(), before, "its slice is not over");
        run.machine.advance(1);
        run.interrupt(Interrupt::Timer);
        assert_eq!(run.user(), turn);
    }
}

/// A thread alone at its priority is not interrupted for slices: the timer is not armed.
#[test]
fn alone_there_is_no_tick() {
    let mut run = Run::boot(Profile::Minimal);
    run.call(Call::Yield, &[]);
    assert_eq!(run.arch.deadline(), None);
}

/// The timer is armed for the end of the slice only while an equal is ready, and again after it
/// has fired early, as hardware does that cannot count as far.
#[test]
fn time_2_the_timer_is_armed_for_what_is_due() {
    let (mut run, init, ..) = pair();
    assert_eq!(run.user(), init);
    let now = run.cpu().now().0;
    run.call(Call::Yield, &[]);
    assert_eq!(run.arch.deadline(), Some(Ticks(now + crate::sched::SLICE)), "the child's slice");
    run.call(Call::SleepUntil, &[TIMER, 1 << 50]);
    assert_eq!(run.arch.deadline(), Some(Ticks(1 << 50)), "alone, but one sleeps");
    run.machine.advance(1 << 20);
    run.machine.events();
    run.interrupt(Interrupt::Timer);
    let again = Event::SetDeadline(Some(Ticks(1 << 50)));
    assert!(run.machine.events().iter().any(|logged| logged.event == again), "early: armed again");
}

/// Time on a CPU is counted for the living and kept for the dead.
#[test]
fn cpu_time_survives_the_end() {
    let (mut run, init, child, page) = pair();
    let time = |run: &mut Run| {
        let mut info = ProcessInfo::new_zeroed();
        assert_eq!(run.result(Call::ProcessInfo, &[child, page]), Ok(0));
        run.peek(page, info.as_mut_bytes());
        info.cpu_time
    };
    for (call, passed) in [(Call::Yield, 1000), (Call::Exit, 3000)] {
        run.yield_to_other();
        run.machine.advance(passed);
        run.call(call, &[]);
        assert_eq!(run.user(), init);
    }
    assert_eq!(time(&mut run), 4000);
}

/// A lower priority waits; the higher one that sleeps takes the CPU when it is due, and what it
/// took it from goes on with the rest of its slice before its equals.
#[test]
fn priorities_are_strict() {
    let (mut run, init, child, _) = pair();
    assert_eq!(run.result(Call::ProcessPriority, &[child, 50]), Ok(0));
    // The child was ready at the old priority: its next turn is the last as an equal.
    run.call(Call::Yield, &[]);
    run.call(Call::Yield, &[]);
    run.call(Call::Yield, &[]);
    assert_eq!(run.user(), init, "the lower priority has to wait");
    run.call(Call::SleepUntil, &[TIMER, 1_000_000]);
    let lower = run.user();
    assert_ne!(lower, init);
    run.machine.advance(1_000_000);
    run.interrupt(Interrupt::Timer);
    assert_eq!(run.user(), init, "the higher priority is due");
    // No one raises above its own.
    assert_eq!(run.result(Call::ProcessPriority, &[child, 101]), Err(Error::BadArgument));
}

/// What a higher priority took the CPU from goes on before its equals, with the rest of its slice.
#[test]
fn the_preempted_goes_on_with_the_rest_of_its_slice() {
    let (mut run, init, first, page) = pair();
    let second = run.spawn(page, u64::MAX).expect("another child");
    for child in [first, second] {
        assert_eq!(run.result(Call::ProcessPriority, &[child, 50]), Ok(0));
    }
    // Each has its last turn as an equal, and a whole slice afterwards.
    for _ in 0..6 {
        run.call(Call::Yield, &[]);
    }
    assert_eq!(run.user(), init);
    let third = crate::sched::SLICE / 3;
    let now = run.result(Call::ClockRead, &[TIMER]).expect("a clock");
    run.call(Call::SleepUntil, &[TIMER, now + third]);
    let lower = run.user();
    assert_ne!(lower, init);
    run.machine.advance(third);
    run.interrupt(Interrupt::Timer);
    assert_eq!(run.user(), init);
    run.call(Call::SleepUntil, &[TIMER, 1 << 40]);
    assert_eq!(run.user(), lower, "its equal does not come first");
    run.machine.advance(crate::sched::SLICE - third - 1);
    run.interrupt(Interrupt::Timer);
    assert_eq!(run.user(), lower, "its slice is not over");
    run.machine.advance(1);
    run.interrupt(Interrupt::Timer);
    assert!(run.user() != lower && run.user() != init, "no more than the rest");
}

/// `TIME-2`, `TIME-3`: a sleeper comes back when the clock says so, not before; a time that is
/// past does not wait.
#[test]
fn time_2_time_3_sleep() {
    let mut run = Run::boot(Profile::Minimal);
    let now = run.result(Call::ClockRead, &[TIMER]).expect("a clock");
    assert_eq!(run.result(Call::SleepUntil, &[TIMER, now]), Ok(0));
    assert_eq!(run.result(Call::SleepUntil, &[TIMER, 0]), Ok(0));
    let before = run.registers().pc;
    run.call(Call::SleepUntil, &[TIMER, now + 1]);
    assert_eq!(run.registers().pc, before, "it waits, if only for a nanosecond");
    run.call(Call::SleepUntil, &[TIMER, now + 777]);
    // Woken, it makes the call again, which returns.
    run.call(Call::SleepUntil, &[TIMER, now + 777]);
    assert_eq!(run.returned(), Ok(0));
    assert_eq!(run.result(Call::ClockRead, &[TIMER]), Ok(now + 777));
}

/// Sleepers wake in the order of their times, whatever the order they went to sleep in.
#[test]
fn sleepers_wake_in_order() {
    let (mut run, init, ..) = pair();
    run.call(Call::SleepUntil, &[TIMER, 2_000_000_000]);
    let child = run.user();
    run.call(Call::SleepUntil, &[TIMER, 1_000_000_000]);
    assert_eq!(run.user(), child);
    run.call(Call::SleepUntil, &[TIMER, 3_000_000_000]);
    assert_eq!(run.user(), init);
}

/// A call that waits leaves the program counter at the call, so it is made again.
#[test]
fn console_read_waits_and_is_made_again() {
    let mut run = Run::boot(Profile::Minimal);
    let page = run.page();
    let before = run.registers().pc;
    run.machine.type_at(arch_contract::time::Ticks(5_000_000), b"hi");
    run.call(Call::ConsoleRead, &[CONSOLE, page, 16]);
    assert_eq!(run.registers().pc, before, "at the call, not after it");
    assert_eq!(run.result(Call::ConsoleRead, &[CONSOLE, page, 16]), Ok(2));
    let mut text = [0; 2];
    run.peek(page, &mut text);
    assert_eq!(&text, b"hi");
}

/// What was typed is not taken by a call whose buffer cannot have it.
#[test]
fn console_read_loses_nothing_to_a_bad_buffer() {
    let mut run = Run::boot(Profile::Minimal);
    let page = run.page();
    run.machine.type_in(b"x");
    assert_eq!(run.result(Call::ConsoleRead, &[CONSOLE, 8, 1]), Err(Error::BadAddress));
    assert_eq!(run.result(Call::ConsoleRead, &[CONSOLE, page, 1]), Ok(1));
}

/// A process can be killed wherever its thread stands, and whoever waits for it learns so.
#[test]
fn kill_in_every_standing() {
    // Ready.
    let (mut run, init, child, _) = pair();
    assert_eq!(run.result(Call::ProcessKill, &[child]), Ok(0));
    assert_eq!(run.result(Call::ProcessWait, &[child]), Ok(killed()));
    run.call(Call::Yield, &[]);
    assert_eq!(run.user(), init, "the dead do not run");

    // Sleeping, reading.
    for waits in [(Call::SleepUntil, [TIMER, u64::MAX, 0]), (Call::ConsoleRead, [CONSOLE, 0, 16])] {
        let (mut run, init, child, _) = pair();
        run.call(Call::Yield, &[]);
        let mut args = waits.1;
        if waits.0 == Call::ConsoleRead {
            args[1] = run.page();
        }
        run.call(waits.0, &args);
        assert_eq!(run.user(), init);
        assert_eq!(run.result(Call::ProcessKill, &[child]), Ok(0));
        assert_eq!(run.result(Call::ProcessWait, &[child]), Ok(killed()));
        // Neither its timer nor the console wakes what is dead.
        run.machine.type_in(b"late");
        run.call(Call::SleepUntil, &[TIMER, 1 << 40]);
        assert_eq!(run.user(), init);
    }

    // Itself.
    let (mut run, init, child, _) = pair();
    run.call(Call::Yield, &[]);
    run.call(Call::ProcessKill, &[initial::PROCESS.0.into()]);
    assert_eq!(run.user(), init);
    assert_eq!(run.result(Call::ProcessWait, &[child]), Ok(killed()));
}

/// Whoever waits when a process ends is woken, with the report; and asking later gives the same.
#[test]
fn wait_for_an_end() {
    let (mut run, init, child, _) = pair();
    run.call(Call::ProcessWait, &[child]);
    assert_ne!(run.user(), init);
    run.call(Call::Exit, &[0x1234]);
    assert_eq!(run.user(), init);
    for _ in 0..2 {
        assert_eq!(run.result(Call::ProcessWait, &[child]), Ok(0x34));
    }
    assert_eq!(run.result(Call::ProcessWait, &[initial::PROCESS.0.into()]), Err(Error::NoRight));
}

/// A fault ends its own process, says so, and the run goes on.
#[test]
fn a_fault_ends_one_process() {
    let (mut run, init, child, _) = pair();
    run.call(Call::Yield, &[]);
    let pc = VirtAddr(0x2_0004);
    run.fault(Fault { cause: FaultCause::Page(Access::Write), pc, address: Some(VirtAddr(0x2_0000)) });
    assert_eq!(run.user(), init);
    let said = run.output();
    assert!(said.contains("(child) killed: write to 0x20000: the page is code, at pc 0x20004"), "{said}");
    let report = ExitReport(run.result(Call::ProcessWait, &[child]).expect("ended"));
    assert_eq!((report.ending(), report.status()), (Some(Ending::Fault), abi::FAULT_STATUS));
}

/// The machine ends with init's status, or as it is told to.
#[test]
fn the_machine_ends() {
    let verdict = ends(|| Run::boot(Profile::Minimal).call(Call::Exit, &[7]));
    assert_eq!(verdict, Verdict::Ended);
    let verdict =
        ends(|| Run::boot(Profile::Minimal).call(Call::PowerOff, &[initial::MACHINE.0.into(), 200]));
    assert_eq!(verdict, Verdict::Ended);
    let mut run = Run::boot(Profile::Minimal);
    assert_eq!(run.result(Call::PowerOff, &[initial::MACHINE.0.into(), 256]), Err(Error::BadArgument));
}

/// `MIG-4`: on every way on which a thread leaves its CPU for a queue, before anything else has the
/// CPU; and on no other.
#[test]
fn mig_4_what_a_thread_did_is_complete_before_it_is_ready() {
    let (mut run, ..) = pair();
    let start = [initial::PROCESS.0.into(), super::ENTRY, 0x10_0000, 0];
    let large = [initial::PROCESS.0.into(), 0, 100 * 4096, abi::Protection::ReadWrite as u64];
    let mut way = |what: &str, leaves: bool, act: &dyn Fn(&mut Run)| {
        run.machine.events();
        let before = run.user();
        act(&mut run);
        let events = run.machine.events();
        let completed = events.iter().position(|logged| logged.event == Event::UserAccessesComplete);
        assert_eq!(completed.is_some(), leaves, "{what}");
        let next = |event| matches!(event, Event::SwitchMm { .. } | Event::ReturnToUser { .. } | Event::Wait);
        assert!(completed <= events.iter().position(|logged| next(logged.event)), "{what}: too late");
        run.user() != before
    };
    assert!(!way("a call", false, &|run| assert!(run.result(Call::ClockRead, &[TIMER]).is_ok())));
    assert!(way("a yield to another process", true, &|run| run.call(Call::Yield, &[])));
    assert!(way("a yield back", true, &|run| run.call(Call::Yield, &[])));
    assert!(!way("a start", false, &|run| assert!(run.result(Call::ThreadStart, &start).is_ok())));
    assert!(way("a yield", true, &|run| run.call(Call::Yield, &[])));
    assert!(way("a yield in one process", true, &|run| run.call(Call::Yield, &[])));
    assert!(way("the end of a slice", true, &|run| {
        run.machine.advance(crate::sched::SLICE);
        run.interrupt(Interrupt::Timer);
    }));
    assert!(way("a call that a task does", true, &|run| run.call(Call::MemoryMap, &large)));
    assert!(way("a sleep", true, &|run| run.call(Call::SleepUntil, &[TIMER, 1 << 50])));
}
