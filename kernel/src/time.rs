//! Nanoseconds since boot, from and to the machine's ticks.
//!
//! Both directions are exact but for the last unit: whole seconds and the rest are converted apart,
//! so nothing overflows and no error grows with time. A deadline is rounded up and the clock down,
//! so a deadline is never early by the clock a program reads (`TIME-2`).

use arch_contract::mutant::{self, Mutant};
use arch_contract::time::{Nanos, Ticks};

/// The rate of the machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    boot: Ticks,
    per_second: u64,
}

const SECOND: u64 = 1_000_000_000;
/// The fastest clock for which a second's ticks times a second's nanoseconds fit a word.
const FASTEST: u64 = u64::MAX / SECOND;

impl Rate {
    /// A clock that read `boot` when time began.
    ///
    /// # Panics
    /// If it is faster than 18 GHz or does not run at all: no machine's is.
    pub fn new(boot: Ticks, per_second: u64) -> Self {
        assert!((1..=FASTEST).contains(&per_second), "a clock of {per_second} Hz");
        Self { boot, per_second }
    }

    /// What `at` is in nanoseconds, rounded down.
    pub fn nanos(&self, at: Ticks) -> Nanos {
        let ticks = at.0.saturating_sub(self.boot.0);
        let (seconds, rest) = (ticks / self.per_second, ticks % self.per_second);
        Nanos(seconds.saturating_mul(SECOND).saturating_add(rest * SECOND / self.per_second))
    }

    /// How many ticks `nanos` take, rounded up.
    pub fn span(&self, nanos: u64) -> u64 {
        self.ticks(Nanos(nanos)).0.saturating_sub(self.boot.0)
    }

    /// How many nanoseconds `ticks` take, rounded down.
    pub fn length(&self, ticks: u64) -> u64 {
        self.nanos(Ticks(self.boot.0.saturating_add(ticks))).0
    }

    /// The first reading at which the clock says `at` or more.
    pub fn ticks(&self, at: Nanos) -> Ticks {
        let (seconds, rest) = (at.0 / SECOND, at.0 % SECOND);
        let up = if mutant::is(Mutant::DeadlineRoundedDown) { 0 } else { SECOND - 1 };
        let ticks =
            seconds.saturating_mul(self.per_second).saturating_add((rest * self.per_second + up) / SECOND);
        Ticks(self.boot.0.saturating_add(ticks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `TIME-2`: the tick a deadline turns into is the first at which the clock reads it.
    #[test]
    fn time_2_a_deadline_is_the_first_tick_that_reads_it() {
        for rate in [1_000u64, 512_000_000, 1_000_000_000, 2_399_999_123, 5_000_000_000] {
            let clock = Rate::new(Ticks(12345), rate);
            for at in [0, 1, 999, 10_000_000, 3_600_000_000_007, 1 << 55] {
                let ticks = clock.ticks(Nanos(at));
                assert!(clock.nanos(ticks).0 >= at, "{rate} {at}");
                if at > 0 {
                    assert!(clock.nanos(Ticks(ticks.0 - 1)).0 < at, "{rate} {at}: not the first");
                }
            }
        }
    }
}
