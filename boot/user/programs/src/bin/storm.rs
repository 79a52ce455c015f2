//! `storm [CHILDREN [CALLS [SEED]]]`: children that make random system calls, half of them nearly
//! right. Whatever becomes of them, the machine goes on, nothing but they ends, and their memory
//! comes back. The same seed makes the same calls.
#![no_std]
#![no_main]

use core::hint::black_box;
use core::time::Duration;
use user_rt::abi::{Call, PAGE_BYTES, initial};
use user_rt::alloc::format;
use user_rt::alloc::vec::Vec;
use user_rt::{ARCHIVE, Args, Command, Ending, Error, ExitReport, Rights, SELF, TIMER, call, println};

user_rt::entry!(main);

/// Bytes a child may have charged.
const MEMORY: u64 = 2 << 20;
/// Children that live at once.
const AT_ONCE: u64 = 8;
/// The highest number of a call.
const LAST: u64 = Call::ALL[Call::ALL.len() - 1] as u64;
/// What may stay charged to the maker: its own heap.
const SLACK: u64 = 256 * 1024;

fn main(args: Args) -> u8 {
    if args.get(1) == Some("child") {
        return match (args.number(2), args.number(3)) {
            (Ok(calls), Ok(seed)) => child(calls, seed),
            _ => 2,
        };
    }
    let number = |index: usize, default: u64| match args.get(index) {
        None => Ok(default),
        Some(_) => args.number(index),
    };
    match (number(1, 40), number(2, 500), number(3, 1)) {
        (Ok(children), Ok(calls), Ok(seed)) => parent(children, calls, seed),
        _ => {
            println!("usage: storm [CHILDREN [CALLS [SEED]]]");
            2
        }
    }
}

fn parent(children: u64, calls: u64, seed: u64) -> u8 {
    let memory = || SELF.info().map(|info| info.memory);
    let Ok(before) = memory() else { return 1 };
    let (mut exited, mut faulted, mut killed, mut wrong) = (0, 0, 0, 0);
    let mut next = 0;
    while next < children {
        let mut crowd = Vec::new();
        for _ in 0..AT_ONCE.min(children - next) {
            let command = Command::new("storm")
                .arg("child")
                .arg(&format!("{calls}"))
                .arg(&format!("{}", seed.wrapping_mul(1_000_003).wrapping_add(next)))
                .grant(initial::CONSOLE, Rights::WRITE)
                .grant(initial::TIMER, Rights::all())
                .grant(initial::ARCHIVE, Rights::all())
                .grant(initial::MACHINE, Rights::READ)
                .memory(MEMORY);
            match command.start(&ARCHIVE) {
                Ok(process) => crowd.push(process),
                Err(error) => {
                    println!("storm: child {next} did not start: {error:?}");
                    wrong += 1;
                }
            }
            next += 1;
        }
        for process in crowd {
            match process.wait().map(|report: ExitReport| report.ending()) {
                Ok(Some(Ending::Exited)) => exited += 1,
                Ok(Some(Ending::Fault)) => faulted += 1,
                Ok(Some(Ending::Killed)) => killed += 1,
                other => {
                    println!("storm: waiting gave {other:?}");
                    wrong += 1;
                }
            }
        }
    }
    // What the children started themselves ends by itself; then all memory is back.
    let mut left = u64::MAX;
    for _ in 0..500 {
        left = memory().unwrap_or(u64::MAX);
        if left <= before + SLACK {
            break;
        }
        let _ = TIMER.sleep(Duration::from_millis(10));
    }
    if left > before + SLACK {
        println!("storm: {left} bytes are charged, {before} were before");
        wrong += 1;
    }
    println!("storm: {exited} exited, {faulted} faulted, {killed} were killed, {wrong} wrong");
    u8::from(wrong != 0)
}

/// xorshift64*: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A word that a call may well take for right, or for nearly right.
    fn word(&mut self, scratch: &[u64; 64]) -> u64 {
        let here = black_box(scratch).as_ptr() as u64;
        match self.below(12) {
            0 => 0,
            1 => self.below(8),
            2 => self.below(300),
            3 => here,
            4 => here + self.below(600),
            5 => PAGE_BYTES * self.below(64),
            6 => (1 << 32) + PAGE_BYTES * self.below(64),
            7 => u64::MAX - self.below(PAGE_BYTES * 2),
            8 => 1 << self.below(64),
            9 => 0u64.wrapping_sub(1 << self.below(64)),
            10 => 0x7fff_ffff_f000u64.wrapping_add(self.below(PAGE_BYTES * 2)).wrapping_sub(PAGE_BYTES),
            _ => self.next(),
        }
    }
}

fn child(calls: u64, seed: u64) -> u8 {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut scratch = [0u64; 64];
    for _ in 0..calls {
        for word in &mut scratch {
            if random.below(4) == 0 {
                *word = random.next();
            }
        }
        let number = match random.below(20) {
            0 => random.next(),
            _ => random.below(LAST + 3),
        };
        let mut arguments = [0; 6];
        for argument in &mut arguments {
            *argument = random.word(&scratch);
        }
        match Call::from_number(number) {
            // Too short a storm, or one that never ends: now and then only.
            Some(Call::Exit | Call::ThreadExit) if random.below(50) != 0 => continue,
            Some(Call::ProcessKill) if random.below(10) != 0 => continue,
            Some(Call::SleepUntil) => arguments[1] &= 0xfff_ffff,
            // Nobody else is there to meet, at its endpoints or as its handler or pager.
            Some(
                Call::EndpointCall
                | Call::EndpointSend
                | Call::EndpointReceive
                | Call::ReplyReceive
                | Call::NotificationWait,
            ) => arguments[1] &= 0xfff_ffff,
            Some(Call::ThreadExceptions | Call::MemoryCreatePaged) => continue,
            Some(Call::ProcessWait | Call::ThreadWait) => continue,
            // No longer out of its budget than it sleeps.
            Some(Call::ThreadBudget) => {
                arguments[1] &= 0xfff_ffff;
                arguments[2] &= 0xfff_ffff;
            }
            // Points and halts of test kernels are for those who let go again.
            Some(Call::Test) => continue,
            // The line discipline of the test is not to be stormed at.
            Some(Call::ConsoleWrite) => arguments[2] = 0,
            _ => {}
        }
        // SAFETY: none can be given: the calls may write to or unmap any memory of this process.
        // That is the point of it; nothing here relies on what they leave, and a process that
        // destroys itself is one of the ends its maker expects.
        let (status, _) = unsafe { call::raw(number, arguments) };
        if status != 0 && Error::from_number(status).is_none() {
            return 3;
        }
    }
    0
}
