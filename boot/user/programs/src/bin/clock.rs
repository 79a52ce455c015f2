//! Checks the clock: it does not go back, a sleep is not short, a past deadline does not wait.
#![no_std]
#![no_main]

use core::time::Duration;
use user_rt::{Args, Error, TIMER, println};

user_rt::entry!(main);

const SLEEP: Duration = Duration::from_millis(10);

fn main(_: Args) -> u8 {
    match check() {
        Ok(true) => {
            println!("clock: ok");
            0
        }
        Ok(false) => 1,
        Err(error) => {
            println!("clock: {error:?}");
            1
        }
    }
}

fn check() -> Result<bool, Error> {
    let mut last = TIMER.now()?;
    println!("clock: {last:?} since boot");
    for _ in 0..10_000 {
        let now = TIMER.now()?;
        if now < last {
            println!("clock: went back from {last:?} to {now:?}");
            return Ok(false);
        }
        last = now;
    }
    let mut latest = Duration::ZERO;
    for _ in 0..10 {
        let deadline = TIMER.now()? + SLEEP;
        TIMER.sleep_until(deadline)?;
        let now = TIMER.now()?;
        if now < deadline {
            println!("clock: woke {:?} early", deadline - now);
            return Ok(false);
        }
        latest = latest.max(now - deadline);
    }
    println!("clock: ten sleeps of {SLEEP:?}, the latest {latest:?} late");
    // A hundred of these would take a second if they waited at all.
    let start = TIMER.now()?;
    for _ in 0..100 {
        TIMER.sleep_until(start)?;
        TIMER.sleep_until(Duration::ZERO)?;
    }
    let took = TIMER.now()? - start;
    if took >= Duration::from_secs(1) {
        println!("clock: deadlines in the past took {took:?}");
        return Ok(false);
    }
    Ok(true)
}
