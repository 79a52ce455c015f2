//! How much of a CPU a thread may use: a budget in each period.
//!
//! Periods follow each other from the moment the limit was set. What is left of a budget at the end
//! of a period is lost. A thread without a limit costs one load per switch.

use crate::sync::{AtomicBool, Leaf, Ordering};
use arch_contract::time::Nanos;

/// The limit of one thread.
pub struct Limit {
    is_set: AtomicBool,
    account: Leaf<Account>,
}

/// In nanoseconds.
struct Account {
    budget: u64,
    period: u64,
    /// When the period began, since boot.
    began: u64,
    left: u64,
}

impl Limit {
    pub const fn new() -> Self {
        let account = Account { budget: 0, period: 0, began: 0, left: 0 };
        Self { is_set: AtomicBool::new(false), account: Leaf::new(account) }
    }

    /// Whether there is one. For its own CPU, which is asked to look after it was set.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Relaxed)
    }

    /// `budget` nanoseconds in each `period` from `now` on; a budget of 0 takes the limit away. The
    /// first period's is whole.
    pub fn set(&self, budget: u64, period: u64, now: Nanos) {
        let mut account = self.account.lock();
        *account = Account { budget, period, began: now.0, left: budget };
        self.is_set.store(budget != 0, Ordering::Relaxed);
    }

    /// The thread has run for `nanos` up to `now`. What lies before the limit was set is not its
    /// business.
    pub fn charge(&self, nanos: u64, now: Nanos) {
        let mut account = self.account.lock();
        let since = now.0.saturating_sub(account.began);
        account.left = account.left.saturating_sub(nanos.min(since));
    }

    /// Until when the thread may run from `now` before it is to be charged again, or when it will
    /// next have a budget.
    pub fn until(&self, now: Nanos) -> Result<Nanos, Nanos> {
        let mut account = self.account.lock();
        if account.budget == 0 {
            return Ok(Nanos(u64::MAX));
        }
        let gone = now.0.saturating_sub(account.began);
        if gone >= account.period {
            account.began += gone - gone % account.period;
            account.left = account.budget;
        }
        let next = account.began.saturating_add(account.period);
        match account.left {
            0 => Err(Nanos(next)),
            left => Ok(Nanos(next.min(now.0.saturating_add(left)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A budget lasts as long as it says, comes back whole with the next period, and is not saved
    /// up over many.
    #[test]
    fn a_budget_per_period() {
        let limit = Limit::new();
        assert_eq!(limit.until(Nanos(7)), Ok(Nanos(u64::MAX)));
        limit.set(30, 100, Nanos(1000));
        assert_eq!(limit.until(Nanos(1000)), Ok(Nanos(1030)));
        limit.charge(20, Nanos(1020));
        assert_eq!(limit.until(Nanos(1020)), Ok(Nanos(1030)));
        limit.charge(11, Nanos(1031));
        assert_eq!(limit.until(Nanos(1031)), Err(Nanos(1100)));
        assert_eq!(limit.until(Nanos(1100)), Ok(Nanos(1130)));
        assert_eq!(limit.until(Nanos(1750)), Ok(Nanos(1780)));
        // Not beyond the period's end: there it is charged, and has the next.
        assert_eq!(limit.until(Nanos(1790)), Ok(Nanos(1800)));
        limit.set(0, 0, Nanos(2000));
        assert!(!limit.is_set());
    }
}
