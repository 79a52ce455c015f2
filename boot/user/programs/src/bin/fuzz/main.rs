//! `fuzz [CALLS [SEED]]`: processes that make at least CALLS system calls (20,000 if not said) by chance,
//! knowing what each call takes, on objects of every kind, several threads at once, and with each other.
//!
//! It goes in rounds. In each, some processes share an endpoint, a notification and memory; what they
//! are given is taken back in the end, those that got stuck are killed, and then all memory must have
//! come back, and what nobody was given must be as it was. A round begins with its seed on the console:
//! `fuzz 1 SEED` makes the same calls again, as far as the threads' race allows.
#![no_std]
#![no_main]

mod child;
mod random;

use child::THREADS;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use user_rt::abi::Call;
use user_rt::alloc::format;
use user_rt::alloc::vec::Vec;
use user_rt::ipc::{Deadline, Endpoint, Notification};
use user_rt::shared::{Memory, Shared};
use user_rt::{
    ARCHIVE, Args, Command, Ending, Error, Process, Protection, Rights, SELF, TIMER, initial, println,
};

user_rt::entry!(main);

/// Processes of a round, and the calls that each of them makes if it lives so long.
const CROWD: u64 = 3;
const CALLS: u64 = 4000;
/// Bytes each may have charged, and its priority: below the one that watches it.
const MEMORY: u64 = 2 << 20;
const PRIORITY: u64 = 50;
/// How long nobody may make a call before all are killed, and how long a round may take.
const STILL: u32 = 8;
const ROUND: u32 = 400;
const LOOK: Duration = Duration::from_millis(5);
/// What may stay charged to this process: its own heap and tables.
const SLACK: u64 = 512 * 1024;
/// What stands in memory that nobody was given.
const SECRET: u64 = 0x5ec2_e700_5ec2_e700;

fn main(args: Args) -> u8 {
    if args.get(1) == Some(child::ROLE) {
        return child::main(args);
    }
    let number = |index: usize, usual: u64| args.get(index).map_or(Ok(usual), |_| args.number(index));
    let (Ok(calls), Ok(seed)) = (number(1, 20_000), number(2, 1)) else {
        println!("usage: fuzz [CALLS [SEED]]");
        return 2;
    };
    match run(calls, seed) {
        Ok(()) => 0,
        Err(Failure(what, error)) => {
            println!("fuzz: {what}: {error:?}");
            1
        }
    }
}

/// What went wrong.
struct Failure(&'static str, Option<Error>);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self("the watcher's own call", Some(error))
    }
}

/// How the processes of a round ended.
#[derive(Default)]
struct Ends {
    exited: u64,
    faulted: u64,
    killed: u64,
}

fn run(calls: u64, seed: u64) -> Result<(), Failure> {
    let (hidden, untold) = (Memory::new(4096)?, Notification::new()?);
    let secret = hidden.attach(Protection::ReadWrite)?;
    secret.words()[0].store(SECRET, Ordering::Relaxed);
    let (mut made, mut ends) = (0, Ends::default());
    let mut before = None;
    for round in 0.. {
        println!(
            "fuzz: seed {} after {made} calls, {} bytes charged",
            seed.wrapping_add(round),
            SELF.info()?.memory
        );
        made += self::round(seed.wrapping_add(round), &mut ends)?;
        if secret.words()[0].load(Ordering::Relaxed) != SECRET {
            return Err(Failure("memory that nobody was given has changed", None));
        }
        if untold.wait(Deadline::Now) != Err(Error::TimedOut) {
            return Err(Failure("a notification that nobody was given was signalled", None));
        }
        // The first round leaves the heap and the table as large as they get.
        let before = *before.get_or_insert(SELF.info()?.memory.max(SLACK));
        all_came_back(before + SLACK)?;
        if made >= calls {
            break;
        }
    }
    let Ends { exited, faulted, killed } = ends;
    println!("fuzz: {made} calls, {exited} exited, {faulted} faulted, {killed} were killed, 0 wrong");
    Ok(())
}

