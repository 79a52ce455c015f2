//! Budgets: a limit holds for everything below it, and a refused charge leaves no trace.

use crate::mm::NoMemory;
use crate::mm::budget::Budget;
use crate::mm::testing::memory;
use crate::object::Ref;

#[test]
fn the_root_has_what_the_machine_has() {
    let (_, memory) = memory(4 << 20);
    let free = memory.free_bytes();
    let root = Budget::root(memory).unwrap();
    assert_eq!((root.limit(), root.used()), (free, 0));
    assert_eq!(root.charge(free + 1), Err(NoMemory));
    root.charge(free).unwrap();
    assert_eq!(root.charge(1), Err(NoMemory));
    root.refund(free);
    assert_eq!(root.used(), 0);
}

#[test]
fn every_level_limits_and_a_refusal_charges_none() {
    let (_, memory) = memory(4 << 20);
    let root = Budget::root(memory).unwrap();
    let a = Budget::child(memory, &root, 100_000).unwrap();
    let b = Budget::child(memory, &a, 50_000).unwrap();
    let c = Budget::child(memory, &b, u64::MAX).unwrap();
    let before = [root.used(), a.used(), b.used(), c.used()];
    let used = || [root.used(), a.used(), b.used(), c.used()];

    // The object of each was charged to its parent, and so to all above.
    assert!(before[0] > before[1] && before[1] > before[2] && before[2] > 0);
    assert_eq!(before[3], 0);

    // Refused in the middle, by `b`, and at the top; `c` itself has no limit.
    assert_eq!(c.charge(50_000), Err(NoMemory));
    assert_eq!(c.charge(u64::MAX), Err(NoMemory));
    assert_eq!(c.charge(u64::MAX - 10), Err(NoMemory));
    assert_eq!(used(), before);
    // By `a`, two levels up from where it is asked.
    let wide = Budget::child(memory, &a, u64::MAX).unwrap();
    let before_wide = used();
    assert_eq!(wide.charge(100_000), Err(NoMemory));
    assert_eq!(wide.used(), 0);
    assert_eq!(used(), before_wide);
    drop(wide);
    assert_eq!(used(), before);

    assert_eq!(c.headroom(), b.headroom());
    assert_eq!(c.headroom(), 50_000 - before[2]);
    c.charge(c.headroom()).unwrap();
    assert_eq!(c.headroom(), 0);
    assert_eq!(c.charge(1), Err(NoMemory));
    // Others below `a` still can.
    a.charge(1_000).unwrap();
    a.refund(1_000);
    c.refund(50_000 - before[2]);
    assert_eq!(used(), before);
}

#[test]
fn a_budget_outlives_its_makers_interest_and_pays_back() {
    let (_, memory) = memory(4 << 20);
    let root = Budget::root(memory).unwrap();
    let middle = Budget::child(memory, &root, u64::MAX).unwrap();
    let low = Budget::child(memory, &middle, u64::MAX).unwrap();
    drop(middle);
    low.charge(4096).unwrap();
    assert!(root.used() > 4096);
    low.refund(4096);
    drop(low);
    assert_eq!(root.used(), 0);
    assert_eq!(Ref::count(&root), 1);
}

/// A program cannot make the kernel's stack or the time of a charge grow without bound.
#[test]
fn the_tree_is_only_so_deep() {
    let (_, memory) = memory(4 << 20);
    let root = Budget::root(memory).unwrap();
    let mut lowest = root.clone();
    let mut depth = 0;
    while let Ok(child) = Budget::child(memory, &lowest, u64::MAX) {
        lowest = child;
        depth += 1;
        assert!(depth < 100, "no bound");
    }
    assert!(depth > 8, "too shallow to be of use");
    drop(lowest);
    assert_eq!(root.used(), 0);
}
