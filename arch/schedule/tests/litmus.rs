//! The memory is as weak as it says, and no weaker: each litmus test with and without what forbids
//! its outcome.

use schedule::atomic::{AtomicU64, Ordering, Ordering::*, fence};
use schedule::{Setting, act_as, run, thread};
use std::sync::Arc;

const SEEDS: u64 = 3_000;

/// What a thread does with three words, and what it has read.
type Body<const N: usize> = fn(&[AtomicU64; 3]) -> [u64; N];

/// The runs in which `seen` holds of what the threads have read.
fn count<const N: usize, const T: usize>(threads: [Body<N>; T], seen: impl Fn([[u64; N]; T]) -> bool) -> u64 {
    let one = |seed| {
        run(Setting::seed(seed), || {
            let words = Arc::new([const { AtomicU64::new(0) }; 3]);
            let mut number = 0;
            let threads = threads.map(|body| {
                let words = words.clone();
                number += 1;
                let actor = number;
                thread::spawn(move || {
                    act_as(actor);
                    body(&words)
                })
            });
            threads.map(|thread| thread.join().expect("it does not panic"))
        })
    };
    (0..SEEDS).filter(|seed| seen(one(*seed))).count() as u64
}

const RELAXED: Ordering = Relaxed;

#[test]
fn bar_1_store_buffering_happens() {
    let missed = count(
        [
            |[x, y, _]| {
                x.store(1, Release);
                [y.load(Acquire)]
            },
            |[x, y, _]| {
                y.store(1, Release);
                [x.load(Acquire)]
            },
        ],
        |read| read == [[0], [0]],
    );
    assert!(missed > SEEDS / 100, "{missed} of {SEEDS}");
}

#[test]
fn bar_1_store_buffering_with_fences_does_not() {
    let missed = count(
        [
            |[x, y, _]| {
                x.store(1, RELAXED);
                fence(SeqCst);
                [y.load(RELAXED)]
            },
            |[x, y, _]| {
                y.store(1, RELAXED);
                fence(SeqCst);
                [x.load(RELAXED)]
            },
        ],
        |read| read == [[0], [0]],
    );
    assert_eq!(missed, 0);
}

#[test]
fn bar_1_store_buffering_with_one_fence_happens() {
    let missed = count(
        [
            |[x, y, _]| {
                x.store(1, RELAXED);
                fence(SeqCst);
                [y.load(RELAXED)]
            },
            |[x, y, _]| {
                y.store(1, RELAXED);
                fence(AcqRel);
                [x.load(RELAXED)]
            },
        ],
        |read| read == [[0], [0]],
    );
    assert!(missed > 0);
}

fn message_passing(write: Body<2>, read: Body<2>) -> u64 {
    count([write, read], |read| read[1] == [1, 0])
}

#[test]
fn bar_3_message_passing_needs_both_sides() {
    let release: Body<2> = |[x, y, _]| {
        x.store(1, RELAXED);
        y.store(1, Release);
        [0; 2]
    };
    let relaxed: Body<2> = |[x, y, _]| {
        x.store(1, RELAXED);
        y.store(1, RELAXED);
        [0; 2]
    };
    let fenced: Body<2> = |[x, y, _]| {
        x.store(1, RELAXED);
        fence(Release);
        y.store(1, RELAXED);
        [0; 2]
    };
    assert!(message_passing(relaxed, |[x, y, _]| [y.load(Acquire), x.load(RELAXED)]) > 0);
    assert!(message_passing(release, |[x, y, _]| [y.load(RELAXED), x.load(RELAXED)]) > 0);
    for write in [release, fenced] {
        assert_eq!(message_passing(write, |[x, y, _]| [y.load(Acquire), x.load(RELAXED)]), 0);
        let fence_after: Body<2> = |[x, y, _]| {
            let y = y.load(RELAXED);
            fence(Acquire);
            [y, x.load(RELAXED)]
        };
        assert_eq!(message_passing(write, fence_after), 0);
    }
}

/// A release goes on through read-modify-writes of others, and not through their stores.
#[test]
fn release_sequences() {
    let first: Body<2> = |[x, y, _]| {
        x.store(1, RELAXED);
        y.store(1, Release);
        [0; 2]
    };
    let add: Body<2> = |[_, y, _]| {
        y.fetch_add(1, RELAXED);
        [0; 2]
    };
    let read: Body<2> = |[x, y, _]| [y.load(Acquire), x.load(RELAXED)];
    assert_eq!(count([first, add, read], |read| read[2] == [2, 0]), 0);
    let store: Body<2> = |[_, y, _]| {
        let seen = y.load(RELAXED);
        y.store(seen + 1, RELAXED);
        [0; 2]
    };
    assert!(count([first, store, read], |read| read[2] == [2, 0]) > 0);
}

/// Two loads of one word never find an older value after a newer one.
#[test]
fn coherence() {
    let backwards = count(
        [
            |[x, ..]| {
                x.store(1, RELAXED);
                x.store(2, RELAXED);
                [0; 3]
            },
            |[x, ..]| [x.load(RELAXED), x.load(RELAXED), x.load(RELAXED)],
        ],
        |read| !read[1].is_sorted(),
    );
    assert_eq!(backwards, 0);
}

