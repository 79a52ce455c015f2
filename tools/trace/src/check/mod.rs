//! What must be true of every trace.
//!
//! One checker for real machines and for the model. It follows what each CPU holds and runs
//! ([`state`](crate::state)), and asks three families of each event, before the event takes effect:
//! [`contexts`], [`translations`], [`membarriers`]. What a CPU did before its ring began is not
//! known, and nothing is concluded from it.

mod contexts;
mod membarriers;
mod translations;

use crate::event::Event;
use crate::read::Trace;
use crate::state::State;
use std::fmt;

/// What is checked. *Holds* says what `loaded` names, in whatever state; *runs a user of* means
/// user mode, or a task that uses the mm.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Invariant {
    /// A CPU that holds an mm is in its set: it joined before the switch ended, and parts from it
    /// only when it holds something else. `CTX-3`
    I1,
    /// A user of an mm runs only where that mm is loaded and active and `current_mm` names it; a
    /// switch starts from what is loaded, and goes to what `current_mm` names. `CTX-4`, `RET-1`
    I2,
    /// Between `current_mm = m` and the first user of m there is a full barrier, (e); if there is a
    /// switch, it lies inside it, before the tables are loaded. `BAR-5`, `CTX-3`
    I3,
    /// Between the last user of m and `current_mm` saying something else there is a full barrier,
    /// (d). `BAR-4`
    I4,
    /// When a sync-core membarrier of m returns, each CPU in user mode in m has serialized since it
    /// began, and each later return to m comes after a serialization since then. Which returns
    /// serialize by themselves is a property of the machine: see [`Rules`]. `RET-2`
    I5,
    /// Lazy episodes: `enter_lazy_tlb` of the mm that is loaded and active, then exactly one of
    /// `exit_lazy_tlb`, with the mm that was left and the one that is a user's now, before that
    /// user runs, or `drop_lazy`. Idle and tasks without an mm run with `current_mm` none. `CTX-6`,
    /// `CTX-7`, `CTX-8`
    I6,
    /// No CPU holds an mm when its tables are freed or its hardware id is retired; a CPU goes off
    /// holding nothing. `CTX-9`, `SMP-3`
    I7,
    /// A hardware id has one mm at a time, and between its retirement and its next use every CPU
    /// that is on has forgotten everything. A number of one CPU's own is loaded for another mm only
    /// by a switch that forgets what was under it. `CTX-12`
    I8,
    /// When a flush returns, each CPU that runs a user of the mm has nothing older cached, and each
    /// CPU that gets one later has looked before. If page-table pages go, that holds for each CPU
    /// that holds the mm. `TLB-1`, `TLB-3`
    I9,
    /// Interrupts are off from the switch to the end of the way to the user. A type holds it
    /// (`IrqsOff`), so all that is left to check is that no entry from user mode lies between.
    /// `CTX-1`
    I10,
    /// No request is served while `loaded` says switching: nothing waits there. `TLB-5`
    I11,
    /// membarrier: (a), then the samples, then (c). Each other CPU whose `current_mm` named the mm
    /// from before its (e), which came before (a), until after the samples is in the sampled set, and
    /// each CPU of the set has executed the handler's barrier before the command returns. `BAR-3`,
    /// `BAR-6`
    I12,
    /// The clock of a CPU does not go backwards. `TIME-1`
    Clock,
}

impl Invariant {
    pub const ALL: [Self; 13] = [
        Self::I1,
        Self::I2,
        Self::I3,
        Self::I4,
        Self::I5,
        Self::I6,
        Self::I7,
        Self::I8,
        Self::I9,
        Self::I10,
        Self::I11,
        Self::I12,
        Self::Clock,
    ];

