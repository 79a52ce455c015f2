//! Code that is stored to memory: what lies between the store and its execution (SDM vol. 3 §9.1.3;
//! Power ISA Book II §4.4.1).
//!
//! What the kernel stores is executed when the kernel lets a program in; so it is published before
//! that, where the machine wants it, and the core that executes it has serialized since. What a program
//! stores is demanded nothing of until its process was told that all cores have serialized: whoever
//! executes the page before that may find old or new code. Then it was published before that was asked
//! for, and whoever comes there has serialized since the store.

use super::{Broken, CODE_FETCHED, CODE_PUBLISHED, Request, Time};
use crate::processes::{Process, Processes};
use crate::{Arch, Instruction};
use std::collections::BTreeMap;

/// Who stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Writer {
    Kernel,
    Program(Process),
}

/// A line that was stored to.
#[derive(Clone, Copy, Debug)]
struct Line {
    by: Writer,
    cpu: u8,
    stored: Time,
    /// Since the store: written back, then invalidated, then that was complete. 0: not yet.
    written_back: Time,
    invalidated: Time,
    published: Time,
}

/// All lines, by their first byte.
#[derive(Default)]
pub struct Code(BTreeMap<u64, Line>);

const PAGE_SHIFT: u32 = 12;

impl Code {
    pub fn stored(&mut self, line: u64, cpu: u8, by: Option<Process>, now: Time) {
        let by = by.map_or(Writer::Kernel, Writer::Program);
        self.0.insert(line, Line { by, cpu, stored: now, written_back: 0, invalidated: 0, published: 0 });
    }

    pub fn written_back(&mut self, line: u64, now: Time) {
        if let Some(line) = self.0.get_mut(&line) {
            line.written_back = now;
        }
    }

    pub fn invalidated(&mut self, line: u64, now: Time) {
        if let Some(line) = self.0.get_mut(&line).filter(|line| line.written_back != 0) {
            line.invalidated = now;
        }
    }

    /// A CPU executes an instruction of the kernel: an `isync` completes what it invalidated. That the
    /// rest of the sequence is there, and in order, is another rule's.
    pub fn executes(&mut self, instruction: Instruction, now: Time) {
        if instruction == Instruction::Isync {
            let open = |line: &&mut Line| line.invalidated != 0 && line.published == 0;
            self.0.values_mut().filter(open).for_each(|line| line.published = now);
        }
    }

    /// A CPU that last serialized at `serialized` executes code in `page`.
    pub fn fetches(
        &mut self,
        arch: Arch,
        page: u64,
        serialized: Time,
        returned: &[Request],
        processes: &Processes,
        broken: &mut Vec<Broken>,
    ) {
        let lines = page << PAGE_SHIFT..(page + 1) << PAGE_SHIFT;
        let mut found = None;
        for (at, line) in self.0.range(lines.clone()) {
            // When it had to be published, if that is over.
            let by = match line.by {
                Writer::Kernel => Some(Time::MAX),
                Writer::Program(process) => {
                    let asked = |request: &&Request| {
                        request.cpu == line.cpu
                            && request.made > line.stored
                            && processes.same(request.process, process)
                    };
                    returned.iter().rev().find(asked).map(|request| request.made)
                }
            };
            let Some(by) = by else { continue };
            if arch == Arch::Ppc64le && (line.published == 0 || line.published > by) {
                found = Some((CODE_PUBLISHED, format!("what was stored at {at:#x} has not been")));
            } else if serialized < line.stored {
                found = Some((CODE_FETCHED, format!("it has not since the store at {at:#x}")));
            }
        }
        if let Some(found) = found {
            broken.push(found);
            // Once is enough.
            self.0.retain(|at, _| !lines.contains(at));
        }
    }
}
