//! What a violation is in conflict with: the checker names the event at which it noticed; a person
//! wants to see the other one, too, and no more around the two than it takes to follow.

use crate::check::{Invariant, Violation};
use crate::event::Event;
use crate::lanes::Lanes;
use crate::read::Trace;
use abi::trace::Kind;
use std::collections::BTreeSet;

/// Events of a CPU that are shown before and after each of the two.
const BEFORE: usize = 6;
const AFTER: usize = 2;
/// Barriers and the like between the two that are shown of a CPU, at most.
const BETWEEN: usize = 8;

/// The CPUs that take part.
pub fn cpus(trace: &Trace, violation: &Violation) -> BTreeSet<u16> {
    let other = other(trace, violation).map(|place| trace.events[place].cpu);
    [Some(trace.events[violation.at].cpu), violation.about, other].into_iter().flatten().collect()
}

/// The earlier event, if it is in the trace.
pub fn other(trace: &Trace, violation: &Violation) -> Option<usize> {
    let at = &trace.events[violation.at];
    let cpu = violation.about.unwrap_or(at.cpu);
    let mm = if at.kind == Kind::MembarrierExit { at.b } else { at.a };
    let last = |fits: &dyn Fn(&Event) -> bool| trace.events[..violation.at].iter().rposition(fits);
    let here = |kinds: &[Kind]| last(&|event| event.cpu == cpu && kinds.contains(&event.kind));
    let to_user = [Kind::UserReturn, Kind::Poll];
    let loads = [Kind::SwitchBegin, Kind::SwitchEnd, Kind::LazyEnter, Kind::LazyExit, Kind::Drop];
    match violation.invariant {
        Invariant::I1 if at.kind == Kind::Part => here(&loads),
        Invariant::I1 => here(&[Kind::Part]).or_else(|| here(&[Kind::SwitchBegin])),
        Invariant::I2 => here(&[&loads[..], &[Kind::Current]].concat()),
        Invariant::I3 if at.kind == Kind::SwitchEnd => here(&[Kind::SwitchBegin]),
        Invariant::I3 => here(&[Kind::Current]),
        Invariant::I4 => here(&to_user),
        Invariant::I5 if violation.about.is_some() => here(&[Kind::UserReturn]),
        Invariant::I5 => last(&|event| event.kind == Kind::MembarrierEnter && event.b == mm),
        Invariant::I6 => here(&[Kind::LazyEnter, Kind::LazyExit, Kind::Drop, Kind::Current]),
        Invariant::I7 => here(&loads),
        Invariant::I8 if at.kind == Kind::SwitchEnd => here(&[Kind::SwitchEnd]),
        Invariant::I8 => {
            let of_id =
                |event: &Event| matches!(event.kind, Kind::IdRetired | Kind::IdTaken) && event.b == at.b;
            last(&of_id)
        }
        Invariant::I9 if violation.about.is_some() => {
            let seen = [Kind::Seen, Kind::FlushAll, Kind::SwitchEnd];
            here(&[&seen[..], &to_user[..]].concat())
        }
        Invariant::I9 => last(&|event| event.kind == Kind::Flushed && event.a == mm),
        Invariant::I10 | Invariant::I11 => here(&[Kind::SwitchBegin]),
        Invariant::I12 if at.kind == Kind::MembarrierExit && violation.about.is_some() => {
            here(&[Kind::Served]).or_else(|| here(&to_user))
        }
        Invariant::I12 if violation.about.is_some() => here(&[Kind::Current, Kind::UserReturn]),
        Invariant::I12 => here(&[Kind::MembarrierEnter]),
        Invariant::Clock => last(&|event| event.cpu == cpu),
    }
}

/// Where the command began that an event ends, if it ends one.
fn began(trace: &Trace, at: usize) -> Option<usize> {
    let event = &trace.events[at];
    trace.events[..at].iter().rposition(|before| match event.kind {
        Kind::MembarrierExit => {
            (before.kind, before.a, before.b) == (Kind::MembarrierEnter, event.a, event.b)
        }
        Kind::Flushed => (before.kind, before.a, before.cpu) == (Kind::Generation, event.a, event.cpu),
        _ => false,
    })
}

