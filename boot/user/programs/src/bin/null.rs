//! `null [N [second]]`: makes N null calls (1000 if not said), for counting what one costs; with
//! `second` by the machine's second way into the kernel, if it has one.
#![no_std]
#![no_main]

use user_programs::door::SECOND;
use user_rt::abi::{Call, Error};
use user_rt::{Args, TIMER, null, println};

user_rt::entry!(main);

fn main(args: Args) -> u8 {
    let count = match args.get(1) {
        None => Ok(1000),
        Some(_) => args.number(1),
    };
    match (count, args.get(2)) {
        (Ok(count), None) => {
            let begin = TIMER.now();
            for _ in 0..count {
                null();
            }
            // Where an instruction takes a nanosecond (QEMU's `-icount shift=0`), this counts them.
            if let (Ok(begin), Ok(end)) = (begin, TIMER.now()) {
                println!("null: {count} calls in {} ns", end.saturating_sub(begin).as_nanos());
            }
            0
        }
        (Ok(count), Some("second")) => by_second_door(count),
        (Ok(_), Some(other)) => {
            println!("null: `{other}` is not `second`");
            2
        }
        (Err(error), _) => {
            println!("null: {error}");
            2
        }
    }
}

fn by_second_door(count: u64) -> u8 {
    let Some(call) = SECOND else {
        println!("null: this machine has one way into the kernel");
        return 0;
    };
    let failed = (0..count).filter(|_| call(Call::Null as u64) != 0).count();
    let refused = call(u64::MAX);
    if failed != 0 || refused != Error::BadCall as u64 {
        println!("null: {failed} calls failed, one with a bad number gave status {refused}");
        return 1;
    }
    0
}
