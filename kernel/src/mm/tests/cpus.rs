//! Address spaces on several CPUs, each a host thread: shootdowns, what lazy CPUs may miss and must
//! catch up with, reuse of hardware ids, teardown under each lifetime policy.

mod rollover;
mod ways;

use crate::cpu::Cpu;
use crate::cpuset::CpuId;
use crate::membarrier;
use crate::mm::budget::Budget;
use crate::mm::space::{Progress, Space, UserRange};
use crate::mm::testing::{irqs_off, kernel_cpus};
use crate::request;
use crate::sched::context::{self, Loaded, Registrations};
use crate::sched::lifetime::{self, Policy, Verdict};
use crate::sync::Ordering;
use crate::syscall::Outcome;
use crate::tests::worker::Worker;
use abi::membarrier::Command;
use arch_contract::Base;
use arch_contract::addr::{PAGE_SIZE, VirtAddr};
use arch_contract::barrier::Site;
use arch_contract::context::ContextId;
use arch_contract::pte::Protection;
use arch_contract::tlb::Freed;
use arch_model::profile::Profile;
use arch_model::{Config, Event, Model};
use core::ptr;
use protocol::flush::Range;
use std::boxed::Box;
use std::sync::atomic::AtomicPtr;
use std::sync::mpsc::TryRecvError;
use std::vec::Vec;

const HERE: VirtAddr = VirtAddr(0x40_0000);
/// In another last-level table than [`HERE`]: unmapping it frees that table.
const FAR: VirtAddr = VirtAddr(1 << 40);
const PC: VirtAddr = VirtAddr(0x1_0000);

/// The first CPU is the test's; the others are threads.
struct World {
    cpu: &'static Cpu,
    others: Vec<(&'static Cpu, Worker)>,
}

fn world(config: Config) -> World {
    let mut cpus = kernel_cpus(config).into_iter();
    let cpu = cpus.next().expect("at least one");
    World { cpu, others: cpus.map(|cpu| (cpu, Worker::new(cpu))).collect() }
}

fn config(profile: Profile, cpus: u32) -> Config {
    Config { profile, cpus, ..Config::default() }
}

impl World {
    fn space(&self, n: u64) -> &'static Space {
        let memory = self.cpu.kernel.memory;
        let budget = Budget::child(memory, &self.cpu.kernel.root, u64::MAX).unwrap();
        let id = ContextId::new(n).unwrap();
        let space = Space::new(self.cpu, memory, budget, id, &irqs_off()).expect("memory and an id");
        Box::leak(Box::new(space))
    }

    fn map(&self, space: &Space, at: VirtAddr, pages: u64) {
        let region = space.reserve(self.cpu, Some(at), pages * PAGE_SIZE, Protection::ReadWrite).unwrap();
        let mut done = 0;
        while done < pages {
            done += space.populate(self.cpu, &region, done, 8, &irqs_off()).unwrap();
        }
    }

    fn unmap(&self, space: &Space, at: VirtAddr, pages: u64) {
        unmap(self.cpu, space, at, pages);
    }
}

fn unmap(cpu: &Cpu, space: &Space, at: VirtAddr, pages: u64) {
    let range = UserRange::new(at, pages * PAGE_SIZE).unwrap();
    while space.release(cpu, range, 8, &irqs_off()) == Ok(Progress::More) {}
}

fn enter(cpu: &Cpu, space: &Space) {
    // SAFETY: the tests leak their spaces.
    unsafe { context::enter(cpu, space, &irqs_off()) };
}

fn leave(cpu: &Cpu) {
    context::leave(cpu, &irqs_off());
}

fn reads(cpu: &Cpu, at: VirtAddr) -> bool {
    cpu.arch().user_load(PC, at).is_ok()
}

