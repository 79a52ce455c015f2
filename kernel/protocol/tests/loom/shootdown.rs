//! TLB generations, and the words that teardown reads: what was unmapped, or freed, is out of use.

use crate::cpu::{Cpu, M, N, race};
use crate::membarrier::{Entry, begin_to_enter, enter, set_out};
use arch_contract::addr::VirtAddr;
use arch_contract::tlb::Freed;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;
use protocol::flush::{DEPTH, Missed, Range};
use protocol::words::Registrations;

fn range(page: u64, freed: Freed) -> Range {
    Range { start: VirtAddr(page << 12), pages: 1, freed }
}

/// More pages than any of these tests changes.
const CEILING: u64 = 32;

/// A CPU that enters M, with an old translation cached, while another changes the entry: either the
/// flusher waits for it, or it forgets the translation and walks to the new entry. `x` is the entry.
#[test]
fn tlb_1_switch_against_flush() {
    for entry in Entry::ALL {
        let flusher = |cpu: Cpu<'_>| {
            let [_, other] = cpu.machine.cpus();
            cpu.machine.x.store(1, Relaxed);
            let (wanted, set) = cpu.machine.m.begin_flush(&cpu, M, range(1, Freed::PagesOnly));
            let waits = other.words().may_use_older(M, wanted, Freed::PagesOnly);
            set.has(other.number) && waits
        };
        let user = move |cpu: Cpu<'_>| {
            let (words, m) = (cpu.words(), &cpu.machine.m);
            begin_to_enter(cpu, entry, Registrations::NONE);
            let generation = m.flushes().generation();
            let keeps = m.flushes().since(0, generation, CEILING) == Missed::Nothing;
            let walked = cpu.machine.x.load(Relaxed);
            words.end_switch(M, generation);
            (keeps, walked)
        };
        let seen = race(set_out(entry), flusher, user, |_, waits, (keeps, walked)| (waits, keeps, walked));
        assert!(seen.contains(&(true, true, 0)) && seen.contains(&(false, false, 1)), "{seen:?}");
        assert!(!seen.iter().any(|it| matches!(it, (false, true, _))), "TLB-1: an old translation: {seen:?}");
        assert!(
            !seen.iter().any(|it| matches!(it, (_, false, 0))),
            "TLB-2: walked to the old entry: {seen:?}"
        );
    }
}

/// What a CPU did with an old translation, or a walker in a table, comes before what was freed is used
/// again; whether it has a user, or holds the space lazily and tables are freed.
#[test]
fn tlb_3_the_last_use_comes_before_the_free() {
    for (entry, freed) in [(Entry::Switch, Freed::PagesOnly), (Entry::Resume, Freed::Tables)] {
        let flusher = move |cpu: Cpu<'_>| {
            let [_, other] = cpu.machine.cpus();
            let (wanted, _) = cpu.machine.m.begin_flush(&cpu, M, range(1, freed));
            while other.words().may_use_older(M, wanted, freed) {
                thread::yield_now();
            }
            cpu.machine.frame.reuse();
        };
        let user = |cpu: Cpu<'_>| {
            cpu.machine.frame.touch();
            while cpu.machine.m.flushes().generation() == 0 {
                thread::yield_now();
            }
            cpu.words().set_seen(cpu.machine.m.flushes().generation());
        };
        let before = move |[flusher, user]: [Cpu<'_>; 2]| {
            set_out(entry)([flusher, user]);
            if matches!(entry, Entry::Switch) {
                enter(user, entry);
            }
        };
        race(before, flusher, user, |_, (), ()| ());
    }
}

/// How a CPU stops holding M.
#[derive(Clone, Copy)]
enum Stops {
    LetsGo,
    Switches,
    /// It had a user of it.
    Turns,
}

