//! `revoke [N [LATENESS]]`: revokes N capabilities (100,000 if not said) while a thread of a higher
//! priority sleeps again and again on the same CPU, and says by how much it woke late, at most: that is
//! how long the revocation kept interrupts off, and what it takes to run. Fails beyond LATENESS
//! nanoseconds, if said: where the machine's clock counts instructions, those.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use user_rt::thread::Builder;
use user_rt::{Args, CpuSet, Error, Rights, TIMER, println};

user_rt::entry!(main);

const DEFAULT: u64 = 100_000;
/// Of the thread that revokes; the sleeper has the process's.
const LOW: u64 = 50;
const NAP: Duration = Duration::from_micros(200);

static REVOKING: AtomicBool = AtomicBool::new(false);
static DONE: AtomicBool = AtomicBool::new(false);

fn main(args: Args) -> u8 {
    let number = |index, default| args.get(index).map_or(Ok(default), |_| args.number(index));
    let (Ok(count), Ok(limit)) = (number(1, DEFAULT), number(2, u64::MAX)) else {
        println!("usage: revoke [N [LATENESS]]");
        return 2;
    };
    match run(count, limit) {
        Ok(status) => status,
        Err(error) => {
            println!("revoke: {error:?}");
            1
        }
    }
}

fn run(count: u64, limit: u64) -> Result<u8, Error> {
    let revoker = Builder::new().cpus(CpuSet::only(0)).spawn(move || revoke(count))?;
    revoker.thread().set_priority(LOW)?;
    let sleeper = Builder::new().cpus(CpuSet::only(0)).spawn(sleep)?;
    let took = revoker.join()??;
    DONE.store(true, Ordering::Release);
    let (naps, worst) = sleeper.join()??;
    println!("revoke: {count} in {took:?}, {naps} naps meanwhile, {} ns late at most", worst.as_nanos());
    Ok(u8::from(naps < 10 || worst.as_nanos() as u64 > limit))
}

/// Makes a tree, half of it deep and half of it wide, and revokes it. Returns how long that took.
fn revoke(count: u64) -> Result<Duration, Error> {
    let root = TIMER.copy(Rights::all())?;
    let mut last = root.copy(Rights::all())?;
    for number in 1..count {
        let next = if number % 2 == 0 { last.copy(Rights::all()) } else { root.copy(Rights::all()) }?;
        // The revocation closes it.
        core::mem::forget(core::mem::replace(&mut last, next));
    }
    core::mem::forget(last);
    REVOKING.store(true, Ordering::Release);
    let began = TIMER.now()?;
    root.revoke()?;
    REVOKING.store(false, Ordering::Release);
    TIMER.now().map(|now| now - began)
}

/// Sleeps until all is done. Returns how often while the revocation was under way, and the greatest
/// lateness.
fn sleep() -> Result<(u64, Duration), Error> {
    let (mut naps, mut worst) = (0, Duration::ZERO);
    while !DONE.load(Ordering::Acquire) {
        let due = TIMER.now()? + NAP;
        TIMER.sleep_until(due)?;
        let late = TIMER.now()?.saturating_sub(due);
        if REVOKING.load(Ordering::Acquire) {
            naps += 1;
            worst = worst.max(late);
        }
    }
    Ok((naps, worst))
}
