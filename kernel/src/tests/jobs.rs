//! Kernel tasks among threads: how they share the CPU, and what happens to a process that ends while
//! one works for it.

use super::{Run, User};
use abi::{Call, Ending, ExitReport, Grant, ProcessInfo, initial};
use arch_contract::irq::Interrupt;
use arch_model::profile::Profile;
use zerocopy::{FromZeros, IntoBytes};

const PROCESS: u64 = initial::PROCESS.0 as u64;
const TIMER: u64 = initial::TIMER.0 as u64;
const LARGE: [u64; 4] = [PROCESS, 0, 100 * 4096, abi::Protection::ReadWrite as u64];

/// init, current, with a page of its own; and a child that is ready and has every grant.
fn pair() -> (Run, User, u64, u64) {
    let mut run = Run::boot(Profile::Minimal);
    let init = run.user();
    let page = run.page();
    let child = run.spawn_with(page, u64::MAX, &grants()).expect("a child");
    assert_eq!(run.user(), init);
    (run, init, child, page)
}

/// Console, timer and archive, in the places where a program finds them.
fn grants() -> [Grant; 3] {
    [initial::CONSOLE, initial::TIMER, initial::ARCHIVE].map(|handle| Grant { handle, rights: 0x3f })
}

/// Lets kernel tasks have one step before their equals are next.
fn one_step(run: &Run) {
    run.cpu().task_slice_left.set(0);
}

fn killed() -> u64 {
    ExitReport::new(Ending::Killed, abi::KILL_STATUS).0
}

fn ended(run: &mut Run, child: u64, page: u64) -> bool {
    let mut info = ProcessInfo::new_zeroed();
    assert_eq!(run.result(Call::ProcessInfo, &[child, page]), Ok(0));
    run.peek(page, info.as_mut_bytes());
    info.ended != 0
}

/// init sleeps until nothing else can run.
pub(super) fn settle(run: &mut Run, init: User) {
    let now = run.result(Call::ClockRead, &[TIMER]).expect("a clock");
    run.call(Call::SleepUntil, &[TIMER, now + 1_000]);
    assert_eq!(run.user(), init);
    assert_eq!(run.result(Call::SleepUntil, &[TIMER, now + 1_000]), Ok(0));
}

/// A task has the CPU for as long as a thread of its priority would, not for one step a turn.
#[test]
fn a_task_has_a_slice_like_a_thread() {
    let (mut run, init, ..) = pair();
    let turns_of_the_child = |run: &mut Run| {
        run.call(Call::MemoryMap, &LARGE);
        let mut turns = 0;
        while run.user() != init {
            turns += 1;
            assert!(turns < 100, "init never comes back");
            run.machine.advance(crate::sched::SLICE);
            run.interrupt(Interrupt::Timer);
        }
        assert!(run.returned().is_ok());
        turns
    };
    assert_eq!(turns_of_the_child(&mut run), 2, "before the task's turn and before init's");
    // When the tasks' slice is over, their equals are next.
    one_step(&run);
    assert_eq!(turns_of_the_child(&mut run), 3, "and once between two of the task");
}

/// A process that is killed while a task works on its address space ends when the task is through,
/// and everything comes back.
#[test]
fn kill_while_a_task_works() {
    let (mut run, init, child, page) = pair();
    assert_eq!(run.result(Call::HandleClose, &[child]), Ok(0));
    run.yield_to_other();
    run.call(Call::Exit, &[0]);
    settle(&mut run, init);
    let used = run.cpu().kernel.root.used();

    let child = run.spawn_with(page, u64::MAX, &grants()).expect("a child");
    run.yield_to_other();
    run.call(Call::MemoryMap, &LARGE);
    assert_eq!(run.user(), init);
    one_step(&run);
    run.call(Call::Yield, &[]);
    assert_eq!(run.user(), init, "the task has done one step");
    for _ in 0..2 {
        assert_eq!(run.result(Call::ProcessKill, &[child]), Ok(0));
        assert!(!ended(&mut run, child, page), "its address space is in use");
    }
    run.call(Call::ProcessWait, &[child]);
    assert_eq!(run.user(), init);
    assert_eq!(run.result(Call::ProcessWait, &[child]), Ok(killed()));
    assert_eq!(run.result(Call::HandleClose, &[child]), Ok(0));
    settle(&mut run, init);
    assert_eq!(run.machine.live_contexts(), 1);
    assert_eq!(run.cpu().kernel.root.used(), used);
}

