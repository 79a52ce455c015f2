//! Memory contexts: the one function that decides which hooks run when a CPU gets a user of an
//! address space, and the one for when it loses it.
//!
//! Each CPU has two words that are never confused. `current_mm` says whose *user code* may run
//! here; it is what membarrier samples. `loaded` says what the *MMU* holds, and how; it is what
//! TLB shootdown and teardown ask. A CPU that leaves user code for a kernel task or for idle keeps
//! the tables loaded, lazily: `current_mm` is none, `loaded` is lazy.
//!
//! | `loaded` | next is a user of | hooks, in this order |
//! | --- | --- | --- |
//! | kernel | B | `switch_mm` |
//! | A, active | B | `switch_mm` |
//! | A, lazy | B | `switch_mm`, `exit_lazy_tlb(left A)` |
//! | B, lazy | B | `exit_lazy_tlb(left B)` |
//! | B, active | B | none |
//!
//! # The order, and who relies on it
//!
//! *Leaving user code for something without an mm* ([`leave`]): barrier (d); `current_mm` = none;
//! `loaded` = lazy; `enter_lazy_tlb`.
//!
//! *Entering M* ([`enter`]): barrier (d) if `current_mm` names another mm; `current_mm` = M; this CPU
//! joins M's set; `loaded` = switching to M, or active if it holds M; barrier (e); M's generations
//! are read; `switch_mm`; what the generations say was missed is forgotten; `loaded` = active;
//! `exit_lazy_tlb`; and before user mode, `return_to_user`.
//!
//! (e) is one barrier for three askers, each of which writes, executes a full barrier, and then
//! reads what this CPU wrote before (e). So either the asker sees this CPU, or this CPU, which reads
//! after (e), sees what the asker wrote (store buffering: both cannot miss):
//!
//! | asker | writes | barrier | reads here | what this CPU reads after (e) |
//! | --- | --- | --- | --- | --- |
//! | a flush ([`Space`]) | the entry, the TLB generation | `FlushSample` | M's set, `loaded`, `seen` | the TLB generation |
//! | membarrier | user data; for sync-core the code and the sync generation | (a) | M's set, `current_mm` | user data; the sync generation |
//! | a registration | M's registrations | `Register` | M's set, `current_mm` | M's registrations |
//!
//! The membarrier scenarios are spelled out in [`crate::membarrier`], the flush's in
//! [`crate::mm::flush`].

use super::lifetime;
use crate::cpu::Cpu;
use crate::mm::flush::Missed;
use crate::mm::space::Space;
use crate::rendezvous::{self, Point};
use crate::sync::{AtomicU64, Ordering};
use crate::trace;
use abi::testing::Counter;
use abi::trace::Kind;
use arch_contract::barrier::{CoreSync, Site};
use arch_contract::context::{
    Cached, ContextId, Contexts, Did, LeftLazy, Loadable, NowUser, Previously, Slot, Stale, Switched,
};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::ret::{CoreSyncOwed, Return};
use arch_contract::tlb::{Freed, Tlb};
use arch_current::Current;
use core::cell::Cell;
use core::ptr;

/// The words of one CPU that others read, on a cache line of their own (128 bytes covers every
/// machine's line). Written by their CPU only, so a store needs no read-modify-write, and the line
/// moves only when another CPU asks.
#[repr(align(128))]
pub struct Words {
    /// A context id, or 0 for none; bits 48 and up are the mm's [`Registrations`], so that a
    /// sampler follows no pointer to something that may be gone.
    current_mm: AtomicU64,
    /// A context id, or 0 for the kernel's own tables; bits 48 and up are a [`State`].
    loaded: AtomicU64,
    /// While `loaded` says switching: the context that is being loaded.
    loading: AtomicU64,
    /// The TLB generation of the loaded mm up to which this CPU has forgotten what changed.
    seen: AtomicU64,
}

const STATE_SHIFT: u32 = 48;
const ID_MASK: u64 = (1 << STATE_SHIFT) - 1;

/// What the MMU of a CPU holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loaded {
    /// The kernel's own tables.
    Kernel,
    /// A user of it runs here, or may run next.
    Active(ContextId),
    /// Nothing here uses it; its tables are still in reach of the walker.
    Lazy(ContextId),
    /// Both count as held (`CTX-5`).
    Switching { from: Option<ContextId>, to: ContextId },
}

#[repr(u64)]
enum State {
    Kernel = 0,
    Active = 1,
    Lazy = 2,
    Switching = 3,
}

