//! The heap and what is made from it: nothing overlaps, nothing is lost, and whoever is charged
//! gets exactly that back.

use crate::mm::NoMemory;
use crate::mm::budget::Budget;
use crate::mm::heap::Charged;
use crate::mm::memory::Memory;
use crate::mm::testing::memory;
use crate::object::Ref;
use allocator_api2::alloc::Allocator;
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use core::alloc::Layout;
use core::ptr::NonNull;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn charged(memory: &'static Memory) -> Charged {
    Charged { memory, budget: Budget::root(memory).unwrap() }
}

struct Counted(Arc<AtomicUsize>, [u64; 9]);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_last_reference_drops_the_object_and_gives_all_back() {
    let (_, memory) = memory(1 << 20);
    let budget = Budget::root(memory).unwrap();
    let free = memory.free_bytes();
    let drops = Arc::new(AtomicUsize::new(0));
    let a = Ref::try_new(memory, Some(&budget), Counted(drops.clone(), [7; 9])).unwrap();
    assert!(budget.used() >= size_of::<Counted>() as u64);
    let b = a.clone();
    assert!(Ref::ptr_eq(&a, &b));
    assert_eq!((Ref::count(&a), b.1), (2, [7; 9]));
    drop(a);
    assert_eq!(drops.load(Ordering::Relaxed), 0);
    assert_eq!(b.1, [7; 9]);
    drop(b);
    assert_eq!(drops.load(Ordering::Relaxed), 1);
    assert_eq!((budget.used(), Ref::count(&budget)), (0, 1));
    assert_eq!(memory.free_bytes(), free);
}

#[test]
fn raw_pointers_keep_the_count() {
    #[repr(align(128))]
    struct Wide(u8);
    let (_, memory) = memory(1 << 20);
    let budget = Budget::root(memory).unwrap();
    let a = Ref::try_new(memory, Some(&budget), Wide(9)).unwrap();
    let raw = Ref::into_raw(a.clone());
    assert_eq!(Ref::count(&a), 2);
    assert!(raw.is_aligned() && core::ptr::eq(raw, &raw const *a));
    // SAFETY: from `into_raw` above, taken back once.
    let b = unsafe { Ref::from_raw(raw) };
    assert!(Ref::ptr_eq(&a, &b));
    assert_eq!(b.0, 9);
    drop((a, b));
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_refused_object_is_dropped_and_not_charged() {
    let (_, memory) = memory(1 << 20);
    let root = Budget::root(memory).unwrap();
    let small = Budget::child(memory, &root, 64).unwrap();
    let drops = Arc::new(AtomicUsize::new(0));
    let refused = Ref::try_new(memory, Some(&small), Counted(drops.clone(), [0; 9]));
    assert!(matches!(refused, Err(NoMemory)));
    memory.refusal.refuse(1);
    let refused = Ref::try_new(memory, Some(&root), Counted(drops.clone(), [0; 9]));
    assert!(matches!(refused, Err(NoMemory)));
    assert_eq!(drops.load(Ordering::Relaxed), 2);
    assert_eq!(small.used(), 0);
    drop(small);
    assert_eq!(root.used(), 0);
}

/// References work across threads: the count is right, and the last one sees all writes.
#[test]
fn references_cross_threads() {
    let (_, memory) = memory(1 << 20);
    let budget = Budget::root(memory).unwrap();
    let drops = Arc::new(AtomicUsize::new(0));
    let object = Ref::try_new(memory, Some(&budget), Counted(drops.clone(), [0; 9])).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let object = object.clone();
            scope.spawn(move || {
                for _ in 0..1000 {
                    drop(object.clone());
                }
            });
        }
    });
    assert_eq!(Ref::count(&object), 1);
    drop(object);
    assert_eq!(drops.load(Ordering::Relaxed), 1);
    assert_eq!(budget.used(), 0);
}

#[test]
fn containers_can_say_no() {
    let (_, memory) = memory(1 << 20);
    let free = memory.free_bytes();
    let charged = charged(memory);
    let budget = charged.budget.clone();

    let mut list: Vec<u64, Charged> = Vec::new_in(charged.clone());
    list.try_reserve(1000).unwrap();
    list.extend(0..1000);
    assert!(budget.used() >= 8000);
    assert!(list.try_reserve(1 << 20).is_err());
    assert!(list.iter().copied().eq(0..1000));

    let boxed = Box::try_new_in([3u8; 5000], charged.clone()).unwrap();
    assert_eq!(boxed[4999], 3);
    assert!(Box::try_new_in((), charged.clone()).is_ok());

    let mut map = hashbrown::HashMap::new_in(charged.clone());
    map.try_reserve(100).unwrap();
    map.extend((0..100).map(|n| (n, n * n)));
    assert_eq!(map[&9], 81);
    assert!(map.try_reserve(1 << 20).is_err());

    drop((list, boxed, map, charged));
    assert_eq!(budget.used(), 0);
    assert_eq!(Ref::count(&budget), 1);
    drop(budget);
    assert_eq!(memory.free_bytes(), free);
}

