//! membarrier where no CPU is interrupted: what the barriers (a), (c), (d) and (e) alone must hold.
//! Scenarios by the letters of the kernel's `membarrier.rs`.

use crate::cpu::{Cpu, M, N, race};
use abi::membarrier::Command;
use arch_contract::context::ContextId;
use arch_contract::ret::CoreSyncOwed;
use loom::sync::atomic::Ordering::Relaxed;
use protocol::membarrier::{Synced, begin, finish, sample};
use protocol::words::Registrations;

/// What the caller's look at CPU 1 said.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Look {
    /// It runs the process: it is interrupted, and orders itself.
    Runs,
    /// It does not, and is left alone.
    Not,
}

pub fn look(cpu: Cpu<'_>) -> Look {
    let [_, other] = cpu.machine.cpus();
    let found = sample([(other.number, other.words())].into_iter(), |mm| mm.id == M);
    if found.is_empty() { Look::Not } else { Look::Runs }
}

/// The whole command of a caller in M on CPU 0, where nobody has to be interrupted.
pub fn command(cpu: Cpu<'_>, command: Command) -> Look {
    begin(&cpu, &cpu.machine.m, M, command, || ());
    let look = look(cpu);
    finish(&cpu, command, M);
    look
}

/// How CPU 1 gets M.
#[derive(Clone, Copy)]
pub enum Entry {
    /// From another address space.
    Switch,
    /// From a lazy episode of M.
    Resume,
    /// From a user of another address space, in the step for two that take turns.
    Turn,
}

impl Entry {
    pub const ALL: [Self; 3] = [Self::Switch, Self::Resume, Self::Turn];
}

pub fn set_out(entry: Entry) -> impl Fn([Cpu<'_>; 2]) {
    move |[caller, cpu]| {
        enter(caller, Entry::Switch);
        match entry {
            Entry::Switch => {}
            Entry::Resume => {
                enter(cpu, Entry::Switch);
                cpu.words().leave(&cpu);
                cpu.words().become_lazy(M);
            }
            Entry::Turn => {
                enter(cpu, Entry::Switch);
                turn(cpu, N);
            }
        }
    }
}

/// From a user of one address space to a user of another.
pub fn turn(cpu: Cpu<'_>, to: ContextId) {
    let words = cpu.words();
    words.turn_to(&cpu, words.active().expect("it has a user"), to, Registrations::NONE);
    words.end_switch(to, 0);
}

/// Up to the barrier (e).
pub fn begin_to_enter(cpu: Cpu<'_>, entry: Entry, registrations: Registrations) {
    let words = cpu.words();
    match entry {
        Entry::Switch => {
            words.claim(&cpu, M, registrations);
            words.begin_switch(&cpu, None, M, &cpu.machine.m);
        }
        Entry::Resume => {
            words.claim(&cpu, M, registrations);
            words.resume(&cpu, M);
        }
        Entry::Turn => {
            words.turn_to(&cpu, words.active().expect("it has N"), M, registrations);
        }
    }
}

pub fn enter(cpu: Cpu<'_>, entry: Entry) {
    begin_to_enter(cpu, entry, Registrations::NONE);
    cpu.words().end_switch(M, 0);
}

/// How CPU 1 loses M.
#[derive(Clone, Copy)]
pub enum Exit {
    /// To a kernel task or idle.
    Leave,
    /// To a user of another address space.
    Claim,
    /// The same, in the step for two that take turns.
    Turn,
}

/// `x = 1; membarrier; r0 = y` against a CPU that comes to M: `y = 1; r1 = x`.
pub fn store_buffering(entry: Entry) -> bool {
    let caller = |cpu: Cpu<'_>| {
        cpu.machine.x.store(1, Relaxed);
        let look = command(cpu, Command::PrivateExpedited);
        (look, cpu.machine.y.load(Relaxed))
    };
    let target = move |cpu: Cpu<'_>| {
        enter(cpu, entry);
        cpu.machine.y.store(1, Relaxed);
        cpu.machine.x.load(Relaxed)
    };
    let seen = race(set_out(entry), caller, target, |_, (look, r0), r1| (look, r0, r1));
    assert!(seen.contains(&(Look::Not, 0, 1)) && seen.contains(&(Look::Runs, 1, 1)), "{seen:?}");
    !seen.contains(&(Look::Not, 0, 0))
}

/// `r0 = y; membarrier; r1 = x` against a CPU that leaves M: `x = 1; y = 1`.
pub fn message_passing(exit: Exit) -> bool {
    let caller = |cpu: Cpu<'_>| {
        let r0 = cpu.machine.y.load(Relaxed);
        let look = command(cpu, Command::PrivateExpedited);
        (look, r0, cpu.machine.x.load(Relaxed))
    };
    let target = move |cpu: Cpu<'_>| {
        cpu.machine.x.store(1, Relaxed);
        cpu.machine.y.store(1, Relaxed);
        match exit {
            Exit::Leave => cpu.words().leave(&cpu),
            Exit::Claim => cpu.words().claim(&cpu, N, Registrations::NONE),
            Exit::Turn => turn(cpu, N),
        }
    };
    let before = |cpus: [Cpu<'_>; 2]| cpus.iter().for_each(|cpu| enter(*cpu, Entry::Switch));
    let seen = race(before, caller, target, |_, (look, r0, r1), ()| (look, r0, r1));
    assert!(seen.contains(&(Look::Not, 1, 1)) && seen.contains(&(Look::Runs, 0, 0)), "{seen:?}");
    !seen.contains(&(Look::Not, 1, 0))
}

