//! A race as a picture: the few events around a violation, one row each, time downwards, a lane for
//! each CPU. Where events were left out the row says how many. The two events that are in conflict
//! are boxed and numbered; arrows lead from a request to where it was served, and from where a thread
//! was to where it is taken.
//!
//! The strips at the left of a lane say what the CPU runs and what its MMU holds, in the colours of
//! [`svg`](crate::svg).

use crate::check::Violation;
use crate::conflict;
use crate::event::words;
use crate::lanes::Lanes;
use crate::read::Trace;
use crate::state::{Loaded, Runs, State};
use crate::svg::{STYLE, escaped};
use abi::trace::Kind;
use std::fmt::Write;
use std::path::PathBuf;

const ROW: f64 = 22.0;
const TOP: f64 = 92.0;
const LEFT: f64 = 92.0;
/// A lane: two strips and the words.
const LANE: f64 = 330.0;
const STRIP: f64 = 8.0;
const TEXT: f64 = 26.0;
/// Letters that fit beside the strips.
const LETTERS: usize = 50;
const LEGEND: f64 = 58.0;

const MORE_STYLE: &str = "
  .paper { fill: #ffffff } .lane { fill: #f6f8fa } .conflict { fill: #ffebe9; stroke: #c4312f; stroke-width: 1.5 }
  .badge { fill: #c4312f } .on { fill: #ffffff; font-weight: 700 } .bad { fill: #c4312f; font-weight: 600 } .strong { font-weight: 700 }
  .moved { stroke: #0969da; fill: none; stroke-dasharray: 4 3 } .movedhead { fill: #0969da }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117 } .lane { fill: #161b22 } .conflict { fill: #3b1413; stroke: #ff7b72 }
    .badge { fill: #ff7b72 } .on { fill: #0d1117 } .bad { fill: #ff7b72 } .moved { stroke: #58a6ff } .movedhead { fill: #58a6ff }
  }
";

/// A row: an event, or how many were left out.
enum Row {
    Event(usize),
    Gap(usize),
}

struct Picture<'a> {
    trace: &'a Trace,
    rows: Vec<Row>,
    cpus: Vec<u16>,
    out: String,
}

/// Draws it.
pub fn draw(trace: &Trace, violation: &Violation, title: &str) -> String {
    let shown = conflict::around(trace, violation);
    let mut rows = Vec::new();
    for (index, &place) in shown.iter().enumerate() {
        let before = if index == 0 { place } else { shown[index - 1] + 1 };
        if place > before {
            rows.push(Row::Gap(place - before));
        }
        rows.push(Row::Event(place));
    }
    let mut cpus: Vec<u16> = shown.iter().map(|&place| trace.events[place].cpu).collect();
    cpus.extend(conflict::cpus(trace, violation));
    cpus.sort_unstable();
    cpus.dedup();
    let mut picture = Picture { trace, rows, cpus, out: String::new() };
    picture.all(violation, title);
    picture.out
}

/// Names a folder: tests of the host leave pictures there.
pub const FOLDER: &str = "SPANDREL_PICTURES";

/// Draws it into the folder that the environment names, under the name of the test that runs in this
/// thread. Gives the file. Nothing if no folder is named or it cannot be written: a picture that is
/// missing changes no verdict.
pub fn leave(trace: &Trace, violation: &Violation) -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os(FOLDER)?);
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("test");
    let path = folder.join(format!("{}.svg", test.replace("::", "-")));
    std::fs::create_dir_all(&folder).ok()?;
    std::fs::write(&path, draw(trace, violation, test)).ok()?;
    Some(path)
}