/// All of the machine's memory can go into the heap, in any size, and all of it comes back.
#[test]
fn exhausted_heap_gives_all_back() {
    let (_, memory) = memory(1 << 20);
    let free = memory.free_bytes();
    for size in [1, 100, 4000, 4096, 20_000, 300_000] {
        let charged = charged(memory);
        let layout = Layout::from_size_align(size, 8).unwrap();
        let mut taken = std::vec::Vec::new();
        while let Ok(at) = charged.allocate(layout) {
            taken.push(at);
        }
        assert!(!taken.is_empty(), "not one of {size}");
        for at in taken {
            // SAFETY: allocated above, given back once.
            unsafe { charged.deallocate(at.cast(), layout) };
        }
        assert_eq!(charged.budget.used(), 0);
        drop(charged);
        assert_eq!(memory.free_bytes(), free, "after objects of {size}");
    }
}

/// What was freed just now is memory for an object of another size too, though there is not a frame left.
#[test]
fn what_waits_is_found_when_frames_are_out() {
    let (_, memory) = memory(1 << 20);
    let charged = charged(memory);
    let [small, large] = [100, 400].map(|size| Layout::from_size_align(size, 8).unwrap());
    let mut taken = std::vec::Vec::new();
    while let Ok(at) = charged.allocate(small) {
        taken.push(at.cast());
    }
    assert!(charged.allocate(large).is_err());
    // Four neighbours: none of them is large enough, and all are kept for the next of their size.
    taken.sort();
    let first = (0..taken.len() - 4).find(|at| {
        let [first, last]: [NonNull<u8>; 2] = [taken[*at], taken[*at + 3]];
        last.addr().get() - first.addr().get() < 3 * 150
    });
    for at in taken.drain(first.unwrap()..).take(4) {
        // SAFETY: allocated above, given back once.
        unsafe { charged.deallocate(at, small) };
    }
    assert!(charged.allocate(large).is_ok());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Take(Layout),
    GiveBack(usize),
}

fn steps() -> impl Strategy<Value = std::vec::Vec<Step>> {
    let size = prop_oneof![1usize..200, 1usize..6000, 10_000usize..60_000];
    let take = (size, 0u32..13).prop_map(|(size, align)| {
        Step::Take(Layout::from_size_align(size, 1 << align).expect("a small layout"))
    });
    let step = prop_oneof![3 => take, 2 => any::<usize>().prop_map(Step::GiveBack)];
    prop::collection::vec(step, 1..300)
}

fn filled(at: NonNull<u8>, layout: Layout, value: u8) -> bool {
    // SAFETY: the object is the test's own, and was filled when it was made.
    let bytes = unsafe { core::slice::from_raw_parts(at.as_ptr(), layout.size()) };
    bytes.iter().all(|byte| *byte == value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Objects are aligned and their owners' alone; frames and charges come back to the byte.
    #[test]
    fn objects_are_their_owners_alone(steps in steps()) {
        let (_, memory) = memory(2 << 20);
        let free = memory.free_bytes();
        let charged = charged(memory);
        let mut owned = std::vec::Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            let value = number as u8;
            match step {
                Step::Take(layout) => {
                    let Ok(at) = charged.allocate(layout) else { continue };
                    let at = at.cast::<u8>();
                    prop_assert!(at.addr().get().is_multiple_of(layout.align()));
                    // SAFETY: just allocated with this layout.
                    unsafe { at.write_bytes(value, layout.size()) };
                    owned.push((at, layout, value));
                }
                Step::GiveBack(which) if !owned.is_empty() => {
                    let (at, layout, value) = owned.swap_remove(which % owned.len());
                    prop_assert!(filled(at, layout, value));
                    // SAFETY: allocated above, given back once.
                    unsafe { charged.deallocate(at, layout) };
                }
                Step::GiveBack(_) => {}
            }
            let bytes: usize = owned.iter().map(|(_, layout, _)| layout.size()).sum();
            prop_assert!(charged.budget.used() >= bytes as u64);
        }
        for (at, layout, value) in owned {
            prop_assert!(filled(at, layout, value));
            // SAFETY: as above.
            unsafe { charged.deallocate(at, layout) };
        }
        prop_assert_eq!(charged.budget.used(), 0);
        drop(charged);
        prop_assert_eq!(memory.free_bytes(), free);
    }
}
