//! What is taken out in an order of its own: a leftist heap of links, so nothing is allocated.
//!
//! It is used with interrupts off, so the worst case counts: putting in, taking the first and taking
//! any other out are O(log n), each. (A leftist heap: a node's left side is never shorter, counted
//! to the nearest missing child, than its right side. So the right side of a heap of n is at most
//! log2(n + 1) long, and merging goes down right sides only.)
//!
//! Two things are kept so: what becomes ready at a time ([`super::timers`]), and threads that wait for
//! a partner, the highest priority first ([`crate::ipc`]).

use crate::sync::{self, AtomicPtr, Ordering};
use core::cell::Cell;
use core::ptr;

/// A reference to something that a [`Heap`] can hold.
///
/// # Safety
/// [`node`](Self::node) answers with the same node whenever it is asked, at an address that is good
/// while this value exists, wherever it was moved.
pub unsafe trait Member: Sized {
    fn node(&self) -> &Node<Self>;
}

/// What a node is in runs under schedules.
const NODE: &str = "the node at";

/// What makes a thing a member of one [`Heap`] at a time.
pub struct Node<T> {
    left: Cell<Option<T>>,
    right: Cell<Option<T>>,
    /// The node above; null for the first.
    up: Cell<*const Node<T>>,
    /// The heap it is in; null for none. As in [`Link`](crate::sched::queue::Link).
    heap: AtomicPtr<()>,
    /// Its place in the order.
    key: Cell<u64>,
    /// Nodes on the way to the nearest missing child, itself included.
    rank: Cell<u8>,
}

// SAFETY: the cells are touched only by methods of the heap that holds the node, which have
// `&mut Heap` and found its own address in `heap`, or put it there in place of null.
unsafe impl<T: Send> Sync for Node<T> {}
// SAFETY: as above; what the cells own is `Send`.
unsafe impl<T: Send> Send for Node<T> {}

impl<T: Member> Node<T> {
    pub const fn new() -> Self {
        Self {
            left: Cell::new(None),
            right: Cell::new(None),
            up: Cell::new(ptr::null()),
            heap: AtomicPtr::new(ptr::null_mut()),
            key: Cell::new(0),
            rank: Cell::new(0),
        }
    }

    /// Its heap is through with it.
    fn give_up(&self) {
        sync::own(NODE, self);
        // Release: pairs with the acquire in `push`.
        self.heap.store(ptr::null_mut(), Ordering::Release);
    }

    /// Puts the side with the higher rank left. Says whether its own rank changed.
    fn settle(&self) -> bool {
        let (left, right) = (rank(&self.left), rank(&self.right));
        if left < right {
            self.left.swap(&self.right);
        }
        let rank = left.min(right) + 1;
        self.rank.replace(rank) != rank
    }
}

fn rank<T: Member>(child: &Cell<Option<T>>) -> u8 {
    // SAFETY: the cell is its heap's, which is at work on it: nobody else writes it, and the
    // reference ends with this function.
    unsafe { (*child.as_ptr()).as_ref() }.map_or(0, |item| item.node().rank.get())
}

/// What is taken out in the order of its keys; what has the same key, in any order. It stays where it is
/// while it holds something.
pub struct Heap<T: Member> {
    first: Option<T>,
}

impl<T: Member> Heap<T> {
    pub const fn new() -> Self {
        Self { first: None }
    }

    /// The first.
    pub fn first(&self) -> Option<&T> {
        self.first.as_ref()
    }

    /// The lowest key.
    pub fn first_key(&self) -> Option<u64> {
        self.first.as_ref().map(|item| item.node().key.get())
    }

    /// Puts `item`, which is in no heap, where `key` says.
    #[inline]
    pub fn push(&mut self, item: T, key: u64) {
        let node = item.node();
        // Acquire: what the last heap did with the node is done. Pairs with the release in `give_up`.
        let was =
            node.heap.compare_exchange(ptr::null_mut(), self.mark(), Ordering::Acquire, Ordering::Relaxed);
        assert!(was.is_ok(), "it is in a heap already");
        sync::own(NODE, node);
        node.key.set(key);
        node.rank.set(1);
        node.up.set(ptr::null());
        self.first = match self.first.take() {
            None => Some(item),
            rest => merge(Some(item), rest),
        };
    }

    /// Takes the first, if its key is at most `last`.
    pub fn pop_up_to(&mut self, last: u64) -> Option<T> {
        if self.first_key()? > last { None } else { self.pop() }
    }

    /// Takes the first, with its key.
    pub fn pop_with_key(&mut self) -> Option<(T, u64)> {
        let key = self.first_key()?;
        Some((self.pop()?, key))
    }

    /// Takes the first.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let item = self.first.take()?;
        let node = item.node();
        // Without a left side there is no right one.
        self.first = match node.left.take() {
            None => None,
            left => merge(left, node.right.take()),
        };
        node.give_up();
        Some(item)
    }

    /// Takes the member with this node out, if it is one of this heap.
    pub fn remove(&mut self, node: &Node<T>) -> Option<T> {
        if !ptr::eq(node.heap.load(Ordering::Relaxed), self.mark()) {
            return None;
        }
        let up = node.up.get();
        if up.is_null() {
            return self.pop();
        }
        let below = merge(node.left.take(), node.right.take());
        if let Some(below) = &below {
            below.node().up.set(up);
        }
        // SAFETY: the node above is a member, which the heap owns.
        let above = unsafe { &*up };
        let is_left = match above.left.take() {
            Some(left) => {
                let same = ptr::eq(left.node(), node);
                above.left.set(Some(left));
                same
            }
            None => false,
        };
        let side = if is_left { &above.left } else { &above.right };
        let item = side.replace(below);
        // What is above changes only as long as ranks do.
        let mut at = up;
        while !at.is_null() {
            // SAFETY: as above.
            let node = unsafe { &*at };
            if !node.settle() {
                break;
            }
            at = node.up.get();
        }
        node.give_up();
        item
    }

    /// What stands in the nodes of this heap's members.
    fn mark(&self) -> *mut () {
        ptr::from_ref(self).cast_mut().cast()
    }
}

