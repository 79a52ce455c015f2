//! Memory contexts: the one function that decides which hooks run when a CPU gets a user of an
//! address space, and the one for when it loses it.
//!
//! | `loaded` | next is a user of | hooks, in this order |
//! | --- | --- | --- |
//! | kernel | B | `switch_mm` |
//! | A, active | B | `switch_mm` |
//! | A, lazy | B | `switch_mm`, `exit_lazy_tlb(left A)` |
//! | B, lazy | B | `exit_lazy_tlb(left B)` |
//! | B, active | B | none |
//!
//! What others read of a CPU's words, in which order they are stored, and who relies on that is in
//! [`protocol::words`]; the steps there carry the barriers.

use super::lifetime;
use crate::cpu::Cpu;
use crate::mm::space::Space;
use crate::rendezvous::{self, Point};
use crate::trace;
use abi::testing::Counter;
use abi::trace::Kind;
use arch_contract::barrier::{Barriers, CoreSync, Site};
use arch_contract::context::{
    Cached, ContextId, Contexts, Did, LeftLazy, Loadable, NowUser, Previously, Slot, Stale, Switched, Tags,
};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::ret::{CoreSyncOwed, Return};
use arch_contract::tlb::{Freed, Tlb};
use arch_current::Current;
use core::cell::Cell;
use core::ptr;
use protocol::flush::Missed;
use protocol::membarrier::Synced;
use protocol::words::{Active, Entered};
pub use protocol::words::{CurrentMm, Loaded, Registrations, Words};

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
    pub(crate) synced: Synced,
    /// An mm that is being taken apart was asked back while it was active.
    drop_wanted: Cell<bool>,
    /// For the refcount policy: what the lazy episode holds a reference to.
    pub(super) counted: Cell<*const Space>,
}

impl Held {
    pub fn new() -> Self {
        Self {
            space: Cell::new(ptr::null()),
            slot: Cell::new(Slot(0)),
            slots: [const { Cell::new(Remembered { id: 0, seen: 0 }) }; SLOTS],
            synced: Synced::new(),
            drop_wanted: Cell::new(false),
            counted: Cell::new(ptr::null()),
        }
    }

    /// Forgets everything: for a CPU that comes up with clean translations.
    pub fn forget(&self) {
        for slot in &self.slots {
            slot.set(Remembered { id: 0, seen: 0 });
        }
        self.synced.forget();
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
        // The mask is less than `SLOTS`, which is a power of two: that spares the bounds checks.
        id.get() as usize & self.kernel.ids.slot_mask() & (SLOTS - 1)
    }

    /// The space as this CPU has it cached.
    #[inline(always)]
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
    // SAFETY: the caller's obligation.
    match unsafe { enter_quickly(cpu, space, irq) } {
        Ok(Serialized::NotHere) => {}
        Ok(Serialized::Now) => settled(cpu),
        Ok(Serialized::Owed) => cpu.owe_core_sync(),
        // SAFETY: the caller's obligation; it is what is left of the same.
        Err(rest) => unsafe { enter_rest(cpu, space, rest, irq) },
    }
}

/// What entering a space means for core serialization (`RET-2`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Serialized {
    /// Nothing: what was owed before is owed still.
    NotHere,
    /// The core has serialized: what was owed before is settled.
    Now,
    /// The core has not, and must before user mode.
    Owed,
}

/// The switch serialized: what this CPU owed when it entered a space, if anything, is settled.
fn settled(cpu: &Cpu) {
    let _: CoreSyncOwed = cpu.take_core_sync();
    trace::count(cpu, Counter::CoreSyncs);
}

/// What is left of entering a space.
#[must_use]
pub enum Rest {
    All,
    /// `loaded` says switching, and (e) is done.
    Load(Entered),
}

/// As far as [`enter`] goes without a call: all of it if `space` is active already, or if this CPU
/// comes from a user of another and [turns](turn) to `space`.
///
/// # Safety
/// As [`enter`]; and the rest, if there is one, follows at once.
#[inline(always)]
unsafe fn enter_quickly(cpu: &Cpu, space: &Space, irq: &IrqsOff) -> Result<Serialized, Rest> {
    match cpu.words.active() {
        Some(from) if from.is(space.id()) => Ok(Serialized::NotHere),
        // SAFETY: the caller's obligation.
        Some(from) => unsafe { turn(cpu, space, from, irq) },
        None => Err(Rest::All),
    }
}

