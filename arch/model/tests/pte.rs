//! The laws of page-table entries, for the model's encoding.

use arch_contract::addr::{PAGE_SIZE, PhysAddr};
use arch_contract::pte::{Entry, Leaf, MemoryType, Paging, Protection, Usage};
use arch_model::Model;
use proptest::prelude::*;

const LEVELS: usize = Model::LEVELS.len();

fn protection() -> impl Strategy<Value = Protection> {
    prop::sample::select(vec![Protection::Read, Protection::ReadWrite, Protection::ReadExecute])
}

/// Every entry that `level` allows.
fn entry(level: usize) -> BoxedStrategy<Entry> {
    let address = 0u64..1 << 40;
    let table = address.clone().prop_map(|frame| Entry::Table(PhysAddr(frame * PAGE_SIZE)));
    let shift = Model::LEVELS[level].shift;
    let memory = prop::sample::select(vec![MemoryType::Normal, MemoryType::Device]);
    let leaf = (address, protection(), memory, any::<bool>(), any::<bool>()).prop_map(
        move |(frame, protection, memory, a, d)| {
            let at = PhysAddr((frame * PAGE_SIZE) & !((1 << shift) - 1));
            Entry::Leaf { at, protection, memory, usage: Usage { accessed: a, dirty: d } }
        },
    );
    match Model::LEVELS[level].leaf {
        Leaf::Never => prop_oneof![Just(Entry::Absent), table].boxed(),
        Leaf::Allowed => prop_oneof![Just(Entry::Absent), table, leaf].boxed(),
        Leaf::Always => prop_oneof![Just(Entry::Absent), leaf].boxed(),
    }
}

proptest! {
    /// `PTE-1`: what was encoded is decoded.
    #[test]
    fn pte_1_round_trip(
        (level, entry) in (0..LEVELS).prop_flat_map(|level| (Just(level), entry(level)))
    ) {
        prop_assert_eq!(Model::decode(Model::encode(entry, level), level), entry);
    }

    /// `PTE-1`: any bits decode, and what they decode to is stable.
    #[test]
    fn pte_1_any_bits_decode(bits: u64, level in 0..LEVELS) {
        let entry = Model::decode(bits, level);
        if let Entry::Leaf { at, .. } = entry {
            let covered = 1 << Model::LEVELS[level].shift;
            if Model::LEVELS[level].leaf == Leaf::Never || !at.is_aligned(covered) {
                return Ok(());
            }
        }
        prop_assert_eq!(Model::decode(Model::encode(entry, level), level), entry);
    }

    /// `PTE-2`: absent is zero, and nothing else is.
    #[test]
    fn pte_2_absent_is_zero(
        (level, entry) in (0..LEVELS).prop_flat_map(|level| (Just(level), entry(level)))
    ) {
        prop_assert_eq!(Model::encode(entry, level) == 0, entry == Entry::Absent);
        prop_assert_eq!(Model::decode(0, level), Entry::Absent);
    }
}