/// `TLB-3`: when the flush returns, the CPU that had the translation has not; it forgot it because
/// it was asked, not because it happened to switch.
#[test]
fn tlb_3_a_flush_returns_when_every_cpu_has_forgotten() {
    for profile in Profile::ALL {
        let w = world(config(profile, 3));
        let space = w.space(1);
        w.map(space, HERE, 4);
        enter(w.cpu, space);
        for (_, worker) in &w.others {
            assert!(worker.run(|cpu| {
                enter(cpu, space);
                reads(cpu, HERE) && reads(cpu, VirtAddr(HERE.0 + PAGE_SIZE))
            }));
        }
        w.unmap(space, HERE, 1);
        assert!(!reads(w.cpu, HERE));
        for (_, worker) in &w.others {
            assert!(worker.run(|cpu| !reads(cpu, HERE) && reads(cpu, VirtAddr(HERE.0 + PAGE_SIZE))));
        }
    }
}

/// `TLB-3`, `TLB-5`: the flush waits for a CPU that does not act, whichever it is, and goes on when it
/// does.
#[test]
fn tlb_3_a_flush_waits_for_a_cpu_that_is_deaf() {
    (0..2).for_each(a_flush_waits_for);
}

fn a_flush_waits_for(deaf: usize) {
    let w = world(config(Profile::Minimal, 4));
    let space = w.space(1);
    w.map(space, HERE, 1);
    for (_, worker) in &w.others[..2] {
        assert!(worker.run(|cpu| {
            enter(cpu, space);
            reads(cpu, HERE)
        }));
    }
    let (deaf, other, flusher) = (&w.others[deaf].1, &w.others[1 - deaf].1, &w.others[2].1);
    let acts = other.start(|cpu| request::wait_until(cpu, || cpu.words.seen() > 0));
    let (release, released) = std::sync::mpsc::channel::<()>();
    let silence = deaf.start(move |_| released.recv().is_ok());
    let flushed = flusher.start(|cpu| unmap(cpu, space, HERE, 1));
    for _ in 0..20_000 {
        assert_eq!(flushed.try_recv(), Err(TryRecvError::Empty), "the flush did not wait");
        std::thread::yield_now();
    }
    release.send(()).expect("it waits");
    assert!(silence.recv().expect("no panic"));
    // It acts on what it is asked when it next looks, which a switch is not: it waits for that.
    let hears = deaf.start(|cpu| request::wait_until(cpu, || cpu.words.seen() > 0));
    flushed.recv().expect("the flush returns");
    hears.recv().and_then(|()| acts.recv()).expect("no panic");
    assert!(deaf.run(|cpu| !reads(cpu, HERE)));
}

/// `TLB-3`: when a CPU says that it has forgotten, it has: at the moment of the flush it says so not
/// yet.
#[test]
fn tlb_3_forgotten_comes_before_it_is_said() {
    fn look(cpu: &'static arch_model::Cpu, event: Event) {
        if let Event::Flush { id, .. } = event {
            // SAFETY: the kernel has bound it.
            let words = unsafe { &Cpu::of(cpu).words };
            assert!(words.may_use_older(id, 1, Freed::PagesOnly), "said too soon");
        }
    }
    for profile in Profile::ALL {
        let w = world(config(profile, 2));
        let space = w.space(1);
        w.map(space, HERE, 2);
        w.cpu.machine().watch(look);
        let (other, worker) = &w.others[0];
        worker.run(|cpu| {
            enter(cpu, space);
            unmap(cpu, space, HERE, 1);
        });
        let events = w.cpu.machine().events();
        assert!(events.iter().any(|logged| matches!(logged.event, Event::Flush { .. })), "{profile:?}");
        assert!(!other.words.may_use_older(space.id(), 1, Freed::PagesOnly), "{profile:?}");
    }
}