/// What a process has registered for that others must see at once: it stands beside `current_mm`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registrations(u16);

impl Registrations {
    pub const NONE: Self = Self(0);
    /// Its CPUs take part in `GLOBAL_EXPEDITED`.
    pub const GLOBAL_EXPEDITED: Self = Self(1);

    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits as u16)
    }
}

/// Who may run user code on a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CurrentMm {
    pub id: ContextId,
    pub registrations: Registrations,
}

impl Words {
    pub const fn new() -> Self {
        Self {
            current_mm: AtomicU64::new(0),
            loaded: AtomicU64::new(0),
            loading: AtomicU64::new(0),
            seen: AtomicU64::new(0),
        }
    }

    /// Whose user code may run on this CPU. For others, between two full barriers: (a) and (c).
    pub fn current_mm(&self) -> Option<CurrentMm> {
        let word = self.current_mm.load(Ordering::Relaxed);
        let id = ContextId::new(word & ID_MASK)?;
        Some(CurrentMm { id, registrations: Registrations((word >> STATE_SHIFT) as u16) })
    }

    /// What its MMU holds. For its own CPU, and for others that ask: two words are read, so the
    /// first is read again until both were of one state.
    #[inline]
    pub fn loaded(&self) -> Loaded {
        self.loaded_through(|| {})
    }

    /// As [`loaded`](Self::loaded); `between` runs between the reads of the two words.
    #[inline]
    fn loaded_through(&self, mut between: impl FnMut()) -> Loaded {
        loop {
            // Acquire: pairs with the release in `set_loaded`; whoever reads *lazy* or *kernel*
            // comes after all this CPU did with what it held before. `CTX-5`
            let word = self.loaded.load(Ordering::Acquire);
            let id = ContextId::new(word & ID_MASK);
            match (word >> STATE_SHIFT, id) {
                (1, Some(id)) => return Loaded::Active(id),
                (2, Some(id)) => return Loaded::Lazy(id),
                (3, from) => {
                    between();
                    // Acquire: pairs with the release store of `loading`. Who reads the target of
                    // a later switch also sees that this one is over, and reads again. `CTX-5`
                    let to = ContextId::new(self.loading.load(Ordering::Acquire));
                    if self.loaded.load(Ordering::Relaxed) == word
                        && let Some(to) = to
                    {
                        return Loaded::Switching { from, to };
                    }
                }
                _ => return Loaded::Kernel,
            }
        }
    }

    /// As [`loaded`](Self::loaded) for its own CPU, which wrote the word and is in no switch.
    #[inline(always)]
    fn own_loaded(&self) -> Loaded {
        let word = self.loaded.load(Ordering::Relaxed);
        match (word >> STATE_SHIFT, ContextId::new(word & ID_MASK)) {
            (1, Some(id)) => Loaded::Active(id),
            (2, Some(id)) => Loaded::Lazy(id),
            _ => Loaded::Kernel,
        }
    }

    /// Whether `id` is active here. For its own CPU.
    #[inline(always)]
    fn is_active(&self, id: ContextId) -> bool {
        self.loaded.load(Ordering::Relaxed) == (State::Active as u64) << STATE_SHIFT | id.get()
    }

    /// Whether this CPU holds `id` in any way: what a teardown asks.
    pub fn holds(&self, id: ContextId) -> bool {
        match self.loaded() {
            Loaded::Kernel => false,
            Loaded::Active(held) | Loaded::Lazy(held) => held == id,
            Loaded::Switching { to, .. } if mutant::is(Mutant::SwitchForgetsWhatItLeaves) => to == id,
            Loaded::Switching { from, to } => to == id || from == Some(id),
        }
    }

    /// Whether this CPU could still use what was there before generation `wanted` of `id`: what a
    /// flusher asks after its barrier, and again until it cannot. `TLB-3`
    pub fn may_use_older(&self, id: ContextId, wanted: u64, freed: Freed) -> bool {
        // What a CPU holds without a user is used by the walker alone, and only tables matter to
        // that; it compares generations before it has a user again.
        let walked = freed == Freed::Tables && !mutant::is(Mutant::M26);
        match self.loaded() {
            Loaded::Active(held) if held == id => self.seen.load(Ordering::Acquire) < wanted,
            Loaded::Lazy(held) if held == id => walked && self.seen.load(Ordering::Acquire) < wanted,
            // It may have read the generation before it was raised, or be about to read it: that
            // is decided when the switch is over.
            Loaded::Switching { to, .. } if to == id => !mutant::is(Mutant::M25),
            Loaded::Switching { from, .. } if from == Some(id) => walked,
            _ => false,
        }
    }

