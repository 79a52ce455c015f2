//! Which process a CPU runs, from outside: by the pages of the host's memory that its code lies in.
//!
//! Every process has its own copy of its program. Which register value names an address space, an
//! emulator's plugin is not told (before QEMU 9.1); but between two loads of an address space all
//! user instructions of a CPU belong to one process, so the pages that they lie in do.
//!
//! A page that is freed may come to hold code of another process. Then that process is taken for the
//! old one, at first. The old one is gone, so no rule speaks of it any more.

use std::collections::HashMap;

/// A process, as a number of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Process(usize);

/// What is known of processes, and of what each CPU runs.
#[derive(Default)]
pub struct Processes {
    /// The process of each page; a number that is not its own in `same_as` is another name.
    pages: HashMap<u64, usize>,
    same_as: Vec<usize>,
    /// What each CPU has run since it last loaded an address space.
    running: HashMap<u8, Running>,
}

#[derive(Clone, Copy)]
struct Running {
    process: usize,
    /// Whether it was known before.
    known: Known,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Before,
    /// From pages seen here only: it may turn out to be another one.
    Here,
}

impl Processes {
    /// A CPU has loaded an address space.
    pub fn loaded(&mut self, cpu: u8) {
        self.running.remove(&cpu);
    }

    /// A CPU executes user code in a page.
    pub fn enters(&mut self, cpu: u8, page: u64) -> Process {
        let of_page = self.pages.get(&page).map(|&number| self.find(number));
        let running = self.running.get(&cpu).copied();
        let now = match (running, of_page) {
            (None, Some(process)) => Running { process, known: Known::Before },
            (None, None) => Running { process: self.new_process(), known: Known::Here },
            // What was taken for a new process is that one.
            (Some(Running { process, known: Known::Here }), Some(other)) if self.find(process) != other => {
                self.same_as[process] = other;
                Running { process: other, known: Known::Before }
            }
            (Some(running), _) => running,
        };
        let now = Running { process: self.find(now.process), ..now };
        self.running.insert(cpu, now);
        self.pages.insert(page, now.process);
        Process(now.process)
    }

    /// The one name of a process that was known by several.
    pub fn same(&self, one: Process, other: Process) -> bool {
        self.find(one.0) == self.find(other.0)
    }

    fn new_process(&mut self) -> usize {
        self.same_as.push(self.same_as.len());
        self.same_as.len() - 1
    }

    fn find(&self, mut number: usize) -> usize {
        while self.same_as[number] != number {
            number = self.same_as[number];
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_between_two_loads_are_one_process() {
        let mut processes = Processes::default();
        let a = processes.enters(0, 10);
        assert_eq!(processes.enters(0, 11), a);
        processes.loaded(0);
        let b = processes.enters(0, 20);
        assert_ne!(a, b);
        processes.loaded(1);
        assert_eq!(processes.enters(1, 11), a);
        assert_eq!(processes.enters(1, 12), a);
        processes.loaded(0);
        assert_eq!(processes.enters(0, 12), a);
    }

    #[test]
    fn one_that_seemed_new_turns_out_to_be_known() {
        let mut processes = Processes::default();
        let a = processes.enters(0, 10);
        let seemed_new = processes.enters(1, 30);
        assert!(!processes.same(a, seemed_new));
        let known = processes.enters(1, 10);
        assert!(processes.same(known, a));
        assert!(processes.same(a, seemed_new));
    }

    #[test]
    fn a_page_that_was_given_away_goes_over() {
        let mut processes = Processes::default();
        let a = processes.enters(0, 10);
        processes.loaded(0);
        let b = processes.enters(0, 20);
        processes.loaded(0);
        assert_eq!(processes.enters(0, 10), a);
        // Page 20 was freed, and is now another's.
        assert_eq!(processes.enters(0, 20), a);
        assert!(!processes.same(a, b));
    }
}
