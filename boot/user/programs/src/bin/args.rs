//! Prints its arguments, one per line, quoted so that each can be typed again.
#![no_std]
#![no_main]

use boot_image::command_line::Quoted;
use user_rt::{Args, println};

user_rt::entry!(main);

fn main(args: Args) -> u8 {
    for (index, arg) in args.iter().enumerate() {
        println!("{index}: {}", Quoted(arg));
    }
    0
}
