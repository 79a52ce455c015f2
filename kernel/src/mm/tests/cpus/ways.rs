//! The ways by which a CPU comes to a user of an address space: what must hold on each, whichever of
//! them is short.

use super::*;
use crate::cpu::Work;
use crate::kernel::Waiting;
use crate::pending::Pending;
use arch_contract::context::Did;
use std::sync::atomic::Ordering::Relaxed;

/// Brings a CPU to where it enters the second space next, by the first perhaps.
type Come = fn(&World, &Space, &Space);

/// From where a CPU comes to a space; and what has happened to the space meanwhile.
const WAYS: [(&str, Come); 6] = [
    ("for the first time", |w, other, _| enter(w.cpu, other)),
    ("in turn", |w, other, space| {
        enter(w.cpu, space);
        enter(w.cpu, other);
    }),
    ("in turn, where pages have changed", |w, other, space| {
        enter(w.cpu, space);
        enter(w.cpu, other);
        let range = Range { start: HERE, pages: 1, freed: Freed::PagesOnly };
        space.shared().begin_flush(w.others[0].0, space.id(), range);
    }),
    ("after a kernel task", |w, _, space| {
        enter(w.cpu, space);
        leave(w.cpu);
    }),
    ("after a kernel task of another", |w, other, space| {
        enter(w.cpu, space);
        enter(w.cpu, other);
        leave(w.cpu);
    }),
    ("from the kernel", |w, _, space| {
        enter(w.cpu, space);
        leave(w.cpu);
        context::drop_when_lazy(w.cpu, &irqs_off());
    }),
];

/// `f` for every profile and way, right before the CPU enters the space.
fn everywhere(f: impl Fn(Profile, &World, &Space, &str)) {
    for profile in Profile::ALL {
        for (way, come) in WAYS {
            let w = world(config(profile, 2));
            let (other, space) = (w.space(1), w.space(2));
            come(&w, other, space);
            f(profile, &w, space, &std::format!("{way}, {profile:?}"));
        }
    }
}

/// `CTX-3`: who flushes, and who samples, finds a CPU in the space's set that has a user of it.
#[test]
fn ctx_3_every_way_joins_the_set() {
    everywhere(|_, w, space, way| {
        enter(w.cpu, space);
        assert!(space.shared().set().has(w.cpu.number), "{way}");
        assert_eq!(w.cpu.words.loaded(), Loaded::Active(space.id()), "{way}");
    });
}

/// `BAR-2`: a process that registers while a CPU enters it, after the CPU has read its registrations and
/// before others see it there, is seen as registered there.
#[test]
fn bar_2_a_registration_meanwhile_is_seen() {
    static REGISTERS: AtomicPtr<Space> = AtomicPtr::new(ptr::null_mut());
    fn look(cpu: &'static arch_model::Cpu, event: Event) {
        if event != Event::FullBarrier(Site::EnterUserMm) {
            return;
        }
        // SAFETY: the spaces are leaked.
        if let Some(space) = unsafe { REGISTERS.swap(ptr::null_mut(), Relaxed).as_ref() } {
            space.shared().register(second(cpu), Registrations::GLOBAL_EXPEDITED);
        }
    }
    everywhere(|_, w, space, way| {
        w.cpu.machine().watch(look);
        REGISTERS.store(ptr::from_ref(space).cast_mut(), Relaxed);
        enter(w.cpu, space);
        let current = w.cpu.words.current_mm().expect("it was entered");
        assert!(current.registrations.has(Registrations::GLOBAL_EXPEDITED), "{way}");
    });
}

/// `RET-2`: what was asked while a CPU had no user of the process is settled by the way back, or owed.
#[test]
fn ret_2_what_was_asked_meanwhile_is_owed() {
    everywhere(|profile, w, space, way| {
        space.shared().raise_sync_generation();
        w.cpu.machine().events();
        enter(w.cpu, space);
        let serializes = |event: Event| match event {
            Event::SwitchMm { .. } => profile.switch_serializes() == Did::Yes,
            Event::CoreSync => true,
            _ => false,
        };
        let is_settled = profile.user_return_serializes()
            || w.cpu.machine().events().into_iter().any(|logged| serializes(logged.event));
        assert!(is_settled || w.cpu.work().has(Work::CORE_SYNC), "{way}");
    });
}

/// `CTX-9`: an mm that was asked back while it was active is not meant any more when another is.
#[test]
fn ctx_9_who_was_not_asked_back_stays() {
    everywhere(|_, w, space, way| {
        let irq = irqs_off();
        if let Loaded::Active(_) = w.cpu.words.loaded() {
            context::drop_when_lazy(w.cpu, &irq);
        }
        enter(w.cpu, space);
        leave(w.cpu);
        assert_eq!(w.cpu.words.loaded(), Loaded::Lazy(space.id()), "{way}");
    });
}

/// `TLB-2`: spaces that share a number of a CPU see their own pages, in turn.
#[test]
fn tlb_2_a_number_is_anothers() {
    for profile in Profile::ALL {
        let w = world(config(profile, 1));
        w.cpu.kernel.ids.limit_to(2);
        let spaces = [(w.space(1), HERE), (w.space(3), FAR)];
        for (space, at) in spaces {
            w.map(space, at, 1);
        }
        for turn in 0..6 {
            let [(space, own), (_, others)] = [spaces[turn % 2], spaces[(turn + 1) % 2]];
            enter(w.cpu, space);
            assert!(!reads(w.cpu, others) && reads(w.cpu, own), "{profile:?}, turn {turn}");
        }
    }
}

/// `CTX-9`: tables are not freed while a lazy CPU counts, though no CPU says that it holds them.
#[test]
fn ctx_9_who_counts_holds() {
    let w = world(config(Profile::Minimal, 2));
    w.cpu.kernel.lifetime.set(Policy::Refcount);
    let space = w.space(1);
    space.shared().take_hold();
    let mut state = None;
    let mut look = || lifetime::is_loaded_nowhere(w.cpu, space, &mut state, &irqs_off());
    assert!(matches!(look(), Verdict::Wait(_)));
    space.shared().give_up();
    assert_eq!(look(), Verdict::LoadedNowhere);
}

/// `CTX-9`: a teardown that somebody waits for asks at once, by whatever policy; until nobody waits any
/// more.
#[test]
fn ctx_9_a_teardown_that_is_waited_for_asks() {
    for policy in [Policy::Hazard, Policy::Refcount] {
        let w = world(config(Profile::Minimal, 2));
        w.cpu.kernel.lifetime.set(policy);
        let space = w.space(1);
        w.others[0].1.run(|cpu| {
            enter(cpu, space);
            leave(cpu);
        });
        let look = || lifetime::is_loaded_nowhere(w.cpu, space, &mut None, &irqs_off());
        let asked = || w.cpu.kernel.teardown_interrupts();
        assert!(matches!(look(), Verdict::Wait(_)) && asked() == 0);
        w.cpu.kernel.hurry(Waiting::Begins);
        Pending::Teardowns.give_up(w.cpu);
        assert!(matches!(look(), Verdict::Wait(_)) && asked() == 0, "given up");
        w.cpu.kernel.hurry(Waiting::Begins);
        assert!(matches!(look(), Verdict::Wait(_)) && asked() == 1);
    }
}
