//! The trace as Perfetto and `chrome://tracing` read it: the Trace Event Format, in JSON.
//!
//! Each CPU has three tracks: what it runs, what its MMU holds, and the commands (membarriers,
//! flushes) and requests it deals with. A request is a flow from where it was sent to where it was
//! served. Times are microseconds with nanoseconds behind the point.

use crate::event::{site, words};
use crate::lanes::{Lanes, Running};
use crate::read::Trace;
use crate::state::{Loaded, Runs};
use abi::trace::Kind;
use std::fmt::Write;

/// The tracks of a CPU, in the order in which they are shown.
const TRACKS: [&str; 3] = ["runs", "mm", "requests"];

/// How long something is shown that has no length, in nanoseconds.
const MOMENT: u64 = 200;

struct Out(String);

/// Nanoseconds as the format wants them.
fn micros(nanos: u64) -> String {
    format!("{}.{:03}", nanos / 1000, nanos % 1000)
}

impl Out {
    /// One object of the list. `fields` is JSON without the braces.
    fn object(&mut self, fields: &str) {
        self.0.push_str(if self.0.is_empty() { "[\n" } else { ",\n" });
        let _ = write!(self.0, "{{\"pid\":1,{fields}}}");
    }

    fn slice(&mut self, thread: usize, name: &str, begin: u64, end: u64) {
        let (ts, dur) = (micros(begin), micros(end.saturating_sub(begin)));
        self.object(&format!(r#""tid":{thread},"ph":"X","name":"{name}","ts":{ts},"dur":{dur}"#));
    }

    fn instant(&mut self, thread: usize, name: &str, at: u64) {
        let ts = micros(at);
        self.object(&format!(r#""tid":{thread},"ph":"i","s":"t","name":"{name}","ts":{ts}"#));
    }

    fn flow(&mut self, phase: &str, id: usize, thread: usize, at: u64) {
        let ts = micros(at);
        self.object(&format!(
            r#""tid":{thread},"ph":"{phase}","bp":"e","id":{id},"cat":"request","name":"request","ts":{ts}"#
        ));
    }
}

/// The number of a track.
fn track(cpu: u16, which: usize) -> usize {
    usize::from(cpu) * TRACKS.len() + which
}

/// Writes it.
pub fn write(trace: &Trace) -> String {
    let lanes = Lanes::new(trace);
    let time = |place: usize| trace.events[place].time;
    let mut out = Out(String::new());
    out.object(r#""ph":"M","name":"process_name","args":{"name":"Spandrel"}"#);
    for cpu in 0..trace.cpus() {
        for (which, name) in TRACKS.iter().enumerate() {
            let thread = track(cpu, which);
            out.object(&format!(
                r#""tid":{thread},"ph":"M","name":"thread_name","args":{{"name":"CPU {cpu} {name}"}}"#
            ));
            out.object(&format!(
                r#""tid":{thread},"ph":"M","name":"thread_sort_index","args":{{"sort_index":{thread}}}"#
            ));
        }
    }
    for span in &lanes.running {
        if let Some(name) = runs(&span.what) {
            out.slice(track(span.cpu, 0), &name, time(span.from), time(span.to));
        }
    }
    for span in &lanes.loaded {
        out.slice(track(span.cpu, 1), &loaded(span.what), time(span.from), time(span.to));
    }
    for span in &lanes.commands {
        out.slice(track(span.cpu, 2), &span.what, time(span.from), time(span.to));
    }
    for event in &trace.events {
        let (runs, mm, requests) = (track(event.cpu, 0), track(event.cpu, 1), track(event.cpu, 2));
        match event.kind {
            Kind::Barrier => {
                let (letter, name) = site(event.a);
                out.instant(runs, &format!("barrier ({letter}) {name}"), event.time);
            }
            Kind::CoreSync | Kind::Mark | Kind::Migrate => out.instant(runs, &words(event), event.time),
            Kind::Drop | Kind::FreeTables | Kind::FlushAll | Kind::Rollover => {
                out.instant(mm, &words(event), event.time);
            }
            Kind::Request | Kind::Served => {
                out.slice(requests, &words(event), event.time, event.time + MOMENT);
            }
            _ => {}
        }
    }
    for (id, arrow) in lanes.arrows.iter().enumerate() {
        out.flow("s", id, track(arrow.sender, 2), time(arrow.sent));
        out.flow("f", id, track(arrow.target, 2), time(arrow.served));
    }
    out.0.push_str("\n]\n");
    out.0
}

/// The name of a slice; none for the kernel itself, which is what lies between.
fn runs(running: &Running) -> Option<String> {
    match running.runs {
        Runs::Kernel => None,
        Runs::User(mm) => Some(format!("thread {} (mm {mm})", running.thread)),
        Runs::Task(0) => Some("task".into()),
        Runs::Task(mm) => Some(format!("task (uses mm {mm})")),
        Runs::Idle => Some("idle".into()),
        Runs::Off => Some("off".into()),
    }
}

fn loaded(loaded: Loaded) -> String {
    match loaded {
        Loaded::Kernel => "kernel".into(),
        Loaded::Active(mm) => format!("mm {mm}"),
        Loaded::Lazy(mm) => format!("mm {mm}, lazy"),
        Loaded::Switching { from: 0, to } => format!("switching kernel to mm {to}"),
        Loaded::Switching { from, to } => format!("switching mm {from} to mm {to}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Script;

    #[test]
    fn slices_instants_and_flows() {
        let mut script = Script::new();
        script.boot(0, 1, 7).on(0, Kind::UserEnter, 0, 0).on(0, Kind::Request, 2, 1).on(
            1,
            Kind::Served,
            1,
            0,
        );
        let text = write(&script.trace());
        assert!(text.starts_with("[\n{") && text.ends_with("}\n]\n"), "{text}");
        assert_eq!(text.matches('{').count(), text.matches('}').count());
        for line in [
            r#"{"pid":1,"tid":0,"ph":"X","name":"thread 1 (mm 1)","ts":5.000,"dur":1.000},"#,
            r#"{"pid":1,"tid":1,"ph":"X","name":"switching kernel to mm 1","ts":2.000,"dur":2.000},"#,
            r#"{"pid":1,"tid":0,"ph":"i","s":"t","name":"barrier (e) enter mm","ts":3.000},"#,
            r#"{"pid":1,"tid":2,"ph":"s","bp":"e","id":0,"cat":"request","name":"request","ts":7.000},"#,
            r#"{"pid":1,"tid":5,"ph":"f","bp":"e","id":0,"cat":"request","name":"request","ts":8.000}"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
