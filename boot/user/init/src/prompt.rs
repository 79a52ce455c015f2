//! The prompt: a line is a command of its own or the name of a program with arguments.

use crate::jobs::Jobs;
use crate::line::{Reader, Typed};
use boot_image::command_line::{next_word, unquoted};
use user_rt::alloc::string::{String, ToString};
use user_rt::alloc::vec::Vec;
use user_rt::{ARCHIVE, Error, ExitReport, How, MACHINE, Power, abi::CONSOLE_CHUNK, print, println};

const HELP: &str = "\
NAME [ARGUMENT…] [&]   run a program; with & in the background
run NAME [ARGUMENT…]   the same, for a program with the name of a command
list                   the programs there are
ps                     what runs, with memory and CPU time
kill N                 end background job N
cpus                   the CPUs that are on
cpu on|off N           turn CPU N on or off
poweroff [STATUS]      turn the machine off (also: exit, Ctrl-D)
Words are separated by blanks; '…', \"…\" and \\ quote. Ctrl-U clears the line, Ctrl-C drops it.";

/// Serves the console until somebody is done, and gives the status to end with.
pub fn interact() -> u8 {
    println!("This is init. `help` lists the commands.");
    let mut reader = Reader::new();
    let mut jobs = Jobs::new();
    loop {
        jobs.reap();
        match reader.line("> ") {
            Ok(Typed::Line(line)) => {
                if let Some(status) = obey(&line, &mut jobs) {
                    return status;
                }
            }
            Ok(Typed::Cancelled) => {}
            Ok(Typed::End) => return 0,
            Err(error) => {
                println!("init: no input: {error:?}");
                return 1;
            }
        }
    }
}

/// Does what a line says. A status means: turn the machine off with it.
fn obey(line: &str, jobs: &mut Jobs) -> Option<u8> {
    let (line, where_to) = match line.trim_end().strip_suffix('&') {
        // One after a backslash is an argument.
        Some(rest) if !rest.ends_with('\\') => (rest, Ground::Back),
        _ => (line, Ground::Fore),
    };
    let words = match words(line) {
        Ok(words) => words,
        Err(word) => {
            println!("the quote or backslash in `{word}` is not ended");
            return None;
        }
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] => {}
        ["help"] => println!("{HELP}"),
        ["list"] => list(),
        ["ps"] => jobs.list(),
        ["kill", number] => match number.parse() {
            Ok(number) => jobs.kill(number),
            Err(_) => println!("kill: the number of a job is wanted; `ps` lists them"),
        },
        ["cpus"] => cpus(),
        ["cpu", "on", number] => cpu(number, Power::On),
        ["cpu", "off", number] => cpu(number, Power::Off),
        ["poweroff" | "exit"] => return Some(0),
        ["poweroff" | "exit", status] => match status.parse() {
            Ok(status) => return Some(status),
            Err(_) => println!("poweroff: a status is 0 to 255"),
        },
        ["help" | "list" | "ps" | "kill" | "cpus" | "cpu" | "poweroff" | "exit", ..] => {
            println!("{}: wrong arguments; see `help`", words[0]);
        }
        ["run"] => println!("run: the name of a program is wanted"),
        ["run", name, ref args @ ..] | [name, ref args @ ..] => run(name, args, where_to, jobs),
    }
    None
}

#[derive(Clone, Copy)]
enum Ground {
    /// Wait for it.
    Fore,
    /// Let it run beside the prompt.
    Back,
}

fn run(name: &str, args: &[&str], where_to: Ground, jobs: &mut Jobs) {
    let process = match crate::start(name, args.iter().copied()) {
        Ok(process) => process,
        Err(error) => return crate::complain(name, error),
    };
    match where_to {
        Ground::Back => jobs.add(name.to_string(), process),
        Ground::Fore => match process.wait() {
            Ok(ExitReport(0)) => {}
            Ok(report) => println!("{name}: {}", How(report)),
            Err(error) => println!("{name}: waiting: {error:?}"),
        },
    }
}

/// The words of a line, unquoted. The error is a word whose quote does not end.
fn words(mut line: &str) -> Result<Vec<String>, &str> {
    let mut words = Vec::new();
    while let (Some(word), rest) = next_word(line)? {
        words.push(unquoted(word).collect());
        line = rest;
    }
    Ok(words)
}

fn list() {
    let mut buffer = [0; CONSOLE_CHUNK];
    let mut index = 0;
    while let Ok(name) = ARCHIVE.name(index, &mut buffer) {
        let end = if index % 6 == 5 { "\n" } else { " " };
        print!("{name:12}{end}");
        index += 1;
    }
    if index % 6 != 0 {
        println!();
    }
}

fn cpus() {
    match MACHINE.cpus() {
        Ok(cpus) => {
            cpus.iter().for_each(|cpu| print!("{cpu} "));
            println!("({} on)", cpus.count());
        }
        Err(error) => println!("cpus: {error:?}"),
    }
}

fn cpu(number: &str, power: Power) {
    let Ok(number) = number.parse() else {
        return println!("cpu: the number of a CPU is wanted; `cpus` lists those that are on");
    };
    match MACHINE.set_power(number, power) {
        Ok(()) => cpus(),
        Err(Error::BadArgument) => {
            println!("cpu: there is no CPU {number}, or it must stay on: 0, or the only one for some thread");
        }
        Err(error) => println!("cpu: {error:?}"),
    }
}
