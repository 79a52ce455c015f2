//! The conformance suite on a machine: `conformance CASE` runs one case in this process;
//! `conformance each CASE…` those cases, or all, each in a process of its own, and counts them;
//! `conformance repeat N CASE…` the same N times. A line on the console for each.
//!
//! Needs the machine (for its CPUs) granted, and for most cases a kernel built for testing.
#![no_std]
#![no_main]

use conformance::{
    Announcement, Case, Order, Os, STATUS_FAILED, STATUS_INCONCLUSIVE, STATUS_SKIPPED, Word, table,
};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use user_programs::watch;
use user_programs::{function, reservation, sequence};
use user_rt::abi::ipc::{Tag, WORDS};
use user_rt::abi::{Call, initial};
use user_rt::testing::{Operation, test};
use user_rt::thread::{Builder, CURRENT, JoinHandle};
use user_rt::{
    ARCHIVE, Args, Command, CpuSet, Ending, Error, Handle, MACHINE, Power, Process, Rights, TIMER,
};
use user_rt::{call, compiler_barrier, println};

mod probe;

user_rt::entry!(main);

/// The longest a case may take by the machine's clock. Generous: the host may have other things to
/// do.
const LIMIT: Duration = Duration::from_secs(40);

fn main(args: Args) -> u8 {
    // The block that holds them begins with the first.
    let block = args.get(0).unwrap_or_default().as_ptr() as u64;
    probe::ARGUMENTS.store(block, Ordering::Relaxed);
    let name = match args.get(1) {
        None | Some("each") => return each(&args, 2, 1),
        Some("repeat") => match args.get(2).map(str::parse) {
            Some(Ok(times)) => return each(&args, 3, times),
            _ => return usage(),
        },
        Some(name) => name,
    };
    let role = match args.get(2).map(str::parse) {
        None => None,
        Some(Ok(role)) => Some(role),
        Some(Err(_)) => return usage(),
    };
    conformance::main(User, name, role)
}

fn usage() -> u8 {
    println!(
        "conformance: usage: conformance CASE [ROLE] | conformance each [CASE...] | conformance repeat N [CASE...]"
    );
    STATUS_FAILED
}

/// Runs the cases that are named in the arguments from number `first` on, or all, so many times.
fn each(args: &Args, first: usize, times: u32) -> u8 {
    let named = |id: &str| args.iter().skip(first).any(|name| name == id);
    let all = args.get(first).is_none();
    // Cases look at what the other CPUs hold, which nobody else is to change.
    if let Err(error) = CURRENT.set_affinity(CpuSet::only(0)) {
        println!("conformance: cannot stay on CPU 0: {error:?}");
        return STATUS_FAILED;
    }
    if let Err(error) = all_are_on() {
        println!("conformance: cannot wait for the other CPUs: {error:?}");
        return STATUS_FAILED;
    }
    let [mut passed, mut failed, mut skipped, mut inconclusive] = [0u32; 4];
    let chosen = table::<User>().iter().filter(|case| all || named(case.id));
    for case in chosen.flat_map(|case| (0..times).map(move |_| case)) {
        let status = one(case);
        // What is left of its processes goes, too.
        if let Err(error) = MACHINE.quiesce() {
            println!("conformance: quiesce: {error:?}");
        }
        match status {
            0 => passed += 1,
            STATUS_SKIPPED => skipped += 1,
            STATUS_INCONCLUSIVE => inconclusive += 1,
            _ => {
                failed += 1;
                tidy_up();
            }
        }
    }
    println!("conformance: {passed} passed, {failed} failed, {skipped} skipped, {inconclusive} inconclusive");
    u8::from(failed != 0 || passed == 0)
}

/// The longest a look at something that changes by itself may be apart from the next.
const LOOK: Duration = Duration::from_millis(5);

/// Waits until every CPU is on, as long as a case may take: they come when they come, and a case
/// that began before would find too few.
fn all_are_on() -> Result<(), Error> {
    let all = MACHINE.all_cpus()?;
    let last = TIMER.now()? + LIMIT;
    while MACHINE.cpus()? != all && TIMER.now()? < last {
        TIMER.sleep(LOOK)?;
    }
    Ok(())
}

/// Runs one case in a process of its own, and says what the case itself cannot: that it did not end
/// as cases end.
fn one(case: &Case<User>) -> u8 {
    let granted = [initial::CONSOLE, initial::TIMER, initial::ARCHIVE, initial::MACHINE];
    let command = Command::new("conformance").arg(case.id);
    let command = granted.into_iter().fold(command, |command, handle| command.grant(handle, Rights::all()));
    let ended = command.start(&ARCHIVE).and_then(|process| ends(&process));
    match ended {
        Ok(Some(report)) if report.ending() == Some(Ending::Exited) => return report.status(),
        Ok(Some(report)) => println!("conformance: {}: FAIL: ended by {:?}", case.id, report.ending()),
        Ok(None) => println!("conformance: {}: FAIL: it does not end", case.id),
        Err(error) => println!("conformance: {}: FAIL: {error:?}", case.id),
    }
    STATUS_FAILED
}

