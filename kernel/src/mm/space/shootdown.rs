//! TLB shootdown: when it returns, no CPU uses what was removed (`TLB-3`).
//!
//! The order against a CPU that enters the space meanwhile is shown in [`protocol::flush`].
//! CPUs that hold the space lazily are left alone unless tables are freed: they find the
//! new generation when they next have a user of it.

use super::Space;
use crate::cpu::Cpu;
use crate::cpuset::CpuSet;
use crate::mm::page_table::Removed;
use crate::rendezvous::{self, Point};
use crate::request::{self, Kinds};
use crate::sched::context;
use crate::trace;
use abi::trace::Kind;
use arch_contract::addr::VirtAddr;
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::tlb::{Freed, Tlb};
use arch_current::Current;
use protocol::flush::Range;
use protocol::offline;

impl Space {
    /// Makes every CPU forget what was removed, and waits until all have.
    pub(super) fn flush(&self, cpu: &Cpu, start: VirtAddr, pages: u64, removed: &Removed, irq: &IrqsOff) {
        let Some(freed) = removed.freed() else { return };
        let (wanted, set) = self.shared.begin_flush(cpu, self.id, Range { start, pages, freed });
        rendezvous::point(cpu, Point::FlushBeforeSample);
        if cpu.words.holds(self.id) && !mutant::is(Mutant::M38) {
            context::catch_up(cpu, irq);
        }
        let kernel = cpu.kernel;
        let behind = |other: &Cpu| other.words.may_use_older(self.id, wanted, freed);
        let others = set.and(kernel.online()).without(cpu.number);
        let mut concerned = CpuSet::NONE;
        for number in others.iter() {
            let asked = kernel.cpu(number).is_some_and(behind) || mutant::is(Mutant::FlushAsksEveryone);
            if asked && !mutant::is(Mutant::M37) {
                concerned = concerned.with(number);
            }
        }
        match Current::broadcast_from(kernel.machine) {
            Some(enough) if concerned.len() >= enough => {
                Current::broadcast(cpu.arch(), &self.mm, start, pages, freed, irq);
                trace::event(cpu, Kind::Broadcast, self.id.get(), wanted);
            }
            _ => {
                let targets = || concerned.iter().filter_map(|number| kernel.cpu(number));
                targets().for_each(|other| cpu.ask(other, Kinds::FLUSH, irq));
                targets().for_each(|other| {
                    // A CPU that goes off meanwhile has let go of everything by then.
                    let off = || offline::is_off(&kernel.online, other.number);
                    request::wait_until(cpu, || !behind(other) || off() || mutant::is(Mutant::M30));
                });
            }
        }
        let tables = if freed == Freed::Tables { abi::trace::TABLES } else { 0 };
        trace::event(cpu, Kind::Flushed, self.id.get(), wanted | tables);
    }
}
