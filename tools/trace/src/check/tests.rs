//! For every invariant a trace that keeps it and one that does not.

use super::{Invariant, Report, Rules, UserReturn, check};
use crate::testing::{SYNC_CORE, Script};
use abi::trace::Kind;
use arch_contract::barrier::Site;

fn script() -> Script {
    Script::new()
}

/// A lazy round trip, a switch while lazy, and a task that uses an mm keep every invariant.
#[test]
fn an_ordinary_run_has_nothing() {
    let mut run = script();
    run.boot(0, 1, 7).on(0, Kind::UserEnter, 0, 0).leave(0, 1).on(0, Kind::Idle, 0, 0).on(
        0,
        Kind::Wake,
        0,
        0,
    );
    run.come_back(0, 1).on(0, Kind::UserReturn, 1, 7).on(0, Kind::UserEnter, 1, 0);
    run.leave(0, 1).on(0, Kind::Poll, 0, 0).on(0, Kind::Polled, 0, 0);
    run.switch(0, 1, 2).on(0, Kind::LazyExit, 1, 2).on(0, Kind::Poll, 2, 0).on(0, Kind::Polled, 0, 0);
    run.on(0, Kind::UserReturn, 2, 9).on(0, Kind::UserEnter, 0, 0);
    run.barrier(0, Site::LeaveUserMm).switch(0, 2, 1).on(0, Kind::UserReturn, 1, 7);
    assert_eq!(run.found(), []);
}

#[test]
fn i1_loaded_without_being_in_the_set() {
    let mut bad = script();
    bad.on(0, Kind::Current, 1, 0).on(0, Kind::SwitchBegin, 0, 1).barrier(0, Site::EnterUserMm);
    bad.on(0, Kind::SwitchEnd, 1, 1);
    assert_eq!(bad.found(), [Invariant::I1]);
    let mut parted = script();
    parted.boot(0, 1, 7).on(0, Kind::Part, 1, 0);
    assert_eq!(parted.found(), [Invariant::I1]);
    let mut good = script();
    good.boot(0, 1, 7).on(0, Kind::UserEnter, 0, 0).leave(0, 1).on(0, Kind::Drop, 1, 0).on(
        0,
        Kind::Part,
        1,
        0,
    );
    assert_eq!(good.found(), []);
}

#[test]
fn i2_a_user_runs_on_another_mm() {
    let mut bad = script();
    bad.boot(0, 1, 7).on(0, Kind::UserEnter, 0, 0).on(0, Kind::UserReturn, 2, 8);
    assert_eq!(bad.found(), [Invariant::I2, Invariant::I2]);
    let mut hint = script();
    hint.boot(0, 1, 7).on(0, Kind::UserEnter, 0, 0).barrier(0, Site::LeaveUserMm).switch(0, 3, 2);
    assert_eq!(hint.found(), [Invariant::I2]);
}

#[test]
fn i3_no_barrier_on_the_way_in() {
    let mut lazy = script();
    lazy.boot(0, 1, 7).on(0, Kind::UserEnter, 0, 0).leave(0, 1);
    lazy.on(0, Kind::Current, 1, 0).on(0, Kind::LazyExit, 1, 1).on(0, Kind::UserReturn, 1, 7);
    assert_eq!(lazy.found(), [Invariant::I3]);
    // Before `loaded` says switching is too early.
    let mut early = script();
    early.on(0, Kind::Current, 1, 0).on(0, Kind::Join, 1, 0).barrier(0, Site::EnterUserMm);
    early.on(0, Kind::SwitchBegin, 0, 1).on(0, Kind::SwitchEnd, 1, 1).on(0, Kind::UserReturn, 1, 7);
    assert_eq!(early.found(), [Invariant::I3]);
}

#[test]
fn i4_no_barrier_on_the_way_out() {
    let mut bad = script();
    bad.boot(0, 1, 7).on(0, Kind::UserEnter, 0, 0).on(0, Kind::Current, 0, 0).on(0, Kind::LazyEnter, 1, 0);
    assert_eq!(bad.found(), [Invariant::I4]);
    // A task that used the mm is a user of it.
    let mut task = script();
    task.switch(0, 0, 1).on(0, Kind::Poll, 1, 0).barrier(0, Site::FlushSample).on(0, Kind::Polled, 0, 0);
    task.on(0, Kind::Current, 0, 0).on(0, Kind::LazyEnter, 1, 0);
    assert_eq!(task.found(), [Invariant::I4]);
}

