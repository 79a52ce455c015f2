//! Which mm a CPU holds, when, and with which barriers: I1–I4, I6, I7, I10, I11.

use super::{At, Found, Invariant};
use crate::read::Trace;
use crate::state::{Loaded, Runs};
use abi::trace::Kind;
use std::collections::HashMap;

/// What is followed of one CPU beside the state.
#[derive(Clone, Default)]
struct Cpu {
    /// Whether nothing of it was lost.
    complete: bool,
    /// The mms whose sets it has joined or parted from.
    member: HashMap<u64, bool>,
    /// The mm that a user ran in since the last full barrier.
    ran: Option<u64>,
    /// `current_mm` got an mm, and no full barrier came since.
    unfenced_current: bool,
    /// A switch is under way, and no full barrier came since it began.
    unfenced_switch: bool,
}

pub struct Contexts {
    cpus: Vec<Cpu>,
}

impl Contexts {
    pub fn new(trace: &Trace) -> Self {
        let complete = |cpu| trace.lost.get(&cpu).is_none_or(|&lost| lost == 0);
        let cpu = |cpu| Cpu { complete: complete(cpu), ..Cpu::default() };
        Self { cpus: (0..trace.cpus()).map(cpu).collect() }
    }

    pub fn event(&mut self, at: &At<'_>, found: &mut Found) {
        let (a, b) = (at.event.a, at.event.b);
        let now = at.state.cpu(at.event.cpu);
        let cpu = &mut self.cpus[usize::from(at.event.cpu)];
        match at.event.kind {
            Kind::Barrier => {
                cpu.ran = None;
                cpu.unfenced_current = false;
                cpu.unfenced_switch = false;
            }
            Kind::Current => {
                if let Some(ran) = cpu.ran.filter(|&ran| ran != a) {
                    found.add(
                        Invariant::I4,
                        format!(
                            "a user of mm {ran} ran here, and no full barrier lies before current_mm = {a}"
                        ),
                    );
                }
                cpu.unfenced_current = a != 0;
            }
            Kind::SwitchBegin => {
                let from = match now.loaded {
                    Some(Loaded::Kernel) => Some(0),
                    Some(Loaded::Active(mm) | Loaded::Lazy(mm)) => Some(mm),
                    Some(Loaded::Switching { .. }) => {
                        found.add(Invariant::I2, "a switch begins inside a switch");
                        None
                    }
                    None => None,
                };
                if let Some(from) = from.filter(|&from| from != a) {
                    found.add(
                        Invariant::I2,
                        format!("the switch starts from mm {a}, but mm {from} is loaded"),
                    );
                }
                if let Some(current) = now.current.filter(|&current| current != b) {
                    found.add(
                        Invariant::I2,
                        format!("the switch goes to mm {b}, but current_mm is {current}"),
                    );
                }
                cpu.unfenced_switch = true;
            }
            Kind::SwitchEnd => {
                if !matches!(now.loaded, None | Some(Loaded::Switching { .. }))
                    || matches!(now.loaded, Some(Loaded::Switching { to, .. }) if to != a)
                {
                    found.add(Invariant::I2, format!("a switch to mm {a} ends that did not begin"));
                }
                if cpu.unfenced_switch {
                    found.add(
                        Invariant::I3,
                        format!("the tables of mm {a} were loaded, and no full barrier lies before that in the switch"),
                    );
                }
                cpu.unfenced_switch = false;
                if !cpu.member.get(&a).copied().unwrap_or(!cpu.complete) {
                    found.add(Invariant::I1, format!("mm {a} is loaded, but this CPU is not in its set"));
                }
            }
            Kind::Join => drop(cpu.member.insert(a, true)),
            Kind::Part => {
                cpu.member.insert(a, false);
                if now.holds(a) {
                    found.add(Invariant::I1, format!("this CPU leaves the set of mm {a}, which it holds"));
                }
            }
            Kind::LazyEnter => {
                if now.loaded.is_some_and(|loaded| loaded != Loaded::Active(a)) {
                    found.add(
                        Invariant::I6,
                        format!("enter_lazy_tlb({a}), but `loaded` is {}", shown(now.loaded)),
                    );
                }
                if now.current.is_some_and(|current| current != 0) {
                    found.add(Invariant::I6, "enter_lazy_tlb while current_mm still names an mm");
                }
            }
            Kind::LazyExit => {
                match now.episode {
                    Some(left) if left != a => found.add(
                        Invariant::I6,
                        format!("exit_lazy_tlb(left {a}), but the episode was one of mm {left}"),
                    ),
                    None if now.loaded.is_some() => {
                        found.add(
                            Invariant::I6,
                            format!("exit_lazy_tlb(left {a}), but there is no lazy episode"),
                        );
                    }
                    _ => {}
                }
                let right = match now.loaded {
                    Some(Loaded::Active(mm) | Loaded::Lazy(mm)) => mm == b,
                    other => other.is_none(),
                };
                if !right {
                    found.add(
                        Invariant::I6,
                        format!("exit_lazy_tlb(now {b}), but `loaded` is {}", shown(now.loaded)),
                    );
                }
            }
            Kind::Drop if now.loaded.is_some_and(|loaded| loaded != Loaded::Lazy(a)) => {
                found.add(Invariant::I6, format!("drop_lazy({a}), but `loaded` is {}", shown(now.loaded)));
            }
            Kind::UserReturn => user(at, "user mode", cpu, found),
            Kind::Poll if a != 0 => user(at, "a task", cpu, found),
            Kind::Poll | Kind::Idle => {
                if let Some(current) = now.current.filter(|&current| current != 0) {
                    found.add(
                        Invariant::I6,
                        format!("nothing that uses an mm goes on here, but current_mm is {current}"),
                    );
                }
            }
            Kind::Polled => {
                if let Some(Runs::Task(mm)) = now.runs
                    && mm != 0
                {
                    cpu.ran = Some(mm);
                }
            }
            Kind::UserEnter => {
                if matches!(now.loaded, Some(Loaded::Switching { .. })) {
                    found.add(Invariant::I10, "an entry from user mode inside a switch");
                }
            }
            Kind::Served => {
                if matches!(now.loaded, Some(Loaded::Switching { .. })) {
                    found.add(Invariant::I11, format!("requests {a:#x} served inside a switch"));
                }
            }
            Kind::FreeTables | Kind::IdRetired => {
                for (number, _) in at.state.each().filter(|(_, other)| other.holds(a)) {
                    found.of(
                        number,
                        Invariant::I7,
                        format!("CPU {number} still holds mm {a}, whose tables or id go"),
                    );
                }
            }
            Kind::Offline if now.loaded.is_some_and(|loaded| loaded != Loaded::Kernel) => {
                found.add(Invariant::I7, format!("this CPU goes off, but `loaded` is {}", shown(now.loaded)));
            }
            _ => {}
        }
    }
}

