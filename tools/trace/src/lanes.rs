//! From events to what each CPU did when: what the pictures show.
//!
//! Everything is named by places in the trace, so that a picture may choose its own scale.

use crate::event::{command, cpus};
use crate::read::Trace;
use crate::state::{Loaded, Runs, State};
use abi::trace::{Kind, TABLES};
use std::collections::{BTreeMap, HashMap};

/// Something that lasts. `from` and `to` are places in the trace; `to` is where it ended, or the
/// last event if it did not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Span<T> {
    pub cpu: u16,
    pub from: usize,
    pub to: usize,
    pub what: T,
}

/// What a CPU executes, with the thread where it is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Running {
    pub runs: Runs,
    /// 0 if it is none.
    pub thread: u64,
}

/// A request from one CPU to another: where it was sent and where it was served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrow {
    pub sender: u16,
    pub sent: usize,
    pub target: u16,
    pub served: usize,
}

/// All of it. Each list is in the order in which things began on their CPU.
#[derive(Clone, Debug, Default)]
pub struct Lanes {
    pub running: Vec<Span<Running>>,
    pub loaded: Vec<Span<Loaded>>,
    /// membarriers and flushes.
    pub commands: Vec<Span<String>>,
    pub arrows: Vec<Arrow>,
}

/// The span of each CPU that has not ended.
struct Open<T>(Vec<Option<(usize, T)>>);

impl<T: Clone + PartialEq> Open<T> {
    /// From `index` on it is `what`; what it was before goes to `done`.
    fn becomes(&mut self, cpu: u16, index: usize, what: Option<T>, done: &mut Vec<Span<T>>) {
        let open = &mut self.0[usize::from(cpu)];
        if open.as_ref().map(|(_, was)| was) == what.as_ref() {
            return;
        }
        if let Some((from, was)) = open.take() {
            done.push(Span { cpu, from, to: index, what: was });
        }
        *open = what.map(|what| (index, what));
    }
}

impl Lanes {
    pub fn new(trace: &Trace) -> Self {
        let mut lanes = Self::default();
        let mut state = State::new(trace);
        let count = usize::from(trace.cpus());
        let mut running = Open(vec![None; count]);
        let mut loaded = Open(vec![None; count]);
        let mut threads = vec![0; count];
        let mut begun: HashMap<(u16, &str, u64), (usize, String)> = HashMap::new();
        let mut sent: BTreeMap<u16, Vec<(u16, usize)>> = BTreeMap::new();
        for (index, event) in trace.events.iter().enumerate() {
            let (cpu, a, b) = (event.cpu, event.a, event.b);
            match event.kind {
                Kind::UserReturn => threads[usize::from(cpu)] = b,
                Kind::MembarrierEnter => {
                    begun
                        .insert((cpu, "membarrier", b), (index, format!("membarrier {} mm {b}", command(a))));
                }
                Kind::Generation => {
                    begun.insert(
                        (cpu, "flush", a),
                        (index, format!("flush mm {a} generation {}", b & !TABLES)),
                    );
                }
                Kind::MembarrierExit | Kind::Flushed => {
                    let key =
                        if event.kind == Kind::Flushed { (cpu, "flush", a) } else { (cpu, "membarrier", b) };
                    if let Some((from, what)) = begun.remove(&key) {
                        lanes.commands.push(Span { cpu, from, to: index, what });
                    }
                }
                Kind::Request => {
                    for target in cpus(a).filter(|&target| target != cpu) {
                        sent.entry(target).or_default().push((cpu, index));
                    }
                }
                Kind::Served => {
                    for (sender, sent) in sent.remove(&cpu).unwrap_or_default() {
                        lanes.arrows.push(Arrow { sender, sent, target: cpu, served: index });
                    }
                }
                _ => {}
            }
            state.apply(index, event);
            let now = state.cpu(cpu);
            let thread = if matches!(now.runs, Some(Runs::User(_))) { threads[usize::from(cpu)] } else { 0 };
            let runs = now.runs.map(|runs| Running { runs, thread });
            running.becomes(cpu, index, runs, &mut lanes.running);
            loaded.becomes(cpu, index, now.loaded, &mut lanes.loaded);
        }
        let last = trace.events.len().saturating_sub(1);
        for cpu in 0..trace.cpus() {
            running.becomes(cpu, last, None, &mut lanes.running);
            loaded.becomes(cpu, last, None, &mut lanes.loaded);
        }
        lanes.running.sort_by_key(|span| (span.cpu, span.from));
        lanes.loaded.sort_by_key(|span| (span.cpu, span.from));
        lanes.commands.sort_by_key(|span| (span.cpu, span.from));
        lanes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Script;

    #[test]
    fn spans_follow_the_events() {
        let mut script = Script::new();
        script.boot(0, 1, 7).on(0, Kind::UserEnter, 0, 0);
        script.leave(0, 1).on(0, Kind::Idle, 0, 0);
        let trace = script.trace();
        let lanes = Lanes::new(&trace);
        let runs: Vec<_> = lanes.running.iter().map(|span| (span.what.runs, span.what.thread)).collect();
        assert_eq!(runs, [(Runs::Kernel, 0), (Runs::User(1), 1), (Runs::Kernel, 0), (Runs::Idle, 0)]);
        let loaded: Vec<_> = lanes.loaded.iter().map(|span| span.what).collect();
        let switching = Loaded::Switching { from: 0, to: 1 };
        assert_eq!(loaded, [Loaded::Kernel, switching, Loaded::Active(1), Loaded::Lazy(1)]);
        assert!(lanes.loaded.windows(2).all(|pair| pair[0].to == pair[1].from));
    }

    #[test]
    fn a_request_is_an_arrow_to_each_target() {
        let mut script = Script::new();
        script.on(0, Kind::Request, 0b110, 1).on(2, Kind::Served, 1, 0).on(1, Kind::Served, 1, 0);
        script.on(1, Kind::Served, 1, 0);
        let arrows = Lanes::new(&script.trace()).arrows;
        let ends: Vec<_> =
            arrows.iter().map(|arrow| (arrow.sender, arrow.sent, arrow.target, arrow.served)).collect();
        assert_eq!(ends, [(0, 0, 2, 1), (0, 0, 1, 2)]);
    }
}
