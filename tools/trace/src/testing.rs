//! Hand-made traces.

use crate::check::{Rules, UserReturn, check};
use crate::read::Trace;
use crate::{Invariant, Report};
use abi::membarrier::Command;
use abi::trace::{Kind, Record, TABLES};
use arch_contract::barrier::Site;
use std::collections::HashMap;

/// Events, a microsecond apart, in the order in which they are written down.
#[derive(Default)]
pub struct Script {
    clock: u64,
    records: Vec<Record>,
    numbers: HashMap<u16, u32>,
}

pub const SYNC_CORE: u64 = Command::PrivateExpeditedSyncCore as u64;

impl Script {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn on(&mut self, cpu: u16, kind: Kind, a: u64, b: u64) -> &mut Self {
        let number = self.numbers.entry(cpu).or_default();
        self.records.push(Record::new(self.clock, cpu, *number, kind, a, b));
        self.clock += 1000;
        *number += 1;
        self
    }

    /// The events of CPU `cpu` so far are lost.
    pub fn lose(&mut self, cpu: u16) -> &mut Self {
        self.records.retain(|record| record.cpu() != cpu);
        self
    }

    pub fn barrier(&mut self, cpu: u16, site: Site) -> &mut Self {
        self.on(cpu, Kind::Barrier, site as u64, 0)
    }

    /// From the kernel's tables to user mode in `mm`, as the contract has it.
    pub fn boot(&mut self, cpu: u16, mm: u64, thread: u64) -> &mut Self {
        self.switch(cpu, 0, mm).on(cpu, Kind::UserReturn, mm, thread)
    }

    /// `current_mm`, the set, the switch.
    pub fn switch(&mut self, cpu: u16, from: u64, to: u64) -> &mut Self {
        self.on(cpu, Kind::Current, to, 0).on(cpu, Kind::Join, to, 0).on(cpu, Kind::SwitchBegin, from, to);
        self.barrier(cpu, Site::EnterUserMm).on(cpu, Kind::SwitchEnd, to, 1)
    }

    /// From a user of `mm` to something without one.
    pub fn leave(&mut self, cpu: u16, mm: u64) -> &mut Self {
        self.barrier(cpu, Site::LeaveUserMm).on(cpu, Kind::Current, 0, 0).on(cpu, Kind::LazyEnter, mm, 0)
    }

    /// Back to the mm that is held lazily.
    pub fn come_back(&mut self, cpu: u16, mm: u64) -> &mut Self {
        self.on(cpu, Kind::Current, mm, 0).barrier(cpu, Site::EnterUserMm).on(cpu, Kind::LazyExit, mm, mm)
    }

    pub fn flushed(&mut self, cpu: u16, mm: u64, generation: u64) -> &mut Self {
        self.on(cpu, Kind::Flushed, mm, generation)
    }

    pub fn flushed_tables(&mut self, cpu: u16, mm: u64, generation: u64) -> &mut Self {
        self.on(cpu, Kind::Flushed, mm, generation | TABLES)
    }

    pub fn trace(&self) -> Trace {
        Trace::from_records(self.records.iter().copied()).expect("numbered in order")
    }

    /// What is found on a machine whose returns to user mode do not serialize.
    pub fn found(&self) -> Vec<Invariant> {
        self.found_with(UserReturn::DoesNotSerialize)
    }

    pub fn found_with(&self, user_return: UserReturn) -> Vec<Invariant> {
        let trace = self.trace();
        let violations = check(&trace, &Rules { user_return });
        for violation in &violations {
            println!("{}", Report { trace: &trace, violation });
        }
        violations.iter().map(|violation| violation.invariant).collect()
    }
}
