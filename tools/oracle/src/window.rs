//! What one CPU does inside the windows that [marks](stream::Mark) open: which kernel instructions it
//! executes, which of them the contracts speak of, and which cache lines the kernel touches.
//!
//! One value per CPU, and only that CPU's thread writes it; [`shared`] compares them at the end. So
//! nothing is locked or shared while the guest runs, and watching orders nothing between its CPUs.

use crate::instruction::Event;
use std::collections::{BTreeMap, HashMap};
use stream::WINDOWS;

/// How an access touches memory. An atomic update is a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    Load,
    Store,
}

/// How many places that store to a line are remembered.
const SITES: usize = 6;

/// What one CPU did to one cache line.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Line {
    pub loads: u64,
    pub stores: u64,
    /// The virtual address first used for it: a name, where the kernel's image has one.
    pub at: u64,
    /// The first few instructions that stored to it.
    pub writers: Vec<u64>,
}

/// What one CPU did in one window.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Kernel instructions of each time this CPU had the window open itself, in order.
    pub lengths: Vec<u64>,
    /// Kernel instructions: how often each was executed, by its address.
    pub steps: HashMap<u64, u64>,
    /// Instructions that the contracts speak of: how often each was executed, by its address.
    pub events: BTreeMap<(Event, u64), u64>,
    /// Cache lines by physical address divided by their size.
    pub lines: HashMap<u64, Line>,
}

/// All windows of one CPU. Those that are open are a set, bit n for window n, that the caller
/// keeps: whether a window of all CPUs is open is not this CPU's to know.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    seen: [Seen; WINDOWS],
    /// Kernel instructions since this CPU's own begin.
    since: [Option<u64>; WINDOWS],
}

impl Windows {
    /// This CPU begins a window of its own. One that is open begins anew.
    pub fn begin(&mut self, window: usize) {
        self.since[window] = Some(0);
    }

    /// This CPU ends a window of its own, if it is open.
    pub fn end(&mut self, window: usize) {
        if let Some(length) = self.since[window].take() {
            self.seen[window].lengths.push(length);
        }
    }

    /// The kernel instruction at `at` is about to run.
    #[inline]
    pub fn step(&mut self, open: u32, at: u64) {
        for window in each(open) {
            *self.seen[window].steps.entry(at).or_default() += 1;
            if let Some(length) = &mut self.since[window] {
                *length += 1;
            }
        }
    }

    /// The kernel instruction at `at` is one that the contracts speak of.
    pub fn event(&mut self, open: u32, event: Event, at: u64) {
        for window in each(open) {
            *self.seen[window].events.entry((event, at)).or_default() += 1;
        }
    }

    /// The kernel instruction at `pc` touches `line`, through the virtual address `at`.
    pub fn touch(&mut self, open: u32, access: Access, line: u64, at: u64, pc: u64) {
        for window in each(open) {
            let line = self.seen[window].lines.entry(line).or_insert_with(|| Line { at, ..Line::default() });
            match access {
                Access::Load => line.loads += 1,
                Access::Store => {
                    line.stores += 1;
                    if line.writers.len() < SITES && !line.writers.contains(&pc) {
                        line.writers.push(pc);
                    }
                }
            }
        }
    }

    pub fn seen(&self, window: usize) -> &Seen {
        &self.seen[window]
    }
}

/// The numbers of the bits of a set.
fn each(mut set: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (set != 0).then(|| {
            let bit = set.trailing_zeros();
            set &= set - 1;
            bit as usize
        })
    })
}

/// The lines that one CPU stored to and another touched in this window, each with what each CPU that
/// touched it did.
pub fn shared(cpus: &[Windows], window: usize) -> BTreeMap<u64, Vec<(usize, &Line)>> {
    let mut lines: BTreeMap<u64, Vec<(usize, &Line)>> = BTreeMap::new();
    for (cpu, windows) in cpus.iter().enumerate() {
        for (&number, line) in &windows.seen[window].lines {
            lines.entry(number).or_default().push((cpu, line));
        }
    }
    lines.retain(|_, touched| touched.len() > 1 && touched.iter().any(|(_, line)| line.stores > 0));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use Access::{Load, Store};

    /// A recorded stream: CPU, access, line.
    fn after(stream: &[(usize, Access, u64)]) -> Vec<Windows> {
        let mut cpus = vec![Windows::default(); 3];
        for &(cpu, access, line) in stream {
            cpus[cpu].touch(1, access, line, line * 64, 0xf00 + cpu as u64);
        }
        cpus
    }

    fn lines(cpus: &[Windows]) -> Vec<u64> {
        shared(cpus, 0).into_keys().collect()
    }

    #[test]
    fn a_line_is_shared_if_one_cpu_stores_and_another_touches() {
        assert!(lines(&after(&[(0, Store, 1), (0, Load, 1), (1, Store, 2)])).is_empty());
        assert!(lines(&after(&[(0, Load, 1), (1, Load, 1), (2, Load, 1)])).is_empty());
        assert_eq!(lines(&after(&[(0, Store, 1), (1, Load, 1)])), [1]);
        assert_eq!(lines(&after(&[(0, Load, 1), (2, Store, 1), (0, Store, 9), (1, Store, 9)])), [1, 9]);
    }

    #[test]
    fn each_cpu_has_its_own_counts() {
        let cpus = after(&[(0, Store, 1), (0, Load, 1), (0, Store, 1), (2, Store, 1), (2, Load, 1)]);
        let shared = shared(&cpus, 0);
        let rows: Vec<_> = shared[&1].iter().map(|(cpu, line)| (*cpu, line.loads, line.stores)).collect();
        assert_eq!(rows, [(0, 1, 2), (2, 1, 1)]);
        assert_eq!(shared[&1][0].1.writers, [0xf00]);
    }

    #[test]
    fn windows_do_not_see_each_other() {
        let mut cpus = vec![Windows::default(); 2];
        cpus[0].touch(0b01, Store, 7, 0, 0);
        cpus[1].touch(0b10, Store, 7, 0, 0);
        assert!(shared(&cpus, 0).is_empty() && shared(&cpus, 1).is_empty());
        cpus[1].touch(0b11, Load, 7, 0, 0);
        assert_eq!(shared(&cpus, 0).len(), 1);
        assert!(shared(&cpus, 1).is_empty());
    }

    #[test]
    fn lengths_are_those_of_this_cpus_own_openings() {
        let mut windows = Windows::default();
        windows.step(0b1, 0x10);
        windows.begin(0);
        windows.step(0b11, 0x10);
        windows.step(0b11, 0x20);
        windows.end(0);
        windows.end(0);
        windows.step(0b10, 0x20);
        assert_eq!(windows.seen(0).lengths, [2]);
        assert_eq!(windows.seen(0).steps, HashMap::from([(0x10, 2), (0x20, 1)]));
        assert_eq!(windows.seen(1).lengths, []);
        assert_eq!(windows.seen(1).steps, HashMap::from([(0x10, 1), (0x20, 2)]));
    }

    #[test]
    fn events_are_counted_by_place() {
        let mut windows = Windows::default();
        for at in [0x10, 0x20, 0x10] {
            windows.event(1, Event::Barrier, at);
        }
        windows.event(0, Event::Barrier, 0x10);
        let events: Vec<_> = windows.seen(0).events.iter().collect();
        assert_eq!(events, [(&(Event::Barrier, 0x10), &2), (&(Event::Barrier, 0x20), &1)]);
    }
}