/// The places of the events that are worth showing, in order.
pub fn around(trace: &Trace, violation: &Violation) -> Vec<usize> {
    let (at, other, began) = (violation.at, other(trace, violation), began(trace, violation.at));
    let involved = cpus(trace, violation);
    let mut shown: BTreeSet<usize> = [Some(at), other, began].into_iter().flatten().collect();
    let from = shown.first().copied().unwrap_or(at);
    let events = || trace.events.iter().enumerate();
    for &cpu in &involved {
        let on = |(_, event): &(usize, &Event)| event.cpu == cpu;
        for middle in [Some(at), other].into_iter().flatten() {
            let before = if middle == at { BEFORE } else { AFTER };
            shown.extend(events().take(middle + 1).rev().filter(on).take(before).map(|(place, _)| place));
            shown.extend(events().skip(middle + 1).filter(on).take(AFTER).map(|(place, _)| place));
        }
        let between = events().take(at).skip(from).rev().filter(on).filter(|(_, event)| matters(event.kind));
        shown.extend(between.take(BETWEEN).map(|(place, _)| place));
    }
    // An arrow has two ends.
    for arrow in Lanes::new(trace).arrows {
        if !involved.contains(&arrow.target) {
            continue;
        }
        if shown.contains(&arrow.sent) && arrow.served <= at {
            shown.insert(arrow.served);
        } else if shown.contains(&arrow.served) && arrow.sent >= from {
            shown.insert(arrow.sent);
        }
    }
    shown.into_iter().collect()
}

/// What is shown of all that lies between the two.
fn matters(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Barrier
            | Kind::CoreSync
            | Kind::Current
            | Kind::Request
            | Kind::Served
            | Kind::Sampled
            | Kind::Seen
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Rules, UserReturn, check};
    use crate::testing::{SYNC_CORE, Script};
    use arch_contract::barrier::Site;

    fn first(trace: &Trace) -> Violation {
        check(trace, &Rules { user_return: UserReturn::DoesNotSerialize }).remove(0)
    }

    #[test]
    fn a_missing_barrier_is_in_conflict_with_the_user_before_it() {
        let mut script = Script::new();
        script.boot(0, 1, 7).on(0, Kind::UserEnter, 0, 0).on(0, Kind::Current, 0, 0);
        let trace = script.trace();
        let violation = first(&trace);
        assert_eq!(violation.invariant, Invariant::I4);
        let other = other(&trace, &violation).unwrap();
        assert_eq!((trace.events[other].kind, trace.events[other].a), (Kind::UserReturn, 1));
    }

    #[test]
    fn a_command_that_skips_a_cpu_is_in_conflict_with_that_cpu() {
        let mut script = Script::new();
        script.boot(0, 1, 7).boot(1, 1, 8).boot(2, 2, 9);
        for _ in 0..20 {
            script.on(2, Kind::UserEnter, 0, 0).on(2, Kind::UserReturn, 2, 9);
        }
        script.on(0, Kind::UserEnter, 0, 0).on(0, Kind::MembarrierEnter, SYNC_CORE, 1);
        script.barrier(0, Site::MembarrierEnter).on(0, Kind::Sampled, 0, 1);
        script.barrier(0, Site::MembarrierExit).on(0, Kind::MembarrierExit, SYNC_CORE, 1);
        let trace = script.trace();
        let violation = first(&trace);
        assert_eq!((violation.invariant, violation.about), (Invariant::I12, Some(1)));
        let other = other(&trace, &violation).unwrap();
        assert_eq!((trace.events[other].cpu, trace.events[other].kind), (1, Kind::UserReturn));
        let shown = around(&trace, &violation);
        assert!(shown.contains(&violation.at) && shown.contains(&other));
        let began = trace.events.iter().position(|event| event.kind == Kind::MembarrierEnter).unwrap();
        assert!(shown.contains(&began), "where the command began is shown");
        assert!(shown.iter().all(|&place| trace.events[place].cpu != 2), "who takes no part is not");
    }
}