/// Scenarios A and C: a CPU that comes from another address space.
#[test]
fn bar_3_store_buffering_with_a_switch() {
    for entry in [Entry::Switch, Entry::Turn] {
        assert!(store_buffering(entry), "BAR-3: neither was sampled nor saw what was stored");
    }
}

/// Scenarios C and E: a CPU that comes back from a kernel task.
#[test]
fn bar_3_store_buffering_with_the_end_of_a_lazy_episode() {
    assert!(store_buffering(Entry::Resume), "BAR-3: neither was sampled nor saw what was stored");
}

/// Scenarios B, C and D: a CPU that leaves for a kernel task, or whose thread ends.
#[test]
fn bar_3_message_passing() {
    assert!(message_passing(Exit::Leave), "BAR-3: it had left, and what it did is not seen");
}

/// Scenarios D and F: a CPU that goes on with a user of another address space.
#[test]
fn bar_3_message_passing_with_a_switch() {
    for exit in [Exit::Claim, Exit::Turn] {
        assert!(message_passing(exit), "BAR-3: it had left, and what it did is not seen");
    }
}

/// Scenario H: sync-core against a switch. A CPU that is not interrupted owes the serialization, and
/// finds the new code when it serializes; one that does not owe it was sampled.
#[test]
fn ret_2_sync_core_against_a_switch() {
    for entry in Entry::ALL {
        let caller = |cpu: Cpu<'_>| {
            cpu.machine.x.store(1, Relaxed);
            command(cpu, Command::PrivateExpeditedSyncCore)
        };
        let target = move |cpu: Cpu<'_>| {
            enter(cpu, entry);
            let owed = Synced::new().compare(M, &cpu.machine.m) == CoreSyncOwed::Yes;
            (owed, cpu.machine.x.load(Relaxed))
        };
        let seen = race(set_out(entry), caller, target, |_, look, (owed, code)| (look, owed, code));
        assert!(seen.contains(&(Look::Not, true, 1)) && seen.contains(&(Look::Runs, false, 0)), "{seen:?}");
        assert!(
            !seen.iter().any(|it| matches!(it, (Look::Not, false, _))),
            "RET-2: nobody asks it: {seen:?}"
        );
        assert!(
            !seen.iter().any(|it| matches!(it, (_, true, 0))),
            "CODE-1: serialized for old code: {seen:?}"
        );
    }
}

/// Scenario G: a registration against a switch. A CPU that the registration did not find carries it
/// itself.
#[test]
fn bar_2_registration_against_switch() {
    for entry in Entry::ALL {
        let caller = |cpu: Cpu<'_>| {
            cpu.machine.m.register(&cpu, Registrations::GLOBAL_EXPEDITED);
            look(cpu)
        };
        let target = move |cpu: Cpu<'_>| {
            let (words, m) = (cpu.words(), &cpu.machine.m);
            let read = m.registrations();
            begin_to_enter(cpu, entry, read);
            words.look_again(&cpu, M, read, m);
        };
        let carried = |[_, other]: [Cpu<'_>; 2], look, ()| {
            let mm = other.words().current_mm().expect("it has M");
            (look, mm.registrations.has(Registrations::GLOBAL_EXPEDITED))
        };
        let seen = race(set_out(entry), caller, target, carried);
        assert!(seen.contains(&(Look::Not, true)) && seen.contains(&(Look::Runs, false)), "{seen:?}");
        assert!(!seen.contains(&(Look::Not, false)), "BAR-2: a CPU that nobody tells");
    }
}

/// Scenario G, what follows: once the registration has returned, a global command finds the CPU, or
/// what that CPU's user does comes after the command.
#[test]
fn bar_2_what_a_switch_looked_up_again_lies_before_its_user() {
    let caller = |cpu: Cpu<'_>| {
        cpu.machine.m.register(&cpu, Registrations::GLOBAL_EXPEDITED);
        if look(cpu) == Look::Runs {
            return None;
        }
        cpu.machine.x.store(1, Relaxed);
        begin(&cpu, &cpu.machine.n, N, Command::GlobalExpedited, || ());
        let [_, other] = cpu.machine.cpus();
        let concerned = sample([(other.number, other.words())].into_iter(), |mm| {
            mm.registrations.has(Registrations::GLOBAL_EXPEDITED)
        });
        finish(&cpu, Command::GlobalExpedited, N);
        Some((concerned.is_empty(), cpu.machine.y.load(Relaxed)))
    };
    let target = |cpu: Cpu<'_>| {
        let (words, m) = (cpu.words(), &cpu.machine.m);
        let read = m.registrations();
        words.claim(&cpu, M, read);
        words.resume(&cpu, M);
        words.look_again(&cpu, M, read, m);
        cpu.machine.y.store(1, Relaxed);
        cpu.machine.x.load(Relaxed)
    };
    let seen = race(set_out(Entry::Resume), caller, target, |_, caller, r1| (caller, r1));
    assert!(seen.contains(&(Some((true, 0)), 1)) && seen.contains(&(Some((false, 1)), 0)), "{seen:?}");
    assert!(!seen.contains(&(Some((true, 0)), 0)), "BAR-2: it was not found, and saw nothing");
}