    #[inline]
    fn set_current_mm(&self, id: Option<ContextId>, registrations: Registrations) {
        let word = id.map_or(0, |id| id.get() | u64::from(registrations.0) << STATE_SHIFT);
        self.current_mm.store(word, Ordering::Relaxed);
    }

    /// The store that says up to where this CPU has flushed. Release: the flush comes before it.
    /// Pairs with the acquire in `may_use_older`.
    fn set_seen(&self, generation: u64) {
        self.seen.store(generation, Ordering::Release);
    }

    #[inline]
    fn set_loaded(&self, loaded: Loaded) {
        let (state, id) = match loaded {
            Loaded::Kernel => (State::Kernel, None),
            Loaded::Active(id) => (State::Active, Some(id)),
            Loaded::Lazy(id) => (State::Lazy, Some(id)),
            Loaded::Switching { from, to } => {
                // Release: after the store that ended the last switch. Pairs with the acquire in
                // `loaded_through`. `CTX-5`
                self.loading.store(to.get(), Ordering::Release);
                (State::Switching, from)
            }
        };
        let word = (state as u64) << STATE_SHIFT | id.map_or(0, ContextId::get);
        // Release: all this CPU did with what it held before comes before it says it holds
        // something else. Pairs with the acquire in `loaded_through`. `CTX-5`
        self.loaded.store(word, Ordering::Release);
    }
}

/// Contexts that a CPU remembers having had. A context id chooses its place by its low bits, so
/// looking one up takes one load.
pub const SLOTS: usize = 64;

/// What one CPU knows of a context it has loaded before.
#[derive(Clone, Copy)]
struct Remembered {
    /// 0: nothing.
    id: u64,
    /// What is cached here of it is as new as this generation.
    seen: u64,
}

/// What a CPU keeps of its memory contexts for itself.
pub struct Held {
    /// The space that is loaded, in whatever state; null with the kernel's tables. It lives as long
    /// as it is loaded (`CTX-9`), so its own CPU may follow the pointer until it has stored another
    /// `loaded`.
    space: Cell<*const Space>,
    /// The number that it was loaded under.
    slot: Cell<Slot>,
    slots: [Cell<Remembered>; SLOTS],
    /// The mm and its sync generation for which this core last serialized, or owes to.
    synced: Cell<(u64, u64)>,
    /// An mm that is being taken apart was asked back while it was active.
    drop_wanted: Cell<bool>,
    /// For the refcount policy: what the lazy episode holds a reference to.
    pub(super) counted: Cell<*const Space>,
}

impl Held {
    pub const fn new() -> Self {
        Self {
            space: Cell::new(ptr::null()),
            slot: Cell::new(Slot(0)),
            slots: [const { Cell::new(Remembered { id: 0, seen: 0 }) }; SLOTS],
            synced: Cell::new((0, 0)),
            drop_wanted: Cell::new(false),
            counted: Cell::new(ptr::null()),
        }
    }

    /// Forgets everything: for a CPU that comes up with clean translations.
    pub fn forget(&self) {
        for slot in &self.slots {
            slot.set(Remembered { id: 0, seen: 0 });
        }
        self.synced.set((0, 0));
    }
}

impl Cpu {
    /// What this CPU has loaded, for itself.
    fn loaded_space(&self) -> Option<&Space> {
        // SAFETY: `Held::space`: what is loaded lives, and only this CPU changes what that is.
        unsafe { self.held.space.get().as_ref() }
    }

    /// The space of the user code that entered the kernel on this CPU.
    pub fn current_space(&self) -> Option<&Space> {
        self.words.current_mm().and_then(|_| self.loaded_space())
    }

    fn slot_of(&self, id: ContextId) -> usize {
        id.get() as usize & self.kernel.ids.slot_mask()
    }

    /// The space as this CPU has it cached.
    fn cached<'a>(&self, space: &'a Space) -> Cached<'a, <Current as Contexts>::Mm> {
        Cached { mm: space.mm(), slot: Slot(self.slot_of(space.id()) as u16) }
    }
}

