//! A race of plain accesses is found under every schedule in which they happen, and none is found
//! where something orders them.

use schedule::atomic::{AtomicU64, Ordering, Ordering::*};
use schedule::plain::{Thing, all_uses_are_over, own, touch};
use schedule::{Setting, act_as, run, thread};
use std::panic::catch_unwind;
use std::sync::Arc;

const SEEDS: u64 = 100;
const THING: Thing = Thing { kind: "the thing", number: 1 };

/// Actor 1 does `first` and then stores a flag with `order`; actor 2 acquires the flag and then does
/// `second`. In how many runs that is a race.
fn races(first: fn(), order: Ordering, second: fn()) -> u64 {
    let one = |seed| {
        run(Setting::seed(seed), || {
            let flag = Arc::new(AtomicU64::new(0));
            let theirs = flag.clone();
            let other = thread::spawn(move || {
                act_as(1);
                first();
                theirs.store(1, order);
            });
            act_as(2);
            while flag.load(Acquire) == 0 {
                thread::yield_now();
            }
            second();
            other.join().expect("it does not panic");
        })
    };
    (0..SEEDS).filter(|seed| catch_unwind(|| one(*seed)).is_err()).count() as u64
}

#[test]
fn a_free_comes_after_the_last_use() {
    assert_eq!(races(|| touch(THING), Release, || own(THING)), 0);
    assert_eq!(races(|| touch(THING), Relaxed, || own(THING)), SEEDS);
}

#[test]
fn a_use_comes_after_the_last_write() {
    assert_eq!(races(|| own(THING), Release, || touch(THING)), 0);
    assert_eq!(races(|| own(THING), Relaxed, || touch(THING)), SEEDS);
}

#[test]
fn uses_are_no_race_nor_is_another_thing() {
    assert_eq!(races(|| touch(THING), Relaxed, || touch(THING)), 0);
    assert_eq!(races(|| touch(THING), Relaxed, || own(Thing { number: 2, ..THING })), 0);
}

#[test]
fn the_machine_may_wait_for_uses_itself() {
    let second = || {
        all_uses_are_over();
        own(THING);
    };
    assert_eq!(races(|| touch(THING), Relaxed, second), 0);
    assert_eq!(races(|| own(THING), Relaxed, second), SEEDS);
}
