//! Budgets of CPU time that several threads have together.

use super::Run;
use super::many::start;
use abi::{Call, Error, Handle, SpawnRequest};
use arch_contract::irq::Interrupt;
use arch_model::profile::Profile;
use core::mem::offset_of;
use zerocopy::IntoBytes;

/// The calling thread, where a handle of a thread is wanted.
const SELF: u64 = Handle::NONE.0 as u64;

/// `TIME-5`: the threads of a process that has a budget use it up together, wherever they run, and so do those of the
/// processes it makes; a thread cannot take it away.
#[test]
fn time_5_a_budget_of_a_process() {
    const MS: u64 = 1_000_000;
    let mut run = Run::boot(Profile::Minimal);
    let page = run.page();
    let spawn = |run: &mut Run, budget: u64, period: u64| {
        run.prepare_spawn(page, u64::MAX, &[]);
        let at = page + offset_of!(SpawnRequest, cpu_budget) as u64;
        run.poke(at, [budget, period].as_bytes());
        run.spawn_prepared(page)
    };
    for (budget, period) in [(1, 10 * MS), (MS, MS - 1), (MS, 0), (0, 1)] {
        assert_eq!(spawn(&mut run, budget, period), Err(Error::BadArgument), "{budget} in {period}");
    }
    let init = run.user();
    spawn(&mut run, MS, 10 * MS).expect("a child");
    let first = run.yield_to_other();
    let began = run.cpu().now().0;
    assert_eq!(run.result(Call::ThreadBudget, &[SELF, 0, 0]), Ok(0));
    start(&mut run);
    run.machine.advance(MS / 2);
    run.call(Call::Yield, &[]);
    while run.user() == init {
        run.call(Call::Yield, &[]);
    }
    assert_ne!(run.user(), first, "the other thread of the process");
    run.machine.advance(MS / 2);
    run.interrupt(Interrupt::Timer);
    assert_eq!(run.user(), init, "both have used it up");
    // And nothing of it comes back before its period is over.
    run.call(Call::Yield, &[]);
    assert_eq!(run.user(), init);
    run.machine.advance(began + 10 * MS - run.cpu().now().0);
    run.interrupt(Interrupt::Timer);
    run.call(Call::Yield, &[]);
    assert_ne!(run.user(), init, "the next period");
}