/// Makes `space` the address space whose user comes next on this CPU: before user mode, and before
/// a kernel task that uses `space` is polled (`use_mm`, `CTX-8`).
///
/// # Safety
/// `space` stays alive until [`lifetime::is_loaded_nowhere`] has said so of it.
#[inline(always)]
pub unsafe fn enter(cpu: &Cpu, space: &Space, irq: &IrqsOff) {
    if !cpu.words.is_active(space.id()) {
        // SAFETY: the caller's obligation.
        unsafe { enter_other(cpu, space, cpu.words.own_loaded(), irq) };
    }
}

/// # Safety
/// As [`enter`].
unsafe fn enter_other(cpu: &Cpu, space: &Space, loaded: Loaded, irq: &IrqsOff) {
    let words = &cpu.words;
    let to = space.id();
    if words.current_mm().is_some() {
        // (d): this CPU's user accesses under the old mm, before anyone can sample that it has
        // left. Pairs with membarrier's exit barrier (c). `BAR-4`
        cpu.full_barrier(Site::LeaveUserMm);
    }
    let registrations = space.registrations();
    trace::event(cpu, Kind::Current, to.get(), 0);
    words.set_current_mm(Some(to), registrations);

    let (from, left) = match loaded {
        Loaded::Active(id) => (Some(id), None),
        Loaded::Lazy(id) => (Some(id), Some(id)),
        Loaded::Kernel | Loaded::Switching { .. } => (None, None),
    };
    let switched = if from == Some(to) {
        words.set_loaded(Loaded::Active(to));
        cpu.full_barrier(Site::EnterUserMm); // (e), see the module's table. `BAR-5`, `CTX-3`
        let generation = space.flushes().generation();
        if words.seen.load(Ordering::Relaxed) < generation && !mutant::is(Mutant::M27) {
            catch_up(cpu, irq);
        }
        Switched::NOTHING
    } else {
        let new_here = !mutant::is(Mutant::M23) && space.join(cpu);
        trace::event(cpu, Kind::SwitchBegin, from.map_or(0, ContextId::get), to.get());
        if mutant::is(Mutant::M24) {
            cpu.full_barrier(Site::EnterUserMm);
        }
        words.set_loaded(match mutant::is(Mutant::NoSwitchingState) {
            true => Loaded::Active(to),
            false => Loaded::Switching { from, to },
        });
        if !mutant::is(Mutant::M24) {
            cpu.full_barrier(Site::EnterUserMm); // (e), see the module's table. `BAR-5`, `CTX-3`
        }
        rendezvous::point(cpu, Point::Switching);
        if mutant::is(Mutant::M22) {
            cpu.serve();
        }
        // SAFETY: the caller's obligation.
        let switched = unsafe { load(cpu, space, from, new_here, irq) };
        if mutant::is(Mutant::M23) {
            space.join(cpu);
        }
        switched
    };
    let now = space.registrations();
    if now != registrations {
        words.set_current_mm(Some(to), now);
        // That store too lies before what user code does: whoever samples the old one is seen.
        // `BAR-2`
        cpu.full_barrier(Site::EnterUserMm);
    }
    if let Some(left) = left {
        rendezvous::point(cpu, Point::EpisodeEnds);
        let user = NowUser { mm: space.mm(), id: to };
        let sync = space.sync_generation();
        let serialized = Current::exit_lazy_tlb(cpu.arch(), LeftLazy(left), user, switched, irq);
        if serialized == CoreSync::Done && switched.core_serialized == Did::No {
            // By the hook itself, hence after the generation was read.
            cpu.held.synced.set((to.get(), sync));
        }
        trace::event(cpu, Kind::LazyExit, left.get(), to.get());
        trace::count(cpu, Counter::LazyExits);
        lifetime::episode_ended(cpu);
    }
    compare_sync_generation(cpu, space);
    cpu.held.drop_wanted.set(false);
}

