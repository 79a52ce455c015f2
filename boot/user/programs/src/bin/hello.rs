//! Prints a line that names the machine.
#![no_std]
#![no_main]

user_rt::entry!(main);

fn main(_: user_rt::Args) -> u8 {
    user_rt::println!("Hello from user mode on {}.", user_rt::MACHINE_NAME);
    0
}
