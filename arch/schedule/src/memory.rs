//! Weak memory: what a load may find.
//!
//! Each word remembers its last stores, in the one order in which they happened (they cannot
//! overtake each other: of the weak behaviours of the language this leaves out load buffering and
//! writes to two words in opposite orders). A read-modify-write that stores finds the newest; one that
//! fails is a load. A load may find any of them, but for those that
//! something newer is known to have replaced: known to the actor, because it stored or loaded that
//! newer value itself, or because somebody who did has since synchronized with it. What
//! synchronizes is what the language says: an acquire load that finds a release store, either made
//! of a relaxed access and a fence, through read-modify-writes in between; and any two fences that
//! are sequentially consistent, the earlier with the later.
//!
//! This is the operational reading of the memory model of C11 without promises (Kang et al., POPL
//! 2017), with vector clocks for views as model checkers for the language have them. Fences are a
//! little stronger than the language's: they synchronize, where the language only says what loads
//! must see. Full barriers of machines do.

use crate::plain::Things;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::Ordering;

/// Actors of a run, at most.
pub const ACTORS: usize = 8;
/// Stores that a word remembers.
const KEPT: usize = 6;

/// For each actor, how many of its accesses are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Clock([u32; ACTORS]);

impl Clock {
    pub(crate) fn join(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = (*mine).max(theirs);
        }
    }

    /// What either knows.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut both = *self;
        both.join(other);
        both
    }

    /// Whether the `count`-th access of `actor` is known.
    pub(crate) fn knows(&self, actor: usize, count: u32) -> bool {
        count <= self.0[actor]
    }

    /// Whether any access that `accesses` counts, as the first of its actor, is known.
    fn knows_any(&self, accesses: &[u32; ACTORS]) -> bool {
        self.0.iter().zip(accesses).any(|(known, access)| *access != 0 && access <= known)
    }
}

struct Store {
    value: u64,
    /// For each actor, its first access that stored or found this; 0: none.
    touched: [u32; ACTORS],
    /// What whoever acquires it learns.
    release: Clock,
}

/// An actor's view.
#[derive(Clone, Copy, Default)]
struct View {
    now: Clock,
    /// What an acquire fence would add.
    found: Clock,
    /// What relaxed stores carry, since the last release fence.
    fenced: Clock,
}

/// A word is known by its address and size.
type Words = HashMap<(usize, usize), VecDeque<Store>, BuildHasherDefault<Mixer>>;

pub struct Memory {
    words: Words,
    views: [View; ACTORS],
    /// What sequentially consistent fences share.
    fences: Clock,
    /// What the access that is under way knows besides.
    pub(crate) besides: Clock,
    pub(crate) things: Things,
    /// A load that has a choice takes the newest but once in so many times; 0: always.
    stale_once_in: u64,
}

fn acquires(order: Ordering) -> bool {
    matches!(order, Ordering::Acquire | Ordering::AcqRel | Ordering::SeqCst)
}

fn releases(order: Ordering) -> bool {
    matches!(order, Ordering::Release | Ordering::AcqRel | Ordering::SeqCst)
}

impl Memory {
    pub(crate) fn new(seed: u64) -> Self {
        let stale_once_in = [2, 4, 16][(seed >> 3) as usize % 3];
        Self {
            words: Words::default(),
            views: Default::default(),
            fences: Clock::default(),
            besides: Clock::default(),
            things: Things::default(),
            stale_once_in,
        }
    }

    /// Counts an access of `actor`.
    pub(crate) fn tick(&mut self, actor: usize) -> u32 {
        let count = &mut self.views[actor].now.0[actor];
        *count += 1;
        *count
    }

    /// The stores of a word that holds `value` now. What was last stored otherwise (the word was
    /// made anew, or copied over) everybody sees.
    fn stores(words: &mut Words, at: (usize, usize), value: u64) -> &mut VecDeque<Store> {
        let stores = words.entry(at).or_default();
        if stores.back().is_none_or(|newest| newest.value != value) {
            stores.clear();
            stores.push_back(Store { value, touched: [0; ACTORS], release: Clock::default() });
        }
        stores
    }

    fn push(stores: &mut VecDeque<Store>, store: Store) {
        if stores.len() == KEPT {
            stores.pop_front();
        }
        stores.push_back(store);
    }

    /// A load of the word at `at`, which really holds `value`.
    pub(crate) fn load(
        &mut self,
        at: (usize, usize),
        value: u64,
        order: Ordering,
        actor: usize,
        below: &mut dyn FnMut(u64) -> u64,
    ) -> u64 {
        if order == Ordering::SeqCst {
            self.fence(order, actor);
        }
        let tick = self.tick(actor);
        let view = &mut self.views[actor];
        let stores = Self::stores(&mut self.words, at, value);
        let known = view.now.and(&self.besides);
        let chosen = Self::choose(stores, &known, self.stale_once_in, below);
        let store = &mut stores[chosen];
        Self::find(store, view, order, actor, tick);
        store.value
    }