impl Picture<'_> {
    fn all(&mut self, violation: &Violation, title: &str) {
        let bottom = TOP + ROW * self.rows.len() as f64;
        let (width, height) = (LEFT + LANE * self.cpus.len() as f64 + 12.0, bottom + LEGEND);
        let width = width.max(760.0);
        let _ = write!(
            self.out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{0}\">\n\
             <style>{STYLE}{MORE_STYLE}</style>\n<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n",
            escaped(title)
        );
        self.text(12.0, 20.0, "ink title", title);
        let invariant = violation.invariant;
        self.text(12.0, 40.0, "ink", &format!("{invariant:?}: {}", invariant.law()));
        self.text(12.0, 57.0, "bad", &format!("Broken: {}", violation.what));
        for cpu in self.cpus.clone() {
            let x = self.lane(cpu);
            let _ = writeln!(
                self.out,
                "<rect class=\"lane\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"4\"/>",
                TOP - 22.0,
                LANE - 10.0,
                bottom - TOP + 26.0
            );
            self.text(x + TEXT, TOP - 8.0, "ink title", &format!("CPU {cpu}"));
        }
        self.strips();
        self.conflicts(violation);
        self.events(violation.at);
        self.arrows();
        self.legend(bottom + 14.0);
        self.out.push_str("</svg>\n");
    }

    fn lane(&self, cpu: u16) -> f64 {
        let place = self.cpus.iter().position(|&other| other == cpu).unwrap_or(0);
        LEFT + LANE * place as f64
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let _ =
            writeln!(self.out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(text));
    }

    /// The top of the row of an event, if it is shown.
    fn row(&self, place: usize) -> Option<f64> {
        let row = self.rows.iter().position(|row| matches!(row, Row::Event(of) if *of == place))?;
        Some(TOP + ROW * row as f64)
    }

    /// What each CPU runs and holds in each row.
    fn strips(&mut self) {
        let mut state = State::new(self.trace);
        let mut applied = 0;
        for index in 0..self.rows.len() {
            let after = match self.rows[index] {
                Row::Event(place) => place + 1,
                Row::Gap(count) => applied + count,
            };
            for (place, event) in self.trace.events.iter().enumerate().take(after).skip(applied) {
                state.apply(place, event);
            }
            applied = after;
            let y = TOP + ROW * index as f64;
            for cpu in self.cpus.clone() {
                let x = self.lane(cpu);
                let now = state.cpu(cpu);
                for (which, class) in
                    [now.runs.and_then(runs), now.loaded.map(loaded)].into_iter().enumerate()
                {
                    let Some(class) = class else { continue };
                    let x = x + 4.0 + (STRIP + 2.0) * which as f64;
                    let _ = writeln!(
                        self.out,
                        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{STRIP}\" height=\"{ROW}\"/>"
                    );
                }
            }
        }
    }

    /// Boxes around the two events, numbered in the order of time.
    fn conflicts(&mut self, violation: &Violation) {
        let mut places: Vec<usize> =
            conflict::other(self.trace, violation).into_iter().chain([violation.at]).collect();
        places.sort_unstable();
        for (number, place) in (1..).zip(places) {
            let Some(y) = self.row(place) else { continue };
            let x = self.lane(self.trace.events[place].cpu);
            let (end, middle) = (x + LANE - 14.0, y + ROW / 2.0);
            let _ = writeln!(
                self.out,
                "<rect class=\"conflict\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"4\"/>\
                 <circle class=\"badge\" cx=\"{end:.1}\" cy=\"{middle:.1}\" r=\"9\"/>",
                x + TEXT - 3.0,
                y + 1.0,
                LANE - TEXT - 10.0,
                ROW - 2.0
            );
            self.text(end - 3.0, middle + 4.0, "on", &number.to_string());
        }
    }

    /// The words, and at the left the time from the event at which it was noticed.
    fn events(&mut self, at: usize) {
        let origin = self.trace.events[at].time;
        for index in 0..self.rows.len() {
            let y = TOP + ROW * index as f64 + 15.0;
            match self.rows[index] {
                Row::Gap(count) => {
                    let what = if count == 1 { "event" } else { "events" };
                    self.text(12.0, y, "dim", &format!("\u{22ee} {count} {what}"));
                }
                Row::Event(place) => {
                    let event = self.trace.events[place];
                    self.text(12.0, y, "dim", &distance(event.time, origin));
                    let x = self.lane(event.cpu) + TEXT + 2.0;
                    let class = match event.kind {
                        Kind::Barrier | Kind::CoreSync => "ink strong",
                        _ => "ink",
                    };
                    self.text(x, y, class, &shortened(&words(&event)));
                }
            }
        }
    }

    /// Causes: a request and where it was served; a thread's last CPU and where it was taken.
    fn arrows(&mut self) {
        for arrow in Lanes::new(self.trace).arrows {
            self.arrow("ipi", "head", (arrow.sender, arrow.sent), (arrow.target, arrow.served));
        }
        for (place, event) in self.trace.events.iter().enumerate().filter(|(_, e)| e.kind == Kind::Migrate) {
            let from = u16::try_from(event.b).unwrap_or(u16::MAX);
            let left = self.trace.events[..place].iter().rposition(|before| before.cpu == from);
            if let Some(left) = left.filter(|_| from != event.cpu) {
                self.arrow("moved", "movedhead", (from, left), (event.cpu, place));
            }
        }
    }

    /// An arrow between two events that are both shown.
    fn arrow(&mut self, class: &str, head: &str, from: (u16, usize), to: (u16, usize)) {
        let (Some(y1), Some(y2)) = (self.row(from.1), self.row(to.1)) else { return };
        if !self.cpus.contains(&from.0) || !self.cpus.contains(&to.0) || from.0 == to.0 {
            return;
        }
        let (y1, y2) = (y1 + ROW / 2.0, y2 + ROW / 2.0);
        let right = self.lane(from.0) < self.lane(to.0);
        // From the near side of one lane to the near side of the other.
        let (x1, x2) = match right {
            true => (self.lane(from.0) + LANE - 10.0, self.lane(to.0)),
            false => (self.lane(from.0), self.lane(to.0) + LANE - 10.0),
        };
        let (bend, back) = if right { (26.0, -7.0) } else { (-26.0, 7.0) };
        let _ = writeln!(
            self.out,
            "<path class=\"{class}\" stroke-width=\"1.5\" d=\"M{x1:.1} {y1:.1}C{:.1} {y1:.1} {:.1} {y2:.1} {x2:.1} {y2:.1}\"/>\
             <path class=\"{head}\" d=\"M{x2:.1} {y2:.1}l{back:.1} -4v8z\"/>",
            x1 + bend,
            x2 - bend
        );
    }

    fn legend(&mut self, top: f64) {
        const STRIPS: [(&str, &str); 7] = [
            ("user", "user mode"),
            ("task", "kernel task"),
            ("idle", "idle"),
            ("active", "mm active"),
            ("lazy", "lazy"),
            ("switching", "switching"),
            ("kernel", "kernel's tables"),
        ];
        let mut x = 12.0;
        for (class, name) in STRIPS {
            let _ = writeln!(
                self.out,
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{STRIP}\" height=\"12\"/>",
                top
            );
            self.text(x + 13.0, top + 10.0, "ink", name);
            x += 28.0 + 6.2 * name.len() as f64;
        }
        let y = top + 24.0;
        let _ = writeln!(
            self.out,
            "<path class=\"ipi\" stroke-width=\"1.5\" d=\"M12 {y:.1}h18\"/><path class=\"head\" d=\"M36 {y:.1}l-7 -4v8z\"/>\
             <path class=\"moved\" stroke-width=\"1.5\" d=\"M170 {y:.1}h18\"/><path class=\"movedhead\" d=\"M194 {y:.1}l-7 -4v8z\"/>"
        );
        self.text(42.0, y + 4.0, "ink", "request, to its service");
        self.text(200.0, y + 4.0, "ink", "thread, to the CPU that takes it");
        self.text(396.0, y + 4.0, "dim", "Left strip: what the CPU runs. Right: what its MMU holds.");
    }
}

