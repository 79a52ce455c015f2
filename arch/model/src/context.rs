//! Memory contexts, strictly: what is loaded is checked against what still exists.

use crate::cpu::{Cpu, Fence, Loaded};
use crate::events::Event;
use crate::host::own;
use crate::machine::lock;
use crate::tlb::Tag;
use crate::{Machine, Model};
use arch_contract::addr::PhysAddr;
use arch_contract::barrier::CoreSync;
use arch_contract::context::{
    ContextId, Contexts, Did, HardwareId, LeftLazy, Loadable, NowUser, Previously, Slot, Stale, Switched,
    Tags,
};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use hashbrown::HashMap;

/// The port's part of an address space.
pub struct Mm {
    pub(crate) id: ContextId,
    pub(crate) hardware: HardwareId,
}

/// The address spaces that exist: the machine's table of their roots.
pub(crate) type Live = HashMap<ContextId, (HardwareId, PhysAddr)>;

impl Machine {
    fn live(&self) -> std::sync::MutexGuard<'_, Live> {
        lock(&self.live)
    }

    /// Address spaces that exist.
    pub fn live_contexts(&self) -> usize {
        self.live().len()
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

    /// `CTX-11`, `CTX-12`: nobody else has `mm`'s hardware id, and no CPU remembers who had.
    fn assert_fresh(&self, live: &Live, mm: &Mm) {
        let Tags::Global { first, count } = Model::tags(self) else {
            assert_eq!(mm.hardware, HardwareId(0), "ids are each CPU's own here");
            return;
        };
        let hardware = mm.hardware;
        assert!((first..first + count).contains(&hardware.0), "{hardware:?} is out of range");
        assert!(!live.values().any(|(other, _)| *other == hardware), "CTX-11: {hardware:?} is shared");
        let tag = self.tag(mm, Slot(0));
        own(tag.thing());
        for number in 0..self.config.cpus {
            assert!(
                !self.translations(number).any_of(tag),
                "CTX-12: CPU {number} still has translations of a former user of {hardware:?}"
            );
        }
    }
}

impl Contexts for Model {
    type Mm = Mm;

    fn tags(machine: &Machine) -> Tags {
        machine.config.profile.tags(machine.config.hardware_ids)
    }

    fn new_mm(machine: &Machine, root: PhysAddr, id: ContextId, hardware: HardwareId) -> Mm {
        let mm = Mm { id, hardware };
        let mut live = machine.live();
        machine.assert_fresh(&live, &mm);
        assert!(live.insert(id, (hardware, root)).is_none(), "{id:?} was given twice");
        drop(live);
        machine.log(None, Event::NewMm(id));
        mm
    }

    unsafe fn retire_mm(machine: &Machine, mm: &Mm) {
        machine.log(None, Event::RetireMm(mm.id));
        machine.assert_unheld(mm.id);
        machine.live().remove(&mm.id).expect("CTX-9: retired twice");
    }

    unsafe fn switch_mm(cpu: &Cpu, from: Previously, to: &Loadable<'_, Mm>, _irq: &IrqsOff) -> Switched {
        let machine = cpu.machine;
        let (id, profile) = (to.id(), machine.config.profile);
        assert_eq!(to.mm().id, id, "the id is not the one the mm was made with");
        assert!(machine.live().contains_key(&id), "CTX-9: {id:?} is loaded after it was retired");
        machine.log(Some(cpu), Event::SwitchMm { from, to: id });
        let fence = cpu.fence.replace(Fence::UsedBySwitch);
        assert_eq!(fence, Fence::Entered, "CTX-3: no full barrier (e) before the switch to {id:?}");
        let tag = machine.tag(to.mm(), to.slot());
        // `from` is a hint; what is held decides. `CTX-2`
        let reload = match () {
            () if mutant::is(Mutant::HintIsBelieved) => from != Previously::Mm(id),
            () if mutant::is(Mutant::SameNumberSameMm) && cpu.loaded() != Loaded::Kernel => {
                cpu.tag.get() != tag
            }
            () => cpu.loaded() != Loaded::Mm(id) || cpu.tag.get() != tag,
        };
        // Without tags a load forgets what was there before.
        let flush = to.stale() == Stale::Everything
            || reload && matches!(Self::tags(machine), Tags::PerCpu { slots: 1 });
        if flush {
            cpu.translations().forget_all(tag);
        }
        if !reload {
            return Switched { flushed: if flush { Did::Yes } else { Did::No }, ..Switched::NOTHING };
        }
        cpu.tag.set(tag);
        cpu.set_loaded(Loaded::Mm(id));
        cpu.wander();
        if profile.switch_serializes() == Did::Yes {
            cpu.serialized();
        }
        Switched {
            core_serialized: profile.switch_serializes(),
            reloaded: Did::Yes,
            flushed: if flush { Did::Yes } else { Did::No },
        }
    }

    fn enter_lazy_tlb(cpu: &Cpu, held: ContextId, _irq: &IrqsOff) {
        cpu.machine.log(Some(cpu), Event::EnterLazy(held));
        assert_eq!(cpu.lazy.get(), None, "CTX-6: a lazy episode begins inside another");
        assert_eq!(cpu.loaded(), Loaded::Mm(held), "CTX-2: a lazy episode of what is not loaded");
        cpu.lazy.set(Some(held));
        cpu.fence.set(Fence::None);
        cpu.wander();
    }

    fn exit_lazy_tlb(
        cpu: &Cpu,
        left: LeftLazy,
        now: NowUser<'_, Mm>,
        _switched: Switched,
        _irq: &IrqsOff,
    ) -> CoreSync {
        cpu.machine.log(Some(cpu), Event::ExitLazy { left: left.0, now: now.id });
        cpu.wander();
        if mutant::is(Mutant::LeftIsFollowed) {
            assert!(cpu.machine.live().contains_key(&left.0), "CTX-10: {left:?} leads nowhere");
        }
        assert_eq!(cpu.lazy.take(), Some(left.0), "CTX-7: not the episode that was begun");
        assert_eq!(cpu.loaded(), Loaded::Mm(now.id), "CTX-7: before the switch");
        assert_ne!(cpu.fence.take(), Fence::None, "BAR-5: no full barrier (e) since the episode began");
        CoreSync::NotDone
    }

    fn drop_lazy(cpu: &Cpu, left: LeftLazy, _irq: &IrqsOff) {
        cpu.machine.log(Some(cpu), Event::DropLazy(left.0));
        cpu.wander();
        assert_eq!(cpu.lazy.take(), Some(left.0), "CTX-7: not the episode that was begun");
        if cpu.loaded() == Loaded::Mm(left.0) {
            cpu.set_loaded(Loaded::Kernel);
        }
    }
}

impl Cpu {
    pub(crate) fn set_loaded(&self, loaded: Loaded) {
        *lock(&self.machine.shared(self.number).loaded) = loaded;
    }

    /// Whose tables a walk on this CPU uses, the tag of what it finds, and where they are.
    pub(crate) fn walk_from(&self) -> Option<(ContextId, Tag, PhysAddr)> {
        match self.loaded() {
            Loaded::Kernel => None,
            Loaded::Mm(id) => self.machine.live().get(&id).map(|(_, root)| (id, self.tag.get(), *root)),
        }
    }
}