    /// A load by something that is not the actor, but knows what the actor knows. Says what it found
    /// and what that released.
    pub(crate) fn peek(
        &mut self,
        at: (usize, usize),
        value: u64,
        actor: usize,
        below: &mut dyn FnMut(u64) -> u64,
    ) -> (u64, Clock) {
        let known = self.views[actor].now.and(&self.besides);
        let stores = Self::stores(&mut self.words, at, value);
        let store = &stores[Self::choose(stores, &known, self.stale_once_in, below)];
        (store.value, store.release)
    }

    /// Which of a word's stores is found by who knows `known`.
    fn choose(
        stores: &VecDeque<Store>,
        known: &Clock,
        stale_once_in: u64,
        below: &mut dyn FnMut(u64) -> u64,
    ) -> usize {
        let newest = stores.len() - 1;
        let oldest = (0..newest).rev().find(|index| known.knows_any(&stores[index + 1].touched));
        let oldest = oldest.map_or(0, |replaced| replaced + 1);
        match oldest < newest && below(stale_once_in) == 0 {
            true => oldest + below((newest - oldest) as u64) as usize,
            false => newest,
        }
    }

    /// `actor` has found `store`.
    fn find(store: &mut Store, view: &mut View, order: Ordering, actor: usize, tick: u32) {
        if store.touched[actor] == 0 {
            store.touched[actor] = tick;
        }
        match acquires(order) {
            true => view.now.join(&store.release),
            false => view.found.join(&store.release),
        }
    }

    /// A store of `new` to the word at `at`, which holds `value` until then.
    pub(crate) fn store(&mut self, at: (usize, usize), value: u64, new: u64, order: Ordering, actor: usize) {
        if order == Ordering::SeqCst {
            self.fence(order, actor);
        }
        let tick = self.tick(actor);
        let view = &self.views[actor];
        let release = if releases(order) { view.now } else { view.fenced };
        let mut touched = [0; ACTORS];
        touched[actor] = tick;
        Self::push(Self::stores(&mut self.words, at, value), Store { value: new, touched, release });
        if order == Ordering::SeqCst {
            self.fence(order, actor);
        }
    }

    /// A read-modify-write that fails because it has found `found`, which a load by `actor` may find.
    pub(crate) fn fail(&mut self, at: (usize, usize), value: u64, found: u64, order: Ordering, actor: usize) {
        if order == Ordering::SeqCst {
            self.fence(order, actor);
        }
        let tick = self.tick(actor);
        let stores = Self::stores(&mut self.words, at, value);
        if let Some(store) = stores.iter_mut().rev().find(|store| store.value == found) {
            Self::find(store, &mut self.views[actor], order, actor, tick);
        }
    }

    /// A read-modify-write of the newest. `new`: what it stores, if it stores.
    pub(crate) fn modify(
        &mut self,
        at: (usize, usize),
        value: u64,
        new: Option<u64>,
        order: Ordering,
        actor: usize,
    ) {
        if order == Ordering::SeqCst {
            self.fence(order, actor);
        }
        let tick = self.tick(actor);
        let view = &mut self.views[actor];
        let stores = Self::stores(&mut self.words, at, value);
        let found = stores.back_mut().expect("never empty");
        // It goes on what releases before it began.
        let mut release = found.release;
        Self::find(found, view, order, actor, tick);
        if let Some(value) = new {
            release.join(if releases(order) { &view.now } else { &view.fenced });
            let mut touched = [0; ACTORS];
            touched[actor] = tick;
            Self::push(stores, Store { value, touched, release });
        }
    }

    pub(crate) fn fence(&mut self, order: Ordering, actor: usize) {
        self.tick(actor);
        let view = &mut self.views[actor];
        if acquires(order) {
            view.now.join(&view.found);
        }
        if order == Ordering::SeqCst {
            view.now.join(&self.fences);
            self.fences = view.now;
        }
        if releases(order) {
            view.fenced = view.now;
        }
    }

    pub(crate) fn view(&self, actor: usize) -> Clock {
        self.views[actor].now
    }

    pub(crate) fn learn(&mut self, actor: usize, clock: &Clock) {
        self.views[actor].now.join(clock);
    }
}

/// What the calling actor knows, for a message of the machine that carries it: it is to be
/// [`learn`]ed by whom the message reaches.
pub fn knowledge() -> Clock {
    crate::run::memory(|memory, actor, _| {
        memory.tick(actor);
        memory.view(actor)
    })
    .unwrap_or_default()
}

/// The calling actor learns what a message carried.
pub fn learn(clock: &Clock) {
    crate::run::memory(|memory, actor, _| memory.learn(actor, clock));
}

/// Calls `access`, whose loads know `clock` besides what their actor does: they depend on something
/// that was found with it. The actor does not learn it.
pub fn knowing<R>(clock: &Clock, access: impl FnOnce() -> R) -> R {
    let before = crate::run::know_besides(*clock);
    let result = access();
    crate::run::know_besides(before);
    result
}

/// Addresses are well enough spread by one multiplication.
#[derive(Default)]
pub(crate) struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize((*byte).into());
        }
    }
    fn write_usize(&mut self, word: usize) {
        self.0 = (self.0.rotate_left(5) ^ word as u64).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}
