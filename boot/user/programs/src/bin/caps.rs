//! Checks what handles allow: kinds, rights, closing, copying, a full table, and a child that
//! was given nothing.
#![no_std]
#![no_main]

use user_rt::abi::{CONSOLE_CHUNK, Call, DEFAULT_PRIORITY, KILL_STATUS, Kind, TABLE_SLOTS, initial};
use user_rt::alloc::vec::Vec;
use user_rt::call::raw;
use user_rt::{
    ARCHIVE, Archive, Args, CONSOLE, Command, Console, Ending, Error, ExitReport, Handle, MACHINE, Machine,
    Process, Rights, SELF, TIMER, Timer, println,
};

user_rt::entry!(main);

/// What the children end with when all is as it should be.
const AS_IT_SHOULD_BE: u8 = 42;

fn main(args: Args) -> u8 {
    match args.get(1) {
        None => {}
        Some("granted-nothing") => return granted_nothing(),
        Some("granted-less") => return granted_less(),
        Some(other) => {
            println!("caps: unknown argument `{other}`");
            return 2;
        }
    }
    let failed =
        wrong_object() + rights() + closing() + table_full() + many_revoked() + spawning() + ending();
    println!("caps: {}", if failed == 0 { "ok" } else { "failed" });
    failed.min(1)
}

/// Checks that a call gives what it should.
fn check<T: PartialEq + core::fmt::Debug>(what: &str, is: T, wanted: T) -> u8 {
    if is == wanted {
        return 0;
    }
    println!("caps: {what}: {is:?}, not {wanted:?}");
    1
}

/// The error, or `None` for success.
fn error<T>(result: Result<T, Error>) -> Option<Error> {
    result.err()
}

fn wrong_object() -> u8 {
    let console = Timer::from_handle(initial::CONSOLE);
    let timer = Console::from_handle(initial::TIMER);
    let result = check("reading the console as a clock", error(console.now()), Some(Error::WrongObject))
        + check("reading the clock as a console", error(timer.read(&mut [0; 4])), Some(Error::WrongObject))
        + check("spawning from oneself", error(hello().start(&from(initial::PROCESS))), Some(Error::NoRight));
    // They are not this function's to close.
    core::mem::forget((console, timer));
    result
}

/// An archive by a handle that stays open, or never was.
fn from(handle: Handle) -> core::mem::ManuallyDrop<Archive> {
    core::mem::ManuallyDrop::new(Archive::from_handle(handle))
}

fn hello() -> Command<'static> {
    Command::new("hello").grant_usual()
}

fn rights() -> u8 {
    let Ok(looking) = MACHINE.copy(Rights::READ) else { return 1 };
    let mut failed = check("turning the machine off", looking.power_off(0), Error::NoRight)
        + check("looking at the CPUs", looking.cpus().is_ok_and(|cpus| cpus.has(0)), true);
    let Ok(reading) = CONSOLE.copy(Rights::READ) else { return 1 };
    failed += check("writing without WRITE", error(reading.write(b"x")), Some(Error::NoRight));
    match reading.copy(Rights::READ | Rights::WRITE) {
        Ok(again) => failed += check("writing by a copy", error(again.write(b"x")), Some(Error::NoRight)),
        Err(error) => failed += check("copying a copy", Some(error), None),
    }
    match TIMER.copy(Rights::empty()) {
        Ok(none) => {
            failed += check("reading without READ", error(none.now()), Some(Error::NoRight))
                + check(
                    "waiting without WAIT",
                    error(none.sleep_until(Default::default())),
                    Some(Error::NoRight),
                );
        }
        Err(error) => failed += check("copying without rights", Some(error), None),
    }
    // SAFETY: a copy touches no memory.
    let (status, _) = unsafe { raw(Call::HandleCopy as u64, [2, 1 << 31, 0, 0, 0, 0]) };
    failed
        + check("rights that do not exist", status, Error::BadArgument as u64)
        + check("waiting for oneself", SELF.wait().is_err(), true)
}

fn closing() -> u8 {
    let Ok(copy) = CONSOLE.copy(Rights::WRITE) else { return 1 };
    let handle = copy.handle();
    drop(copy);
    let closed = core::mem::ManuallyDrop::new(Console::from_handle(handle));
    // SAFETY: closing touches no memory.
    let close = |slot: u64| unsafe { raw(Call::HandleClose as u64, [slot, 0, 0, 0, 0, 0]).0 };
    let bad = Error::BadHandle as u64;
    check("writing by a closed handle", error(closed.write(b"x")), Some(Error::BadHandle))
        + check("closing twice", close(handle.0.into()), bad)
        + check("closing handle 0", close(0), bad)
        + check("closing past the table", close(TABLE_SLOTS.into()), bad)
        + check("closing beyond 32 bits", close(1 << 32 | 2), bad)
        + check("closing the last number", close(u64::MAX), bad)
}

fn table_full() -> u8 {
    let fill = || {
        let mut copies = Vec::new();
        loop {
            match CONSOLE.copy(Rights::WRITE) {
                Ok(copy) => copies.push(copy),
                Err(error) => return (copies.len(), error),
            }
            if copies.len() > TABLE_SLOTS as usize {
                return (copies.len(), Error::NotSupported);
            }
        }
    };
    let first = fill();
    check("filling the table", first.1, Error::TableFull)
        + check("filling it again", fill(), first)
        + check("having had room", first.0 > 200, true)
}

