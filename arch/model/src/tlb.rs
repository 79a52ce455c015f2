//! Cached translations: filled by every use, emptied by the flush hooks alone.

use crate::context::{HardwareId, Mm};
use crate::{Cpu, Event, Model};
use arch_contract::addr::{PAGE_SIZE, PhysAddr, VirtAddr};
use arch_contract::irq::IrqsOff;
use arch_contract::pte::Protection;
use arch_contract::tlb::{Freed, Tlb};
use hashbrown::HashMap;
use std::sync::MutexGuard;

/// What one CPU has cached.
#[derive(Default)]
pub(crate) struct Translations(HashMap<(HardwareId, VirtAddr), (PhysAddr, Protection)>);

impl Translations {
    pub(crate) fn find(&self, of: HardwareId, page: VirtAddr) -> Option<(PhysAddr, Protection)> {
        self.0.get(&(of, page)).copied()
    }

    pub(crate) fn keep(&mut self, of: HardwareId, page: VirtAddr, to: (PhysAddr, Protection)) {
        self.0.insert((of, page), to);
    }

    pub(crate) fn any_of(&self, of: HardwareId) -> bool {
        self.0.keys().any(|(hardware, _)| *hardware == of)
    }

    pub(crate) fn forget_all(&mut self, of: HardwareId) {
        self.0.retain(|(hardware, _), _| *hardware != of);
    }

    pub(crate) fn forget_everything(&mut self) {
        self.0.clear();
    }
}

impl Cpu {
    pub(crate) fn translations(&self) -> MutexGuard<'_, Translations> {
        self.machine.shared[self.number as usize].translations.lock().expect("no test panicked holding it")
    }
}

impl Tlb for Model {
    fn flush_local(cpu: &Cpu, mm: &Mm, start: VirtAddr, pages: u64, freed: Freed, _irq: &IrqsOff) {
        cpu.machine.log(Some(cpu), Event::Flush { id: mm.id, start, pages, freed });
        let end = start.0 + pages * PAGE_SIZE;
        cpu.translations()
            .0
            .retain(|(hardware, page), _| *hardware != mm.hardware || page.0 < start.0 || page.0 >= end);
    }

    fn flush_local_mm(cpu: &Cpu, mm: &Mm, _irq: &IrqsOff) {
        cpu.machine.log(Some(cpu), Event::FlushMm(mm.id));
        cpu.translations().forget_all(mm.hardware);
    }

    const FLUSH_CEILING: u64 = 32;
}