/// As [`enter`], where user code has just entered the kernel and nothing of this CPU's spaces has changed
/// since: as far as it goes without a call.
///
/// # Safety
/// As [`enter`]; and the rest, if there is one, follows at once.
#[inline(always)]
pub unsafe fn enter_from_user(cpu: &Cpu, space: &Space, irq: &IrqsOff) -> Result<Serialized, Rest> {
    let from = cpu.words.active_user();
    if ptr::eq(cpu.held.space.get(), space) {
        return Ok(Serialized::NotHere);
    }
    // SAFETY: the caller's obligation.
    unsafe { turn(cpu, space, from, irq) }
}

/// From a user of one space to a user of another, if this CPU is in the set of `space`, and either had it
/// before and nothing changed in it since, or loads it under a number of its own with all forgotten. That
/// is every switch of two processes that take turns.
///
/// # Safety
/// As [`enter_quickly`].
#[inline(always)]
unsafe fn turn(cpu: &Cpu, space: &Space, from: Active, irq: &IrqsOff) -> Result<Serialized, Rest> {
    // Mutants are placed on the long way.
    if mutant::any() {
        return Err(Rest::All);
    }
    // Only this CPU puts itself into the set and takes itself out.
    let is_member = || space.shared().set().has(cpu.number);
    // Written out twice: what is the same in both is compiled for each.
    let cached = cpu.cached(space);
    if cpu.held.slots[usize::from(cached.slot.0)].get().id == space.id().get() {
        debug_assert!(is_member(), "a space is remembered that this CPU has not joined");
        // SAFETY: the caller's obligation; what is cached is its own, and as new as `seen`.
        unsafe { turn_to(cpu, space, &cached, from, Stale::Nothing, irq) }
    } else if matches!(Current::tags(cpu.kernel.machine), Tags::PerCpu { .. }) && is_member() {
        // (Asked of the port, which knows when it is compiled.)
        // SAFETY: the caller's obligation; all is forgotten.
        unsafe { turn_to(cpu, space, &cached, from, Stale::Everything, irq) }
    } else {
        Err(Rest::All)
    }
}

/// Switches from a user of one space to a user of another, where this CPU is in the set of `space`.
///
/// # Safety
/// As [`enter_quickly`]; if `stale` is nothing, this CPU remembers `space`.
#[inline(always)]
unsafe fn turn_to(
    cpu: &Cpu,
    space: &Space,
    cached: &Cached<'_, <Current as Contexts>::Mm>,
    from: Active,
    stale: Stale,
    irq: &IrqsOff,
) -> Result<Serialized, Rest> {
    let (words, to, shared) = (&cpu.words, space.id(), space.shared());
    rendezvous::point(cpu, Point::Entering);
    let registrations = shared.registrations();
    let entered = words.turn_to(cpu, from, to, registrations);
    switching(cpu);
    // What changes after these reads finds this CPU in the space's set and in `loaded`.
    let remembered = &cpu.held.slots[usize::from(cached.slot.0)];
    let generation = match stale {
        Stale::Nothing => {
            let seen = remembered.get().seen;
            if !shared.is_still_seen(seen, entered) {
                return Err(Rest::Load(entered));
            }
            seen
        }
        Stale::Everything => {
            let generation = shared.tlb_generation(entered);
            remembered.set(Remembered { id: to.get(), seen: generation });
            generation
        }
    };
    // Read only where somebody asks.
    let always = Current::user_return_serializes(cpu.arch());
    let sync = if always { 0 } else { shared.sync_generation_found(entered) };
    rendezvous::point(cpu, Point::SwitchSampled);
    let hint = from.id().map_or(Previously::Kernel, Previously::Mm);
    // SAFETY: the caller's obligation; what is not forgotten is as new as the tables.
    let switched = unsafe { switch(cpu, to, hint, cached, stale, irq) };
    arrive(cpu, space, to, cached, generation, switched);
    words.look_again(cpu, to, registrations, shared);
    cpu.held.drop_wanted.set(false);
    Ok(match switched.core_serialized {
        // All that was asked up to the generation read before the switch is settled by it; who asks
        // later finds this CPU in `current_mm`.
        Did::Yes => {
            if !always {
                cpu.held.synced.settle(to, sync);
            }
            Serialized::Now
        }
        Did::No if always => Serialized::NotHere,
        Did::No if cpu.held.synced.compare(to, shared) == CoreSyncOwed::Yes => Serialized::Owed,
        Did::No => Serialized::NotHere,
    })
}