/// CPU 0 makes a sync-core membarrier of mm 1; `between` is what the other CPUs do meanwhile.
fn sync_core(run: &mut Script, set: u64, between: impl FnOnce(&mut Script)) {
    run.on(0, Kind::UserEnter, 0, 0).on(0, Kind::MembarrierEnter, SYNC_CORE, 1);
    run.on(0, Kind::SyncGeneration, 1, 1).barrier(0, Site::MembarrierEnter).on(0, Kind::Sampled, set, 1);
    between(run);
    run.barrier(0, Site::MembarrierExit).on(0, Kind::MembarrierExit, SYNC_CORE, 1);
    run.on(0, Kind::CoreSync, 0, 0).on(0, Kind::UserReturn, 1, 7);
}

/// CPU 1, in user mode in mm 1, serves a membarrier request.
fn serve(run: &mut Script) -> &mut Script {
    run.on(1, Kind::UserEnter, 1, 0).barrier(1, Site::IpiHandler).on(1, Kind::Served, 1, 0)
}

#[test]
fn i5_each_cpu_serializes() {
    let mut good = script();
    good.boot(0, 1, 7).boot(1, 1, 8);
    sync_core(&mut good, 0b11, |run| {
        serve(run).on(1, Kind::CoreSync, 0, 0).on(1, Kind::UserReturn, 1, 8);
    });
    assert_eq!(good.found(), []);

    // Back to user mode without, and after the command returned.
    let mut missing = script();
    missing.boot(0, 1, 7).boot(1, 1, 8);
    sync_core(&mut missing, 0b11, |run| {
        serve(run).on(1, Kind::UserReturn, 1, 8);
    });
    missing.on(1, Kind::UserEnter, 0, 0).on(1, Kind::UserReturn, 1, 8);
    assert_eq!(missing.found(), [Invariant::I5, Invariant::I5]);
    assert_eq!(missing.found_with(UserReturn::Serializes), []);

    // The caller's own CPU counts too.
    let mut caller = script();
    caller.boot(0, 1, 7).on(0, Kind::UserEnter, 0, 0).on(0, Kind::MembarrierEnter, SYNC_CORE, 1);
    caller.on(0, Kind::MembarrierExit, SYNC_CORE, 1).on(0, Kind::UserReturn, 1, 7);
    assert_eq!(caller.found(), [Invariant::I5]);
    assert_eq!(caller.found_with(UserReturn::Serializes), []);
}

/// A task adopts the mm on a CPU that holds it lazily; then a thread of the same mm runs. Neither a
/// switch nor a second end of the episode lies on that step, and still the core must serialize.
#[test]
fn i5_a_task_that_uses_the_mm_does_not_hide_the_debt() {
    let gap = |serialized: bool| {
        let mut run = script();
        run.boot(0, 1, 7).boot(1, 1, 8).on(1, Kind::UserEnter, 0, 0).leave(1, 1).on(1, Kind::Idle, 0, 0);
        sync_core(&mut run, 0b01, |_| {});
        run.on(1, Kind::Wake, 0, 0).come_back(1, 1).on(1, Kind::Poll, 1, 0).on(1, Kind::Polled, 0, 0);
        if serialized {
            run.on(1, Kind::CoreSync, 0, 0);
        }
        run.on(1, Kind::UserReturn, 1, 8);
        run.found()
    };
    assert_eq!(gap(true), []);
    assert_eq!(gap(false), [Invariant::I5]);
}

