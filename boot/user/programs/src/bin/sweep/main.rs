//! `sweep`: a process that makes every call, again and again, each time with the next allocation of the
//! kernel refused, until none is. Each time somebody is told, and when the process has ended nothing of it is
//! left charged.
//!
//! Needs a kernel built for testing, and one CPU: what others allocate meanwhile counts too.
#![no_std]
#![no_main]

mod script;

use user_rt::testing::{Operation, test};
use user_rt::{ARCHIVE, Args, Command, Ending, Error, MACHINE, Rights, SELF, println};

user_rt::entry!(main);

/// The status of a process to which an allocation was refused.
const REFUSED: u8 = 1;
/// Allocations that may be refused without a word: the tables, four at most, for each of two pages that a pager
/// has supplied. When it has answered, the page is touched again; where the short way of a fault finds no
/// memory, the long way tries again; and then there is some.
const UNTOLD: u64 = 8;
/// Fewer than the script makes on any machine.
const FEW: u64 = 200;

fn main(args: Args) -> u8 {
    if args.get(1) == Some(script::ROLE) {
        return script::main();
    }
    match sweep() {
        Ok(refused) => {
            println!("sweep: {refused} allocations were refused, one at a time, 0 wrong");
            u8::from(refused < FEW)
        }
        Err(Failure { nth, what }) => {
            println!("sweep: with allocation {nth} refused, {what}");
            1
        }
    }
}

struct Failure {
    nth: u64,
    what: &'static str,
}

/// What became of a run of the script.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Everything went as it should.
    Nothing,
    /// Somebody was told that there is no memory, or was ended for want of it.
    NoMemory,
}

/// How many allocations there are to refuse.
fn sweep() -> Result<u64, Failure> {
    let (mut before, mut untold) = (None, 0);
    for nth in 0.. {
        let failure = |what| Failure { nth, what };
        // The first round refuses nothing, and makes the heap and the table as large as they get.
        let (told, came) = round(nth).map_err(failure)?;
        let charged = charged().map_err(|_| failure("the budget cannot be read"))?;
        if charged != *before.get_or_insert(charged) {
            println!("sweep: {charged} bytes are charged");
            return Err(failure("not all came back"));
        }
        match (told, came) {
            (Told::NoMemory, false) => return Err(failure("there was no memory for what was not refused")),
            (Told::Nothing, true) if untold == UNTOLD => return Err(failure("nobody was told")),
            (Told::Nothing, true) => untold += 1,
            (Told::NoMemory, true) => {}
            (Told::Nothing, false) if nth == 0 => {}
            (Told::Nothing, false) => return Ok(nth - 1),
        }
    }
    Ok(0)
}

/// What is charged to this process when all that has ended is taken apart.
fn charged() -> Result<u64, Error> {
    MACHINE.quiesce()?;
    SELF.info().map(|info| info.memory)
}

/// Runs the script with the `nth` allocation refused. Says what came of it, and whether there was one.
fn round(nth: u64) -> Result<(Told, bool), &'static str> {
    let command = Command::new("sweep").arg(script::ROLE).grant_with_machine(Rights::all());
    let refuse = |nth| test(Operation::Refuse, [nth]).map_err(|_| "the kernel was not built for testing");
    refuse(nth)?;
    let report = command.start(&ARCHIVE).and_then(|process| {
        let report = process.wait();
        process.kill().and(report)
    });
    let came = refuse(0)? != 0;
    let told = match report.map(|report| (report.ending(), report.status())) {
        Ok((Some(Ending::Exited), 0)) => Told::Nothing,
        // What could not be told by a call ends the process.
        Ok((Some(Ending::Exited), REFUSED) | (Some(Ending::Fault), _)) | Err(Error::NoMemory) => {
            Told::NoMemory
        }
        _ => return Err("the script ended otherwise"),
    };
    Ok((told, came))
}