/// `TLB-3`: a CPU that holds the space lazily is not asked while only pages go; before its next
/// user it has forgotten them.
#[test]
fn tlb_3_a_lazy_cpu_is_skipped_and_catches_up() {
    for profile in Profile::ALL {
        let w = world(config(profile, 2));
        let space = w.space(1);
        w.map(space, HERE, 4);
        let (other, worker) = &w.others[0];
        assert!(worker.run(|cpu| {
            enter(cpu, space);
            let read = reads(cpu, HERE);
            leave(cpu);
            read
        }));
        w.cpu.machine().events();
        w.unmap(space, HERE, 1);
        let events = w.cpu.machine().events();
        let asked = |event: &Event| matches!(event, Event::SendIpi { .. });
        assert!(!events.iter().any(|logged| asked(&logged.event)), "{profile:?}: a lazy CPU was interrupted");
        assert_eq!(other.words.loaded(), Loaded::Lazy(space.id()));
        assert!(worker.run(|cpu| {
            enter(cpu, space);
            !reads(cpu, HERE) && reads(cpu, VirtAddr(HERE.0 + PAGE_SIZE))
        }));
    }
}

/// `TLB-3`: a lazy CPU walks tables, so it is asked when one is freed.
#[test]
fn tlb_3_a_lazy_cpu_is_asked_when_tables_are_freed() {
    for profile in Profile::ALL {
        let w = world(config(profile, 2));
        let space = w.space(1);
        w.map(space, HERE, 1);
        w.map(space, FAR, 1);
        let worker = &w.others[0].1;
        assert!(worker.run(|cpu| {
            enter(cpu, space);
            let read = reads(cpu, FAR);
            leave(cpu);
            read
        }));
        w.cpu.machine().events();
        w.unmap(space, FAR, 1);
        let events = w.cpu.machine().events();
        let told = |event: &Event| matches!(event, Event::SendIpi { .. } | Event::Broadcast { .. });
        assert_eq!(events.iter().filter(|logged| told(&logged.event)).count(), 1, "{profile:?}");
    }
}

/// `TLB-3`: who frees a table while it holds the space lazily itself, as a kernel task does, has forgotten
/// it, too.
#[test]
fn tlb_3_a_table_is_forgotten_by_who_frees_it() {
    for profile in Profile::ALL {
        let w = world(config(profile, 1));
        let space = w.space(1);
        w.map(space, HERE, 1);
        w.map(space, FAR, 1);
        enter(w.cpu, space);
        assert!(reads(w.cpu, FAR));
        leave(w.cpu);
        w.unmap(space, FAR, 1);
        let generation = space.shared().flushes().generation();
        assert!(!w.cpu.words.may_use_older(space.id(), generation, Freed::Tables), "{profile:?}");
    }
}

/// The second CPU of the machine that has this one.
fn second(cpu: &arch_model::Cpu) -> &'static Cpu {
    // SAFETY: the kernel has bound it.
    unsafe { Cpu::of(&cpu.machine().cpus()[1]) }
}

/// What the watcher below raises generations of.
static FLUSHED: AtomicPtr<Space> = AtomicPtr::new(ptr::null_mut());