#[test]
fn i6_the_grammar_of_lazy_episodes() {
    let begin = || {
        let mut run = script();
        run.boot(0, 1, 7).on(0, Kind::UserEnter, 0, 0);
        run
    };
    let mut never_ended = begin();
    never_ended.leave(0, 1).on(0, Kind::Current, 1, 0).barrier(0, Site::EnterUserMm).on(
        0,
        Kind::UserReturn,
        1,
        7,
    );
    assert_eq!(never_ended.found(), [Invariant::I6]);
    let mut never_begun = begin();
    never_begun.on(0, Kind::LazyExit, 1, 1);
    assert_eq!(never_begun.found(), [Invariant::I6]);
    let mut wrong_left = begin();
    wrong_left.leave(0, 1).switch(0, 1, 2).on(0, Kind::LazyExit, 2, 2).on(0, Kind::UserReturn, 2, 8);
    assert_eq!(wrong_left.found(), [Invariant::I6]);
    let mut twice = begin();
    twice.leave(0, 1).come_back(0, 1).on(0, Kind::LazyExit, 1, 1).on(0, Kind::UserReturn, 1, 7);
    assert_eq!(twice.found(), [Invariant::I6]);
    let mut kernel_to_kernel = begin();
    kernel_to_kernel.leave(0, 1).on(0, Kind::LazyEnter, 1, 0);
    assert_eq!(kernel_to_kernel.found(), [Invariant::I6]);
    let mut drop_active = begin();
    drop_active.on(0, Kind::Drop, 1, 0);
    assert_eq!(drop_active.found(), [Invariant::I6]);
    let mut idle_with_mm = begin();
    idle_with_mm.on(0, Kind::Idle, 0, 0);
    assert_eq!(idle_with_mm.found(), [Invariant::I6]);
}

#[test]
fn i7_nothing_holds_what_is_freed() {
    let mut lazy = script();
    lazy.boot(1, 1, 7).on(1, Kind::UserEnter, 0, 0).leave(1, 1).on(0, Kind::FreeTables, 1, 0);
    assert_eq!(lazy.found(), [Invariant::I7]);
    let mut switching = script();
    switching.on(1, Kind::Current, 1, 0).on(1, Kind::SwitchBegin, 0, 1).on(0, Kind::IdRetired, 1, 5);
    assert_eq!(switching.found(), [Invariant::I7]);
    let mut off = script();
    off.boot(1, 1, 7).on(1, Kind::UserEnter, 0, 0).leave(1, 1).on(1, Kind::Offline, 0, 0);
    assert_eq!(off.found(), [Invariant::I7]);
    let mut good = script();
    good.boot(1, 1, 7).on(1, Kind::UserEnter, 0, 0).leave(1, 1).on(1, Kind::Drop, 1, 0);
    good.on(0, Kind::FreeTables, 1, 0).on(1, Kind::Offline, 0, 0);
    assert_eq!(good.found(), []);
}

#[test]
fn i8_hardware_ids_change_hands_cleanly() {
    let ids = |flushes: &[u16]| {
        let mut run = script();
        run.on(1, Kind::Online, 0, 0).on(0, Kind::IdTaken, 1, 5).on(0, Kind::IdRetired, 1, 5);
        for &cpu in flushes {
            run.on(cpu, Kind::FlushAll, 0, 0);
        }
        run.on(0, Kind::Rollover, 0, 0).on(0, Kind::IdTaken, 2, 5);
        run.found()
    };
    assert_eq!(ids(&[0, 1]), []);
    assert_eq!(ids(&[0]), [Invariant::I8]);
    let mut shared = script();
    shared.on(0, Kind::IdTaken, 1, 5).switch(0, 0, 1).on(0, Kind::IdTaken, 2, 5);
    assert_eq!(shared.found(), [Invariant::I8]);

    let slot = |flags: u64| {
        let mut run = script();
        run.switch(0, 0, 1).barrier(0, Site::LeaveUserMm).on(0, Kind::Current, 2, 0).on(0, Kind::Join, 2, 0);
        run.on(0, Kind::SwitchBegin, 1, 2).barrier(0, Site::EnterUserMm).on(
            0,
            Kind::SwitchEnd,
            2,
            flags | 4 << 16,
        );
        run.barrier(0, Site::LeaveUserMm).on(0, Kind::Current, 1, 0).on(0, Kind::SwitchBegin, 2, 1);
        run.barrier(0, Site::EnterUserMm).on(0, Kind::SwitchEnd, 1, flags | 4 << 16);
        run.found()
    };
    assert_eq!(slot(1 | 4), []);
    assert_eq!(slot(1), [Invariant::I8]);
}