/// A CPU holds M lazily, its walker in M's tables, and stops: by itself, since it goes on with another
/// address space, or because it was asked. The tables are freed after that. `CTX-9`
#[test]
fn ctx_9_the_last_walk_comes_before_the_free() {
    for stops in [Stops::LetsGo, Stops::Switches, Stops::Turns] {
        let teardown = |cpu: Cpu<'_>| {
            let [_, other] = cpu.machine.cpus();
            while other.words().holds(M) {
                thread::yield_now();
            }
            cpu.machine.frame.reuse();
        };
        let lazy = move |cpu: Cpu<'_>| {
            let words = cpu.words();
            cpu.machine.frame.touch();
            match stops {
                Stops::LetsGo => words.let_go(),
                Stops::Turns => {
                    words.turn_to(&cpu, words.active().expect("it has M"), N, Registrations::NONE);
                    cpu.machine.frame.touch();
                    words.end_switch(N, 0);
                }
                Stops::Switches => {
                    words.claim(&cpu, N, Registrations::NONE);
                    words.begin_switch(&cpu, Some(M), N, &cpu.machine.n);
                    cpu.machine.frame.touch();
                    words.end_switch(N, 0);
                }
            }
        };
        let before = move |cpus: [Cpu<'_>; 2]| match stops {
            Stops::Turns => enter(cpus[1], Entry::Switch),
            _ => set_out(Entry::Resume)(cpus),
        };
        race(before, teardown, lazy, |_, (), ()| ());
    }
}

/// Under the refcount policy the CPU follows the pointer to the space up to the moment it gives its
/// count back. `CTX-9`
#[test]
fn ctx_9_a_counted_space_outlives_its_lazy_cpus() {
    let teardown = |cpu: Cpu<'_>| {
        let [_, other] = cpu.machine.cpus();
        while other.words().holds(M) || cpu.machine.m.holders() != 0 {
            thread::yield_now();
        }
        cpu.machine.frame.reuse();
    };
    let lazy = |cpu: Cpu<'_>| {
        let words = cpu.words();
        words.leave(&cpu);
        cpu.machine.m.take_hold();
        words.become_lazy(M);
        words.let_go();
        cpu.machine.frame.touch();
        cpu.machine.m.give_up();
    };
    race(|cpus| enter(cpus[1], Entry::Switch), teardown, lazy, |_, (), ()| ());
}

/// A reader of the log, against a flush that takes its oldest note: it has the note or it has not,
/// never half of it. `TLB-4`
#[test]
fn tlb_4_a_note_is_read_whole_or_not_at_all() {
    let all = DEPTH as u64;
    let before = move |[cpu, _]: [Cpu<'_>; 2]| {
        for generation in 1..=all {
            cpu.machine.m.flushes().raise(range(generation, Freed::PagesOnly));
        }
    };
    let flusher = move |cpu: Cpu<'_>| {
        cpu.machine.m.flushes().raise(range(all + 1, Freed::Tables));
    };
    let late = |cpu: Cpu<'_>| cpu.machine.m.flushes().since(0, 1, CEILING);
    let seen = race(before, flusher, late, |_, (), missed| match missed {
        Missed::Ranges(ranges) if ranges.len() == 1 && ranges[0] == range(1, Freed::PagesOnly) => "right",
        Missed::Everything => "everything",
        _ => "wrong",
    });
    assert!(seen.iter().eq(["everything", "right"].iter()), "TLB-4: {seen:?}");
}

/// Who reads a generation finds its note. `TLB-4`
#[test]
fn tlb_4_a_generation_comes_with_its_note() {
    let flusher = |cpu: Cpu<'_>| {
        cpu.machine.m.flushes().raise(range(7, Freed::Tables));
    };
    let late = |cpu: Cpu<'_>| {
        let flushes = cpu.machine.m.flushes();
        flushes.since(0, flushes.generation(), CEILING)
    };
    let seen = race(
        |_| (),
        flusher,
        late,
        |_, (), missed| match missed {
            Missed::Nothing => "nothing",
            Missed::Ranges(ranges) if ranges.len() == 1 && ranges[0] == range(7, Freed::Tables) => "right",
            _ => "wrong",
        },
    );
    assert!(seen.iter().eq(["nothing", "right"].iter()), "TLB-4: {seen:?}");
}