    /// The law in a line, with its clauses; the whole of it stands above.
    pub const fn law(self) -> &'static str {
        match self {
            Self::I1 => "a CPU that holds an mm is in its set (CTX-3)",
            Self::I2 => "a user of an mm runs only where it is loaded, active and current (CTX-4, RET-1)",
            Self::I3 => "barrier (e) between current_mm = m and the first user of m (BAR-5, CTX-3)",
            Self::I4 => "barrier (d) between the last user of m and current_mm of something else (BAR-4)",
            Self::I5 => "serialized between a sync-core command and the next user instruction (RET-2)",
            Self::I6 => {
                "a lazy episode begins once and ends once, before the next user (CTX-6, CTX-7, CTX-8)"
            }
            Self::I7 => "no CPU holds an mm whose tables or id go (CTX-9, SMP-3)",
            Self::I8 => "a hardware id is used again only after all have forgotten it (CTX-12)",
            Self::I9 => "when a flush returns, nobody has anything older (TLB-1, TLB-3)",
            Self::I10 => "interrupts are off from the switch to the user (CTX-1)",
            Self::I11 => "nothing is served inside a switch (TLB-5)",
            Self::I12 => "membarrier reaches each CPU that runs a user of the mm (BAR-3, BAR-6)",
            Self::Clock => "a CPU's clock does not go backwards (TIME-1)",
        }
    }
}

/// Whether returning to user mode serializes the core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UserReturn {
    Serializes,
    DoesNotSerialize,
}

/// What the checker has to know of a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    pub user_return: UserReturn,
}

/// An event that must not be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    pub invariant: Invariant,
    /// Its place in the trace.
    pub at: usize,
    /// The CPU that it is about, if that is another than the event's.
    pub about: Option<u16>,
    pub what: String,
}

/// An event in its place, with what was so before it.
struct At<'a> {
    index: usize,
    event: &'a Event,
    state: &'a State,
}

/// Where violations are noted.
struct Found {
    violations: Vec<Violation>,
    at: usize,
}

impl Found {
    fn add(&mut self, invariant: Invariant, what: impl Into<String>) {
        self.violations.push(Violation { invariant, at: self.at, about: None, what: what.into() });
    }

    /// Something that another CPU is, or has not done.
    fn of(&mut self, cpu: u16, invariant: Invariant, what: impl Into<String>) {
        self.violations.push(Violation { invariant, at: self.at, about: Some(cpu), what: what.into() });
    }
}

/// Everything in `trace` that must not be, in its order.
pub fn check(trace: &Trace, rules: &Rules) -> Vec<Violation> {
    let mut state = State::new(trace);
    let mut contexts = contexts::Contexts::new(trace);
    let mut translations = translations::Translations::new(trace);
    let mut membarriers = membarriers::Membarriers::new(trace, *rules);
    let mut found = Found { violations: Vec::new(), at: 0 };
    let mut clocks = vec![0; trace.cpus().into()];
    for (index, event) in trace.events.iter().enumerate() {
        found.at = index;
        let clock = &mut clocks[usize::from(event.cpu)];
        if event.time < *clock {
            found.add(Invariant::Clock, format!("CPU {}'s clock went back from {clock} ns", event.cpu));
        }
        *clock = event.time;
        let at = At { index, event, state: &state };
        contexts.event(&at, &mut found);
        translations.event(&at, &mut found);
        membarriers.event(&at, &mut found);
        state.apply(index, event);
    }
    found.violations
}

/// A violation for a person: what is wrong, and the last events of each CPU up to it.
pub struct Report<'a> {
    pub trace: &'a Trace,
    pub violation: &'a Violation,
}

/// Events of each CPU that a report shows.
const SHOWN: usize = 5;

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { invariant, at, what, .. } = self.violation;
        writeln!(f, "{invariant:?}: {what}")?;
        let mut shown = vec![0; self.trace.cpus().into()];
        let before = self.trace.events[..=*at].iter().enumerate().rev();
        let mut around: Vec<_> = before
            .filter(|(_, event)| {
                let shown: &mut usize = &mut shown[usize::from(event.cpu)];
                *shown += 1;
                *shown <= SHOWN
            })
            .collect();
        around.reverse();
        for (index, event) in around {
            writeln!(f, "  {} {event}", if index == *at { '>' } else { ' ' })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
