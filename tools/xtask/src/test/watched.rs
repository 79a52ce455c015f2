//! Cases in which the plugin watches: what a switch costs in shared memory, reloads, barriers and core
//! serializations, seen in the instructions rather than argued.
//!
//! Four CPUs each run a thread of one process, to which nothing happens but what the program
//! `switches` says. The same program has a window in which threads move between CPUs, which cannot be
//! had without sharing: that one must be reported, or a plugin gone blind would pass everything.

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
    let quiet = |what: &str, window_is_lazy: Lazy| {
        case(what).watched(move |observed, names| {
            let window = open_on_all(observed.window(0))?;
            nothing_shared(&window, names)?;
            match window_is_lazy {
                Lazy::RoundTrips => lazy_round_trips(&window, names),
                Lazy::Other => Ok(()),
            }
        })
    };
    vec![
        quiet("idle", Lazy::RoundTrips),
        quiet("budget", Lazy::Other),
        quiet("task", Lazy::Other).kernel(Variant::default().for_testing()),
        case("move").watched(|observed, _| {
            let window = open_on_all(observed.window(0))?;
            let many = |stores: usize| stores > 1;
            let written_by_many = window
                .lines
                .values()
                .any(|line| many(line.touched.iter().filter(|cpu| cpu.stores > 0).count()));
            if written_by_many { Ok(()) } else { Err("no line was seen written by two CPUs".into()) }
        }),
    ]
}

/// Whether each of the [`TIMES`] is a lazy round trip of the thread's own.
#[derive(Clone, Copy)]
enum Lazy {
    RoundTrips,
    Other,
}

fn open_on_all(window: Window) -> Result<Window, String> {
    match window.openings() {
        openings if openings == u64::from(CPUS) => Ok(window),
        openings => Err(format!("the window was opened {openings} times, not once by each of {CPUS} CPUs")),
    }
}

/// No cache line that the kernel stored to was touched by another CPU.
fn nothing_shared(window: &Window, names: &Names) -> Result<(), String> {
    match window.lines.len() {
        0 => Ok(()),
        count => Err(format!("{count} shared lines were written\n{}", window.describe_lines(names))),
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