/// `CTX-3`, `TLB-4`: what is changed while a CPU loads the space, or forgets what was changed before, is
/// not among what it has seen: on every way in, and when it catches up.
#[test]
fn ctx_3_what_changes_meanwhile_is_not_seen() {
    const RANGE: Range = Range { start: HERE, pages: 1, freed: Freed::PagesOnly };
    /// Raises the generation between a CPU's look at it and what the CPU does for it.
    fn look(cpu: &'static arch_model::Cpu, event: Event) {
        // SAFETY: the spaces are leaked.
        let Some(space) = (unsafe { FLUSHED.load(Ordering::Relaxed).as_ref() }) else { return };
        let meanwhile = match event {
            Event::SwitchMm { to, .. } => to == space.id(),
            Event::Flush { id, .. } | Event::FlushMm(id) => id == space.id(),
            _ => false,
        };
        if meanwhile {
            FLUSHED.store(ptr::null_mut(), Ordering::Relaxed);
            space.shared().begin_flush(second(cpu), space.id(), RANGE);
        }
    }
    for profile in Profile::ALL {
        let w = world(config(profile, 2));
        let (space, other) = (w.space(1), w.space(2));
        w.cpu.machine().watch(look);
        let is_behind = |way: &dyn Fn()| {
            FLUSHED.store(ptr::from_ref(space).cast_mut(), Ordering::Relaxed);
            way();
            assert!(FLUSHED.load(Ordering::Relaxed).is_null(), "{profile:?}: nothing was done");
            let generation = space.shared().flushes().generation();
            assert!(w.cpu.words.may_use_older(space.id(), generation, Freed::PagesOnly), "{profile:?}");
        };
        // For the first time; from one user to the next; after a kernel task; and while it stays.
        is_behind(&|| enter(w.cpu, space));
        enter(w.cpu, other);
        is_behind(&|| enter(w.cpu, space));
        enter(w.cpu, other);
        leave(w.cpu);
        is_behind(&|| enter(w.cpu, space));
        is_behind(&|| context::catch_up(w.cpu, &irqs_off()));
    }
}

/// `BAR-3`: a CPU that comes to the process before the barrier (a) is in the sample, though it was not in
/// the set when the call began.
#[test]
fn bar_3_who_joins_before_a_is_sampled() {
    fn look(cpu: &'static arch_model::Cpu, event: Event) {
        if event != Event::FullBarrier(Site::MembarrierEnter) {
            return;
        }
        let other = second(cpu);
        let caller = other.kernel.cpu(CpuId::BOOT).expect("it is on");
        let space = caller.current_space().expect("it made the call");
        other.words.claim(other, space.id(), Registrations::NONE);
        other.words.begin_switch(other, None, space.id(), space.shared());
    }
    const COMMAND: u64 = Command::PrivateExpedited as u64;
    for alone in [true, false] {
        let w = world(config(Profile::Minimal, 2));
        let space = w.space(1);
        space.shared().commands().fetch_or(Command::RegisterPrivateExpedited as u32, Ordering::Relaxed);
        enter(w.cpu, space);
        w.cpu.machine().watch(look);
        if alone {
            assert!(!membarrier::alone(w.cpu, COMMAND, 0));
        } else {
            let outcome = membarrier::call(w.cpu, [COMMAND, 0, 0, 0, 0, 0], &irqs_off());
            assert!(matches!(outcome, Ok(Outcome::Pending(_))));
        }
    }
}

/// `TLB-4`: a CPU that was away for many flushes comes back to nothing old, under small changes and
/// large ones.
#[test]
fn tlb_4_a_cpu_that_was_away_for_long_catches_up() {
    for profile in Profile::ALL {
        for away in [1u64, 3, 7, 8, 9, 20] {
            let w = world(config(profile, 2));
            let space = w.space(1);
            let elsewhere = w.space(2);
            w.map(space, HERE, 32);
            w.map(elsewhere, HERE, 1);
            let worker = &w.others[0].1;
            assert!(worker.run(move |cpu| {
                enter(cpu, space);
                let all = (0..32).all(|page| reads(cpu, VirtAddr(HERE.0 + page * PAGE_SIZE)));
                enter(cpu, elsewhere);
                all
            }));
            for page in 0..away {
                w.unmap(space, VirtAddr(HERE.0 + page * PAGE_SIZE), 1);
            }
            assert!(
                worker.run(move |cpu| {
                    enter(cpu, space);
                    (0..32).all(|page| reads(cpu, VirtAddr(HERE.0 + page * PAGE_SIZE)) == (page >= away))
                }),
                "{profile:?}, {away} flushes"
            );
        }
    }
}

