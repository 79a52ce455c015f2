//! `greedy`: takes all the CPU time it gets, by three threads and a fourth that looks how much that was: it ends
//! well when that is a fifth of one CPU or less. `supervisor budget` gives it a tenth.
#![no_std]
#![no_main]

use core::time::Duration;
use user_rt::{Args, Error, SELF, TIMER, println, thread};

user_rt::entry!(main);

/// How often it looks, and how long it waits before: what it got too much of is made up for by then.
const LOOKS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(200);

fn main(_: Args) -> u8 {
    match look() {
        Ok(true) => 0,
        Ok(false) => {
            println!("greedy: got more than a fifth of a CPU, {LOOKS} times");
            1
        }
        Err(why) => {
            println!("greedy: {why:?}");
            1
        }
    }
}

fn look() -> Result<bool, Error> {
    for _ in 0..3 {
        // It never ends by itself.
        core::mem::forget(thread::spawn(|| {
            loop {
                core::hint::spin_loop();
            }
        })?);
    }
    let (began, used) = (TIMER.now()?, SELF.info()?.cpu_time);
    for _ in 0..LOOKS {
        TIMER.sleep(PAUSE)?;
        let elapsed = TIMER.now()? - began;
        let got = Duration::from_nanos(SELF.info()?.cpu_time - used);
        if got * 5 <= elapsed {
            println!("greedy: a fifth of a CPU or less");
            return Ok(true);
        }
    }
    Ok(false)
}
