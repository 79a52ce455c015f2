//! Prints its arguments, one per line, quoted, with what is not printable escaped.
#![no_std]
#![no_main]

use user_rt::{Args, println};

user_rt::entry!(main);

fn main(args: Args) -> u8 {
    for (index, arg) in args.iter().enumerate() {
        println!("{index}: {arg:?}");
    }
    0
}