/// `TLB-3`, `TLB-4`: a CPU that was elsewhere while a table was freed has forgotten the way to it
/// when it loads the space again, not a moment after: the walker does not wait for that.
#[test]
fn tlb_3_a_freed_table_is_forgotten_before_the_space_is_loaded() {
    for profile in Profile::ALL {
        let w = world(config(profile, 2));
        let (space, elsewhere) = (w.space(1), w.space(2));
        w.map(space, HERE, 1);
        w.map(space, FAR, 1);
        w.map(elsewhere, HERE, 1);
        let worker = &w.others[0].1;
        assert!(worker.run(move |cpu| {
            enter(cpu, space);
            let read = reads(cpu, HERE) && reads(cpu, FAR);
            enter(cpu, elsewhere);
            read
        }));
        w.unmap(space, FAR, 1);
        w.cpu.machine().events();
        assert!(worker.run(move |cpu| {
            enter(cpu, space);
            reads(cpu, HERE) && !reads(cpu, FAR)
        }));
        let events = w.cpu.machine().events();
        let late = |event: &Event| matches!(event, Event::Flush { .. } | Event::FlushMm(_));
        assert!(!events.iter().any(|logged| late(&logged.event)), "{profile:?}: {events:?}");
    }
}

/// `TLB-2`: what is loaded is flushed under the number that it was loaded under, though a test uses
/// fewer of them from now on.
#[test]
fn tlb_2_what_is_loaded_keeps_its_slot() {
    for profile in Profile::ALL {
        let w = world(config(profile, 1));
        let space = w.space(3);
        w.map(space, HERE, 2);
        enter(w.cpu, space);
        assert!(reads(w.cpu, HERE));
        w.cpu.kernel.ids.limit_to(2);
        w.unmap(space, HERE, 1);
        assert!(!reads(w.cpu, HERE), "{profile:?}");
    }
}

/// `CTX-12`: more address spaces, one after the other, than there are ids, each used on every CPU:
/// ids are reused, after all CPUs have forgotten everything, and each space sees its own pages. The
/// model checks every use of a translation against the space it was made for.
#[test]
fn ctx_12_ids_roll_over() {
    for profile in Profile::ALL {
        let w = world(Config { hardware_ids: 3, ram: 8 << 20, ..config(profile, 3) });
        let ids = &w.cpu.kernel.ids;
        for n in 1..=10 {
            let space = w.space(n);
            w.map(space, HERE, 1);
            space.write_bytes(w.cpu, HERE, &[n as u8]).unwrap();
            // The CPU that rolls over is one of them.
            enter(w.cpu, space);
            assert_eq!(w.cpu.arch().user_load(PC, HERE).ok(), Some(n as u8), "{profile:?}");
            leave(w.cpu);
            for (_, worker) in &w.others {
                assert_eq!(
                    worker.run(|cpu| {
                        enter(cpu, space);
                        let value = cpu.arch().user_load(PC, HERE).ok();
                        leave(cpu);
                        value
                    }),
                    Some(n as u8),
                    "{profile:?}"
                );
            }
            let mut state = None;
            for (_, worker) in &w.others {
                worker.run(|cpu| context::drop_when_lazy(cpu, &irqs_off()));
            }
            let verdict = lifetime::is_loaded_nowhere(w.cpu, space, &mut state, &irqs_off());
            assert_eq!(verdict, Verdict::LoadedNowhere);
            while space.teardown_step(w.cpu, 8) == Progress::More {}
        }
        let expected = if ids.are_per_cpu() { 0 } else { 3 };
        assert_eq!(ids.rollovers(), expected, "{profile:?}");
    }
}

