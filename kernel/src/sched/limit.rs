//! How much of a CPU a thread, or the threads of a process together, may use: a budget in each period.
//!
//! Periods follow each other from the moment the limit was set. What is left of a budget at the end
//! of a period is lost. What was used beyond it, on several CPUs at once or in the kernel, is taken off the
//! next ones. A thread without one is never asked: [`Extra::Limit`](crate::thread::Extra::Limit) says who has.

use crate::sync::Leaf;
use abi::MIN_BUDGET;
use arch_contract::mutant::{self, Mutant};
use arch_contract::time::Nanos;

/// The limit of one thread, or of some processes.
pub struct Limit(Leaf<Account>);

/// In nanoseconds.
struct Account {
    budget: u64,
    period: u64,
    /// When the limit was set, since boot.
    since: u64,
    /// When the period began, since boot.
    began: u64,
    /// Below zero: what was used too much.
    left: i64,
}

/// Whether there can be a limit of `budget` nanoseconds in each `period`.
pub fn is_valid(budget: u64, period: u64) -> bool {
    (MIN_BUDGET..=period).contains(&budget)
}

impl Limit {
    pub const fn new() -> Self {
        Self(Leaf::new(Account { budget: 0, period: 0, since: 0, began: 0, left: 0 }))
    }

    /// One that is set from `now` on.
    pub fn of(budget: u64, period: u64, now: Nanos) -> Self {
        let limit = Self::new();
        limit.set(budget, period, now);
        limit
    }

    /// `budget` nanoseconds in each `period` from `now` on; a budget of 0 takes the limit away. The
    /// first period's is whole.
    pub fn set(&self, budget: u64, period: u64, now: Nanos) {
        let account = Account { budget, period, since: now.0, began: now.0, left: in_account(budget) };
        *self.0.lock() = account;
    }

    /// A thread has run for `nanos` up to `now`. What lies before the limit was set is not its business; what
    /// lies before the period is, which another thread's CPU may have begun meanwhile. `TIME-5`
    pub fn charge(&self, nanos: u64, now: Nanos) {
        let mut account = self.0.lock();
        let from = if mutant::is(Mutant::ChargedFromThePeriodOn) { account.began } else { account.since };
        if account.budget != 0 {
            let counts = nanos.min(now.0.saturating_sub(from));
            account.left = account.left.saturating_sub(in_account(counts));
        }
    }

    /// Until when the thread may run from `now` before it is to be charged again, or when it will
    /// next have a budget.
    pub fn until(&self, now: Nanos) -> Result<Nanos, Nanos> {
        let mut account = self.0.lock();
        if account.budget == 0 {
            return Ok(Nanos(u64::MAX));
        }
        let gone = now.0.saturating_sub(account.began);
        if gone >= account.period {
            account.began += gone - gone % account.period;
            let budgets = in_account((gone / account.period).saturating_mul(account.budget));
            account.left = account.left.min(0).saturating_add(budgets).min(in_account(account.budget));
        }
        let next = account.began.saturating_add(account.period);
        match u64::try_from(account.left) {
            Err(_) | Ok(0) => Err(Nanos(next)),
            Ok(left) => Ok(Nanos(next.min(now.0.saturating_add(left)))),
        }
    }
}

/// So much, or what is as good as for ever: 292 years.
fn in_account(nanos: u64) -> i64 {
    i64::try_from(nanos).unwrap_or(i64::MAX)
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
        assert_eq!(limit.until(Nanos(1100)), Ok(Nanos(1129)), "one was used too much");
        assert_eq!(limit.until(Nanos(1750)), Ok(Nanos(1780)));
        // Not beyond the period's end: there it is charged, and has the next.
        assert_eq!(limit.until(Nanos(1790)), Ok(Nanos(1800)));
        limit.set(0, 0, Nanos(2000));
        assert_eq!(limit.until(Nanos(2000)), Ok(Nanos(u64::MAX)));
    }

    /// `TIME-5`: those who run when another CPU begins the next period are charged for all they ran, not from
    /// that moment on; but for nothing before the limit was set.
    #[test]
    fn time_5_a_period_that_another_cpu_began() {
        let limit = Limit::of(30, 100, Nanos(1000));
        limit.charge(30, Nanos(1100));
        assert_eq!(limit.until(Nanos(1100)), Ok(Nanos(1130)));
        for _ in 0..3 {
            limit.charge(30, Nanos(1100));
        }
        for period in 11..14 {
            assert_eq!(limit.until(Nanos(100 * period + 1)), Err(Nanos(100 * period + 100)));
        }
        assert_eq!(limit.until(Nanos(1400)), Ok(Nanos(1430)), "four periods have paid for four budgets");
        limit.set(30, 100, Nanos(2000));
        limit.charge(500, Nanos(2010));
        assert_eq!(limit.until(Nanos(2010)), Ok(Nanos(2030)), "10 since it was set");
    }

    /// Who uses several budgets at once pays for it in the periods after.
    #[test]
    fn a_budget_that_was_overdrawn() {
        let limit = Limit::of(30, 100, Nanos(0));
        for _ in 0..4 {
            limit.charge(30, Nanos(30));
        }
        for period in 0..3 {
            assert_eq!(limit.until(Nanos(100 * period + 30)), Err(Nanos(100 * period + 100)));
        }
        // Three periods have paid for three budgets; the fourth is whole.
        assert_eq!(limit.until(Nanos(400)), Ok(Nanos(430)));
    }
}
