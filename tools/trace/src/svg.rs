//! A part of a trace as a picture: CPUs as lanes, time from left to right.
//!
//! The interesting things of a kernel are nanoseconds long and milliseconds apart, so the axis is
//! not to scale: between two events lies at least [`LEAST`] and at most [`MOST`]. The picture
//! depends on the trace alone, byte by byte, and follows the reader's light or dark scheme.

use crate::event::site;
use crate::lanes::{Arrow, Lanes, Span};
use crate::read::Trace;
use crate::state::{Loaded, Runs};
use abi::trace::Kind;
use std::fmt::Write;
use std::ops::Range;

/// Pixels between two events.
const LEAST: f64 = 9.0;
const MOST: f64 = 60.0;
/// Nanoseconds that one pixel more stands for, between the two.
const NANOS_PER_PIXEL: f64 = 400.0;

/// Events that are drawn before and after a command.
const BEFORE: usize = 28;
const AFTER: usize = 12;

const LEFT: f64 = 74.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 58.0;
/// A lane: a bar for what runs, one for the mm, room for names.
const LANE: f64 = 96.0;
const RUNS: (f64, f64) = (16.0, 20.0);
const MM: (f64, f64) = (40.0, 26.0);
const LEGEND: f64 = 66.0;

/// Which part of the trace to draw: between the first two marks, if a program made some; else
/// around the first command that another CPU was asked something for; else the end.
pub fn window(trace: &Trace) -> Range<usize> {
    let marks: Vec<_> =
        trace.events.iter().enumerate().filter(|(_, e)| e.kind == Kind::Mark).map(|(i, _)| i).collect();
    let len = trace.events.len();
    let lanes = Lanes::new(trace);
    let asks = |command: &Span<String>| {
        let asked =
            |arrow: &Arrow| arrow.sender == command.cpu && (command.from..command.to).contains(&arrow.sent);
        lanes.arrows.iter().any(asked)
    };
    match (marks.as_slice(), lanes.commands.iter().find(|command| asks(command))) {
        ([first, second, ..], _) => *first..*second + 1,
        (_, Some(command)) => command.from.saturating_sub(BEFORE)..(command.to + AFTER).min(len),
        _ => len.saturating_sub(BEFORE + AFTER)..len,
    }
}

