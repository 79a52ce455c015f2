//! `many N [NAME…]`: runs N copies of each program (of `float` and `primes` if none is named) at
//! once, waits for all, and checks that each ended with status 0.
#![no_std]
#![no_main]

use user_rt::alloc::format;
use user_rt::alloc::vec::Vec;
use user_rt::{ARCHIVE, Args, Command, ExitReport, println};

user_rt::entry!(main);

fn main(args: Args) -> u8 {
    let copies = match args.number(1) {
        Ok(copies) => copies,
        Err(error) => {
            println!("many: {error}\nusage: many N [NAME…]");
            return 2;
        }
    };
    let named: Vec<&str> = args.iter().skip(2).collect();
    let names = if named.is_empty() { &["float", "primes"][..] } else { &named };

    let mut failed = 0u64;
    let mut started = Vec::new();
    for copy in 0..copies {
        for &name in names {
            let mut command = Command::new(name).grant_usual();
            // Each copy of float keeps other patterns.
            if name == "float" {
                command = command.arg("20").arg(&format!("{}", copy + 1));
            }
            match command.start(&ARCHIVE) {
                Ok(process) => started.push((copy, name, process)),
                Err(error) => {
                    println!("many: {name} {copy} did not start: {error:?}");
                    failed += 1;
                }
            }
        }
    }
    let running = started.len();
    for (copy, name, process) in started {
        let report = process.wait();
        if report != Ok(ExitReport(0)) {
            println!("many: {name} {copy} ended with {report:?}");
            failed += 1;
        }
    }
    println!("many: {running} ran at once, {failed} failed");
    u8::from(failed != 0)
}
