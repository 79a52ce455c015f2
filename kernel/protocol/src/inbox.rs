//! Requests from CPU to CPU: each has an [`Inbox`], a word of [`Kinds`] that others set bits in, and
//! two counts that tell an asker when a request is served.

use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::unless;
use arch_contract::mutant::{self, Mutant};

/// What can be asked of a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kinds(u32);

impl Kinds {
    pub const NONE: Self = Self(0);
    /// Something was put into its run queue, or its current thread is wanted elsewhere or doomed.
    pub const RESCHEDULE: Self = Self(1);
    /// The generation of what it has loaded was raised.
    pub const FLUSH: Self = Self(2);
    /// A full barrier (`BAR-6`).
    pub const BARRIER: Self = Self(4);
    /// Serialize before the next user instruction (`RET-2`).
    pub const CORE_SYNC: Self = Self(8);
    /// Restart the current thread's restartable sequence.
    pub const RSEQ: Self = Self(16);
    /// Look up the registrations of the current mm again.
    pub const REGISTRATIONS: Self = Self(32);
    /// Let go of an mm that is loaded lazily: it is being taken apart.
    pub const DROP: Self = Self(64);
    /// Forget all translations of all mms: hardware ids are about to be reused (`CTX-12`).
    pub const FLUSH_ALL: Self = Self(128);
    /// Go off.
    pub const GO_OFF: Self = Self(256);

    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// What others ask of one CPU. On a cache line of its own: it is written only when something is
/// asked.
#[derive(Debug)]
#[repr(align(128))]
pub struct Inbox {
    kinds: AtomicU32,
    /// The number of the last request that wants to know when it is served.
    asked: AtomicU64,
    /// The number of the last such request that was.
    served: AtomicU64,
}

impl Inbox {
    pub fn new() -> Self {
        Self { kinds: AtomicU32::new(0), asked: AtomicU64::new(0), served: AtomicU64::new(0) }
    }

    /// Asks without caring when. Says whether the CPU must be interrupted: not if a request is
    /// pending there already, since whoever made that one has sent, or is about to send, the
    /// interrupt.
    #[inline(always)]
    pub fn ask(&self, kinds: Kinds) -> Pending {
        // Release: what this CPU wrote comes before the request. Pairs with the acquire in
        // `serve_up_to`.
        match self.kinds.fetch_or(kinds.0, Ordering::Release) {
            _ if mutant::is(Mutant::InterruptStorm) => Pending::No,
            0 => Pending::No,
            _ => Pending::Yes,
        }
    }

    /// Up to which number there is something to serve, if there is. For its own CPU.
    #[inline(always)]
    pub fn pending(&self) -> Option<u64> {
        // Acquire: the number before the kinds are taken. Pairs with the release in `post`.
        let number = self.asked.load(Ordering::Acquire);
        let any = self.kinds.load(Ordering::Relaxed) != 0 || self.served.load(Ordering::Relaxed) != number;
        any.then_some(number)
    }

    /// Takes what is asked and has `act` do it. `number` is what [`pending`](Self::pending) said. For
    /// its own CPU.
    #[inline(always)]
    pub fn serve_up_to(&self, number: u64, act: impl FnOnce(Kinds)) {
        if mutant::is(Mutant::AcknowledgesFirst) {
            self.served.store(number, Ordering::Release);
        }
        // Acquire: what the askers wrote. Pairs with the releases in `ask` and `post`.
        act(Kinds(self.kinds.swap(0, Ordering::Acquire)));
        // Release: all of the above comes before the asker goes on. Pairs with the acquire in
        // `has_served`. Only this CPU writes it, and `number` never falls.
        self.served.store(number, unless(Mutant::AckRelaxed, Ordering::Release));
    }

    /// Whether the request with this number is served. Acquire: pairs with the release in
    /// [`serve_up_to`](Self::serve_up_to): what the CPU did for the request comes before what the
    /// asker does next.
    #[inline(always)]
    pub fn has_served(&self, number: u64) -> bool {
        self.served.load(Ordering::Acquire) >= number
    }
}

/// Whether something is pending at the CPU that was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pending {
    No,
    Yes,
}

/// Gives the requests that are waited for their numbers.
pub struct Numbers(AtomicU64);

impl Numbers {
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The next, never 0. Acquire and release: who gets a larger number comes after what the CPU that
    /// got this one did before; it has put its kinds there.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::AcqRel) + 1
    }
}

/// Puts `kinds` into all `inboxes` and then a number, for which `next` is asked in between: that of
/// [`Numbers::next`], one for all inboxes.
///
/// In this order: other requests are under way, and whoever serves a larger number serves this one
/// with it. So before the number exists the kinds must be there.
#[inline(always)]
pub fn post<'a>(
    inboxes: impl Iterator<Item = &'a Inbox> + Clone,
    kinds: Kinds,
    mut next: impl FnMut() -> u64,
) -> u64 {
    let early = mutant::is(Mutant::NumberBeforeKinds).then(&mut next);
    for inbox in inboxes.clone() {
        // Release: as in `ask`.
        inbox.kinds.fetch_or(kinds.0, Ordering::Release);
    }
    let number = early.unwrap_or_else(next);
    for inbox in inboxes {
        // Release: who reads this number, or a larger one, takes the kinds after they were put there.
        // Pairs with the acquire in `pending`.
        inbox.asked.fetch_max(number, Ordering::Release);
    }
    number
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// `SMP-2`: two CPUs ask the same one, and the one whose number is smaller is the slower. What
    /// is served with the larger number answers both, so it must hold what both asked for.
    #[test]
    fn smp_2_a_number_that_is_served_was_served_with_all_smaller_ones() {
        crate::select_mutant();
        let inbox = Inbox::new();
        let mut served = Kinds::NONE;
        let slow = post(core::iter::once(&inbox), Kinds::FLUSH_ALL, || {
            let number = 1;
            // Meanwhile another CPU asks, with the next number, and is served.
            assert_eq!(post(core::iter::once(&inbox), Kinds::BARRIER, || 2), 2);
            assert_eq!(inbox.pending(), Some(2));
            inbox.serve_up_to(2, |kinds| served = kinds);
            number
        });
        assert!(slow < 2 && served.has(Kinds::BARRIER) && served.has(Kinds::FLUSH_ALL));
    }
}