/// The class of what a CPU runs; none for the kernel itself.
fn runs(runs: Runs) -> Option<&'static str> {
    match runs {
        Runs::Kernel => None,
        Runs::User(_) => Some("user"),
        Runs::Task(_) => Some("task"),
        Runs::Idle => Some("idle"),
        Runs::Off => Some("off"),
    }
}

fn loaded(loaded: Loaded) -> &'static str {
    match loaded {
        Loaded::Kernel => "kernel",
        Loaded::Active(_) => "active",
        Loaded::Lazy(_) => "lazy",
        Loaded::Switching { .. } => "switching",
    }
}

/// From the second time to the first, both in nanoseconds.
fn distance(time: u64, origin: u64) -> String {
    let nanos = time as f64 - origin as f64;
    let (number, unit) = if nanos.abs() < 1e7 { (nanos / 1e3, "\u{b5}s") } else { (nanos / 1e6, "ms") };
    format!("{number:+.1} {unit}").replace('-', "\u{2212}")
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LETTERS) {
        None => text.into(),
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Rules, UserReturn, check};
    use crate::testing::Script;

    #[test]
    fn the_picture_names_the_law_and_marks_two_events() {
        let mut script = Script::new();
        script.boot(0, 1, 7).boot(1, 1, 8);
        script.on(0, Kind::UserEnter, 0, 0).on(0, Kind::Request, 0b10, 1).on(1, Kind::UserEnter, 1, 0);
        script.on(1, Kind::Served, 1, 0).on(1, Kind::Current, 0, 0);
        let trace = script.trace();
        let violations = check(&trace, &Rules { user_return: UserReturn::DoesNotSerialize });
        let picture = draw(&trace, &violations[0], "a <case>");
        assert_eq!(picture, draw(&trace, &violations[0], "a <case>"));
        assert!(picture.contains("I4: barrier (d) between") && picture.contains("a &lt;case&gt;"));
        assert_eq!(picture.matches("class=\"conflict\"").count(), 2);
        assert_eq!(picture.matches("class=\"ipi\"").count(), 2, "an arrow, and the legend's");
        assert!(picture.contains(">CPU 0<") && picture.contains(">CPU 1<"));
    }
}
