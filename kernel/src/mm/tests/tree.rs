//! Trees against an ordered map, with their summaries; and that they stay low.

use crate::mm::budget::Budget;
use crate::mm::heap::Charged;
use crate::mm::testing::memory;
use crate::mm::tree::testing::visits;
use crate::mm::tree::{Absorbed, Item, Node, Side, Tree};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

struct Entry {
    key: u64,
    value: u64,
}

impl Item for Entry {
    /// The sum of all values.
    type Summary = u64;
    type Room = Option<u64>;

    fn key(&self) -> u64 {
        self.key
    }

    fn summarize(&self, children: [Option<&u64>; 2]) -> u64 {
        self.value + children.into_iter().flatten().sum::<u64>()
    }

    /// The key before.
    fn room(before: Option<&Self>, _: Option<&Self>) -> Option<u64> {
        before.map(Self::key)
    }

    fn fits(&self, before: Option<u64>) -> bool {
        before.is_none_or(|before| before < self.key)
    }

    fn absorb(all: &u64, new: &u64, _: Option<u64>) -> Absorbed<u64> {
        // Every way.
        match new % 3 {
            0 if *new == 0 => Absorbed::Same,
            1 => Absorbed::New(all + new),
            _ => Absorbed::Unclear,
        }
    }
}

fn empty() -> Tree<Entry> {
    let (_, memory) = memory(16 << 20);
    Tree::new(Charged { memory, budget: Budget::root(memory).unwrap() })
}

/// Keys in order, and the height; every summary is right on the way.
fn read(node: Option<&Node<Entry>>, keys: &mut Vec<u64>) -> (u64, u32) {
    let Some(node) = node else { return (0, 0) };
    let below = read(node.child(Side::Below), keys);
    keys.push(node.item().key);
    let above = read(node.child(Side::Above), keys);
    assert!(below.1.abs_diff(above.1) <= 1, "one side is too high");
    let sum = below.0 + node.item().value + above.0;
    assert_eq!(*node.summary(), sum);
    (sum, 1 + below.1.max(above.1))
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64),
    Remove(u64),
    Change(u64),
    Pop,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u64..60).prop_map(Step::Insert),
        3 => (0u64..60).prop_map(Step::Remove),
        1 => (0u64..60).prop_map(Step::Change),
        1 => Just(Step::Pop),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn a_tree_is_an_ordered_map(steps in steps()) {
        let mut tree = empty();
        let mut map = BTreeMap::new();
        for (value, step) in (0..).map(|step: u64| step * u64::from(!step.is_multiple_of(4))).zip(steps) {
            match step {
                Step::Insert(key) if map.contains_key(&key) => {
                    let node = tree.make(Entry { key, value }).unwrap();
                    prop_assert!(tree.insert_if_fits(node).is_err());
                }
                Step::Insert(key) => {
                    let node = tree.make(Entry { key, value }).unwrap();
                    prop_assert!(tree.insert_if_fits(node).is_ok());
                    map.insert(key, value);
                }
                Step::Remove(key) => {
                    prop_assert_eq!(tree.remove(key).map(|entry| entry.value), map.remove(&key));
                }
                Step::Change(key) => {
                    let before = tree.change(key, |entry| core::mem::replace(&mut entry.value, value));
                    prop_assert_eq!(before, map.get_mut(&key).map(|was| core::mem::replace(was, value)));
                }
                Step::Pop => {
                    prop_assert_eq!(tree.pop().map(|entry| entry.key), map.pop_first().map(|(key, _)| key));
                }
            }
            let mut keys = Vec::new();
            read(tree.root(), &mut keys);
            prop_assert!(keys.iter().eq(map.keys()));
            for key in [0, value % 60, 59] {
                let floor = map.range(..=key).next_back().map(|(key, _)| *key);
                prop_assert_eq!(tree.floor(key).map(|entry| entry.key), floor);
                let ceiling = map.range(key..).next().map(|(key, _)| *key);
                prop_assert_eq!(tree.first(|entry| entry.key >= key).map(|entry| entry.key), ceiling);
            }
        }
    }
}

/// However the keys come, no operation visits many nodes; and the budget has everything back.
#[test]
fn a_tree_stays_low() {
    let mut tree = empty();
    let mut worst = 0;
    for key in 0..10_000 {
        let before = visits();
        let node = tree.make(Entry { key, value: 1 }).unwrap();
        tree.insert(node);
        worst = worst.max(visits() - before);
    }
    // 1.44 times the logarithm, and a step into nothing.
    assert!(worst <= 20, "{worst} nodes for one insertion");
    for key in (0..10_000).rev().step_by(2) {
        let before = visits();
        assert!(tree.remove(key).is_some());
        worst = worst.max(visits() - before);
    }
    assert!(worst <= 40, "{worst} nodes for one removal");
    while tree.pop().is_some() {}
}
