//! Two words that are read as one.

use crate::cpu::{Cpu, M, N, P, race};
use crate::membarrier::{Entry, enter, turn};
use arch_contract::tlb::Freed;
use protocol::words::{Loaded, Registrations};

/// A CPU switches from M to N and on to P: who asks sees states that there were, and never a switch
/// with the target of the next. `CTX-5`
#[test]
fn ctx_5_a_switch_is_seen_with_its_own_target() {
    let asks = |cpu: Cpu<'_>| {
        let [_, other] = cpu.machine.cpus();
        cpu.may_be_overtaken();
        other.words().loaded()
    };
    let by_steps = |cpu: Cpu<'_>| {
        for (from, to) in [(M, N), (N, P)] {
            cpu.words().claim(&cpu, to, Registrations::NONE);
            cpu.words().begin_switch(&cpu, Some(from), to, &cpu.machine.n);
            cpu.words().end_switch(to, 0);
        }
    };
    let by_turns = |cpu: Cpu<'_>| [N, P].into_iter().for_each(|to| turn(cpu, to));
    for switches in [by_steps as fn(Cpu<'_>), by_turns] {
        let seen = race(
            |cpus| enter(cpus[1], Entry::Switch),
            asks,
            switches,
            |_, loaded, ()| match loaded {
                Loaded::Active(id) => (None, id.get()),
                Loaded::Switching { from: Some(from), to } => (Some(from.get()), to.get()),
                other => panic!("CTX-5: {other:?}"),
            },
        );
        let there_were = [(None, 1), (None, 2), (None, 3), (Some(1), 2), (Some(2), 3)];
        assert!(seen.iter().eq(there_were.iter()), "CTX-5: {seen:?}");
    }
}

/// A CPU that comes from a long-lived N to M, which was flushed for the first time meanwhile: from the
/// start of the switch on the flusher waits, and never takes what the CPU has seen of N for what it has
/// seen of M. `CTX-5`, `TLB-3`
#[test]
fn tlb_3_what_was_seen_of_another_space_is_not_of_this_one() {
    let flusher = |cpu: Cpu<'_>| {
        let [_, other] = cpu.machine.cpus();
        let holds = other.words().holds(M);
        (holds, other.words().may_use_older(M, 1, Freed::PagesOnly))
    };
    let user = |cpu: Cpu<'_>| enter(cpu, Entry::Switch);
    let long_lived = |cpus: [Cpu<'_>; 2]| {
        cpus[1].words().claim(&cpus[1], N, Registrations::NONE);
        cpus[1].words().begin_switch(&cpus[1], None, N, &cpus[1].machine.n);
        cpus[1].words().end_switch(N, 9);
    };
    let seen = race(long_lived, flusher, user, |_, seen, ()| seen);
    assert!(seen.contains(&(true, true)), "{seen:?}");
    assert!(!seen.contains(&(true, false)), "TLB-3: {seen:?}");
}