/// A user of mm `a` is about to run.
fn user(at: &At<'_>, who: &str, cpu: &mut Cpu, found: &mut Found) {
    let mm = at.event.a;
    let now = at.state.cpu(at.event.cpu);
    if now
        .loaded
        .is_some_and(|loaded| loaded != Loaded::Active(mm) && !(now.episode.is_some() && loaded.holds(mm)))
    {
        found.add(Invariant::I2, format!("{who} in mm {mm}, but `loaded` is {}", shown(now.loaded)));
    }
    if let Some(current) = now.current.filter(|&current| current != mm) {
        found.add(Invariant::I2, format!("{who} in mm {mm}, but current_mm is {current}"));
    }
    if cpu.unfenced_current {
        found.add(Invariant::I3, format!("{who} in mm {mm}, and no full barrier since current_mm was set"));
    }
    if let Some(left) = now.episode {
        found
            .add(Invariant::I6, format!("{who} in mm {mm}, but the lazy episode of mm {left} has not ended"));
    }
    cpu.ran = Some(mm);
}

fn shown(loaded: Option<Loaded>) -> String {
    match loaded {
        None => "unknown".into(),
        Some(Loaded::Kernel) => "kernel".into(),
        Some(Loaded::Active(mm)) => format!("mm {mm}, active"),
        Some(Loaded::Lazy(mm)) => format!("mm {mm}, lazy"),
        Some(Loaded::Switching { from, to }) => format!("switching from mm {from} to mm {to}"),
    }
}
