//! The out-of-memory sweep: fail the n-th allocation of a script, for every n. Each time an error
//! comes back to somebody, nothing leaks, nothing panics.

use super::Run;
use abi::{Call, Error, initial};
use arch_model::profile::Profile;

const PROCESS: u64 = initial::PROCESS.0 as u64;

/// Starts a child, maps a lot in the child, ends it, and lets the teardown finish. Returns whether
/// anything was refused.
fn script(run: &mut Run, page: u64) -> bool {
    let init = run.user();
    let child = match run.spawn(page, u64::MAX) {
        Ok(child) => child,
        Err(error) => {
            assert_eq!(error, Error::NoMemory);
            settle(run);
            return true;
        }
    };
    let mut refused = false;
    run.yield_to_other();
    let large = [PROCESS, 0, 40 * 4096, abi::Protection::ReadWrite as u64];
    let mapper = run.user();
    run.call(Call::MemoryMap, &large);
    while run.user() != mapper {
        run.call(Call::Yield, &[]);
    }
    match run.returned() {
        Ok(at) => {
            run.call(Call::MemoryUnmap, &[PROCESS, at + 4096, 8 * 4096]);
            refused |= run.returned() == Err(Error::NoMemory);
        }
        Err(error) => {
            assert_eq!(error, Error::NoMemory);
            refused = true;
        }
    }
    run.call(Call::Exit, &[0]);
    assert_eq!(run.user(), init);
    assert_eq!(run.result(Call::HandleClose, &[child]), Ok(0));
    settle(run);
    refused
}

/// Lets every kernel task finish: init sleeps until nothing else is left to do.
fn settle(run: &mut Run) {
    let now = run.result(Call::ClockRead, &[initial::TIMER.0.into()]).expect("a clock");
    run.call(Call::SleepUntil, &[initial::TIMER.0.into(), now + 1_000]);
    run.call(Call::SleepUntil, &[initial::TIMER.0.into(), now + 1_000]);
}

#[test]
fn every_allocation_may_fail() {
    let mut run = Run::boot(Profile::Minimal);
    let page = run.page();
    // The first round makes init's own table and lists as large as they get.
    assert!(!script(&mut run, page));
    let kernel = run.cpu().kernel;
    let used = kernel.root.used();
    let mut refusals = 0;
    for n in 1.. {
        kernel.memory.refusal.refuse(n);
        let refused = script(&mut run, page);
        let came = kernel.memory.refusal.came();
        kernel.memory.refusal.refuse(0);
        assert_eq!(kernel.root.used(), used, "failing allocation {n} leaks");
        assert_eq!(run.machine.live_contexts(), 1, "failing allocation {n} leaks a context");
        refusals += refused as u32;
        if !came {
            break;
        }
        assert!(n < 10_000, "the script never ends");
    }
    assert!(refusals > 20, "only {refusals} allocations could fail: the sweep does not bite");
}
