//! Cached translations: filled by every use, emptied by the flush hooks alone.
//!
//! A machine finds a translation by its tag, and the tag alone: a slot of the CPU, or the hardware
//! id. The model also remembers which address space each was made for, so that one that is used
//! under a tag that has changed hands shows at once.

use crate::context::Mm;
use crate::host::{Clock, Thing, all_uses_are_over, knowledge, pick, touch};
use crate::machine::Machine;
use crate::{Cpu, Event, Model};
use arch_contract::addr::{PAGE_SIZE, PhysAddr, VirtAddr};
use arch_contract::context::{Cached, ContextId, Contexts, Slot, Tags};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::pte::Protection;
use arch_contract::tlb::{Freed, Tlb};
use hashbrown::HashMap;
use std::sync::MutexGuard;

/// What a CPU compares when it looks a translation up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Tag(u32);

impl Tag {
    /// What a CPU has cached under it, as something that it uses and that changes hands.
    pub(crate) fn thing(self) -> Thing {
        Thing { kind: "what is cached under tag", number: self.0 as usize }
    }
}

/// A translation, and whose it is.
#[derive(Clone, Copy)]
struct Translation {
    owner: ContextId,
    to: Target,
}

/// Where a translation leads, and what the stores that the walk has found released: who uses it
/// finds the page as it was when it was mapped. `PTE-4`
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) at: PhysAddr,
    pub(crate) protection: Protection,
    pub(crate) known: Clock,
}

/// What one CPU has cached: pages, and where the last tables on the way to them are. As long as the
/// latter is there, a walk does not look at the tables above.
#[derive(Clone, Default)]
pub(crate) struct Translations {
    pages: HashMap<(Tag, VirtAddr), Translation>,
    tables: HashMap<(Tag, VirtAddr), (PhysAddr, Clock)>,
}

/// Bytes that one last table covers.
const TABLE_SPAN: u64 = 512 * PAGE_SIZE;

fn span(page: VirtAddr) -> VirtAddr {
    VirtAddr(page.0 & !(TABLE_SPAN - 1))
}

impl Translations {
    /// What is cached for `page` under `tag`, as a user of `user` finds it.
    ///
    /// # Panics
    /// If it was made for another address space: `CTX-4`.
    pub(crate) fn find(&self, tag: Tag, page: VirtAddr, user: ContextId) -> Option<Target> {
        let Translation { owner, to } = *self.pages.get(&(tag, page))?;
        assert_eq!(
            owner, user,
            "CTX-4: {page} is translated for {user:?} as it was for {owner:?}, under {tag:?}"
        );
        Some(to)
    }

    pub(crate) fn keep(&mut self, tag: Tag, page: VirtAddr, owner: ContextId, to: Target) {
        self.pages.insert((tag, page), Translation { owner, to });
    }

    /// Where the last table for `page` was when it was last looked for.
    pub(crate) fn find_table(&self, tag: Tag, page: VirtAddr) -> Option<(PhysAddr, Clock)> {
        self.tables.get(&(tag, span(page))).copied()
    }

    pub(crate) fn keep_table(&mut self, tag: Tag, page: VirtAddr, table: (PhysAddr, Clock)) {
        self.tables.insert((tag, span(page)), table);
    }

    /// Forgets one entry of those that are there, for no reason.
    pub(crate) fn evict(&mut self) {
        let mut entries: Vec<_> = self.pages.keys().map(|key| (*key, true)).collect();
        entries.extend(self.tables.keys().map(|key| (*key, false)));
        // In an order that is the same in every run.
        entries.sort_unstable_by_key(|((tag, at), is_page)| (tag.0, at.0, *is_page));
        match entries.get(pick(entries.len() as u64) as usize) {
            Some((key, true)) => {
                self.pages.remove(key);
            }
            Some((key, false)) => {
                self.tables.remove(key);
            }
            None => {}
        }
    }

    pub(crate) fn any_of(&self, tag: Tag) -> bool {
        self.pages.keys().chain(self.tables.keys()).any(|(other, _)| *other == tag)
    }