/// # Safety
/// As [`enter`]; `rest` is what [`enter_quickly`] or [`enter_from_user`] has just said of `space`.
#[inline(never)]
pub unsafe fn enter_rest(cpu: &Cpu, space: &Space, rest: Rest, irq: &IrqsOff) {
    match rest {
        // SAFETY: the caller's obligation.
        Rest::All => unsafe { enter_other(cpu, space, cpu.words.own_loaded(), irq) },
        Rest::Load(entered) => {
            let from = match cpu.words.loaded() {
                Loaded::Switching { from, .. } => from,
                _ => None,
            };
            let current = cpu.words.current_mm();
            let registrations = current.map_or(Registrations::NONE, |current| current.registrations);
            // SAFETY: the caller's obligation.
            let _: Switched = unsafe { load(cpu, space, from, false, entered, irq) };
            settle(cpu, space, registrations, None);
        }
    }
}

/// As [`enter`], after a kernel task or idle: most often the space is still held, lazily.
///
/// # Safety
/// As [`enter`].
#[inline(always)]
pub unsafe fn come_back(cpu: &Cpu, space: &Space, irq: &IrqsOff) {
    match cpu.words.own_loaded() {
        Loaded::Lazy(id) if id == space.id() => resume(cpu, space, irq),
        // SAFETY: the caller's obligation.
        _ => unsafe { enter(cpu, space, irq) },
    }
}

/// The last row but one of the table: this CPU holds `space` lazily, and a user of it comes next.
#[inline(always)]
fn resume(cpu: &Cpu, space: &Space, irq: &IrqsOff) {
    let (words, to, shared) = (&cpu.words, space.id(), space.shared());
    let early = mutant::is(Mutant::M16).then(|| cpu.held.synced.compare(to, shared));
    rendezvous::point(cpu, Point::Entering);
    let registrations = shared.registrations();
    words.claim(cpu, to, registrations);
    let entered = words.resume(cpu, to);
    if words.seen() < shared.tlb_generation(entered) && !mutant::is(Mutant::M27) {
        catch_up(cpu, irq);
    }
    if !mutant::is(Mutant::M8) {
        rendezvous::point(cpu, Point::EpisodeEnds);
        end_episode(cpu, space, to, Switched::NOTHING, irq);
    }
    settle(cpu, space, registrations, early);
}

/// # Safety
/// As [`enter`].
unsafe fn enter_other(cpu: &Cpu, space: &Space, loaded: Loaded, irq: &IrqsOff) {
    if loaded == Loaded::Lazy(space.id()) {
        return resume(cpu, space, irq);
    }
    let words = &cpu.words;
    let to = space.id();
    let shared = space.shared();
    let early = mutant::is(Mutant::M16).then(|| cpu.held.synced.compare(to, shared));
    rendezvous::point(cpu, Point::Entering);
    let registrations = shared.registrations();
    words.claim(cpu, to, registrations);

    let (from, left) = match loaded {
        Loaded::Active(id) => (Some(id), None),
        Loaded::Lazy(id) => (Some(id), Some(id)),
        Loaded::Kernel | Loaded::Switching { .. } => (None, None),
    };
    let (new_here, entered) = words.begin_switch(cpu, from, to, shared);
    switching(cpu);
    // SAFETY: the caller's obligation.
    let switched = unsafe { load(cpu, space, from, new_here, entered, irq) };
    if let Some(left) = left {
        rendezvous::point(cpu, Point::EpisodeEnds);
        end_episode(cpu, space, left, switched, irq);
    }
    settle(cpu, space, registrations, early);
}

/// `loaded` says switching, and (e) is done.
#[inline(always)]
fn switching(cpu: &Cpu) {
    rendezvous::point(cpu, Point::Switching);
    if mutant::is(Mutant::M22) {
        cpu.serve();
    }
}

/// `space` is entered, and `current_mm` says so with `registrations`: what may have changed before
/// (e) is looked at after it.
#[inline(always)]
fn settle(cpu: &Cpu, space: &Space, registrations: Registrations, early: Option<CoreSyncOwed>) {
    cpu.words.look_again(cpu, space.id(), registrations, space.shared());
    compare_sync_generation(cpu, space, early);
    cpu.held.drop_wanted.set(false);
}

