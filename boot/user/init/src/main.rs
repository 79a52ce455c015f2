//! placeholder
#![no_std]
#![no_main]
user_rt::entry!(main);
fn main(_: user_rt::Args) -> u8 {
    0
}
