//! The clock, and waiting for it.

use crate::call::{plain, word};
use crate::object::{Kind, Object};
use abi::{Call, Error, initial};
use core::time::Duration;

/// The machine's clock.
#[derive(Debug)]
pub enum TimerKind {}
impl Kind for TimerKind {}
/// A handle on it.
pub type Timer = Object<TimerKind>;

/// What this program's maker granted it as a timer.
pub static TIMER: Timer = Timer::from_handle(initial::TIMER);

impl Timer {
    /// Time since the machine booted. Needs `READ`. Never goes back.
    pub fn now(&self) -> Result<Duration, Error> {
        plain(Call::ClockRead, [word(self.handle())]).map(Duration::from_nanos)
    }

    /// Waits until [`now`](Self::now) is at least `deadline`; not at all if it is already.
    /// Needs `WAIT`.
    pub fn sleep_until(&self, deadline: Duration) -> Result<(), Error> {
        let nanoseconds = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
        plain(Call::SleepUntil, [word(self.handle()), nanoseconds]).map(|_| ())
    }

    /// Waits for at least `time`. Needs `READ` and `WAIT`.
    pub fn sleep(&self, time: Duration) -> Result<(), Error> {
        self.sleep_until(self.now()?.saturating_add(time))
    }
}
