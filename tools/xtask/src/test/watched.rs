//! Cases in which the plugin watches: what a switch costs in shared memory, reloads, barriers and core
//! serializations, seen in the instructions rather than argued.
//!
//! Four CPUs each run a thread of one process, to which nothing happens but what the program
//! `switches` says. Sharing is a line that two CPUs store to. (A line that one CPU stores to and others
//! read, such as what it says of itself, costs them and not it; the plugin reports those too.) Where
//! the thread goes by a call that names a capability, the process's table of them is shared, which is
//! the call's doing: so it is the cases without such a call that must share nothing.
//!
//! The same program can move threads between CPUs, which cannot be had without sharing: that must be
//! reported, or a plugin gone blind would pass everything.

use super::cases::Case;
use crate::arch::Arch;
use crate::observed::Window;
use crate::symbols::Names;
use crate::variant::Variant;

/// How often each CPU switches.
const TIMES: u64 = 50;
const CPUS: u32 = 4;
/// Seconds: the plugin slows a guest down.
const LIMIT: u64 = 120;

/// The rows.
pub fn all(arch: Arch) -> Vec<Case> {
    let case = |what: &str| {
        Case::new(arch, &format!("watched/switches-{what}"))
            .program(&["switches", what, &TIMES.to_string()])
            .machine(|machine| machine.cpus = CPUS)
            .limit(LIMIT)
    };
    vec![
        case("idle").watched(|observed, names| lazy_round_trips(&open_on_all(observed.window(0))?, names)),
        case("budget").watched(|observed, names| nothing_shared(open_on_all(observed.window(0))?, names)),
        case("task")
            .kernel(Variant::default().for_testing())
            .watched(|observed, names| nothing_shared(open_on_all(observed.window(0))?, names)),
        case("move").watched(|observed, _| {
            match open_on_all(observed.window(0))?.stored_to_by_many().lines.len() {
                0 => Err("no line was seen stored to by two CPUs".into()),
                _ => Ok(()),
            }
        }),
    ]
}

fn open_on_all(window: Window) -> Result<Window, String> {
    match window.openings() {
        openings if openings == u64::from(CPUS) => Ok(window),
        openings => Err(format!("the window was opened {openings} times, not once by each of {CPUS} CPUs")),
    }
}

/// No cache line was stored to by two CPUs, while the CPUs did switch: each leaves its mm for something
/// else and comes back by a full barrier each way, and the least of them ten times.
fn nothing_shared(window: Window, names: &Names) -> Result<(), String> {
    let barriers = window.full_barriers(names);
    if barriers < u64::from(CPUS) * 20 {
        return Err(format!("only {barriers} full barriers were executed: did the CPUs switch?"));
    }
    let shared = window.stored_to_by_many();
    match shared.lines.len() {
        0 => Ok(()),
        count => Err(format!("{count} lines were stored to by two CPUs\n{}", shared.describe_lines(names))),
    }
}

/// No reload, two barriers at most, no core serialization for a process that registered for none.
fn lazy_round_trips(window: &Window, names: &Names) -> Result<(), String> {
    let trips = u64::from(CPUS) * TIMES;
    let (reloads, barriers, core_syncs) =
        (window.reloads(), window.full_barriers(names), window.core_syncs(names));
    if reloads == 0 && barriers <= 2 * trips && core_syncs == 0 {
        return Ok(());
    }
    Err(format!(
        "{trips} round trips: {reloads} reloads, {barriers} full barriers, {core_syncs} core serializations\n{}{}",
        window.describe_events("reload", names),
        window.describe_events("barrier", names)
    ))
}