#[test]
fn i9_nothing_old_is_used_after_a_flush() {
    let begin = || {
        let mut run = script();
        run.boot(0, 1, 7).boot(1, 1, 8).on(0, Kind::UserEnter, 0, 0).on(0, Kind::Generation, 1, 1);
        run
    };
    let mut good = begin();
    good.on(1, Kind::UserEnter, 1, 0).on(1, Kind::Seen, 1, 1).on(1, Kind::Served, 2, 0);
    good.on(1, Kind::UserReturn, 1, 8).on(0, Kind::Seen, 1, 1).flushed(0, 1, 1).on(0, Kind::UserReturn, 1, 7);
    assert_eq!(good.found(), []);
    let mut running = begin();
    running.on(0, Kind::Seen, 1, 1).flushed(0, 1, 1);
    assert_eq!(running.found(), [Invariant::I9]);
    let mut broadcast = begin();
    broadcast.on(0, Kind::Broadcast, 1, 1).flushed(0, 1, 1).on(0, Kind::UserReturn, 1, 7);
    assert_eq!(broadcast.found(), []);
    // A lazy CPU may be skipped: it looks when it comes back. But not if tables go.
    let skipped = |looks: bool, tables: bool| {
        let mut run = begin();
        run.on(1, Kind::UserEnter, 0, 0).leave(1, 1).on(0, Kind::Seen, 1, 1);
        if tables {
            run.flushed_tables(0, 1, 1)
        } else {
            run.flushed(0, 1, 1)
        };
        run.on(1, Kind::Current, 1, 0).barrier(1, Site::EnterUserMm);
        if looks {
            run.on(1, Kind::Seen, 1, 1);
        }
        run.on(1, Kind::LazyExit, 1, 1).on(1, Kind::UserReturn, 1, 8);
        run.found()
    };
    assert_eq!(skipped(true, false), []);
    assert_eq!(skipped(false, false), [Invariant::I9]);
    assert_eq!(skipped(true, true), [Invariant::I9]);
}

#[test]
fn i10_i11_a_switch_is_not_interrupted() {
    let mut entered = script();
    entered.on(0, Kind::Current, 1, 0).on(0, Kind::SwitchBegin, 0, 1).on(0, Kind::UserEnter, 1, 0);
    assert_eq!(entered.found(), [Invariant::I10]);
    let mut served = script();
    served.on(0, Kind::Current, 1, 0).on(0, Kind::SwitchBegin, 0, 1).on(0, Kind::Served, 1, 0);
    assert_eq!(served.found(), [Invariant::I11]);
}

#[test]
fn i12_what_membarrier_samples_and_waits_for() {
    let run = |set, answers: bool| {
        let mut run = script();
        run.boot(0, 1, 7).boot(1, 1, 8);
        sync_core(&mut run, set, |run| {
            run.on(1, Kind::UserEnter, 1, 0).on(1, Kind::CoreSync, 0, 0);
            if answers {
                run.barrier(1, Site::IpiHandler);
            }
            run.on(1, Kind::UserReturn, 1, 8);
        });
        run.found()
    };
    assert_eq!(run(0b11, true), []);
    assert_eq!(run(0b11, false), [Invariant::I12]);
    assert_eq!(run(0b01, true), [Invariant::I12]);
    let mut no_barriers = script();
    no_barriers.boot(0, 1, 7).on(0, Kind::UserEnter, 0, 0).on(0, Kind::MembarrierEnter, 8, 1);
    no_barriers.on(0, Kind::Sampled, 1, 1).on(0, Kind::MembarrierExit, 8, 1);
    assert_eq!(no_barriers.found(), [Invariant::I12, Invariant::I12]);

    // CPU 1 has stored `current_mm`, but its (e) comes after (a): it may be missed, and need not be.
    let mut enters = script();
    enters.boot(0, 1, 7).on(0, Kind::UserEnter, 0, 0).on(1, Kind::Current, 1, 0).on(1, Kind::Join, 1, 0);
    enters.on(0, Kind::MembarrierEnter, 8, 1).barrier(0, Site::MembarrierEnter);
    enters.on(0, Kind::Sampled, 0, 1).on(1, Kind::SwitchBegin, 0, 1).barrier(1, Site::EnterUserMm);
    enters.barrier(0, Site::MembarrierExit).on(0, Kind::MembarrierExit, 8, 1);
    assert_eq!(enters.found(), []);
}

