//! Requests: what the asker did before comes before what the target does for it, that comes before
//! what the asker does next, and none is lost.

use crate::cpu::{Cpu, Frame, race};
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use protocol::inbox::{Inbox, Kinds, Numbers, Pending, post};
use std::array;
use std::sync::{Arc, Mutex};

/// Serves once, if there is anything. Says what it did.
fn serve(inbox: &Inbox, act: impl FnOnce(Kinds)) {
    if let Some(number) = inbox.pending() {
        inbox.serve_up_to(number, act);
    }
}

/// The asker writes, asks, waits, and writes again: the target's look lies between. `SMP-1`, `SMP-2`
#[test]
fn smp_1_a_request_lies_between_what_the_asker_did_before_and_after() {
    let asker = |cpu: Cpu<'_>| {
        let [_, other] = cpu.machine.cpus();
        cpu.machine.frame.reuse();
        let number = post([other.inbox()].into_iter(), Kinds::FLUSH, || 1);
        while !other.inbox().has_served(number) {
            thread::yield_now();
        }
        cpu.machine.frame.reuse();
    };
    let target = |cpu: Cpu<'_>| {
        while !cpu.inbox().has_served(1) {
            serve(cpu.inbox(), |kinds| {
                if kinds.has(Kinds::FLUSH) {
                    cpu.machine.frame.touch();
                }
            });
            thread::yield_now();
        }
    };
    race(|_| (), asker, target, |_, (), ()| ());
}

/// A request that nobody waits for: what the asker did before is there. `SMP-1`
#[test]
fn smp_1_a_request_brings_what_the_asker_did_before() {
    let asker = |cpu: Cpu<'_>| {
        let [_, other] = cpu.machine.cpus();
        cpu.machine.frame.reuse();
        other.inbox().ask(Kinds::RESCHEDULE);
    };
    let target = |cpu: Cpu<'_>| {
        let mut found = false;
        serve(cpu.inbox(), |kinds| {
            if kinds.has(Kinds::RESCHEDULE) {
                cpu.machine.frame.touch();
                found = true;
            }
        });
        found
    };
    let seen = race(|_| (), asker, target, |_, (), found| found);
    assert_eq!(seen.len(), 2, "not both orders happened");
}

/// What two askers and their target share.
struct Crowd {
    inbox: Inbox,
    numbers: Numbers,
    /// What the target did, by kind.
    done: [AtomicU64; 2],
    interrupted: AtomicU64,
}

impl Crowd {
    fn new() -> Arc<Self> {
        let word = || AtomicU64::new(0);
        Arc::new(Self {
            inbox: Inbox::new(),
            numbers: Numbers::new(),
            done: [word(), word()],
            interrupted: word(),
        })
    }

    fn serve(&self) {
        serve(&self.inbox, |kinds| {
            for (index, kind) in ASKED.into_iter().enumerate() {
                if kinds.has(kind) {
                    self.done[index].store(1, Ordering::Relaxed);
                }
            }
        });
    }
}

const ASKED: [Kinds; 2] = [Kinds::FLUSH_ALL, Kinds::BARRIER];

/// Two CPUs ask the same one: whichever is told that its request was served, it was. `SMP-2`
#[test]
fn smp_2_what_is_acknowledged_was_done() {
    crate::cpu::three(|| {
        let crowd = Crowd::new();
        let ask = |index: usize| {
            let crowd = crowd.clone();
            move || {
                let number = post([&crowd.inbox].into_iter(), ASKED[index], || crowd.numbers.next());
                if crowd.inbox.has_served(number) {
                    assert_eq!(crowd.done[index].load(Ordering::Relaxed), 1, "SMP-2: nothing was done");
                }
            }
        };
        let askers = [thread::spawn(ask(0)), thread::spawn(ask(1))];
        crowd.serve();
        crowd.serve();
        askers.into_iter().for_each(|asker| asker.join().expect("it does not panic"));
        crowd.serve();
        assert!(crowd.inbox.has_served(2), "SMP-2: a request is never served");
    });
}

/// Two CPUs ask the same one: when it finds a number, the kinds of all smaller ones were put there
/// before, and a look at the kinds that follows finds them. That they come before is asked of something
/// that is no atomic: to take the kinds is a read-modify-write, which finds the newest here even where a
/// machine may do it early. `SMP-2`
#[test]
fn smp_2_the_kinds_come_before_the_number() {
    crate::cpu::three(|| {
        let crowd = Crowd::new();
        let kinds: Arc<[Frame; 2]> = Arc::new(array::from_fn(|_| Frame::new()));
        // Who has which number. Of the test: it orders nothing.
        let given = Arc::new(Mutex::new(Vec::new()));
        let ask = |index: usize| {
            let (crowd, kinds, given) = (crowd.clone(), kinds.clone(), given.clone());
            move || {
                post([&crowd.inbox].into_iter(), ASKED[index], || {
                    kinds[index].reuse();
                    let number = crowd.numbers.next();
                    given.lock().expect("not poisoned").push((number, index));
                    number
                });
            }
        };
        let askers = [thread::spawn(ask(0)), thread::spawn(ask(1))];
        if let Some(found) = crowd.inbox.pending() {
            let given = given.lock().expect("not poisoned").clone();
            given.iter().filter(|(number, _)| *number <= found).for_each(|(_, index)| kinds[*index].touch());
        }
        askers.into_iter().for_each(|asker| asker.join().expect("it does not panic"));
    });
}

/// Two CPUs ask without waiting, and only the one that finds nothing pending interrupts: after the
/// interrupt both requests have been found. `SMP-2`
#[test]
fn smp_2_one_interrupt_is_enough_for_what_is_pending() {
    crate::cpu::three(|| {
        let crowd = Crowd::new();
        let ask = |index: usize| {
            let crowd = crowd.clone();
            move || {
                if crowd.inbox.ask(ASKED[index]) == Pending::No {
                    // The port's interrupt: what was written before is visible to its handler.
                    crowd.interrupted.fetch_or(1, Ordering::Release);
                }
            }
        };
        let askers = [thread::spawn(ask(0)), thread::spawn(ask(1))];
        let handler = || {
            if crowd.interrupted.swap(0, Ordering::Acquire) != 0 {
                crowd.serve();
            }
        };
        handler();
        askers.into_iter().for_each(|asker| asker.join().expect("it does not panic"));
        handler();
        let done = || crowd.done.iter().all(|done| done.load(Ordering::Relaxed) == 1);
        assert!(done(), "SMP-2: a request without an interrupt");
    });
}
