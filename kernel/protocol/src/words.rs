//! The words that say which address space a CPU has, and the steps in which they change.
//!
//! Each CPU has two words that are never confused. `current_mm` says whose *user code* may run
//! there; it is what membarrier samples. `loaded` says what the *MMU* holds, and how; it is what
//! TLB shootdown and teardown ask. A CPU that leaves user code for a kernel task or for idle keeps
//! the tables loaded, lazily: `current_mm` is none, `loaded` is lazy.
//!
//! # The order, and who relies on it
//!
//! *Leaving user code for something without an mm* ([`Words::leave`]): barrier (d); `current_mm` =
//! none; then ([`Words::become_lazy`]) `loaded` = lazy.
//!
//! *Entering M* ([`Words::claim`]): barrier (d) if `current_mm` names another mm; `current_mm` = M.
//! Then ([`Words::begin_switch`], or [`Words::resume`] if this CPU holds M) it joins M's set;
//! `loaded` = switching to M, or active; barrier (e). M's generations are read; M is loaded; what
//! the generations say was missed is forgotten; then ([`Words::end_switch`]) `loaded` = active.
//!
//! (e) is one barrier for three askers, each of which writes, executes a full barrier, and then
//! reads what this CPU wrote before (e). So either the asker sees this CPU, or this CPU, which reads
//! after (e), sees what the asker wrote (store buffering: both cannot miss):
//!
//! | asker | writes | barrier | reads here | what this CPU reads after (e) |
//! | --- | --- | --- | --- | --- |
//! | a flush ([`Shared::begin_flush`]) | the entry, the TLB generation | `FlushSample` | M's set, `loaded`, `seen` | the TLB generation |
//! | membarrier ([`membarrier`](crate::membarrier)) | user data; for sync-core the code and the sync generation | (a) | M's set, `current_mm` | user data; the sync generation |
//! | a registration ([`Shared::register`]) | M's registrations | `Register` | M's set, `current_mm` | M's registrations |

use crate::shared::Shared;
use crate::sync::{AtomicU64, Ordering};
use crate::{ThisCpu, unless};
use abi::trace::Kind;
use arch_contract::barrier::Site;
use arch_contract::context::ContextId;
use arch_contract::mutant::{self, Mutant};
use arch_contract::tlb::Freed;

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

/// What is active on a CPU, as the CPU itself finds it: the word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Active(u64);

impl Active {
    /// Whether it is `id`.
    #[inline(always)]
    pub fn is(self, id: ContextId) -> bool {
        self.0 == (State::Active as u64) << STATE_SHIFT | id.get()
    }

    /// Whose it is. Never `None`.
    #[inline(always)]
    pub fn id(self) -> Option<ContextId> {
        ContextId::new(self.0 & ID_MASK)
    }
}

/// The barrier (e) lies behind: what is read with this was written before, or its writer finds this CPU
/// in the set and in its words.
#[derive(Clone, Copy, Debug)]
pub struct Entered(());

/// Who may run user code on a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CurrentMm {
    pub id: ContextId,
    pub registrations: Registrations,
}

