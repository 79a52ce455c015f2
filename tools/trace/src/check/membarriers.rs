//! What membarrier promises its caller: I5, I12.

use super::{At, Found, Invariant, Rules, UserReturn};
use crate::event::{Switch, command, cpus};
use crate::read::Trace;
use crate::state::Runs;
use abi::membarrier::Command;
use abi::trace::Kind;
use arch_contract::barrier::Site;
use std::collections::HashMap;

/// A command that has not returned.
struct Open {
    command: u64,
    mm: u64,
    cpu: u16,
    began: usize,
    /// (a), the first after it began.
    enter: Option<usize>,
    /// What was sampled, and where.
    sampled: Option<(u64, usize)>,
}

#[derive(Clone, Copy, Default)]
struct Cpu {
    /// Where it last serialized, and executed (e), the handler's barrier and (c).
    serialized: usize,
    entered: usize,
    handler: usize,
    exit: usize,
}

pub struct Membarriers {
    rules: Rules,
    cpus: Vec<Cpu>,
    open: Vec<Open>,
    /// For an mm: where the last sync-core command that has returned had begun.
    owed: HashMap<u64, usize>,
}

/// Whether a command promises something of every CPU that runs the caller's mm.
fn private(command: u64) -> bool {
    command == Command::PrivateExpedited as u64 || command == Command::PrivateExpeditedSyncCore as u64
}

impl Membarriers {
    pub fn new(trace: &Trace, rules: Rules) -> Self {
        Self {
            rules,
            cpus: vec![Cpu::default(); trace.cpus().into()],
            open: Vec::new(),
            owed: HashMap::new(),
        }
    }

    /// The command under way on a CPU.
    fn here(&mut self, cpu: u16) -> Option<&mut Open> {
        self.open.iter_mut().rev().find(|open| open.cpu == cpu)
    }

    pub fn event(&mut self, at: &At<'_>, found: &mut Found) {
        let (a, b) = (at.event.a, at.event.b);
        let index = at.index;
        let cpu = &mut self.cpus[usize::from(at.event.cpu)];
        match at.event.kind {
            Kind::CoreSync => cpu.serialized = index,
            Kind::SwitchEnd if at.event.switch(Switch::CoreSerialized) => cpu.serialized = index,
            Kind::UserReturn => self.user_return(at, found),
            Kind::Barrier if a == Site::EnterUserMm as u64 => cpu.entered = index,
            Kind::Barrier if a == Site::IpiHandler as u64 => cpu.handler = index,
            Kind::Barrier if a == Site::MembarrierExit as u64 => cpu.exit = index,
            Kind::Barrier if a == Site::MembarrierEnter as u64 => {
                if let Some(open) = self.here(at.event.cpu) {
                    open.enter.get_or_insert(index);
                }
            }
            Kind::MembarrierEnter => self.open.push(Open {
                command: a,
                mm: b,
                cpu: at.event.cpu,
                began: index,
                enter: None,
                sampled: None,
            }),
            Kind::Sampled => self.sampled(at, found),
            Kind::MembarrierExit => self.exit(at, found),
            _ => {}
        }
    }

    fn sampled(&mut self, at: &At<'_>, found: &mut Found) {
        let (set, mm) = (at.event.a, at.event.b);
        let Some(open) = self.here(at.event.cpu) else { return };
        open.sampled = Some((set, at.index));
        let Some(enter) = open.enter else {
            found.add(Invariant::I12, "current_mm is sampled, and no barrier (a) lies before that");
            return;
        };
        if !private(open.command) {
            return;
        }
        for (other, state) in at.state.each() {
            // What it has stored is sure to be seen when its (e) comes before (a).
            let entered = self.cpus[usize::from(other)].entered;
            let stored = state.current == Some(mm) && state.current_since < entered && entered < enter;
            let ran = stored && state.known_from < enter;
            if ran && other != at.event.cpu && set >> other & 1 == 0 {
                found.of(
                    other,
                    Invariant::I12,
                    format!("CPU {other} had current_mm = {mm} all the time, but is not in the sampled set"),
                );
            }
        }
    }

    fn exit(&mut self, at: &At<'_>, found: &mut Found) {
        let (number, mm) = (at.event.a, at.event.b);
        // Its thread may have been moved meanwhile; else it is one of this CPU's.
        let same = |open: &Open| open.command == number && open.mm == mm;
        let place = self.open.iter().position(|open| same(open) && open.cpu == at.event.cpu);
        let Some(place) = place.or_else(|| self.open.iter().position(same)) else { return };
        let open = self.open.remove(place);
        if let Some((set, sampled)) = open.sampled {
            if self.cpus[usize::from(at.event.cpu)].exit < sampled {
                found.add(Invariant::I12, "membarrier returns, and no barrier (c) lies after the samples");
            }
            for other in cpus(set).filter(|&other| other != open.cpu) {
                let Some(state) = at.state.cpus.get(usize::from(other)) else { continue };
                let answered = self.cpus[usize::from(other)].handler > open.began;
                if !answered && state.runs != Some(Runs::Off) && state.known_from <= open.began {
                    found.of(
                        other,
                        Invariant::I12,
                        format!(
                            "{} returns, but CPU {other} has executed no handler's barrier",
                            command(number)
                        ),
                    );
                }
            }
        }
        if number != Command::PrivateExpeditedSyncCore as u64 {
            return;
        }
        for (other, state) in at.state.each() {
            let serialized = self.cpus[usize::from(other)].serialized;
            if state.runs == Some(Runs::User(mm)) && serialized < open.began && state.known_from <= open.began
            {
                found.of(
                    other, Invariant::I5,
                    format!("CPU {other} is in user mode in mm {mm} and has not serialized since the command began"),
                );
            }
        }
        let owed = self.owed.entry(mm).or_default();
        *owed = open.began.max(*owed);
    }

    fn user_return(&mut self, at: &At<'_>, found: &mut Found) {
        let cpu = &mut self.cpus[usize::from(at.event.cpu)];
        if self.rules.user_return == UserReturn::Serializes {
            cpu.serialized = at.index;
        }
        let Some(&owed) = self.owed.get(&at.event.a) else { return };
        if cpu.serialized < owed && at.state.cpu(at.event.cpu).known_from <= owed {
            found.add(
                Invariant::I5,
                format!(
                    "to user mode in mm {}, not serialized since its last sync-core command began",
                    at.event.a
                ),
            );
        }
    }
}