pub(crate) const STYLE: &str = "
  .ink { fill: #1f2328 } .dim { fill: #59636e } .line { stroke: #59636e }
  .user { fill: #a7c7e7 } .task { fill: #d9c2ec } .idle { fill: #e7e9ec } .off { fill: #c9ced4 }
  .active { fill: #8fd3a5 } .lazy { fill: #f5d78a } .switching { fill: #f0a27a } .kernel { fill: #e7e9ec }
  .barrier { stroke: #1f2328 } .sync { fill: #c4312f } .ipi { stroke: #8b2fc9; fill: none } .head { fill: #8b2fc9 }
  @media (prefers-color-scheme: dark) {
    .ink { fill: #e6edf3 } .dim { fill: #9198a1 } .line { stroke: #9198a1 }
    .user { fill: #2f5f94 } .task { fill: #5d4080 } .idle { fill: #2b3036 } .off { fill: #454c54 }
    .active { fill: #23713f } .lazy { fill: #846412 } .switching { fill: #9a4a20 } .kernel { fill: #2b3036 }
    .barrier { stroke: #e6edf3 } .sync { fill: #ff7b72 } .ipi { stroke: #d2a8ff } .head { fill: #d2a8ff }
  }
  text { font: 11px ui-sans-serif, system-ui, sans-serif } .title { font-size: 13px; font-weight: 600 }
";

struct Picture<'a> {
    trace: &'a Trace,
    window: Range<usize>,
    /// The place of each event of the window.
    x: Vec<f64>,
    /// The CPUs that have events there, in order.
    cpus: Vec<u16>,
    out: String,
}

/// Draws the events in `window`, which must not be empty and lie in the trace.
pub fn draw(trace: &Trace, window: Range<usize>, title: &str) -> String {
    let events = &trace.events[window.clone()];
    let mut x = vec![LEFT + LEAST];
    for pair in events.windows(2) {
        let nanos = pair[1].time.saturating_sub(pair[0].time) as f64;
        let last = *x.last().expect("it has a first");
        x.push(last + (LEAST + nanos / NANOS_PER_PIXEL).min(MOST));
    }
    let drawn = |cpu: &u16| events.iter().any(|event| event.cpu == *cpu);
    let cpus = (0..trace.cpus()).filter(drawn).collect();
    let mut picture = Picture { trace, window, x, cpus, out: String::new() };
    picture.all(title);
    picture.out
}

impl Picture<'_> {
    fn all(&mut self, title: &str) {
        let end = self.x.last().copied().unwrap_or(LEFT);
        let bottom = TOP + LANE * self.cpus.len() as f64;
        let (width, height) = ((end + LEAST + RIGHT).max(640.0), bottom + LEGEND);
        let _ = write!(
            self.out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{0}\">\n\
             <style>{STYLE}</style>\n",
            escaped(title)
        );
        self.text(12.0, 20.0, "ink title", title);
        self.axis();
        let lanes = Lanes::new(self.trace);
        for cpu in self.cpus.clone() {
            let Some(top) = self.lane(cpu) else { continue };
            self.text(12.0, top + 30.0, "ink title", &format!("CPU {cpu}"));
            self.text(12.0, top + 57.0, "dim", "mm");
        }
        for span in lanes.running {
            let (class, name) = match span.what.runs {
                Runs::Kernel => continue,
                Runs::User(_) => ("user", format!("thread {}", span.what.thread)),
                Runs::Task(0) => ("task", "task".into()),
                Runs::Task(mm) => ("task", format!("task, uses mm {mm}")),
                Runs::Idle => ("idle", "idle".into()),
                Runs::Off => ("off", "off".into()),
            };
            self.bar(&span, RUNS, class, &name);
        }
        for span in lanes.loaded {
            let (class, name) = match span.what {
                Loaded::Kernel => ("kernel", "kernel".into()),
                Loaded::Active(mm) => ("active", format!("{mm}")),
                Loaded::Lazy(mm) => ("lazy", format!("{mm} lazy")),
                Loaded::Switching { from, to } => ("switching", format!("{from} \u{2192} {to}")),
            };
            self.bar(&span, MM, class, &name);
        }
        for span in lanes.commands {
            self.command(&span);
        }
        self.ticks();
        for arrow in &lanes.arrows {
            let (Some(from), Some(to)) = (self.at(arrow.sent), self.at(arrow.served)) else { continue };
            let (Some(sender), Some(target)) = (self.lane(arrow.sender), self.lane(arrow.target)) else {
                continue;
            };
            let down = sender < target;
            let y1 = sender + if down { MM.0 + MM.1 } else { RUNS.0 };
            let y2 = target + if down { RUNS.0 } else { MM.0 + MM.1 };
            let tip = if down { -6.0 } else { 6.0 };
            let _ = writeln!(
                self.out,
                "<path class=\"ipi\" stroke-width=\"1.5\" d=\"M{from:.1} {y1:.1}L{to:.1} {y2:.1}\"/>\
                 <path class=\"head\" d=\"M{to:.1} {y2:.1}l-4 {tip:.1}h8z\"/>"
            );
        }
        self.legend(bottom);
        self.out.push_str("</svg>\n");
    }

    /// Where an event lies, if it is in the window.
    fn at(&self, place: usize) -> Option<f64> {
        self.x.get(place.checked_sub(self.window.start)?).copied()
    }

    /// The top of a CPU's lane, if it has one.
    fn lane(&self, cpu: u16) -> Option<f64> {
        let place = self.cpus.iter().position(|&other| other == cpu)?;
        Some(TOP + LANE * place as f64)
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let _ =
            writeln!(self.out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(text));
    }

    /// The ends of a span as far as it is in the window.
    fn ends<T>(&self, span: &Span<T>) -> Option<(f64, f64)> {
        if span.to < self.window.start || span.from >= self.window.end {
            return None;
        }
        let first = self.at(span.from).unwrap_or(LEFT);
        let last = self.at(span.to).unwrap_or(self.x.last().copied()? + LEAST);
        Some((first, last))
    }

    fn bar<T>(&mut self, span: &Span<T>, (y, height): (f64, f64), class: &str, name: &str) {
        let (Some((from, to)), Some(lane)) = (self.ends(span), self.lane(span.cpu)) else { return };
        let y = lane + y;
        let width = (to - from).max(1.0);
        let _ = writeln!(
            self.out,
            "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\"/>"
        );
        if fits(name, width) {
            self.text(from + 4.0, y + height / 2.0 + 4.0, "ink", name);
        }
    }

    /// A command is a line under its CPU's bars, with its name.
    fn command(&mut self, span: &Span<String>) {
        let (Some((from, to)), Some(lane)) = (self.ends(span), self.lane(span.cpu)) else { return };
        let y = lane + MM.0 + MM.1 + 6.0;
        let _ = writeln!(
            self.out,
            "<path class=\"line\" fill=\"none\" d=\"M{from:.1} {:.1}v4H{to:.1}v-4\"/>",
            y - 2.0
        );
        self.text(from, y + 14.0, "dim", &span.what);
    }

    fn ticks(&mut self) {
        for place in self.window.clone() {
            let event = self.trace.events[place];
            let (Some(x), Some(y)) = (self.at(place), self.lane(event.cpu)) else { continue };
            match event.kind {
                Kind::Barrier => {
                    let _ = writeln!(
                        self.out,
                        "<path class=\"barrier\" stroke-width=\"1.5\" d=\"M{x:.1} {:.1}V{:.1}\"/>",
                        y + RUNS.0 - 3.0,
                        y + RUNS.0 + RUNS.1
                    );
                    let (letter, _) = site(event.a);
                    self.text(x - 3.0, y + RUNS.0 - 6.0, "ink", letter);
                }
                Kind::CoreSync => {
                    let middle = y + RUNS.0 + RUNS.1 / 2.0;
                    let _ = writeln!(
                        self.out,
                        "<path class=\"sync\" d=\"M{x:.1} {:.1}l5 5l-5 5l-5 -5z\"/>",
                        middle - 5.0
                    );
                }
                _ => {}
            }
        }
    }

    /// A label wherever there is room for one since the last.
    fn axis(&mut self) {
        let origin = self.trace.events[self.window.start].time;
        let mut free = f64::MIN;
        for place in self.window.clone() {
            let Some(x) = self.at(place).filter(|&x| x >= free) else { continue };
            let label = format!("{:.1}", (self.trace.events[place].time - origin) as f64 / 1e3);
            self.text(x, 40.0, "dim", &label);
            let _ = writeln!(self.out, "<path class=\"line\" d=\"M{x:.1} 44v5\"/>");
            free = x + 64.0;
        }
        self.text(12.0, 40.0, "dim", "\u{b5}s");
    }

    fn legend(&mut self, top: f64) {
        const BARS: [(&str, &str); 7] = [
            ("user", "user mode"),
            ("task", "kernel task"),
            ("idle", "idle"),
            ("active", "mm active"),
            ("lazy", "lazy"),
            ("switching", "switching"),
            ("kernel", "kernel's tables"),
        ];
        let mut x = 12.0;
        for (class, name) in BARS {
            let _ = writeln!(
                self.out,
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"14\" height=\"10\" rx=\"2\"/>",
                top + 7.0
            );
            self.text(x + 19.0, top + 16.0, "ink", name);
            x += 34.0 + 6.2 * name.len() as f64;
        }
        let y = top + 34.0;
        let _ = writeln!(
            self.out,
            "<path class=\"barrier\" stroke-width=\"1.5\" d=\"M19 {:.1}v12\"/>\
             <path class=\"sync\" d=\"M262 {:.1}l5 5l-5 5l-5 -5z\"/>\
             <path class=\"ipi\" stroke-width=\"1.5\" d=\"M378 {y:.1}h16\"/>\
             <path class=\"head\" d=\"M400 {y:.1}l-6 -4v8z\"/>",
            y - 8.0,
            y - 5.0
        );
        let y = y + 4.0;
        self.text(31.0, y, "ink", "full barrier, by its letter in the proof");
        self.text(275.0, y, "ink", "core serialized");
        self.text(407.0, y, "ink", "request, sent to served");
        self.text(
            12.0,
            y + 18.0,
            "dim",
            "Time is not to scale: events are at least a step apart, long waits are cut.",
        );
    }
}

/// Whether a name has room in a bar of this width.
fn fits(name: &str, width: f64) -> bool {
    name.chars().count() as f64 * 6.2 + 6.0 < width
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Script;

    fn script() -> Script {
        let mut script = Script::new();
        script.boot(0, 1, 7).boot(1, 1, 8).on(0, Kind::Mark, 1, 0).on(0, Kind::UserEnter, 0, 0);
        script.on(0, Kind::Request, 0b10, 1).on(1, Kind::UserEnter, 1, 0).on(1, Kind::Served, 1, 0);
        script.on(1, Kind::CoreSync, 0, 0).on(0, Kind::Mark, 2, 0);
        script
    }

    #[test]
    fn the_marks_of_a_program_choose_the_window() {
        let trace = script().trace();
        let window = window(&trace);
        assert_eq!((trace.events[window.start].a, trace.events[window.end - 1].a), (1, 2));
    }

    #[test]
    fn the_picture_depends_on_the_trace_alone_and_names_no_other_window() {
        let trace = script().trace();
        let picture = draw(&trace, window(&trace), "a < b");
        assert_eq!(picture, draw(&trace, window(&trace), "a < b"));
        assert!(picture.contains("a &lt; b") && picture.ends_with("</svg>\n"));
        assert_eq!(picture.matches("class=\"ipi\"").count(), 2, "an arrow, and the legend's");
        assert_eq!(picture.matches("class=\"sync\"").count(), 2, "a mark, and the legend's");
        // The switch lies before the window.
        assert_eq!(picture.matches("class=\"switching\"").count(), 1, "the legend's");
    }
}