/// The lazy episode of `left` ends in a user of `space`, which is loaded.
fn end_episode(cpu: &Cpu, space: &Space, left: ContextId, switched: Switched, irq: &IrqsOff) {
    let to = space.id();
    assert!(!mutant::is(Mutant::M10) || left == to, "the lazy mm is not the next one");
    let left = if mutant::is(Mutant::M11) { to } else { left };
    let user = NowUser { mm: space.mm(), id: to };
    let sync = space.shared().sync_generation();
    let serialized = Current::exit_lazy_tlb(cpu.arch(), LeftLazy(left), user, switched, irq);
    if serialized == CoreSync::Done && switched.core_serialized == Did::No || mutant::is(Mutant::M42) {
        // By the hook itself, hence after the generation was read.
        cpu.held.synced.settle(to, sync);
    }
    trace::event(cpu, Kind::LazyExit, left.get(), to.get());
    trace::count(cpu, Counter::LazyExits);
    lifetime::episode_ended(cpu);
}

/// Loads `space`: `loaded` says switching and (e) is done.
///
/// # Safety
/// As [`enter`].
unsafe fn load(
    cpu: &Cpu,
    space: &Space,
    from: Option<ContextId>,
    new_here: bool,
    entered: Entered,
    irq: &IrqsOff,
) -> Switched {
    let to = space.id();
    let cached = cpu.cached(space);
    let known = cpu.held.slots[usize::from(cached.slot.0)].get();
    // What changes after this read finds this CPU in the space's set and in `loaded`.
    let generation = space.shared().tlb_generation(entered);
    let sync = space.shared().sync_generation_found(entered);
    rendezvous::point(cpu, Point::SwitchSampled);
    let missed = match known.id == to.get() || mutant::is(Mutant::SlotKeepsWhatWasThere) {
        true => space.shared().flushes().since(known.seen, generation, Current::FLUSH_CEILING),
        // It was never loaded here since its hardware id was clean everywhere, so nothing is cached.
        false if new_here && !cpu.kernel.ids.are_per_cpu() => Missed::Nothing,
        false => Missed::Everything,
    };
    let stale = if missed.is_due_before_load() { Stale::Everything } else { Stale::Nothing };
    let hint = from.map_or(Previously::Kernel, Previously::Mm);
    // SAFETY: the caller's obligation. `Nothing` is said only of what was flushed up to
    // `known.seen`, and what pages changed since are forgotten below, before `loaded` says active.
    let switched = unsafe { switch(cpu, to, hint, &cached, stale, irq) };
    if switched.flushed == Did::No && missed != Missed::Nothing {
        forget(cpu, &cached, &missed, irq);
    }
    if switched.core_serialized == Did::Yes {
        // All that was asked up to the generation read before the switch is settled by it, and so
        // is what this CPU owed by then. `RET-2`
        settled(cpu);
        cpu.held.synced.settle(to, sync);
    }
    let remembered = &cpu.held.slots[usize::from(cached.slot.0)];
    remembered.set(Remembered { id: to.get(), seen: generation });
    arrive(cpu, space, to, &cached, generation, switched);
    switched
}

/// Has the port load a space, which is `to`.
///
/// # Safety
/// As [`enter`]; if `stale` is nothing, what is cached under its slot is its own and right, or is
/// forgotten before `loaded` says active.
#[inline(always)]
unsafe fn switch(
    cpu: &Cpu,
    to: ContextId,
    from: Previously,
    cached: &Cached<'_, <Current as Contexts>::Mm>,
    stale: Stale,
    irq: &IrqsOff,
) -> Switched {
    // SAFETY: 1. `space` outlives its being loaded, by the caller's obligation. 2. it is the id its
    // `Mm` was made with. 3. the caller's obligation.
    let loadable = unsafe { Loadable::new(cached.mm, to, cached.slot, stale) };
    // SAFETY: `loadable` is what the hook asks for.
    unsafe { Current::switch_mm(cpu.arch(), from, &loadable, irq) }
}

/// For scripts: has the port load the caller's `space`, which is active here, as if all that is cached of it
/// were stale.
pub fn load_again(cpu: &Cpu, space: &Space, irq: &IrqsOff) -> Switched {
    let (id, cached) = (space.id(), cpu.cached(space));
    // As before every switch. `CTX-3`
    Current::full_barrier(cpu.arch(), Site::EnterUserMm);
    // SAFETY: it is active here, and stays so; nothing of it is taken for right.
    unsafe { switch(cpu, id, Previously::Mm(id), &cached, Stale::Everything, irq) }
}