impl Words {
    pub fn new() -> Self {
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
                    // Acquire: pairs with the (d) before the store of `loading`. Who reads the target of
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
    pub fn own_loaded(&self) -> Loaded {
        let word = self.loaded.load(Ordering::Relaxed);
        match (word >> STATE_SHIFT, ContextId::new(word & ID_MASK)) {
            (1, Some(id)) => Loaded::Active(id),
            (2, Some(id)) => Loaded::Lazy(id),
            _ => Loaded::Kernel,
        }
    }

    /// What is active here. For its own CPU.
    #[inline(always)]
    pub fn active(&self) -> Option<Active> {
        let word = self.loaded.load(Ordering::Relaxed);
        (word >> STATE_SHIFT == State::Active as u64).then_some(Active(word))
    }

    /// As [`active`](Self::active), where user code of it has just entered the kernel.
    #[inline(always)]
    pub fn active_user(&self) -> Active {
        let word = self.loaded.load(Ordering::Relaxed);
        debug_assert!(word >> STATE_SHIFT == State::Active as u64, "user code without an address space");
        Active(word)
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

    #[inline(always)]
    fn set_current_mm(&self, id: Option<ContextId>, registrations: Registrations) {
        let word = id.map_or(0, |id| id.get() | u64::from(registrations.0) << STATE_SHIFT);
        self.current_mm.store(word, Ordering::Relaxed);
    }

    /// The TLB generation up to which this CPU has forgotten. For itself.
    #[inline(always)]
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Says up to where this CPU has forgotten. Release: the flush comes before it. Pairs with the
    /// acquire in `may_use_older`.
    #[inline(always)]
    pub fn set_seen(&self, generation: u64) {
        self.seen.store(generation, unless(Mutant::SeenRelaxed, Ordering::Release));
    }

    #[inline(always)]
    fn set_loaded(&self, loaded: Loaded) {
        let (state, id) = match loaded {
            Loaded::Kernel => (State::Kernel, None),
            Loaded::Active(id) => (State::Active, Some(id)),
            Loaded::Lazy(id) => (State::Lazy, Some(id)),
            Loaded::Switching { from, to } => {
                // Relaxed: a CPU that begins a switch has left its last mm, so a barrier (d) lies
                // between the store that ended the last switch and this one. Pairs with the acquire
                // in `loaded_through`. `CTX-5`
                self.loading.store(to.get(), Ordering::Relaxed);
                (State::Switching, from)
            }
        };
        let word = (state as u64) << STATE_SHIFT | id.map_or(0, ContextId::get);
        // Release: all this CPU did with what it held before comes before it says it holds
        // something else. Pairs with the acquire in `loaded_through`. `CTX-5`
        self.loaded.store(word, unless(Mutant::LoadedRelaxed, Ordering::Release));
    }
}

/// The steps of the words' own CPU.
impl Words {
    /// Nothing that uses an address space runs here from now on.
    #[inline(always)]
    pub fn leave(&self, cpu: &impl ThisCpu) {
        // (d): this CPU's user accesses, before anyone can sample that it has left. Pairs with
        // membarrier's exit barrier (c). `BAR-4`
        cpu.full_barrier(Site::LeaveUserMm);
        cpu.event(Kind::Current, 0, 0);
        self.set_current_mm(None, Registrations::NONE);
    }

    /// What was active has no user any more.
    #[inline(always)]
    pub fn become_lazy(&self, held: ContextId) {
        self.set_loaded(Loaded::Lazy(held));
    }

    /// What was lazy is not in reach of the walker any more.
    #[inline(always)]
    pub fn let_go(&self) {
        self.set_loaded(Loaded::Kernel);
    }

    /// A user of `to` comes next.
    #[inline(always)]
    pub fn claim(&self, cpu: &impl ThisCpu, to: ContextId, registrations: Registrations) {
        if self.current_mm.load(Ordering::Relaxed) != 0 {
            // (d): this CPU's user accesses under the old mm, before anyone can sample that it has
            // left. Pairs with membarrier's exit barrier (c). `BAR-4`
            cpu.full_barrier(Site::LeaveUserMm);
        }
        cpu.event(Kind::Current, to.get(), 0);
        self.set_current_mm(Some(to), registrations);
    }

    /// After [`claim`](Self::claim), where `to` was held lazily.
    #[inline(always)]
    pub fn resume(&self, cpu: &impl ThisCpu, to: ContextId) -> Entered {
        self.set_loaded(Loaded::Active(to));
        cpu.full_barrier(Site::EnterUserMm); // (e), see the module's table. `BAR-5`, `CTX-3`
        Entered(())
    }

    /// After [`claim`](Self::claim), where `from` was held. Says whether this CPU was not in the
    /// set of `to`.
    #[inline(always)]
    pub fn begin_switch(
        &self,
        cpu: &impl ThisCpu,
        from: Option<ContextId>,
        to: ContextId,
        shared: &Shared,
    ) -> (bool, Entered) {
        let new_here = !mutant::is(Mutant::M23) && shared.join(cpu, to);
        if mutant::is(Mutant::M24) {
            cpu.full_barrier(Site::EnterUserMm);
        }
        self.set_loaded(match mutant::is(Mutant::NoSwitchingState) {
            true => Loaded::Active(to),
            false => Loaded::Switching { from, to },
        });
        cpu.event(Kind::SwitchBegin, from.map_or(0, ContextId::get), to.get());
        if !mutant::is(Mutant::M24) {
            cpu.full_barrier(Site::EnterUserMm); // (e), see the module's table. `BAR-5`, `CTX-3`
        }
        (new_here, Entered(()))
    }

    /// [`claim`](Self::claim) and [`begin_switch`](Self::begin_switch) in one, where this CPU goes from
    /// a user of one mm to a user of another, in whose set it is.
    #[inline(always)]
    pub fn turn_to(
        &self,
        cpu: &impl ThisCpu,
        from: Active,
        to: ContextId,
        registrations: Registrations,
    ) -> Entered {
        // (d), as in `claim`. `BAR-4`
        cpu.full_barrier(Site::LeaveUserMm);
        cpu.event(Kind::Current, to.get(), 0);
        self.set_current_mm(Some(to), registrations);
        // Relaxed: the barrier (d) lies between the end of the last switch and this. Pairs with the
        // acquire in `loaded_through`. `CTX-5`
        self.loading.store(to.get(), Ordering::Relaxed);
        let switching = from.0 ^ (State::Active as u64 ^ State::Switching as u64) << STATE_SHIFT;
        // Release: who sees the switch also finds its target. Pairs with the acquire in
        // `loaded_through`. `CTX-5`
        self.loaded.store(switching, Ordering::Release);
        cpu.event(Kind::SwitchBegin, from.0 & ID_MASK, to.get());
        cpu.full_barrier(Site::EnterUserMm); // (e), see the module's table. `BAR-5`, `CTX-3`
        Entered(())
    }

    /// `to` is loaded, and what changed in it up to `generation` is forgotten. Nothing of what was
    /// held before is touched after this: its teardown may see it.
    #[inline(always)]
    pub fn end_switch(&self, to: ContextId, generation: u64) {
        self.set_seen(generation);
        self.set_loaded(Loaded::Active(to));
    }

    /// After (e): `to` stands in `current_mm` with `read`, which may have changed since.
    #[inline(always)]
    pub fn look_again(&self, cpu: &impl ThisCpu, to: ContextId, read: Registrations, shared: &Shared) {
        let now = shared.registrations();
        if now != read {
            self.set_current_mm(Some(to), now);
            // That store too lies before what user code does: whoever samples the old one is seen.
            // `BAR-2`
            cpu.full_barrier(Site::EnterUserMm);
        }
    }

    /// Stores the registrations of the current mm anew, because they changed: what a registration
    /// asks of a CPU. Pairs with the asker's `Register` barrier. `BAR-2`
    #[inline(always)]
    pub fn store_registrations(&self, current: ContextId, shared: &Shared) {
        self.set_current_mm(Some(current), shared.registrations());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpuset::CpuId;

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

    /// `CTX-5`: a turn is seen as a switch from what was active.
    #[test]
    fn ctx_5_a_turn_is_a_switch() {
        struct Here;
        impl ThisCpu for Here {
            fn number(&self) -> CpuId {
                CpuId::BOOT
            }
            fn full_barrier(&self, _: Site) {}
            fn event(&self, _: Kind, _: u64, _: u64) {}
        }
        let (a, b) = (id(1), id((1 << STATE_SHIFT) - 1));
        let words = Words::new();
        assert_eq!(words.active(), None);
        words.set_loaded(Loaded::Lazy(a));
        assert_eq!(words.active(), None);
        words.set_loaded(Loaded::Active(a));
        let from = words.active().expect("it is");
        assert!(from.is(a) && !from.is(b) && from.id() == Some(a));
        words.turn_to(&Here, from, b, Registrations::GLOBAL_EXPEDITED);
        assert_eq!(words.loaded(), Loaded::Switching { from: Some(a), to: b });
        let current = CurrentMm { id: b, registrations: Registrations::GLOBAL_EXPEDITED };
        assert_eq!(words.current_mm(), Some(current));
    }

    /// `TLB-3`: whom a flusher waits for, state by state: a CPU without a user only if tables are freed,
    /// which its walker may be in, and then also one that is leaving the space.
    #[test]
    fn tlb_3_whom_a_flusher_waits_for() {
        let (m, n) = (id(1), id(2));
        let words = Words::new();
        words.set_seen(4);
        let waits = |loaded, wanted| {
            words.set_loaded(loaded);
            [Freed::PagesOnly, Freed::Tables].map(|freed| words.may_use_older(m, wanted, freed))
        };
        assert_eq!(waits(Loaded::Kernel, 5), [false, false]);
        assert_eq!(waits(Loaded::Active(m), 5), [true, true]);
        assert_eq!(waits(Loaded::Active(m), 4), [false, false]);
        assert_eq!(waits(Loaded::Lazy(m), 5), [false, true]);
        assert_eq!(waits(Loaded::Lazy(m), 4), [false, false]);
        assert_eq!(waits(Loaded::Switching { from: Some(n), to: m }, 4), [true, true]);
        assert_eq!(waits(Loaded::Switching { from: Some(m), to: n }, 4), [false, true]);
        for other in [Loaded::Active(n), Loaded::Lazy(n), Loaded::Switching { from: None, to: n }] {
            assert_eq!(waits(other, 5), [false, false]);
        }
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