    pub(crate) fn forget_all(&mut self, tag: Tag) {
        touch(tag.thing());
        self.pages.retain(|(other, _), _| *other != tag);
        self.tables.retain(|(other, _), _| *other != tag);
    }

    pub(crate) fn forget_everything(&mut self) {
        self.pages.keys().chain(self.tables.keys()).for_each(|(tag, _)| touch(tag.thing()));
        *self = Self::default();
    }

    fn forget(&mut self, tag: Tag, start: VirtAddr, pages: u64, freed: Freed) {
        let end = start.0.saturating_add(pages.saturating_mul(PAGE_SIZE));
        self.pages.retain(|(other, page), _| *other != tag || page.0 < start.0 || page.0 >= end);
        if freed == Freed::Tables {
            self.tables.retain(|(other, at), _| *other != tag || at.0 < span(start).0 || at.0 >= end);
        }
    }
}

impl Machine {
    /// The tag under which a CPU that gave `mm` the slot `slot` has it cached.
    ///
    /// # Panics
    /// If the slot is out of this machine's range.
    pub(crate) fn tag(&self, mm: &Mm, slot: Slot) -> Tag {
        match Model::tags(self) {
            Tags::PerCpu { slots } => {
                assert!(slot.0 < slots, "CTX-4: {slot:?} of {slots}");
                Tag(slot.0.into())
            }
            Tags::Global { .. } => Tag(mm.hardware.0),
        }
    }
}

impl Cpu {
    pub(crate) fn translations(&self) -> MutexGuard<'_, Translations> {
        self.machine.translations(self.number)
    }
}

impl Tlb for Model {
    fn flush_local(
        cpu: &Cpu,
        target: Cached<'_, Mm>,
        start: VirtAddr,
        pages: u64,
        freed: Freed,
        _irq: &IrqsOff,
    ) {
        cpu.machine.log(Some(cpu), Event::Flush { id: target.mm.id, start, pages, freed });
        cpu.wander();
        let pages = match () {
            () if mutant::is(Mutant::LocalFlushDoesNothing) => return,
            () if mutant::is(Mutant::LocalFlushOnePageFewer) => pages.saturating_sub(1),
            () => pages,
        };
        cpu.translations().forget(cpu.machine.tag(target.mm, target.slot), start, pages, freed);
    }

    fn flush_local_mm(cpu: &Cpu, target: Cached<'_, Mm>, _irq: &IrqsOff) {
        cpu.machine.log(Some(cpu), Event::FlushMm(target.mm.id));
        cpu.translations().forget_all(cpu.machine.tag(target.mm, target.slot));
    }

    fn flush_local_all(cpu: &Cpu, _irq: &IrqsOff) {
        cpu.machine.log(Some(cpu), Event::FlushAll);
        cpu.translations().forget_everything();
    }

    const FLUSH_CEILING: u64 = 32;

    fn broadcast_from(machine: &Machine) -> Option<u32> {
        machine.config.broadcast_from.filter(|_| machine.config.profile.broadcasts())
    }

    fn broadcast(cpu: &Cpu, mm: &Mm, start: VirtAddr, pages: u64, freed: Freed, _irq: &IrqsOff) {
        let machine = cpu.machine;
        assert!(Self::broadcast_from(machine).is_some(), "TLB-3: this machine has no broadcast");
        machine.log(Some(cpu), Event::Broadcast { id: mm.id, start, pages, freed });
        let tag = machine.tag(mm, Slot(0));
        // The changed entries come before the invalidation, everywhere.
        let knowledge = knowledge();
        for (number, other) in (0..).zip(machine.cpus()) {
            other.walker.with(|known| *known = known.and(&knowledge));
            let mut translations = machine.translations(number);
            match pages > Self::FLUSH_CEILING {
                true => translations.forget_all(tag),
                false => translations.forget(tag, start, pages, freed),
            }
        }
        // Nor does it return while an access that began with an old translation is under way.
        all_uses_are_over();
    }
}
