//! What a user program stands on: entry, heap, printing, and the system calls as safe functions.
//!
//! A program is a crate without std that says
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! user_rt::entry!(main);
//! fn main(args: user_rt::Args) -> u8 { user_rt::println!("hello"); 0 }
//! ```
//!
//! Everything a program can do to the world goes through an object it holds: [`CONSOLE`],
//! [`TIMER`], [`ARCHIVE`] and [`MACHINE`] are what its maker granted, if it did; a call on one
//! that was not granted fails with [`Error::BadHandle`]. Objects a program makes itself close
//! when they are dropped.
#![no_std]

pub extern crate alloc;

#[cfg_attr(target_arch = "x86_64", path = "arch_x86_64.rs")]
#[cfg_attr(target_arch = "powerpc64", path = "arch_ppc64le.rs")]
mod arch;
mod args;
mod barrier;
pub mod blocks;
pub mod call;
mod console;
mod cpus;
pub mod device;
pub mod exception;
mod heap;
pub mod ipc;
mod machine;
pub mod membarrier;
mod memory;
mod object;
mod process;
pub mod rseq;
pub mod shared;
pub mod supervisor;
pub mod sync;
pub mod testing;
pub mod thread;
mod time;

pub use abi::{self, Ending, Error, ExitReport, Handle, ProcessInfo, Protection, Rights, initial};
pub use arch::MACHINE_NAME;
pub use args::Args;
pub use barrier::compiler_barrier;
pub use console::{CONSOLE, Console, print};
pub use cpus::CpuSet;
pub use machine::{MACHINE, Machine, Power};
pub use memory::{Mapping, publish_code};
pub use object::{Kind, Object, copy_handle};
pub use process::{ARCHIVE, Archive, Command, Grant, How, Process, SELF, exit, null, yield_now};
pub use thread::Thread;
pub use time::{TIMER, Timer};

/// The status of a program that panicked.
pub const PANIC_STATUS: u8 = 101;

/// Makes `fn(Args) -> u8` the program: what it returns is the status.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        /// Where the runtime's start code arrives.
        #[unsafe(no_mangle)]
        extern "C" fn user_main(args: *const u8, len: usize) -> ! {
            let main: fn($crate::Args) -> u8 = $main;
            // SAFETY: the start code passes on what the kernel handed over.
            let args = unsafe { $crate::Args::from_kernel(args, len) };
            $crate::exit(main(args))
        }
    };
}

/// Prints to the console the program was granted; to nowhere if it was granted none.
#[macro_export]
macro_rules! print {
    ($($text:tt)*) => { $crate::print(format_args!($($text)*)) };
}

/// Prints, with a line end.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($text:tt)*) => { $crate::print(format_args!("{}\n", format_args!($($text)*))) };
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    println!("{info}");
    exit(PANIC_STATUS)
}
