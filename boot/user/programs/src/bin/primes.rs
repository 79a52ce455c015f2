//! `primes N`: counts the primes below N (100000 if not said), and prints the count.
//!
//! For powers of ten it knows the answer, and ends with status 1 if it got another: computing
//! under preemption must not be wrong.
#![no_std]
#![no_main]

use user_rt::alloc::vec::Vec;
use user_rt::{Args, println};

user_rt::entry!(main);

/// Primes below 10 to the power of the index.
const BELOW_POWERS: [u64; 10] = [0, 4, 25, 168, 1229, 9592, 78_498, 664_579, 5_761_455, 50_847_534];

fn main(args: Args) -> u8 {
    let below = match args.get(1) {
        None => Ok(100_000),
        Some(_) => args.number(1),
    };
    let below = match below {
        Ok(below) => below,
        Err(error) => {
            println!("primes: {error}");
            return 2;
        }
    };
    let Some(count) = count(below) else {
        println!("primes: no memory to sieve up to {below}");
        return 3;
    };
    println!("{count} primes below {below}");
    let known = (0u32..).zip(BELOW_POWERS).find(|(power, _)| 10u64.pow(*power) == below);
    match known {
        Some((_, known)) if known != count => {
            println!("primes: wrong, it is {known}");
            1
        }
        _ => 0,
    }
}

/// The sieve of Eratosthenes on odd numbers, a bit each: bit i stands for 2i + 1.
fn count(below: u64) -> Option<u64> {
    if below <= 2 {
        return Some(0);
    }
    let odd = usize::try_from(below / 2).ok()?;
    let mut composite = Vec::<u64>::new();
    composite.try_reserve_exact(odd.div_ceil(64)).ok()?;
    composite.resize(odd.div_ceil(64), 0);
    let mut count = 1;
    for index in 1..odd {
        if composite[index / 64] & 1 << (index % 64) != 0 {
            continue;
        }
        count += 1;
        let step = 2 * index + 1;
        let mut multiple = step.saturating_mul(step) / 2;
        while multiple < odd {
            composite[multiple / 64] |= 1 << (multiple % 64);
            multiple += step;
        }
    }
    Some(count)
}
