//! `rseq [THREADS [TURNS]]`: threads on all CPUs count on per-CPU counters without atomic
//! instructions; the sum is exact, because what is interrupted between its load and its store starts
//! over. A slow sequence shows that this happens; one that is not registered, that it must.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use user_programs::sequence;
use user_rt::alloc::vec::Vec;
use user_rt::membarrier::{Command, membarrier};
use user_rt::rseq::{Counters, Registration};
use user_rt::thread::{self, JoinHandle, wait_until};
use user_rt::{Args, Error, MACHINE, println};

user_rt::entry!(main);

/// Turns of the loop between the load and the store of the slow sequence: a slice is a hundred of
/// them on a slow emulator.
const SLOW: u64 = 20_000;

/// How many times the turns a thread makes at most until one was interrupted.
const PATIENCE: u64 = 100;

static FAST: Counters = Counters::new();
static CAREFUL: Counters = Counters::new();

fn main(args: Args) -> u8 {
    let number = |index, default| args.get(index).map_or(Ok(default), |_| args.number(index));
    let (Ok(threads), Ok(turns)) = (number(1, 8), number(2, 20_000)) else {
        println!("usage: rseq [THREADS [TURNS]]");
        return 2;
    };
    match fast(threads, turns).and_then(|right| Ok(right & slow(threads, turns / 100)?)) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(error) => {
            println!("rseq: {error:?}");
            1
        }
    }
}

/// Many short sequences.
fn fast(threads: u64, turns: u64) -> Result<bool, Error> {
    let restarts = each(threads, move |area| {
        for _ in 0..turns {
            area.increment(&FAST);
        }
    })?;
    let cpus = MACHINE.turn_all_on()?;
    let used = cpus.iter().filter(|&cpu| FAST.of(cpu) > 0).count();
    println!("rseq: {} on {used} CPUs, {restarts} started over", FAST.sum());
    Ok(FAST.sum() == threads * turns)
}

/// Few long ones, while somebody asks for restarts.
fn slow(threads: u64, turns: u64) -> Result<bool, Error> {
    static STOP: AtomicBool = AtomicBool::new(false);
    membarrier(Command::RegisterPrivateExpeditedRseq)?;
    let asking = thread::spawn(|| {
        let mut asked = 0u64;
        while !STOP.load(Ordering::Relaxed) && membarrier(Command::PrivateExpeditedRseq).is_ok() {
            asked += 1;
            // Not so often that nothing gets through.
            for _ in 0..SLOW {
                core::hint::spin_loop();
            }
            user_rt::yield_now();
        }
        asked
    })?;
    static MADE: AtomicU64 = AtomicU64::new(0);
    let restarts = each(threads, move |area| {
        let mut made = 0;
        // A turn is interrupted when a slice ends in it: a thread that runs long enough sees it.
        while made < turns || area.restarts() == 0 && made < PATIENCE * turns {
            // SAFETY: the area is registered for this thread, and every CPU has a counter.
            unsafe { sequence::slow_increment(area.area(), CAREFUL.as_ptr(), SLOW) };
            made += 1;
        }
        MADE.fetch_add(made, Ordering::Relaxed);
    })?;
    STOP.store(true, Ordering::Relaxed);
    let asked = asking.join()?;
    let sum = CAREFUL.sum();
    println!("rseq: {sum} slowly, {restarts} started over, {asked} times asked to");
    Ok(sum == MADE.load(Ordering::Relaxed) && restarts > 0 && asked > 0)
}

/// Has `threads` threads do `body`, each with an area of its own; the restarts of all.
fn each(threads: u64, body: impl Fn(&Registration) + Copy + Send + 'static) -> Result<u64, Error> {
    static THERE: AtomicU64 = AtomicU64::new(0);
    THERE.store(0, Ordering::Relaxed);
    let handles: Result<Vec<JoinHandle<Result<u64, Error>>>, Error> = (0..threads)
        .map(|_| {
            thread::spawn(move || {
                let area = Registration::new()?;
                THERE.fetch_add(1, Ordering::Relaxed);
                wait_until(|| THERE.load(Ordering::Relaxed) == threads);
                body(&area);
                Ok(area.restarts().into())
            })
        })
        .collect();
    handles?.into_iter().map(|handle| handle.join()?).sum()
}