/// Waits for its end, but not for ever.
fn ends(process: &Process) -> Result<Option<user_rt::ExitReport>, Error> {
    let last = TIMER.now()? + LIMIT;
    while process.info()?.ended == 0 {
        if TIMER.now()? > last {
            process.kill()?;
            return Ok(None);
        }
        TIMER.sleep(LOOK)?;
    }
    process.wait().map(Some)
}

/// Undoes what a case that failed may have left: CPUs that stand somewhere, or are off.
fn tidy_up() {
    for cpu in CpuSet::ALL.iter() {
        // What is not so needs no undoing.
        let _ = test(Operation::Release, [cpu.into()]);
        let _ = MACHINE.set_power(cpu, Power::On);
    }
}

/// A program of this machine.
#[derive(Clone)]
struct User;

fn word(at: Word) -> *mut u64 {
    core::ptr::without_provenance_mut(at.address() as usize)
}

impl Os for User {
    type Thread = JoinHandle<()>;

    const SIMULATED: bool = false;

    fn returns_serialize(&self) -> bool {
        // `rfid` and `rfscv` are context synchronizing (Power ISA Book III §1.5.1).
        user_rt::MACHINE_NAME == "ppc64le"
    }

    fn ids_are_global(&self) -> bool {
        // PIDs; x86_64 has PCIDs, which each CPU numbers for itself.
        user_rt::MACHINE_NAME == "ppc64le"
    }

    unsafe fn call(&self, number: u64, args: [u64; 6]) -> (u64, u64) {
        // SAFETY: by the caller's promise, what memory the call changes lies in the arena, where
        // nothing of Rust's is.
        unsafe { call::raw(number, args) }
    }

    fn exchange(&self, number: u64, args: [u64; 3], words: &mut [u64; WORDS]) -> (u64, u64, u64) {
        let Some(call) = Call::from_number(number) else { return (Error::BadCall as u64, 0, 0) };
        // SAFETY: such a call touches no memory.
        unsafe { call::exchange(call, Handle(args[0] as u32), args[1], Tag(args[2]), words) }
    }

    fn load(&self, at: Word, order: Order) -> u64 {
        let order = match order {
            Order::Plain => Ordering::Relaxed,
            Order::Synchronizes => Ordering::Acquire,
        };
        compiler_barrier();
        // SAFETY: an aligned word of the arena, where nothing of Rust's is: it is mapped, or the
        // access ends the process.
        let value = unsafe { AtomicU64::from_ptr(word(at)) }.load(order);
        compiler_barrier();
        value
    }

    fn store(&self, at: Word, value: u64, order: Order) {
        let order = match order {
            Order::Plain => Ordering::Relaxed,
            Order::Synchronizes => Ordering::Release,
        };
        compiler_barrier();
        // SAFETY: as in `load`.
        unsafe { AtomicU64::from_ptr(word(at)) }.store(value, order);
        compiler_barrier();
    }

    fn pause(&self) {
        core::hint::spin_loop();
    }

    fn spawn(&self, cpus: u64, body: impl FnOnce(Self) + Send + 'static) -> Result<JoinHandle<()>, Error> {
        Builder::new().cpus(CpuSet(cpus)).spawn(|| body(User))
    }

    fn handle(thread: &JoinHandle<()>) -> Handle {
        thread.thread().handle()
    }

    fn join(&self, thread: JoinHandle<()>) -> Result<(), Error> {
        thread.join()
    }

    fn announce(&self, what: Announcement) {
        watch::announce(what);
    }

    fn code_returning(&self, number: u16) -> Option<u64> {
        Some(function::returning(number))
    }

    unsafe fn execute(&self, at: Word) -> u64 {
        let at = word(at).cast_const().cast::<()>();
        // SAFETY: the caller's: code of a function of this convention, which touches no memory.
        unsafe { core::mem::transmute::<*const (), extern "C" fn() -> u64>(at)() }
    }

    fn endless_sequence(&self, area: Word, turns: Word) {
        // SAFETY: the case has registered the area; both lie in the arena, where nothing of Rust's is.
        unsafe { sequence::endless(word(area).cast(), word(turns)) };
    }

    fn held_reservation(&self, at: Word, call: Option<u64>) -> Option<bool> {
        // SAFETY: a word of the arena, where nothing of Rust's is; a call without arguments writes
        // no memory.
        unsafe { reservation::held_across(call, word(at)) }
    }

    fn say(&self, line: fmt::Arguments<'_>) {
        println!("{line}");
    }
}