/// Waits until no more than `limit` bytes are charged: what the processes have started themselves ends
/// by itself.
fn all_came_back(limit: u64) -> Result<(), Failure> {
    for _ in 0..1000 {
        if SELF.info()?.memory <= limit {
            return Ok(());
        }
        TIMER.sleep(LOOK)?;
    }
    println!("fuzz: {} bytes are charged, {limit} may be", SELF.info()?.memory);
    Err(Failure("memory did not come back", None))
}

/// One round; gives the number of calls that were made.
fn round(seed: u64, ends: &mut Ends) -> Result<u64, Failure> {
    let (endpoint, notification) = (Endpoint::new()?, Notification::new()?);
    let (memory, counters) = (Memory::new(16 * 4096)?, Memory::new(4096)?);
    let counts = counters.attach(Protection::ReadWrite)?;
    // What can be taken back from everybody at once.
    let lent = (
        endpoint.copy(Rights::all())?,
        notification.copy(Rights::all())?,
        memory.copy(Rights::READ | Rights::WRITE)?,
    );
    let mut crowd = Vec::new();
    for index in 0..CROWD {
        let command = Command::new("fuzz")
            .arg(child::ROLE)
            .arg(&format!("{CALLS}"))
            .arg(&format!("{}", seed.wrapping_mul(1_000_003).wrapping_add(index)))
            .arg(&format!("{index}"))
            .memory(MEMORY)
            .priority(PRIORITY)
            .grant(initial::CONSOLE, Rights::WRITE)
            .grant(initial::TIMER, Rights::all())
            .grant(initial::ARCHIVE, Rights::all())
            .grant(initial::MACHINE, Rights::READ)
            .grant_named("endpoint", lent.0.handle(), Rights::all())
            .grant_named("notification", lent.1.handle(), Rights::all())
            .grant_named("memory", lent.2.handle(), Rights::all())
            .grant_named("counters", counters.handle(), Rights::READ | Rights::WRITE);
        crowd.push(command.start(&ARCHIVE)?);
    }
    watch(&crowd, &counts)?;
    // What they have started themselves may have it still.
    lent.0.revoke()?;
    lent.1.revoke()?;
    lent.2.revoke()?;
    for process in &crowd {
        match process.wait()?.ending() {
            Some(Ending::Exited) => ends.exited += 1,
            Some(Ending::Fault) => ends.faulted += 1,
            Some(Ending::Killed) => ends.killed += 1,
            None => return Err(Failure("an end that does not exist", None)),
        }
    }
    Ok(sum(&counts))
}

/// Waits until all have ended; helps when they no longer make calls, or when it takes too long.
fn watch(crowd: &[Process], counts: &Shared) -> Result<(), Failure> {
    let (mut made, mut still) = (0, 0);
    for look in 0..2 * ROUND {
        let mut living = false;
        for process in crowd {
            living |= process.info()?.ended == 0;
        }
        if !living {
            return Ok(());
        }
        still = if sum(counts) == made { still + 1 } else { 0 };
        made = sum(counts);
        if still > STILL || look > ROUND {
            for process in crowd {
                process.kill()?;
            }
        }
        TIMER.sleep(LOOK)?;
    }
    for note in counts.words().chunks(NOTE).take((CROWD * THREADS) as usize) {
        let [made, call] = [0, 1].map(|index: usize| note[index].load(Ordering::Relaxed));
        println!("fuzz: {made} calls, in the last {:?}", Call::from_number(call));
    }
    Err(Failure("somebody lives on who was killed", None))
}

/// The calls that were made. Whoever counts may also have told the kernel to write there.
fn sum(counts: &Shared) -> u64 {
    counts.words().iter().step_by(NOTE).map(|count| count.load(Ordering::Relaxed).min(CALLS)).sum()
}

/// Words of what a thread notes: how many calls it has made, and which it is making.
pub const NOTE: usize = 8;

/// Where a thread notes it.
pub fn note(counts: &Shared, thread: u64) -> &[AtomicU64] {
    &counts.words()[NOTE * thread as usize..][..NOTE]
}
