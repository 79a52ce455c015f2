//! Lists against `Vec`, and refusals that change nothing.

use crate::mm::NoMemory;
use crate::mm::budget::Budget;
use crate::mm::heap::Charged;
use crate::mm::list::List;
use crate::mm::testing::memory;
use proptest::prelude::*;
use std::rc::Rc;

#[test]
fn a_refusal_drops_the_value_and_nothing_else() {
    let (_, memory) = memory(1 << 20);
    let budget = Budget::root(memory).unwrap();
    let mut list = List::new(Charged { memory, budget: budget.clone() });
    let value = Rc::new(());
    let mut len = 0;
    loop {
        memory.refusal.refuse(1);
        if list.insert(0, value.clone()) == Err(NoMemory) {
            // An allocation was needed and refused: grow for real and see it refused again, larger.
            assert_eq!((list.len(), Rc::strong_count(&value)), (len, len + 1));
            if len > 20 {
                break;
            }
            memory.refusal.refuse(0);
            list.push(value.clone()).unwrap();
        }
        len += 1;
    }
    memory.refusal.refuse(1);
    assert_eq!(list.fill_to(len + 1000, || value.clone()), Err(NoMemory));
    assert_eq!((list.len(), Rc::strong_count(&value)), (len, len + 1));
    drop(list);
    assert_eq!((Rc::strong_count(&value), budget.used()), (1, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_list_is_a_vec(steps in prop::collection::vec((0u8..6, any::<usize>(), any::<u32>()), 1..100)) {
        let (_, memory) = memory(1 << 20);
        let budget = Budget::root(memory).unwrap();
        let mut list = List::new(Charged { memory, budget: budget.clone() });
        let mut oracle = std::vec::Vec::new();
        for (step, index, value) in steps {
            match step {
                0 | 1 => {
                    let index = index % (oracle.len() + 1);
                    list.insert(index, value).unwrap();
                    oracle.insert(index, value);
                }
                2 => {
                    list.push(value).unwrap();
                    oracle.push(value);
                }
                3 => {
                    list.extend(&[value, !value]).unwrap();
                    oracle.extend([value, !value]);
                }
                4 if !oracle.is_empty() => {
                    let index = index % oracle.len();
                    prop_assert_eq!(list.remove(index), oracle.remove(index));
                }
                _ => prop_assert_eq!(list.pop(), oracle.pop()),
            }
            prop_assert_eq!(&list[..], &oracle[..]);
        }
        drop(list);
        prop_assert_eq!(budget.used(), 0);
    }
}