#[test]
fn time_1_a_clock_that_goes_back() {
    let records = [(5, Kind::Idle), (4, Kind::Wake)];
    let records =
        (0..).zip(records).map(|(number, (time, kind))| abi::trace::Record::new(time, 0, number, kind, 0, 0));
    let trace = crate::Trace::from_records(records).expect("in order");
    let found = check(&trace, &Rules { user_return: UserReturn::Serializes });
    assert_eq!(found.iter().map(|found| found.invariant).collect::<Vec<_>>(), [Invariant::Clock]);
}

/// What lies before the beginning of a ring is not guessed at.
#[test]
fn nothing_is_concluded_from_what_was_lost() {
    let mut run = script();
    run.boot(0, 1, 7)
        .boot(1, 1, 8)
        .on(0, Kind::IdTaken, 1, 5)
        .on(1, Kind::UserEnter, 0, 0)
        .leave(1, 1)
        .lose(1);
    run.on(0, Kind::UserEnter, 0, 0).flushed(0, 1, 3).on(0, Kind::Seen, 1, 3).on(1, Kind::Current, 1, 0);
    run.barrier(1, Site::EnterUserMm).on(1, Kind::LazyExit, 1, 1).on(1, Kind::UserReturn, 1, 8);
    assert_eq!(run.found(), []);
}

#[test]
fn what_a_ring_has_lost_is_held_against_nobody() {
    // CPU 1 retired the id, in a record that is gone.
    let mut ids = script();
    ids.on(0, Kind::IdTaken, 1, 5).switch(0, 0, 1).on(1, Kind::IdRetired, 1, 5).lose(1);
    ids.on(1, Kind::Online, 0, 0).on(0, Kind::IdTaken, 2, 5);
    assert_eq!(ids.found(), []);

    // CPU 1 became lazy in a record that is gone: the end of the episode has no beginning.
    let mut lazy = script();
    lazy.boot(1, 1, 8).on(1, Kind::UserEnter, 0, 0).leave(1, 1).lose(1);
    lazy.switch(1, 1, 2).on(1, Kind::LazyExit, 1, 2).on(1, Kind::UserReturn, 2, 8);
    assert_eq!(lazy.found(), []);

    // CPU 0 told everybody in a record that is gone. Of the next flush everything is there.
    let mut flush = script();
    flush.boot(0, 1, 7).boot(1, 1, 8).on(1, Kind::Seen, 1, 1);
    flush.on(0, Kind::UserEnter, 0, 0).on(0, Kind::Generation, 1, 2).on(0, Kind::Broadcast, 1, 2).lose(0);
    flush.flushed(0, 1, 2);
    assert_eq!(flush.found(), []);
    flush.on(0, Kind::Generation, 1, 3).flushed(0, 1, 3);
    assert_eq!(flush.found(), [Invariant::I9]);
}

#[test]
fn a_report_shows_the_event_and_those_around_it() {
    let mut bad = script();
    bad.boot(0, 1, 7).boot(1, 1, 8).on(0, Kind::UserEnter, 0, 0).on(0, Kind::Idle, 0, 0);
    let trace = bad.trace();
    let violations = check(&trace, &Rules { user_return: UserReturn::Serializes });
    let text = Report { trace: &trace, violation: &violations[0] }.to_string();
    assert!(text.starts_with("I6: nothing that uses an mm goes on here, but current_mm is 1\n"), "{text}");
    assert!(
        text.lines().last().is_some_and(|line| line.starts_with("  > ") && line.ends_with("idle")),
        "{text}"
    );
    assert!(text.contains("CPU 1"), "{text}");
}
