//! Memory contexts, strictly: what is loaded is checked against what still exists.

use crate::cpu::{Cpu, Loaded};
use crate::events::Event;
use crate::profile::Tags;
use crate::{Machine, Model};
use arch_contract::addr::PhysAddr;
use arch_contract::barrier::CoreSync;
use arch_contract::context::{
    ContextId, Contexts, Did, LeftLazy, Loadable, NowUser, OutOfHardwareIds, Previously, Switched,
};
use arch_contract::irq::IrqsOff;
use hashbrown::HashMap;

/// The tag of a translation: reused as soon as it is free, so that what was not flushed shows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct HardwareId(u16);

/// The port's part of an address space.
pub struct Mm {
    pub(crate) id: ContextId,
    pub(crate) hardware: HardwareId,
}

/// The address spaces that exist, and the machine's table of their roots.
pub(crate) struct Ids {
    taken: Vec<bool>,
    live: HashMap<ContextId, (HardwareId, PhysAddr)>,
}

impl Ids {
    pub(crate) fn new(count: u16) -> Self {
        Self { taken: vec![false; count.into()], live: HashMap::new() }
    }

    fn take(&mut self, id: ContextId, root: PhysAddr) -> Result<HardwareId, OutOfHardwareIds> {
        let free = self.taken.iter().position(|taken| !taken).ok_or(OutOfHardwareIds)?;
        self.taken[free] = true;
        let hardware = HardwareId(free as u16);
        assert!(self.live.insert(id, (hardware, root)).is_none(), "{id:?} was given twice");
        Ok(hardware)
    }

    fn give_back(&mut self, id: ContextId) -> HardwareId {
        let (hardware, _) = self.live.remove(&id).expect("CTX-9: retired twice");
        self.taken[usize::from(hardware.0)] = false;
        hardware
    }

    /// Where the tables of `id` are.
    pub(crate) fn root(&self, id: ContextId) -> Option<(HardwareId, PhysAddr)> {
        self.live.get(&id).copied()
    }
}

impl Machine {
    fn ids(&self) -> std::sync::MutexGuard<'_, Ids> {
        self.ids.lock().expect("no test panicked holding it")
    }

    /// Address spaces that exist.
    pub fn live_contexts(&self) -> usize {
        self.ids().live.len()
    }

    /// Silent in a test that is failing already: a second panic would end all tests.
    fn assert_unheld(&self, id: ContextId) {
        if std::thread::panicking() {
            return;
        }
        for number in 0..self.config.cpus {
            assert_ne!(self.loaded(number), Loaded::Mm(id), "CTX-9: CPU {number} still holds it");
        }
    }

    /// As [`assert_unheld`](Self::assert_unheld).
    fn assert_no_translation(&self, hardware: HardwareId) {
        if std::thread::panicking() {
            return;
        }
        for (number, shared) in self.shared.iter().enumerate() {
            let translations = shared.translations.lock().expect("no test panicked holding it");
            assert!(
                !translations.any_of(hardware),
                "CTX-12: CPU {number} still has translations of a freed hardware id"
            );
        }
    }
}

impl Contexts for Model {
    type Mm = Mm;

    fn new_mm(machine: &Machine, root: PhysAddr, id: ContextId) -> Result<Mm, OutOfHardwareIds> {
        let hardware = machine.ids().take(id, root)?;
        machine.log(None, Event::NewMm(id));
        Ok(Mm { id, hardware })
    }

    unsafe fn discard_mm(machine: &Machine, mm: &Mm) {
        machine.log(None, Event::DiscardMm(mm.id));
        machine.assert_unheld(mm.id);
        machine.assert_no_translation(mm.hardware);
        machine.ids().give_back(mm.id);
    }

    unsafe fn retire_mm(cpu: &Cpu, mm: &Mm, _irq: &IrqsOff) {
        let machine = cpu.machine;
        machine.log(Some(cpu), Event::RetireMm(mm.id));
        machine.assert_unheld(mm.id);
        cpu.translations().forget_all(mm.hardware);
        machine.assert_no_translation(mm.hardware);
        machine.ids().give_back(mm.id);
    }

    unsafe fn switch_mm(cpu: &Cpu, from: Previously, to: &Loadable<'_, Mm>, _irq: &IrqsOff) -> Switched {
        let machine = cpu.machine;
        let (id, profile) = (to.id(), machine.config.profile);
        assert_eq!(to.mm().id, id, "the id is not the one the mm was made with");
        assert!(machine.ids().root(id).is_some(), "CTX-9: {id:?} is loaded after it was retired");
        machine.log(Some(cpu), Event::SwitchMm { from, to: id });
        // `from` is a hint; what is held decides. `CTX-2`
        if cpu.loaded() == Loaded::Mm(id) {
            return Switched::NOTHING;
        }
        cpu.set_loaded(Loaded::Mm(id));
        let tlb_current = match profile.tags() {
            Tags::Tagged => Did::No,
            Tags::Untagged => {
                cpu.translations().forget_everything();
                Did::Yes
            }
        };
        Switched {
            full_barrier: profile.switch_is_barrier(),
            core_serialized: profile.switch_serializes(),
            reloaded: Did::Yes,
            tlb_current,
        }
    }

    fn enter_lazy_tlb(cpu: &Cpu, held: ContextId, _irq: &IrqsOff) {
        cpu.machine.log(Some(cpu), Event::EnterLazy(held));
        assert_eq!(cpu.lazy.get(), None, "CTX-6: a lazy episode begins inside another");
        assert_eq!(cpu.loaded(), Loaded::Mm(held), "CTX-2: a lazy episode of what is not loaded");
        cpu.lazy.set(Some(held));
    }

    fn exit_lazy_tlb(
        cpu: &Cpu,
        left: LeftLazy,
        now: NowUser<'_, Mm>,
        _switched: Switched,
        _irq: &IrqsOff,
    ) -> CoreSync {
        cpu.machine.log(Some(cpu), Event::ExitLazy { left: left.0, now: now.id });
        assert_eq!(cpu.lazy.take(), Some(left.0), "CTX-7: not the episode that was begun");
        assert_eq!(cpu.loaded(), Loaded::Mm(now.id), "CTX-7: before the switch");
        CoreSync::NotDone
    }

    fn drop_lazy(cpu: &Cpu, left: LeftLazy, _irq: &IrqsOff) {
        let machine = cpu.machine;
        machine.log(Some(cpu), Event::DropLazy(left.0));
        assert_eq!(cpu.lazy.take(), Some(left.0), "CTX-7: not the episode that was begun");
        if cpu.loaded() == Loaded::Mm(left.0) {
            cpu.set_loaded(Loaded::Kernel);
        }
        if let Some((hardware, _)) = machine.ids().root(left.0) {
            cpu.translations().forget_all(hardware);
        }
    }
}

impl Cpu {
    fn set_loaded(&self, loaded: Loaded) {
        let shared = &self.machine.shared[self.number as usize];
        *shared.loaded.lock().expect("no test panicked holding it") = loaded;
    }

    /// The tag and the root that a walk on this CPU uses.
    pub(crate) fn walk_from(&self) -> Option<(HardwareId, PhysAddr)> {
        match self.loaded() {
            Loaded::Kernel => None,
            Loaded::Mm(id) => self.machine.ids().root(id),
        }
    }
}