/// Loads `space`: `loaded` says switching and (e) is done.
///
/// # Safety
/// As [`enter`].
unsafe fn load(cpu: &Cpu, space: &Space, from: Option<ContextId>, new_here: bool, irq: &IrqsOff) -> Switched {
    let to = space.id();
    let cached = cpu.cached(space);
    let remembered = &cpu.held.slots[usize::from(cached.slot.0)];
    let known = remembered.get();
    // What changes after this read finds this CPU in the space's set and in `loaded`.
    let generation = space.flushes().generation();
    let sync = space.sync_generation();
    rendezvous::point(cpu, Point::SwitchSampled);
    let missed = match known.id == to.get() || mutant::is(Mutant::SlotKeepsWhatWasThere) {
        true => space.flushes().since(known.seen, generation),
        // It was never loaded here since its hardware id was clean everywhere, so nothing is cached.
        false if new_here && !cpu.kernel.ids.are_per_cpu() => Missed::Nothing,
        false => Missed::Everything,
    };
    let stale = if missed.is_due_before_load() { Stale::Everything } else { Stale::Nothing };
    // SAFETY: 1. `space` outlives its being loaded, by the caller's obligation. 2. it is the id its
    // `Mm` was made with. 3. `Nothing` is said only of what was flushed up to `known.seen`, and
    // what pages changed since are forgotten below, before `loaded` says active.
    let loadable = unsafe { Loadable::new(space.mm(), to, cached.slot, stale) };
    let hint = from.map_or(Previously::Kernel, Previously::Mm);
    // SAFETY: `loadable` is what the hook asks for.
    let switched = unsafe { Current::switch_mm(cpu.arch(), hint, &loadable, irq) };
    if switched.flushed == Did::No && missed != Missed::Nothing {
        forget(cpu, &cached, &missed, irq);
    }
    if switched.core_serialized == Did::Yes {
        // All that was asked up to the generation read before the switch is settled by it, and so
        // is what this CPU owed by then. `RET-2`
        if cpu.take_core_sync() == CoreSyncOwed::Yes {
            trace::count(cpu, Counter::CoreSyncs);
        }
        cpu.held.synced.set((to.get(), sync));
    }
    remembered.set(Remembered { id: to.get(), seen: generation });
    trace::event(cpu, Kind::Seen, to.get(), generation);
    cpu.words.set_seen(generation);
    cpu.held.space.set(space);
    cpu.held.slot.set(cached.slot);
    let did = |did: Did, bit: u64| if did == Did::Yes { bit } else { 0 };
    let slot = if cpu.kernel.ids.are_per_cpu() { u64::from(cached.slot.0) + 1 } else { 0 };
    let bits =
        did(switched.reloaded, 1) | did(switched.core_serialized, 2) | did(switched.flushed, 4) | slot << 16;
    trace::event(cpu, Kind::SwitchEnd, to.get(), bits);
    // Nothing of the old space is touched after this store: its teardown may see it.
    cpu.words.set_loaded(Loaded::Active(to));
    if switched.reloaded == Did::Yes {
        trace::count(cpu, Counter::Reloads);
    }
    switched
}

/// Arms the debt of core serialization if a request was made that this core has not serialized for
/// since. After (e): pairs with (a). `RET-2`
#[inline]
fn compare_sync_generation(cpu: &Cpu, space: &Space) {
    if Current::user_return_serializes(cpu.arch()) {
        return;
    }
    let generation = space.sync_generation();
    let wanted = (space.id().get(), generation);
    if generation != 0 && cpu.held.synced.get() != wanted {
        cpu.owe_core_sync();
        cpu.held.synced.set(wanted);
    }
}

/// Forgets on this CPU what changed in the loaded space since it last did.
#[cold]
pub fn catch_up(cpu: &Cpu, irq: &IrqsOff) {
    let Some(space) = cpu.loaded_space() else { return };
    let generation = space.flushes().generation();
    let seen = cpu.words.seen.load(Ordering::Relaxed);
    let cached = Cached { mm: space.mm(), slot: cpu.held.slot.get() };
    if mutant::is(Mutant::SeenTooSoon) {
        cpu.words.set_seen(generation);
    }
    forget(cpu, &cached, &space.flushes().since(seen, generation), irq);
    cpu.held.slots[usize::from(cached.slot.0)].set(Remembered { id: space.id().get(), seen: generation });
    trace::event(cpu, Kind::Seen, space.id().get(), generation);
    cpu.words.set_seen(generation);
}

fn forget(cpu: &Cpu, cached: &Cached<'_, <Current as Contexts>::Mm>, missed: &Missed, irq: &IrqsOff) {
    let cached = || Cached { mm: cached.mm, slot: cached.slot };
    match missed {
        Missed::Nothing => return,
        Missed::Ranges(ranges) => {
            for range in ranges {
                let freed = match mutant::is(Mutant::TablesStayCached) {
                    true => Freed::PagesOnly,
                    false => range.freed,
                };
                Current::flush_local(cpu.arch(), cached(), range.start, range.pages, freed, irq);
            }
        }
        Missed::Everything => Current::flush_local_mm(cpu.arch(), cached(), irq),
    }
    trace::count(cpu, Counter::Flushes);
}