/// A hundred thousand copies, closed by one call, and again what is left of it.
fn many_revoked() -> u8 {
    const MANY: usize = 100_000;
    let Ok(root) = CONSOLE.copy(Rights::WRITE) else { return 1 };
    let copies: Result<Vec<_>, Error> = (0..MANY).map(|_| root.copy(Rights::WRITE)).collect();
    let Ok(copies) = copies else { return check("making many", copies.err(), None) };
    let used = || SELF.info().map_or(0, |info| info.memory);
    let before = used();
    let result = check("revoking them", root.revoke(), Ok(()))
        + check("that takes memory", used() > before, false)
        + check("the first", error(copies[0].write(b"x")), Some(Error::BadHandle))
        + check("the last", error(copies[MANY - 1].write(b"x")), Some(Error::BadHandle))
        + check("the root", root.handle_info().map(|info| info.kind), Ok(Kind::Console as u64));
    // They are closed; their numbers may be somebody else's by now.
    copies.into_iter().for_each(core::mem::forget);
    result
}

fn spawning() -> u8 {
    let own = SELF.info().map_or(DEFAULT_PRIORITY, |info| info.priority);
    let start = |command: Command<'_>| error(command.start(&ARCHIVE));
    let long = "x".repeat(user_rt::abi::MAX_NAME + 1);
    let mut buffer = [0; CONSOLE_CHUNK];
    let run = |command: Command<'_>| command.start(&ARCHIVE).and_then(|process| process.wait());
    let as_it_should_be = Ok(ExitReport::new(Ending::Exited, AS_IT_SHOULD_BE));
    check("a name that is not there", start(Command::new("no-such-program")), Some(Error::NotFound))
        + check("a name that is too long", start(Command::new(&long)), Some(Error::BadArgument))
        + check("a higher priority", start(hello().priority(own + 1)), Some(Error::BadArgument))
        + check(
            "rights that do not exist",
            {
                let odd = Rights::from_bits_retain(1 << 30);
                start(Command::new("hello").grant(initial::CONSOLE, odd))
            },
            Some(Error::BadArgument),
        )
        + check(
            "a grant of nothing there",
            start(Command::new("hello").grant(Handle(200), Rights::all())),
            Some(Error::BadHandle),
        )
        + check(
            "too many grants",
            start((0..20).fold(hello(), |c, _| c.grant(initial::CONSOLE, Rights::all()))),
            Some(Error::BadArgument),
        )
        + check("no memory to load", start(hello().memory(4096)), Some(Error::NoMemory))
        + check("past the last entry", error(ARCHIVE.name(usize::MAX, &mut buffer)), Some(Error::NotFound))
        + check("a child granted nothing", run(Command::new("caps").arg("granted-nothing")), as_it_should_be)
        + check(
            "a child granted less",
            run(Command::new("caps").arg("granted-less").grant(initial::CONSOLE, Rights::READ)),
            as_it_should_be,
        )
}

fn ending() -> u8 {
    let spin = Command::new("spin").priority(0).start(&ARCHIVE);
    let Ok(spin) = spin else { return check("starting spin", spin.err(), None) };
    let killed = Ok(ExitReport::new(Ending::Killed, KILL_STATUS));
    let only_waiting = spin.copy(Rights::WAIT);
    check("killing without MANAGE", only_waiting.and_then(|process| process.kill()), Err(Error::NoRight))
        + check("it lives", spin.info().map(|info| info.ended), Ok(0))
        + check("killing", spin.kill(), Ok(()))
        + check("waiting for the killed", spin.wait(), killed)
        + check("waiting again", spin.wait(), killed)
        + check("killing again", spin.kill(), Ok(()))
        + check("it is dead", spin.info().map(|info| info.ended), Ok(1))
        + given_back(&spin)
}

/// The memory of a process that has ended goes back, though a handle on it is still held. That
/// takes its time, in the background.
fn given_back(process: &Process) -> u8 {
    /// What the handle keeps: the control block, and the root table, of 64 KiB on one machine.
    const KEPT: u64 = 80 * 1024;
    for _ in 0..100 {
        if process.info().is_ok_and(|info| info.memory <= KEPT) {
            return 0;
        }
        let _ = TIMER.sleep(core::time::Duration::from_millis(10));
    }
    check("memory of the dead", process.info().map(|info| info.memory), Ok(0))
}

/// As a child with empty slots: nothing works but computing and ending.
fn granted_nothing() -> u8 {
    let bad = Some(Error::BadHandle);
    let machine = core::mem::ManuallyDrop::new(Machine::from_handle(initial::MACHINE));
    let other = core::mem::ManuallyDrop::new(Process::from_handle(Handle(7)));
    let as_it_should_be = error(CONSOLE.write(b"a child that was granted nothing prints\n")) == bad
        && error(TIMER.now()) == bad
        && error(hello().start(&ARCHIVE)) == bad
        && machine.power_off(0) == Error::BadHandle
        && error(other.kill()) == bad;
    if as_it_should_be { AS_IT_SHOULD_BE } else { 1 }
}

/// As a child that may only read the console.
fn granted_less() -> u8 {
    let refused = CONSOLE.write(b"a child without WRITE prints\n") == Err(Error::NoRight)
        && error(CONSOLE.copy(Rights::all()).and_then(|copy| copy.write(b"x"))) == Some(Error::NoRight);
    if refused { AS_IT_SHOULD_BE } else { 1 }
}
