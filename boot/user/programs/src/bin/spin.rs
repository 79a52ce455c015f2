//! Never ends, and never calls: something to kill and to be preempted.
#![no_std]
#![no_main]

user_rt::entry!(main);

fn main(_: user_rt::Args) -> u8 {
    loop {
        core::hint::spin_loop();
    }
}
