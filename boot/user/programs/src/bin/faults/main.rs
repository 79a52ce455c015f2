//! `faults [CASE…]`: does each thing a program must not do, and checks what becomes of it.
//!
//! For every case it starts itself as a child, which either must be killed for it, or makes calls
//! that must be refused, and lives. The parent goes on in every case: that is the test.
#![no_std]
#![no_main]

mod deadly;
mod refused;

use core::sync::atomic::{AtomicU64, Ordering};
use user_rt::abi::FAULT_STATUS;
use user_rt::alloc::format;
use user_rt::{ARCHIVE, Args, Command, Ending, Error, ExitReport, println};

user_rt::entry!(main);

/// The first argument that tells a child which case it is.
const CHILD: &str = "--child";
/// What a child ends with that was not killed though it should have been.
const SURVIVED: u8 = 99;

/// What must become of a case.
#[derive(Clone, Copy)]
enum Case {
    /// The function must not return: a fault kills the process in it.
    Deadly(fn()),
    /// The function makes calls that must be refused, and gives how many were not.
    Refused(fn() -> u8),
}

/// All cases, by name.
fn cases() -> impl Iterator<Item = (&'static str, Case)> {
    let deadly = deadly::CASES.iter().chain(user_programs::hostile::CASES);
    let deadly = deadly.map(|&(name, run)| (name, Case::Deadly(run)));
    deadly.chain(refused::CASES.iter().map(|&(name, run)| (name, Case::Refused(run))))
}

/// Where the kernel put the arguments.
static ARGS: AtomicU64 = AtomicU64::new(0);

fn main(args: Args) -> u8 {
    ARGS.store(args.get(0).unwrap_or_default().as_ptr() as u64, Ordering::Relaxed);
    if args.get(1) == Some(CHILD) {
        return child(args.get(2).unwrap_or_default());
    }
    if let Some(unknown) = args.iter().skip(1).find(|&wanted| cases().all(|(name, _)| name != wanted)) {
        println!("faults: there is no case `{unknown}`; the cases are:");
        cases().for_each(|(name, _)| println!("  {name}"));
        return 2;
    }
    let (mut count, mut failed) = (0, 0);
    for (name, case) in cases() {
        if args.get(1).is_some() && !args.iter().skip(1).any(|wanted| wanted == name) {
            continue;
        }
        count += 1;
        let outcome = run(name);
        let right = match case {
            Case::Deadly(_) => Ok(ExitReport::new(Ending::Fault, FAULT_STATUS)),
            Case::Refused(_) => Ok(ExitReport::new(Ending::Exited, 0)),
        };
        if outcome == right {
            let how = if matches!(case, Case::Deadly(_)) { "killed" } else { "refused" };
            println!("ok {name}: {how}");
        } else {
            failed += 1;
            let how = match outcome {
                Err(error) => format!("did not start: {error:?}"),
                Ok(report) => format!("{:?} with status {}", report.ending(), report.status()),
            };
            println!("FAILED {name}: {how}");
        }
    }
    println!("faults: {count} cases, {failed} failed");
    u8::from(failed != 0)
}

fn run(name: &str) -> Result<ExitReport, Error> {
    Command::new("faults").arg(CHILD).arg(name).grant_usual().start(&ARCHIVE)?.wait()
}

fn child(name: &str) -> u8 {
    match cases().find(|&(case, _)| case == name) {
        Some((_, Case::Deadly(run))) => {
            run();
            SURVIVED
        }
        Some((_, Case::Refused(run))) => run(),
        None => 2,
    }
}
