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

use crate::cpu::Cpu;
use crate::mm::space::Space;
use crate::sync::{AtomicU64, Ordering};
use arch_contract::barrier::{CoreSync, Site};
use arch_contract::context::{ContextId, Contexts, Did, LeftLazy, Loadable, NowUser, Previously, Switched};
use arch_contract::irq::IrqsOff;
use arch_current::Current;

/// The words of one CPU, on a cache line of their own (128 bytes covers every machine's line).
/// Written by their CPU only, so a store needs no read-modify-write.
#[repr(align(128))]
pub struct Words {
    /// A context id, or 0 for none. Bits 48 and up are for membarrier's registrations.
    current_mm: AtomicU64,
    /// A context id, or 0 for the kernel's own tables; bits 48 and up are a [`State`].
    loaded: AtomicU64,
    /// While `loaded` says switching: the context that is being loaded.
    loading: AtomicU64,
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

impl Words {
    pub const fn new() -> Self {
        Self { current_mm: AtomicU64::new(0), loaded: AtomicU64::new(0), loading: AtomicU64::new(0) }
    }

    /// Whose user code may run on this CPU.
    pub fn current_mm(&self) -> Option<ContextId> {
        ContextId::new(self.current_mm.load(Ordering::Relaxed) & ID_MASK)
    }

    /// What its MMU holds. For its own CPU, and for others that ask: two words are read, so the
    /// first is read again until both were of one state.
    pub fn loaded(&self) -> Loaded {
        self.loaded_through(|| {})
    }

    /// As [`loaded`](Self::loaded); `between` runs between the reads of the two words.
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

    fn set_current_mm(&self, id: Option<ContextId>) {
        self.current_mm.store(id.map_or(0, ContextId::get), Ordering::Relaxed);
    }

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

/// Makes `space` the address space whose user comes next on this CPU: before user mode, and before
/// a kernel task that uses `space` is polled.
///
/// # Safety
/// `space` stays alive until [`drop_everywhere`] has been called for it.
pub unsafe fn enter(cpu: &Cpu, space: &Space, irq: &IrqsOff) {
    let words = &cpu.words;
    let to = space.id();
    let loaded = words.loaded();
    if loaded == Loaded::Active(to) {
        return;
    }
    if words.current_mm().is_some_and(|old| old != to) {
        // (d): this CPU's user accesses under the old mm, before anyone can sample that it has
        // left. Pairs with membarrier's exit barrier (c). `BAR-4`
        cpu.full_barrier(Site::LeaveUserMm);
    }
    words.set_current_mm(Some(to));

    let (from, left) = match loaded {
        Loaded::Active(id) => (Some(id), None),
        Loaded::Lazy(id) => (Some(id), Some(id)),
        Loaded::Kernel | Loaded::Switching { .. } => (None, None),
    };
    let switched = if from == Some(to) {
        words.set_loaded(Loaded::Active(to));
        Switched::NOTHING
    } else {
        words.set_loaded(Loaded::Switching { from, to });
        // SAFETY: `space` outlives its being loaded, by this function's contract, and the id is
        // the one its `Mm` was made with.
        let loadable = unsafe { Loadable::new(space.mm(), to) };
        let hint = from.map_or(Previously::Kernel, Previously::Mm);
        // SAFETY: `loadable` is what the hook asks for; interrupts are off; `current_mm` names
        // `to` and `loaded` says switching.
        let switched = unsafe { Current::switch_mm(cpu.arch(), hint, &loadable, irq) };
        words.set_loaded(Loaded::Active(to));
        switched
    };
    // (e): the store of `current_mm` above, before any user access under the new mm. Only a
    // barrier that lies after the store counts, which is what the witness says. Pairs with
    // membarrier's entry barrier (a). `BAR-5`
    if switched.full_barrier == Did::No {
        cpu.full_barrier(Site::EnterUserMm);
    }
    let mut synced = switched.core_serialized == Did::Yes;
    if let Some(left) = left {
        let now = NowUser { mm: space.mm(), id: to };
        let sync = Current::exit_lazy_tlb(cpu.arch(), LeftLazy(left), now, switched, irq);
        synced |= sync == CoreSync::Done;
    }
    if synced {
        // The core serialized after everything a request could have asked for before it sampled
        // this CPU. `RET-2`
        let _settled = cpu.take_core_sync();
    }
}

/// This CPU goes on with something that uses no address space: a kernel task, or idle. Does
/// nothing if it has no user already, so kernel → kernel passes cost nothing (`CTX-6`).
pub fn leave(cpu: &Cpu, irq: &IrqsOff) {
    let words = &cpu.words;
    if words.current_mm().is_none() {
        return;
    }
    // (d): this CPU's user accesses, before anyone can sample that it has left. Pairs with
    // membarrier's exit barrier (c). `BAR-4`
    cpu.full_barrier(Site::LeaveUserMm);
    words.set_current_mm(None);
    if let Loaded::Active(held) = words.loaded() {
        words.set_loaded(Loaded::Lazy(held));
        Current::enter_lazy_tlb(cpu.arch(), held, irq);
    }
}

/// Makes sure that `id` is loaded on no CPU (`CTX-9`): what a teardown calls before it frees the
/// first table. No thread of it exists any more, so nothing can load it again. This CPU is the
/// only one yet.
pub fn drop_everywhere(cpu: &Cpu, id: ContextId, irq: &IrqsOff) {
    let words = &cpu.words;
    match words.loaded() {
        Loaded::Lazy(held) if held == id => {
            Current::drop_lazy(cpu.arch(), LeftLazy(id), irq);
            words.set_loaded(Loaded::Kernel);
        }
        Loaded::Active(held) => assert!(held != id, "a kernel task runs with a dying mm active"),
        _ => {}
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
