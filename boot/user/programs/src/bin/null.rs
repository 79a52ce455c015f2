//! `null N`: makes N null calls (1000 if not said), for counting what one costs.
#![no_std]
#![no_main]

use user_rt::{Args, null, println};

user_rt::entry!(main);

fn main(args: Args) -> u8 {
    let count = match args.get(1) {
        None => Ok(1000),
        Some(_) => args.number(1),
    };
    match count {
        Ok(count) => {
            for _ in 0..count {
                null();
            }
            0
        }
        Err(error) => {
            println!("null: {error}");
            2
        }
    }
}
