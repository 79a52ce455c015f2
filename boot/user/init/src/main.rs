//! init: the first program. It is given everything, and passes on what it chooses.
//!
//! With arguments, it runs the program they name and turns the machine off with its status.
//! Without, it gives a prompt on the console.
#![no_std]
#![no_main]

mod jobs;
mod line;
mod prompt;

use user_rt::{ARCHIVE, Args, Command, Error, MACHINE, Process, Rights, println};

user_rt::entry!(main);

/// The statuses other systems give for the same.
const NOT_FOUND: u8 = 127;
const NOT_STARTED: u8 = 126;

fn main(args: Args) -> u8 {
    let mut words = args.iter().skip(1);
    let status = match words.next() {
        Some(name) => run(name, words),
        None => prompt::interact(),
    };
    let error = MACHINE.power_off(status);
    println!("init: cannot turn the machine off: {error:?}");
    status
}

/// Runs a program to its end and gives its status. The machine is there for it alone, so it may do
/// with it what init may.
fn run<'a>(name: &'a str, args: impl Iterator<Item = &'a str>) -> u8 {
    match args.fold(Command::new(name), Command::arg).grant_with_machine(Rights::all()).start(&ARCHIVE) {
        Ok(process) => match process.wait() {
            Ok(report) => report.status(),
            Err(error) => {
                println!("init: waiting for {name}: {error:?}");
                NOT_STARTED
            }
        },
        Err(error) => {
            complain(name, error);
            if error == Error::NotFound { NOT_FOUND } else { NOT_STARTED }
        }
    }
}

/// Starts a program with what an ordinary program is given.
fn start<'a>(name: &'a str, args: impl Iterator<Item = &'a str>) -> Result<Process, Error> {
    args.fold(Command::new(name), Command::arg).grant_usual().start(&ARCHIVE)
}

/// Says why a program did not start.
fn complain(name: &str, error: Error) {
    match error {
        Error::NotFound => println!("{name}: there is no such program; `list` names those there are"),
        Error::BadProgram => println!("{name}: is not a program this machine can run, see above"),
        Error::NoMemory => println!("{name}: not enough memory"),
        Error::TableFull => println!("{name}: too many programs at once"),
        Error::BadArgument => println!("{name}: the name or the arguments are too long"),
        error => println!("{name}: cannot be started: {error:?}"),
    }
}
