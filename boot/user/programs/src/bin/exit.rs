//! `exit N`: ends with the status N.
#![no_std]
#![no_main]

use user_rt::{Args, println};

user_rt::entry!(main);

fn main(args: Args) -> u8 {
    match args.number(1).map(u8::try_from) {
        Ok(Ok(status)) => status,
        Ok(Err(_)) => {
            println!("exit: a status is 0 to 255");
            2
        }
        Err(error) => {
            println!("exit: {error}");
            2
        }
    }
}
