//! What the tests are made of: a machine of two address spaces and three CPUs, and runs that
//! gather what came out.

use abi::trace::Kind;
use arch_contract::barrier::Site;
use arch_contract::context::ContextId;
use arch_contract::mutant;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use protocol::cpuset::{CpuId, SharedSet};
use protocol::inbox::Inbox;
use protocol::shared::Shared;
use protocol::words::Words;
use protocol::{Strength, ThisCpu, strength};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// The address spaces.
pub const M: ContextId = ContextId::new(1).expect("not 0");
pub const N: ContextId = ContextId::new(2).expect("not 0");
pub const P: ContextId = ContextId::new(3).expect("not 0");

/// What all CPUs reach.
pub struct Machine {
    pub words: [Words; 2],
    pub inboxes: [Inbox; 2],
    /// Of `M`.
    pub m: Shared,
    /// Of every other address space.
    pub n: Shared,
    pub online: SharedSet,
    /// Two words of user memory.
    pub x: AtomicU64,
    pub y: AtomicU64,
    pub frame: Frame,
    /// Nobody reads it: loom chooses who goes next at accesses, not at fences, so each barrier begins
    /// with one to this.
    turn: AtomicU64,
}

impl Machine {
    fn new() -> Arc<Self> {
        let word = || AtomicU64::new(0);
        let machine = Self {
            words: [Words::new(), Words::new()],
            inboxes: [Inbox::new(), Inbox::new()],
            m: Shared::new(),
            n: Shared::new(),
            online: SharedSet::new(),
            x: word(),
            y: word(),
            frame: Frame::new(),
            turn: word(),
        };
        for cpu in machine.cpus() {
            machine.online.join(cpu.number);
        }
        Arc::new(machine)
    }

    pub fn cpus(&self) -> [Cpu<'_>; 2] {
        [0, 1].map(|number| Cpu { number: CpuId::new(number).expect("small"), machine: self })
    }
}

/// Memory that is not atomic: loom objects if a use and a reuse of it are not ordered.
pub struct Frame(UnsafeCell<()>);

// SAFETY: nothing is stored in it; whether the accesses are ordered is what loom is to find out.
unsafe impl Sync for Frame {}

impl Frame {
    pub fn new() -> Self {
        Self(UnsafeCell::new(()))
    }
    /// Uses it as what it was.
    pub fn touch(&self) {
        self.0.with(|_| ());
    }
    /// Uses it as something else.
    pub fn reuse(&self) {
        self.0.with_mut(|_| ());
    }
}

/// One CPU, as the steps see it.
#[derive(Clone, Copy)]
pub struct Cpu<'a> {
    pub number: CpuId,
    pub machine: &'a Machine,
}

impl<'a> Cpu<'a> {
    /// Here the other CPU may go first, to its own next such place. loom considers that only where
    /// both access one word, and of several accesses to a word only the last.
    pub fn may_be_overtaken(&self) {
        self.machine.turn.store(0, Ordering::Relaxed);
    }

    pub fn words(&self) -> &'a Words {
        &self.machine.words[self.number.index()]
    }
    pub fn inbox(&self) -> &'a Inbox {
        &self.machine.inboxes[self.number.index()]
    }
}

impl ThisCpu for Cpu<'_> {
    fn number(&self) -> CpuId {
        self.number
    }
    fn full_barrier(&self, site: Site) {
        self.may_be_overtaken();
        match strength(site) {
            Strength::None => {}
            Strength::AcquireRelease => fence(Ordering::AcqRel),
            Strength::Full => fence(Ordering::SeqCst),
        }
    }
    fn event(&self, _kind: Kind, _a: u64, _b: u64) {}
}

/// Selects the mutant that the environment names.
fn select() {
    if let Ok(id) = std::env::var(mutant::VARIABLE) {
        mutant::select(&id).expect("a mutant of this build");
    }
}

/// Runs three threads in all ways with up to three preemptions: more take too long, and faults of
/// order are known to show with fewer.
pub fn three(run: impl Fn() + Send + Sync + 'static) {
    select();
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(run);
}

/// Runs `first` on CPU 0 and `second` on CPU 1, after `before` on both, in all ways there are, with the
/// mutant that the environment selects. Returns what came out.
pub fn race<A: Send + 'static, B: Send + 'static, O: Ord + Send + 'static>(
    before: impl Fn([Cpu<'_>; 2]) + Send + Sync + 'static,
    first: impl Fn(Cpu<'_>) -> A + Send + Sync + 'static,
    second: impl Fn(Cpu<'_>) -> B + Send + Sync + 'static,
    outcome: impl Fn([Cpu<'_>; 2], A, B) -> O + Send + Sync + 'static,
) -> BTreeSet<O> {
    select();
    let outcomes = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = outcomes.clone();
    let second = Arc::new(second);
    loom::model(move || {
        let machine = Machine::new();
        before(machine.cpus());
        let other = loom::thread::spawn({
            let (machine, second) = (machine.clone(), second.clone());
            move || second(machine.cpus()[1])
        });
        let a = first(machine.cpus()[0]);
        let b = other.join().expect("it does not panic");
        seen.lock().expect("not poisoned").insert(outcome(machine.cpus(), a, b));
    });
    std::mem::take(&mut *outcomes.lock().expect("not poisoned"))
}