/// A process ends while another maps memory in it: the teardown waits for the other's task.
#[test]
fn end_while_another_works_on_the_space() {
    let (mut run, init, first, _) = pair();
    let owner = run.yield_to_other();
    // The owner's child may map in the owner.
    let map = run.page();
    run.prepare_spawn(map, u64::MAX, &[Grant { handle: initial::PROCESS, rights: 0x3f }]);
    run.call(Call::Spawn, &[initial::ARCHIVE.0.into(), map]);
    assert_eq!(run.user(), init);
    // init sleeps, so the child is loaded; both it and the owner are ready then.
    run.call(Call::SleepUntil, &[TIMER, 1 << 30]);
    let helper = if run.user() == owner { run.yield_to_other() } else { run.user() };
    run.call(Call::MemoryMap, &[initial::CONSOLE.0.into(), LARGE[1], LARGE[2], LARGE[3]]);
    assert_eq!(run.user(), owner);
    one_step(&run);
    run.call(Call::Yield, &[]);
    assert_eq!(run.user(), owner, "the helper's task has done one step");
    run.call(Call::Exit, &[5]);
    assert_eq!(run.user(), helper, "the task is done");
    assert!(run.returned().is_ok(), "begun before the end");
    run.call(Call::MemoryMap, &[initial::CONSOLE.0.into(), 0, 4096, LARGE[3]]);
    assert_eq!(run.returned(), Err(abi::Error::Gone));
    run.call(Call::Exit, &[6]);
    assert_eq!(run.user(), init);
    assert_eq!(run.result(Call::ProcessWait, &[first]), Ok(5));
    settle(&mut run, init);
    assert_eq!(run.machine.live_contexts(), 1);
}

/// Who is killed while its child is being loaded has no child: nobody could ever end it.
#[test]
fn a_killed_maker_has_no_child() {
    let (mut run, init, maker, _) = pair();
    run.yield_to_other();
    let map = run.page();
    run.prepare_spawn(map, u64::MAX, &grants());
    run.call(Call::Spawn, &[initial::ARCHIVE.0.into(), map]);
    assert_eq!(run.user(), init);
    one_step(&run);
    run.call(Call::Yield, &[]);
    assert_eq!(run.result(Call::ProcessKill, &[maker]), Ok(0));
    settle(&mut run, init);
    assert_eq!(run.result(Call::ProcessWait, &[maker]), Ok(killed()));
    assert_eq!(run.machine.live_contexts(), 1, "a child without a maker runs");
}

/// What a killed process had comes back before anything runs that its killer would not wait for.
#[test]
fn a_teardown_has_its_causes_priority() {
    let (mut run, init, child, page) = pair();
    let between = run.spawn_with(page, u64::MAX, &grants()).expect("another");
    for (handle, priority) in [(child, 10), (between, 50)] {
        assert_eq!(run.result(Call::ProcessPriority, &[handle, priority]), Ok(0));
    }
    // Each has its last turn as an equal.
    for _ in 0..4 {
        run.call(Call::Yield, &[]);
    }
    assert_eq!(run.user(), init);
    assert_eq!(run.result(Call::ProcessKill, &[child]), Ok(0));
    run.call(Call::SleepUntil, &[TIMER, 1 << 40]);
    assert_ne!(run.user(), init, "the one in between runs");
    assert_eq!(run.machine.live_contexts(), 2, "the dead one's memory waits for it");
}

/// A program cannot make a protocol line out of the kernel's own line ends: after a message about
/// another process, the middle of its line stands at the beginning of one.
#[test]
fn protocol_lines_cannot_be_forged_behind_the_kernels() {
    use arch_contract::addr::VirtAddr;
    use arch_contract::trap::{Fault, FaultCause};
    let (mut run, init, _, page) = pair();
    run.poke(page, b"x@spandrel exit 0\n");
    let console = initial::CONSOLE.0.into();
    assert_eq!(run.result(Call::ConsoleWrite, &[console, page, 1]), Ok(1));
    run.yield_to_other();
    run.fault(Fault { cause: FaultCause::UndefinedInstruction, pc: VirtAddr(0), address: None });
    assert_eq!(run.user(), init);
    assert_eq!(run.result(Call::ConsoleWrite, &[console, page + 1, 17]), Ok(17));
    let said = run.output();
    assert!(said.contains("\n@spandrel_exit 0\n"), "{said}");
    assert!(!said.contains(abi::PROTOCOL), "{said}");
}

/// `FPU-1`: a thread whose call was a job finds its vector registers, though another had the units meanwhile:
/// where the job is all that comes between, and where another thread is.
#[test]
fn fpu_1_vectors_over_a_job() {
    let mut run = Run::boot(Profile::Minimal);
    let init = run.user();
    let words = |word| [word; arch_model::VECTOR_WORDS];
    run.vector_unit_off();
    run.arch.set_vectors(words(1));
    run.call(Call::MemoryMap, &LARGE);
    assert_eq!((run.user(), run.arch.vectors()), (init, Some(words(1))), "alone");
    let other = run.thread();
    run.to(other);
    run.vector_unit_off();
    run.arch.set_vectors(words(2));
    run.to(init);
    for turn in 0..10 {
        one_step(&run);
        run.call(Call::MemoryMap, &LARGE);
        while run.user() != init {
            assert_eq!(run.arch.vectors(), Some(words(2)), "the other's, in turn {turn}");
            run.call(Call::Yield, &[]);
        }
        assert_eq!(run.arch.vectors(), Some(words(1)), "in turn {turn}");
    }
}