/// This CPU goes on with something that uses no address space: a kernel task, or idle. Does
/// nothing if it has no user already, so kernel → kernel passes cost nothing (`CTX-6`).
#[inline]
pub fn leave(cpu: &Cpu, irq: &IrqsOff) {
    let words = &cpu.words;
    if words.current_mm().is_none() && !mutant::is(Mutant::LeaveWhatWasLeft) {
        return;
    }
    // (d): this CPU's user accesses, before anyone can sample that it has left. Pairs with
    // membarrier's exit barrier (c). `BAR-4`
    cpu.full_barrier(Site::LeaveUserMm);
    trace::event(cpu, Kind::Current, 0, 0);
    words.set_current_mm(None, Registrations::NONE);
    if let Loaded::Active(held) = words.own_loaded()
        && !mutant::is(Mutant::NeverLazy)
    {
        if let Some(space) = cpu.loaded_space() {
            lifetime::episode_begins(cpu, space);
        }
        trace::event(cpu, Kind::LazyEnter, held.get(), 0);
        words.set_loaded(Loaded::Lazy(held));
        Current::enter_lazy_tlb(cpu.arch(), held, irq);
        rendezvous::point(cpu, Point::BecameLazy);
        if cpu.held.drop_wanted.get() {
            drop_when_lazy(cpu, irq);
        }
    }
}

/// Lets go of what is loaded lazily; of what is active, as soon as it is lazy. What a teardown asks
/// of a CPU, and what a CPU does before it goes off.
pub fn drop_when_lazy(cpu: &Cpu, irq: &IrqsOff) {
    match cpu.words.loaded() {
        Loaded::Active(_) if !mutant::is(Mutant::M29) => cpu.held.drop_wanted.set(true),
        Loaded::Active(id) | Loaded::Lazy(id) => {
            cpu.held.drop_wanted.set(false);
            if mutant::is(Mutant::DropSaidTooSoon) {
                cpu.words.set_loaded(Loaded::Kernel);
            }
            Current::drop_lazy(cpu.arch(), LeftLazy(id), irq);
            cpu.held.space.set(ptr::null());
            trace::event(cpu, Kind::Drop, id.get(), 0);
            cpu.words.set_loaded(Loaded::Kernel);
            lifetime::episode_ended(cpu);
        }
        Loaded::Kernel | Loaded::Switching { .. } => {}
    }
}

/// Stores the registrations of the current mm anew, because they changed. Pairs with the asker's
/// `Register` barrier. `BAR-2`
pub fn read_registrations(cpu: &Cpu) {
    if let (Some(current), Some(space)) = (cpu.words.current_mm(), cpu.loaded_space()) {
        cpu.words.set_current_mm(Some(current.id), space.registrations());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> ContextId {
        ContextId::new(n).expect("not 0")
    }

    /// `CTX-5`: another CPU that asks in the middle of two switches sees one of them, never the
    /// start of the first with the target of the second: a flusher of the first target would skip
    /// a CPU that holds it.
    #[test]
    fn ctx_5_a_switch_is_never_seen_with_the_target_of_the_next() {
        let (a, b, c) = (id(1), id(2), id(3));
        let words = Words::new();
        words.set_loaded(Loaded::Switching { from: Some(a), to: b });
        let mut steps = [Loaded::Active(b), Loaded::Switching { from: Some(b), to: c }].into_iter();
        let seen = words.loaded_through(|| steps.by_ref().for_each(|state| words.set_loaded(state)));
        assert_eq!(seen, Loaded::Switching { from: Some(b), to: c });

        // Over by the time the second word is read.
        words.set_loaded(Loaded::Switching { from: Some(a), to: b });
        let seen = words.loaded_through(|| words.set_loaded(Loaded::Active(b)));
        assert_eq!(seen, Loaded::Active(b));
    }

    /// Every state reads back as it was stored.
    #[test]
    fn ctx_5_states_read_back() {
        let words = Words::new();
        assert_eq!(words.loaded(), Loaded::Kernel);
        let largest = id((1 << STATE_SHIFT) - 1);
        for state in [
            Loaded::Active(largest),
            Loaded::Lazy(largest),
            Loaded::Switching { from: None, to: largest },
            Loaded::Switching { from: Some(largest), to: id(1) },
            Loaded::Kernel,
        ] {
            words.set_loaded(state);
            assert_eq!(words.loaded(), state);
        }
    }
}
