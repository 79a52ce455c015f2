//! Which sources of device interrupts are taken. Each is a vector of its own.
//!
//! They are given in turn: one that was given back comes last. A message that its function sent before it was
//! reset may still wait in a local APIC then, and be delivered later; until the vector's turn comes, there is
//! nobody it could be taken for. It waits for the APIC's CPU to take interrupts, which the kernel keeps off for
//! bounded stretches only; a turn takes the functions of a whole machine to be claimed, programmed and reset.

use core::sync::atomic::{AtomicU64, Ordering};

/// Sources below `N`, which is at most 256.
pub struct Sources<const N: usize> {
    /// Bit `n % 64` of word `n / 64`.
    taken: [AtomicU64; 4],
    /// How far the turn has come: the search for the next begins at its remainder by `N`. It only goes up.
    turn: AtomicU64,
}

// What is known of a source is its holder's, so nothing here orders anything: all accesses are relaxed.
impl<const N: usize> Sources<N> {
    pub const fn new() -> Self {
        const { assert!(N <= 256) };
        Self { taken: [const { AtomicU64::new(0) }; 4], turn: AtomicU64::new(0) }
    }

    /// Takes one that nobody has.
    pub fn take(&self) -> Option<u16> {
        let first = self.turn.load(Ordering::Relaxed);
        let at = (first..first + N as u64).find(|at| {
            let number = (at % N as u64) as usize;
            let bit = 1 << (number % 64);
            self.taken[number / 64].fetch_or(bit, Ordering::Relaxed) & bit == 0
        })?;
        self.has_come_past(at);
        Some((at % N as u64) as u16)
    }

    /// The turn has come past `at`, or further if another CPU took one meanwhile.
    fn has_come_past(&self, at: u64) {
        self.turn.fetch_max(at + 1, Ordering::Relaxed);
    }

    /// Gives back what [`take`](Self::take) returned.
    pub fn give(&self, number: u16) {
        let number = usize::from(number);
        self.taken[number / 64].fetch_and(!(1 << (number % 64)), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `DEV-5`: a source that was given back is not the next to be given, nor before all others were.
    #[test]
    fn dev_5_a_source_that_was_given_back_comes_last() {
        let sources = Sources::<160>::new();
        assert_eq!((sources.take(), sources.take()), (Some(0), Some(1)));
        sources.give(0);
        for number in 2..160 {
            assert_eq!(sources.take(), Some(number));
        }
        assert_eq!((sources.take(), sources.take()), (Some(0), None));
        sources.give(77);
        assert_eq!(sources.take(), Some(77));
    }

    /// `DEV-5`: nor if the same holder comes and goes.
    #[test]
    fn dev_5_sources_are_given_in_turn() {
        let sources = Sources::<160>::new();
        for round in 0..400 {
            let number = sources.take().unwrap();
            assert_eq!(number, round % 160);
            sources.give(number);
        }
    }

    /// `DEV-5`: nor if a CPU is late to say which it took.
    #[test]
    fn dev_5_the_turn_never_goes_back() {
        let sources = Sources::<160>::new();
        for number in 0..4 {
            assert_eq!(sources.take(), Some(number));
        }
        sources.has_come_past(0);
        sources.give(1);
        assert_eq!(sources.take(), Some(4));
    }
}