/// What the port did, one bit each.
#[inline(always)]
pub fn bits(switched: Switched) -> u64 {
    let did = |did: Did, bit: u64| if did == Did::Yes { bit } else { 0 };
    did(switched.reloaded, 1) | did(switched.core_serialized, 2) | did(switched.flushed, 4)
}

/// `space` is loaded, and what changed in it up to `generation` is forgotten.
#[inline(always)]
fn arrive(
    cpu: &Cpu,
    space: &Space,
    to: ContextId,
    cached: &Cached<'_, <Current as Contexts>::Mm>,
    generation: u64,
    switched: Switched,
) {
    trace::event(cpu, Kind::Seen, to.get(), generation);
    cpu.held.space.set(space);
    cpu.held.slot.set(cached.slot);
    let slot = if cpu.kernel.ids.are_per_cpu() { u64::from(cached.slot.0) + 1 } else { 0 };
    let bits = bits(switched) | slot << 16;
    trace::event(cpu, Kind::SwitchEnd, to.get(), bits);
    cpu.words.end_switch(to, generation);
    if mutant::is(Mutant::M23) {
        space.shared().join(cpu, to);
    }
    if switched.reloaded == Did::Yes {
        trace::count(cpu, Counter::Reloads);
    }
}

/// Arms the debt of core serialization if a request was made that this core has not serialized for
/// since. After (e): pairs with (a). `RET-2`
#[inline]
fn compare_sync_generation(cpu: &Cpu, space: &Space, early: Option<CoreSyncOwed>) {
    if Current::user_return_serializes(cpu.arch()) {
        return;
    }
    if early.unwrap_or_else(|| cpu.held.synced.compare(space.id(), space.shared())) == CoreSyncOwed::Yes {
        cpu.owe_core_sync();
    }
}

/// Forgets on this CPU what changed in the loaded space since it last did.
#[cold]
pub fn catch_up(cpu: &Cpu, irq: &IrqsOff) {
    let Some(space) = cpu.loaded_space() else { return };
    let generation = space.shared().flushes().generation();
    let seen = cpu.words.seen();
    let cached = Cached { mm: space.mm(), slot: cpu.held.slot.get() };
    let missed = space.shared().flushes().since(seen, generation, Current::FLUSH_CEILING);
    if mutant::is(Mutant::SeenTooSoon) {
        cpu.words.set_seen(generation);
    }
    forget(cpu, &cached, &missed, irq);
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
        if mutant::is(Mutant::M12)
            && let (Loaded::Lazy(held), Some(space)) = (words.own_loaded(), cpu.loaded_space())
        {
            end_episode(cpu, space, held, Switched::NOTHING, irq);
        }
        return;
    }
    words.leave(cpu);
    if let Loaded::Active(held) = words.own_loaded()
        && !mutant::is(Mutant::NeverLazy)
    {
        if let Some(space) = cpu.loaded_space() {
            lifetime::episode_begins(cpu, space);
        }
        trace::event(cpu, Kind::LazyEnter, held.get(), 0);
        words.become_lazy(held);
        Current::enter_lazy_tlb(cpu.arch(), held, irq);
        rendezvous::point(cpu, Point::BecameLazy);
        if cpu.held.drop_wanted.get() {
            drop_when_lazy(cpu, irq);
        }
    }
}

/// Lets go of what is loaded lazily; of what is active, as soon as it is lazy. What a teardown asks
/// of a CPU, and what a CPU does before it goes off.
#[cold]
#[inline(never)]
pub fn drop_when_lazy(cpu: &Cpu, irq: &IrqsOff) {
    match cpu.words.loaded() {
        Loaded::Active(_) if !mutant::is(Mutant::M29) => cpu.held.drop_wanted.set(true),
        Loaded::Active(id) | Loaded::Lazy(id) => {
            cpu.held.drop_wanted.set(false);
            if mutant::is(Mutant::DropSaidTooSoon) {
                cpu.words.let_go();
            }
            Current::drop_lazy(cpu.arch(), LeftLazy(id), irq);
            cpu.held.space.set(ptr::null());
            trace::event(cpu, Kind::Drop, id.get(), 0);
            cpu.words.let_go();
            lifetime::episode_ended(cpu);
        }
        Loaded::Kernel | Loaded::Switching { .. } => {}
    }
}

/// Stores the registrations of the current mm anew, because they changed.
pub fn read_registrations(cpu: &Cpu) {
    if let (Some(current), Some(space)) = (cpu.words.current_mm(), cpu.loaded_space()) {
        cpu.words.store_registrations(current.id, space.shared());
    }
}