impl<T: Member> Drop for Heap<T> {
    /// One by one: dropping by the links would recurse.
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// One heap of two.
fn merge<T: Member>(a: Option<T>, b: Option<T>) -> Option<T> {
    let first = match (a, b) {
        (Some(a), Some(b)) => {
            let (first, mut rest) = in_order(a, b);
            let top: *const Node<T> = first.node();
            let mut at = top;
            // Down the right sides, the lower key each time.
            loop {
                // SAFETY: `at` is `first` or was just put below it.
                let node = unsafe { &*at };
                let Some(right) = node.right.take() else {
                    rest.node().up.set(at);
                    node.right.set(Some(rest));
                    break;
                };
                let (next, other) = in_order(right, rest);
                next.node().up.set(at);
                at = next.node();
                node.right.set(Some(next));
                rest = other;
            }
            // And up again.
            loop {
                // SAFETY: as above.
                let node = unsafe { &*at };
                node.settle();
                if at == top {
                    break;
                }
                at = node.up.get();
            }
            first
        }
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => return None,
    };
    first.node().up.set(ptr::null());
    Some(first)
}

/// The lower key first.
fn in_order<T: Member>(a: T, b: T) -> (T, T) {
    if b.node().key.get() < a.node().key.get() { (b, a) } else { (a, b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpuset::CpuId;
    use crate::sched::balance::Balance;
    use crate::sched::ready::Runnable;
    use proptest::prelude::*;
    use std::boxed::Box;
    use std::vec::Vec;

    /// Every side is no longer than its left sibling, later than what is above, and knows that.
    fn check(place: &Cell<Option<Runnable>>, up: *const Node<Runnable>, due: u64) {
        // SAFETY: one host thread, and no heap is at work.
        let Some(item) = (unsafe { (*place.as_ptr()).as_ref() }) else { return };
        let node = item.node();
        assert_eq!(node.up.get(), up);
        assert!(node.key.get() >= due, "later than what is below");
        assert!(rank(&node.left) >= rank(&node.right), "longer on the right");
        assert_eq!(node.rank.get(), rank(&node.right) + 1);
        check(&node.left, node, node.key.get());
        check(&node.right, node, node.key.get());
    }

    proptest! {
        /// Against a sorted list: what comes first, what comes out of the middle, and the shape that
        /// makes all of it logarithmic.
        #[test]
        fn the_next_is_first(steps in prop::collection::vec((0..3u8, 0..40usize, 0..50u64), 1..200)) {
            let things: Vec<&'static Balance> =
                (0..40).map(|_| &*Box::leak(Box::new(Balance::new(CpuId::BOOT)))).collect();
            let mut heap: Heap<Runnable> = Heap::new();
            let mut model: Vec<(u64, usize)> = Vec::new();
            for (step, index, due) in steps {
                let item = Runnable::Balance(things[index]);
                let known = model.iter().position(|(_, other)| *other == index);
                match (step, known) {
                    (0, _) => {
                        let first = model.iter().map(|(due, _)| *due).min();
                        prop_assert_eq!(heap.first_key(), first);
                        if let Some(item) = heap.pop() {
                            let at = model.iter().position(|(_, other)| {
                                ptr::eq(things[*other].entry.node(), item.node())
                            });
                            let (due, _) = model.swap_remove(at.expect("put in"));
                            prop_assert_eq!(Some(due), first);
                        }
                    }
                    (_, None) => {
                        prop_assert!(heap.remove(item.node()).is_none());
                        heap.push(item, due);
                        model.push((due, index));
                    }
                    (_, Some(at)) => {
                        prop_assert!(heap.remove(item.node()).is_some());
                        model.swap_remove(at);
                    }
                }
                prop_assert_eq!(heap.first_key(), model.iter().map(|(due, _)| *due).min());
                let first = Cell::new(heap.first.take());
                check(&first, ptr::null(), 0);
                heap.first = first.take();
            }
        }
    }

    /// What one heap has given up another may take, on another CPU, though nothing else orders the two.
    #[cfg(spandrel_schedule)]
    #[test]
    fn what_was_given_up_may_be_taken() {
        for seed in 0..20 {
            schedule::run(schedule::Setting::seed(seed), || {
                let thing: &'static Balance = Box::leak(Box::new(Balance::new(CpuId::BOOT)));
                let mut heap = Heap::new();
                heap.push(Runnable::Balance(thing), 1);
                // It knows that it was put in, and no more.
                let known = schedule::memory::knowledge();
                let other = schedule::thread::spawn(move || {
                    schedule::act_as(1);
                    schedule::memory::learn(&known);
                    while !thing.entry.node().heap.load(Ordering::Relaxed).is_null() {
                        schedule::yield_now();
                    }
                    Heap::new().push(Runnable::Balance(thing), 1);
                });
                assert!(heap.pop().is_some());
                other.join().expect("it does not panic");
            });
        }
    }
}
