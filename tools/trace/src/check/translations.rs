//! What a CPU may have cached of an mm: I8, I9.

use super::{At, Found, Invariant};
use crate::event::Switch;
use crate::read::Trace;
use crate::state::Loaded;
use abi::trace::{Kind, TABLES};
use std::collections::{HashMap, HashSet};

/// A hardware id's last change of hands.
#[derive(Clone, Copy)]
enum Id {
    /// An mm's, since this place in the trace.
    Of(u64, usize),
    /// Retired at this place in the trace.
    Retired(usize),
}

pub struct Translations {
    complete: Vec<bool>,
    /// For a CPU and an mm: nothing older than this generation is cached.
    seen: HashMap<(u16, u64), u64>,
    /// For a CPU: the last generation that it raised, and of which mm.
    raised: HashMap<u16, (u64, u64)>,
    /// The highest generation whose flush has returned.
    flushed: HashMap<u64, u64>,
    ids: HashMap<u64, Id>,
    /// The mms that were ever loaded: an id of another is given back without ceremony.
    used: HashSet<u64>,
    /// Where each CPU last forgot everything.
    forgot: Vec<Option<usize>>,
    /// Which mm a CPU has under a number of its own.
    slots: HashMap<(u16, u16), u64>,
}

impl Translations {
    pub fn new(trace: &Trace) -> Self {
        let cpus = 0..trace.cpus();
        Self {
            complete: cpus.clone().map(|cpu| trace.lost.get(&cpu).is_none_or(|&lost| lost == 0)).collect(),
            seen: HashMap::new(),
            raised: HashMap::new(),
            flushed: HashMap::new(),
            ids: HashMap::new(),
            used: HashSet::new(),
            forgot: cpus.map(|_| None).collect(),
            slots: HashMap::new(),
        }
    }

    /// The generation a CPU has seen, if that is known.
    fn seen(&self, cpu: u16, mm: u64) -> Option<u64> {
        let nothing = self.complete[usize::from(cpu)].then_some(0);
        self.seen.get(&(cpu, mm)).copied().or(nothing)
    }

    fn see(&mut self, cpu: u16, mm: u64, generation: u64) {
        let seen = self.seen.entry((cpu, mm)).or_default();
        *seen = generation.max(*seen);
    }

    pub fn event(&mut self, at: &At<'_>, found: &mut Found) {
        let (cpu, a, b) = (at.event.cpu, at.event.a, at.event.b);
        match at.event.kind {
            Kind::Seen => self.see(cpu, a, b),
            Kind::Broadcast => at.state.each().for_each(|(other, _)| self.see(other, a, b)),
            Kind::Generation => drop(self.raised.insert(cpu, (a, b))),
            Kind::Flushed => {
                let generation = b & !TABLES;
                // Where its beginning is lost, a broadcast may be lost as well.
                if !self.complete[usize::from(cpu)] && self.raised.get(&cpu) != Some(&(a, generation)) {
                    return;
                }
                for (other, state) in at.state.each() {
                    let holds =
                        matches!(state.loaded, Some(Loaded::Active(mm) | Loaded::Lazy(mm)) if mm == a);
                    let concerned = state.in_user(a) || b & TABLES != 0 && holds;
                    let Some(seen) = self.seen(other, a).filter(|&seen| concerned && seen < generation)
                    else {
                        continue;
                    };
                    let what = if state.in_user(a) { "runs a user of" } else { "holds" };
                    found.of(
                        other,
                        Invariant::I9,
                        format!("CPU {other} {what} mm {a} and has seen generation {seen} only"),
                    );
                }
                let flushed = self.flushed.entry(a).or_default();
                *flushed = generation.max(*flushed);
            }
            Kind::UserReturn | Kind::Poll => {
                let flushed = self.flushed.get(&a).copied().unwrap_or(0);
                if let Some(seen) = self.seen(cpu, a).filter(|&seen| seen < flushed) {
                    found.add(
                        Invariant::I9,
                        format!("a user of mm {a} runs with what was cached at generation {seen}; {flushed} was flushed"),
                    );
                }
            }
            Kind::IdTaken => match self.ids.insert(b, Id::Of(a, at.index)) {
                Some(Id::Of(other, since)) if other != a && self.used.contains(&other) => {
                    // It may have been retired in what a ring has lost.
                    if at.state.each().any(|(_, state)| state.known_from > since) {
                        return;
                    }
                    found.add(Invariant::I8, format!("hardware id {b} is mm {other}'s"));
                }
                Some(Id::Retired(since)) => {
                    for (other, state) in at.state.each() {
                        let off = state.runs == Some(crate::state::Runs::Off);
                        let forgot = self.forgot[usize::from(other)].is_some_and(|forgot| forgot > since);
                        if !off && !forgot && state.known_from <= since {
                            found.of(
                                    other, Invariant::I8,
                                    format!("hardware id {b} is used again, but CPU {other} has forgotten nothing since it was retired"),
                                );
                        }
                    }
                }
                _ => {}
            },
            Kind::IdRetired => drop(self.ids.insert(b, Id::Retired(at.index))),
            Kind::FlushAll | Kind::Online => self.forgot[usize::from(cpu)] = Some(at.index),
            Kind::SwitchEnd => {
                self.used.insert(a);
                if let Some(slot) = at.event.slot()
                    && let Some(before) = self.slots.insert((cpu, slot), a)
                    && before != a
                    && !at.event.switch(Switch::Flushed)
                {
                    found.add(
                        Invariant::I8,
                        format!("mm {a} was loaded under number {slot}, with what mm {before} left there"),
                    );
                }
            }
            _ => {}
        }
    }
}