/// What a third thread has acquired from a second, which acquired it from a first, is known.
#[test]
fn write_to_read_causality() {
    let chain: [Body<3>; 3] = [
        |[x, ..]| {
            x.store(1, RELAXED);
            [0; 3]
        },
        |[x, y, _]| {
            let seen = x.load(RELAXED);
            y.store(1, Release);
            [seen, 0, 0]
        },
        |[x, y, _]| {
            let y = y.load(Acquire);
            [y, x.load(RELAXED), 0]
        },
    ];
    assert_eq!(count(chain, |read| read[1][0] == 1 && read[2][..2] == [1, 0]), 0);
}

/// Two readers may disagree on the order of two independent stores, unless they have full fences.
#[test]
fn independent_reads_of_independent_writes() {
    let write_x: Body<2> = |[x, ..]| {
        x.store(1, Release);
        [0; 2]
    };
    let write_y: Body<2> = |[_, y, _]| {
        y.store(1, Release);
        [0; 2]
    };
    let acquire: [Body<2>; 4] = [
        write_x,
        write_y,
        |[x, y, _]| [x.load(Acquire), y.load(Acquire)],
        |[x, y, _]| [y.load(Acquire), x.load(Acquire)],
    ];
    let fenced: [Body<2>; 4] = [
        write_x,
        write_y,
        |[x, y, _]| {
            let x = x.load(RELAXED);
            fence(SeqCst);
            [x, y.load(RELAXED)]
        },
        |[x, y, _]| {
            let y = y.load(RELAXED);
            fence(SeqCst);
            [y, x.load(RELAXED)]
        },
    ];
    let disagree = |read: [[u64; 2]; 4]| read[2] == [1, 0] && read[3] == [1, 0];
    assert!(count(acquire, disagree) > 0);
    assert_eq!(count(fenced, disagree), 0);
}

/// A seed replays a run.
#[test]
fn a_seed_replays() {
    let history = |seed| {
        run(Setting::seed(seed), || {
            let word = Arc::new(AtomicU64::new(0));
            let adders = [1, 2, 3].map(|actor| {
                let word = word.clone();
                thread::spawn(move || {
                    act_as(actor);
                    (0..20)
                        .map(|_| word.load(Relaxed) << 32 | word.fetch_add(actor as u64, Relaxed))
                        .collect()
                })
            });
            adders.map(|adder| -> Vec<u64> { adder.join().expect("it does not panic") })
        })
    };
    assert!((0..50).all(|seed| history(seed) == history(seed)));
    assert!((1..50).any(|seed| history(seed) != history(0)));
}

/// Who waits for ever ends the run.
#[test]
fn a_deadlock_is_seen() {
    let ended = std::panic::catch_unwind(|| {
        run(Setting::seed(1), || {
            let (sender, receiver) = schedule::sync::channel::<()>();
            let _ = receiver.recv();
            drop(sender);
        })
    });
    assert!(ended.is_err());
    // The same, where the last task that could go has ended.
    let ended = std::panic::catch_unwind(|| {
        run(Setting::seed(1), || {
            let (sender, receiver) = schedule::sync::channel::<()>();
            let idle = thread::spawn(|| ());
            let _ = receiver.recv();
            drop((sender, idle));
        })
    });
    assert!(ended.is_err());
}

/// Message passing whose second word is a lock.
#[test]
fn a_spin_lock_passes_messages() {
    use schedule::spin::SpinMutex;
    for seed in 0..300 {
        run(Setting::seed(seed), || {
            let count = Arc::new((SpinMutex::new(()), AtomicU64::new(0)));
            let adders = [1, 2, 3].map(|actor| {
                let count = count.clone();
                thread::spawn(move || {
                    act_as(actor);
                    for _ in 0..5 {
                        let _guard = count.0.lock();
                        count.1.store(count.1.load(Relaxed) + 1, Relaxed);
                    }
                })
            });
            for adder in adders {
                adder.join().expect("it does not panic");
            }
            act_as(1);
            let _guard = count.0.lock();
            assert_eq!(count.1.load(Relaxed), 15, "seed {seed}");
        });
    }
}

/// A read-modify-write that fails is a load: it may fail at a value that is there no more, unless
/// something orders the newer one before it.
#[test]
fn a_failure_may_be_a_thing_of_the_past() {
    let failures = |writer: Body<2>| {
        let takes: Body<2> =
            |[x, y, _]| [y.load(Acquire), x.compare_exchange(1, 2, RELAXED, RELAXED).is_ok().into()];
        count([writer, takes], |read| read[1] == [1, 0])
    };
    let ordered = |[x, y, _]: &[AtomicU64; 3]| {
        x.store(1, RELAXED);
        y.store(1, Release);
        [0, 0]
    };
    let not = |[x, y, _]: &[AtomicU64; 3]| {
        x.store(1, RELAXED);
        y.store(1, RELAXED);
        [0, 0]
    };
    assert_eq!(failures(ordered), 0);
    assert!(failures(not) > SEEDS / 100);
}