/// `CTX-12`: retired ids are clean only when every CPU has forgotten: who takes one meanwhile waits.
#[test]
fn ctx_12_no_id_is_clean_before_every_cpu_has_forgotten() {
    fn look(cpu: &'static arch_model::Cpu, event: Event) {
        // The CPU that rolls over is bound when a kernel boots, which this one does not.
        if event == Event::FlushAll && !Model::upper(cpu).is_null() {
            // SAFETY: the kernel has bound it.
            let ids = unsafe { &Cpu::of(cpu).kernel.ids };
            assert_eq!(ids.clean(), 0, "CPU {} has yet to forget", cpu.number());
        }
    }
    let w = world(Config { hardware_ids: 3, ram: 8 << 20, ..config(Profile::Minimal, 3) });
    w.cpu.machine().watch(look);
    for n in 1..=7 {
        let space = w.space(n);
        while space.teardown_step(w.cpu, 8) == Progress::More {}
    }
    assert_eq!(w.cpu.kernel.ids.rollovers(), 2);
}

/// `CTX-9`: an address space that seven CPUs hold lazily is free only when none does. Shootdown
/// asks each once and at once; the others ask nobody who moves on by himself, and the rest, once,
/// when their patience is over.
#[test]
fn ctx_9_a_teardown_ends_when_no_cpu_holds_it() {
    for policy in [Policy::Hazard, Policy::Refcount, Policy::Shootdown] {
        for profile in Profile::ALL {
            let w = world(config(profile, 8));
            w.cpu.kernel.lifetime.set(policy);
            let (space, elsewhere) = (w.space(1), w.space(2));
            w.map(space, HERE, 1);
            w.map(elsewhere, HERE, 1);
            for (_, worker) in &w.others {
                worker.run(|cpu| {
                    enter(cpu, space);
                    leave(cpu);
                });
            }
            let mut state = None;
            let mut look = || lifetime::is_loaded_nowhere(w.cpu, space, &mut state, &irqs_off());
            assert!(matches!(look(), Verdict::Wait(_)), "{policy:?} {profile:?}");
            if policy != Policy::Shootdown {
                // Two move on by themselves.
                for (_, worker) in &w.others[..2] {
                    worker.run(|cpu| enter(cpu, elsewhere));
                }
                assert!(matches!(look(), Verdict::Wait(_)));
                assert_eq!(w.cpu.kernel.teardown_interrupts(), 0, "{policy:?}");
                w.cpu.machine().advance(20_000_000);
            }
            let mut looks = 0;
            while look() != Verdict::LoadedNowhere {
                looks += 1;
                assert!(looks < 1_000_000, "{policy:?} {profile:?}: it never ends");
                std::thread::yield_now();
            }
            let asked = if policy == Policy::Shootdown { 7 } else { 5 };
            assert_eq!(w.cpu.kernel.teardown_interrupts(), asked, "{policy:?} {profile:?}");
            for (other, _) in &w.others {
                assert!(!other.words.holds(space.id()), "{policy:?} {profile:?}");
            }
            // The model asserts that nothing holds it, and that its tables are walked no more.
            while space.teardown_step(w.cpu, 8) == Progress::More {}
        }
    }
}

/// `CTX-9`: a CPU that is asked while the mm is still active there lets go when it becomes lazy.
#[test]
fn ctx_9_an_active_cpu_lets_go_when_it_becomes_lazy() {
    let w = world(config(Profile::Minimal, 2));
    w.cpu.kernel.lifetime.set(Policy::Shootdown);
    let space = w.space(1);
    w.map(space, HERE, 1);
    let (other, worker) = &w.others[0];
    worker.run(|cpu| enter(cpu, space));
    let mut state = None;
    let mut look = || lifetime::is_loaded_nowhere(w.cpu, space, &mut state, &irqs_off());
    assert!(matches!(look(), Verdict::Wait(_)));
    // Served by now: the worker does between two jobs.
    worker.run(|cpu| cpu.serve());
    assert_eq!(other.words.loaded(), Loaded::Active(space.id()));
    assert!(matches!(look(), Verdict::Wait(_)));
    worker.run(leave);
    assert_eq!(other.words.loaded(), Loaded::Kernel);
    assert_eq!(look(), Verdict::LoadedNowhere);
    assert_eq!(w.cpu.kernel.teardown_interrupts(), 1);
}
