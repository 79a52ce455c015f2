//! The event trace: what a run records is what happened, and keeps every invariant.

use super::Run;
use crate::kernel::Kernel;
use crate::trace::Trace as Ring;
use abi::testing::{Counter, Operation};
use abi::trace::Kind;
use abi::{Call, Error, initial};
use arch_model::Config;
use arch_model::profile::Profile;
use std::string::{String, ToString};
use std::vec::Vec;
use trace::{Report, Rules, Trace, UserReturn};

/// Everything in the rings of `kernel` that must not be, as text. Also says so if they are torn.
pub(super) fn violations(kernel: &Kernel, profile: Profile) -> Vec<String> {
    let rings = crate::cpuset::CpuSet::ALL.iter().filter_map(|number| kernel.any_cpu(number));
    let records = rings.flat_map(|cpu| cpu.trace.records());
    let trace = match Trace::from_records(records) {
        Ok(trace) => trace,
        Err(error) => return std::vec![error.to_string()],
    };
    let user_return = match profile.user_return_serializes() {
        true => UserReturn::Serializes,
        false => UserReturn::DoesNotSerialize,
    };
    let found = trace::check(&trace, &Rules { user_return });
    let mut texts: Vec<_> =
        found.iter().map(|violation| Report { trace: &trace, violation }.to_string()).collect();
    if let Some(file) = found.first().and_then(|violation| trace::swimlanes::leave(&trace, violation)) {
        texts[0].push_str(&std::format!("  drawn in {}\n", file.display()));
    }
    texts
}

fn boot(profile: Profile) -> Run {
    Run::boot_with(Config { profile, ..Config::default() }, "log=quiet trace=on")
}

fn kinds(ring: &Ring) -> Vec<Kind> {
    ring.records().map(|record| record.kind().expect("a kind")).collect()
}

fn test(run: &mut Run, operation: Operation, args: [u64; 3]) -> Result<u64, Error> {
    run.result(Call::Test, &[operation as u64, args[0], args[1], args[2]])
}

/// What a script can see of init → idle → init is also what the ring says.
#[test]
fn ctx_7_a_lazy_round_trip_in_the_ring() {
    for profile in Profile::ALL {
        let mut run = boot(profile);
        let before = kinds(&run.cpu().trace).len();
        let barriers = run.cpu().trace.counted(Counter::Barriers);
        run.call(Call::SleepUntil, &[initial::TIMER.0.into(), 1 << 30]);
        let there = [Kind::UserEnter, Kind::Barrier, Kind::Current, Kind::LazyEnter, Kind::Idle];
        let back = [Kind::Wake, Kind::Current, Kind::Barrier, Kind::LazyExit, Kind::UserReturn];
        assert_eq!(kinds(&run.cpu().trace)[before..], [there, back].concat(), "{profile:?}");
        assert_eq!(run.cpu().trace.counted(Counter::Barriers) - barriers, 2);
        assert_eq!(run.cpu().trace.counted(Counter::LazyExits), 1);
        assert_eq!(violations(run.cpu().kernel, profile), [""; 0]);
    }
}

/// A full ring keeps the last records, and one slot for the next.
#[test]
fn a_full_ring_keeps_the_last() {
    let mut run = boot(Profile::X86);
    for mark in 0..5000 {
        test(&mut run, Operation::Mark, [mark, 0, 0]).expect("a mark");
    }
    let records: Vec<_> = run.cpu().trace.records().collect();
    assert_eq!(records.len(), 4095);
    assert!(records.windows(2).all(|pair| pair[1].number() == pair[0].number() + 1));
    let last = records.iter().rev().find(|record| record.kind() == Some(Kind::Mark));
    assert_eq!(last.map(|record| record.a), Some(4999));
    assert_eq!(violations(run.cpu().kernel, Profile::X86), [""; 0]);
}

/// What is printed at the end is what the ring holds.
#[test]
fn the_rings_are_printed_at_the_end() {
    let mut run = boot(Profile::X86);
    let cpu = run.cpu();
    let machine = run.machine;
    let status = [initial::MACHINE.0.into(), 7];
    super::ends(std::panic::AssertUnwindSafe(|| run.call(Call::PowerOff, &status)));
    let output = machine.output();
    let lines = output.lines().filter_map(|line| line.strip_prefix("@spandrel trace "));
    let printed = Trace::from_lines(lines).expect("whole records");
    assert_eq!(printed, Trace::from_records(cpu.trace.records()).expect("whole records"));
    assert!(printed.events.len() > 8);
    assert!(output.trim_end().ends_with("@spandrel exit 7"), "{output}");
}

/// `CTX-8`: a task that adopts an mm makes it current before it is polled, and it stays so.
#[test]
fn ctx_8_a_task_adopts_an_mm() {
    for profile in Profile::ALL {
        let mut run = boot(profile);
        let id = test(&mut run, Operation::Context, [0; 3]).expect("its id");
        test(&mut run, Operation::Task, [0, 1, 3]).expect("a task");
        let before = kinds(&run.cpu().trace).len();
        run.call(Call::SleepUntil, &[initial::TIMER.0.into(), 1 << 30]);
        let polls = [Kind::Poll, Kind::Polled].repeat(3);
        let mut kinds = kinds(&run.cpu().trace)[before..].to_vec();
        // Its CPU was asked to look into its queue.
        kinds.retain(|kind| *kind != Kind::Served);
        assert_eq!(kinds[..7], [&[Kind::UserEnter], polls.as_slice()].concat(), "{profile:?}");
        // It left when there was nothing else to do, not after each slice.
        assert_eq!(kinds[7..11], [Kind::Barrier, Kind::Current, Kind::LazyEnter, Kind::Idle]);
        assert_eq!(test(&mut run, Operation::Loaded, [0; 3]), Ok(id));
        assert_eq!(violations(run.cpu().kernel, profile), [""; 0]);
    }
}

#[test]
fn the_test_call_refuses_what_is_out_of_range() {
    let mut run = boot(Profile::X86);
    for (operation, args) in [
        (Operation::Arm, [99, 0, 0]),
        (Operation::Arm, [0, 0, 0]),
        (Operation::Arm, [1, 0, 2]),
        (Operation::Arm, [1, 64, 0]),
        (Operation::Stopped, [1, 0, 0]),
        (Operation::Task, [0, 3, 1]),
        (Operation::Count, [0, 99, 0]),
        (Operation::LimitIds, [1 << 32, 0, 0]),
    ] {
        assert_eq!(test(&mut run, operation, args), Err(Error::BadArgument), "{operation:?} {args:?}");
    }
    assert_eq!(run.result(Call::Test, &[99]), Err(Error::BadArgument));
    assert_eq!(test(&mut run, Operation::Release, [0; 3]), Ok(0), "nothing was armed");
}
