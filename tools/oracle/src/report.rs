//! What the plugin writes at the end, a line per finding.
//!
//! | line | is |
//! | --- | --- |
//! | `NAME VALUE` | a count of the whole run, see [the crate](crate) |
//! | `span window=N cpu=N lengths=A,B,…` | a CPU's kernel instructions in a window, of each time it had it open itself |
//! | `step window=N cpu=N at=ADDRESS count=COUNT` | a kernel instruction, as often as it was executed |
//! | `event window=N cpu=N what=NAME at=ADDRESS count=COUNT` | an instruction that the contracts speak of, as often as it was executed |
//! | `line window=N cpu=N physical=ADDRESS bytes=SIZE at=ADDRESS loads=COUNT stores=COUNT writers=A,B,…` | a shared line and one of the CPUs that touched it |

use crate::count::{Counter, calls};
use crate::window::{Windows, shared};
use std::fmt::Write as _;
use stream::{Arch, WINDOWS};

/// All of it.
pub fn text(arch: Arch, counters: &[Counter], cpus: &[Windows]) -> String {
    let mut text = String::new();
    let boot = counters.iter().find_map(Counter::boot);
    let (total, shortest, median) = calls(counters.iter());
    let rows = [("boot", boot), ("calls", Some(total)), ("call_min", shortest), ("call_median", median)];
    for (name, value) in rows {
        if let Some(value) = value {
            let _ = writeln!(text, "{name} {value}");
        }
    }
    for window in 0..WINDOWS {
        add_window(&mut text, arch, cpus, window);
    }
    text
}

/// Writing to a `String` cannot fail, so the results are dropped.
fn add_window(text: &mut String, arch: Arch, cpus: &[Windows], window: usize) {
    for (cpu, windows) in cpus.iter().enumerate() {
        let seen = windows.seen(window);
        if seen.steps.is_empty() && seen.lengths.is_empty() {
            continue;
        }
        let lengths = list(&seen.lengths, |length| length.to_string());
        let _ = writeln!(text, "span window={window} cpu={cpu} lengths={lengths}");
        for (at, count) in &seen.steps {
            let _ = writeln!(text, "step window={window} cpu={cpu} at={at:#x} count={count}");
        }
        for ((event, at), count) in &seen.events {
            let what = event.name();
            let _ = writeln!(text, "event window={window} cpu={cpu} what={what} at={at:#x} count={count}");
        }
    }
    let bytes = 1u64 << arch.line_shift();
    for (number, touched) in shared(cpus, window) {
        for (cpu, line) in touched {
            let writers = list(&line.writers, |writer| format!("{writer:#x}"));
            let _ = writeln!(
                text,
                "line window={window} cpu={cpu} physical={:#x} bytes={bytes} at={:#x} loads={} stores={} \
                 writers={writers}",
                number * bytes,
                line.at & !(bytes - 1),
                line.loads,
                line.stores,
            );
        }
    }
}

fn list(numbers: &[u64], show: impl Fn(&u64) -> String) -> String {
    numbers.iter().map(show).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instruction::Event;
    use crate::window::Access;

    #[test]
    fn a_window_is_written_line_by_line() {
        let mut cpus = vec![Windows::default(); 2];
        cpus[0].begin(3);
        cpus[0].step(8, 0x10);
        cpus[0].event(8, Event::Reload, 0x10);
        cpus[0].end(3);
        for (cpu, windows) in cpus.iter_mut().enumerate() {
            windows.touch(8, Access::Store, 5, 0xc000_0000_0000_0284, 0x20 + cpu as u64);
        }
        cpus[0].touch(8, Access::Store, 6, 0, 0);
        let text = text(Arch::Ppc64le, &[], &cpus);
        let expected = "calls 0\n\
            span window=3 cpu=0 lengths=1\n\
            step window=3 cpu=0 at=0x10 count=1\n\
            event window=3 cpu=0 what=reload at=0x10 count=1\n\
            line window=3 cpu=0 physical=0x280 bytes=128 at=0xc000000000000280 loads=0 stores=1 writers=0x20\n\
            line window=3 cpu=1 physical=0x280 bytes=128 at=0xc000000000000280 loads=0 stores=1 writers=0x21\n";
        assert_eq!(text, expected);
    }
}
