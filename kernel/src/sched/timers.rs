//! What is to become ready at a time: a leftist heap of links, so nothing is allocated.
//!
//! It is used with interrupts off, so the worst case counts: putting in, taking the first and taking
//! any other out are O(log n), each. (A leftist heap: a node's left side is never shorter, counted
//! to the nearest missing child, than its right side. So the right side of a heap of n is at most
//! log2(n + 1) long, and merging goes down right sides only.)

use crate::sched::ready::Runnable;
use crate::sync::{AtomicPtr, AtomicU64, Guard, Leaf, Ordering};
use core::cell::Cell;
use core::ops::{Deref, DerefMut};
use core::ptr;

/// What makes a thing a member of one [`Timers`] at a time.
pub struct Node {
    left: Cell<Option<Runnable>>,
    right: Cell<Option<Runnable>>,
    /// The node above; null for the first.
    up: Cell<*const Node>,
    /// The heap it is in; null for none. As in [`Link`](crate::sched::queue::Link).
    heap: AtomicPtr<Timers>,
    /// When it is due, in nanoseconds since boot.
    due: Cell<u64>,
    /// Nodes on the way to the nearest missing child, itself included.
    rank: Cell<u8>,
}

// SAFETY: the cells are touched only by methods of the heap that holds the node, which have
// `&mut Timers` and found its own address in `heap`, or put it there in place of null.
unsafe impl Sync for Node {}
// SAFETY: as above; what the cells own is `Send`.
unsafe impl Send for Node {}

impl Node {
    pub const fn new() -> Self {
        Self {
            left: Cell::new(None),
            right: Cell::new(None),
            up: Cell::new(ptr::null()),
            heap: AtomicPtr::new(ptr::null_mut()),
            due: Cell::new(0),
            rank: Cell::new(0),
        }
    }

    /// Its heap is through with it.
    fn give_up(&self) {
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

fn rank(child: &Cell<Option<Runnable>>) -> u8 {
    // SAFETY: the cell is its heap's, which is at work on it: nobody else writes it, and the
    // reference ends with this function.
    unsafe { (*child.as_ptr()).as_ref() }.map_or(0, |item| item.node().rank.get())
}

/// The timers of a CPU. It alone puts things in and takes what is due; others take out what they end,
/// and give it theirs when they go off.
pub struct Timed {
    heap: Leaf<Timers>,
    /// When the first is due; `u64::MAX` for never. Written under the lock. Its CPU reads it without:
    /// what others change is an interrupt for nothing, or they interrupt it after.
    first_due: AtomicU64,
}

impl Timed {
    pub const fn new() -> Self {
        Self { heap: Leaf::new(Timers::new()), first_due: AtomicU64::new(u64::MAX) }
    }

    pub fn lock(&self) -> TimedGuard<'_> {
        TimedGuard { heap: self.heap.lock(), first_due: &self.first_due }
    }

    /// When the first is due, in nanoseconds since boot; `u64::MAX` for never.
    #[inline]
    pub fn first_due(&self) -> u64 {
        self.first_due.load(Ordering::Relaxed)
    }
}

/// Timers that are held. When the first is due is published when they are let go.
pub struct TimedGuard<'a> {
    heap: Guard<'a, Timers>,
    first_due: &'a AtomicU64,
}

impl Deref for TimedGuard<'_> {
    type Target = Timers;
    fn deref(&self) -> &Timers {
        &self.heap
    }
}

impl DerefMut for TimedGuard<'_> {
    fn deref_mut(&mut self) -> &mut Timers {
        &mut self.heap
    }
}

impl Drop for TimedGuard<'_> {
    fn drop(&mut self) {
        self.first_due.store(self.heap.first_due().unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// What becomes ready later, the next first. It stays where it is while it holds something.
pub struct Timers {
    first: Option<Runnable>,
}

impl Timers {
    pub const fn new() -> Self {
        Self { first: None }
    }

    /// When the first is due, in nanoseconds since boot.
    pub fn first_due(&self) -> Option<u64> {
        self.first.as_ref().map(|item| item.node().due.get())
    }

    /// Puts `item`, which is in no heap, where it is due at `due` nanoseconds since boot.
    pub fn push(&mut self, item: Runnable, due: u64) {
        let node = item.node();
        // Acquire: what the last heap did with the node is done. Pairs with the release in `give_up`.
        let was = node.heap.compare_exchange(ptr::null_mut(), self, Ordering::Acquire, Ordering::Relaxed);
        assert!(was.is_ok(), "it has a timer already");
        node.due.set(due);
        node.rank.set(1);
        let rest = self.first.take();
        self.first = merge(Some(item), rest);
    }

    /// Takes the first, if it is due at `now`.
    pub fn pop_due(&mut self, now: u64) -> Option<Runnable> {
        if self.first_due()? > now { None } else { self.pop() }
    }

    /// Takes the first, and says when it is due.
    pub fn pop_with_due(&mut self) -> Option<(Runnable, u64)> {
        let due = self.first_due()?;
        Some((self.pop()?, due))
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<Runnable> {
        let item = self.first.take()?;
        let node = item.node();
        self.first = merge(node.left.take(), node.right.take());
        node.give_up();
        Some(item)
    }

    /// Takes the member with this node out, if it is one of this heap.
    pub fn remove(&mut self, node: &Node) -> Option<Runnable> {
        if !ptr::eq(node.heap.load(Ordering::Relaxed), self) {
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
}

impl Drop for Timers {
    /// One by one: dropping by the links would recurse.
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// One heap of two.
fn merge(a: Option<Runnable>, b: Option<Runnable>) -> Option<Runnable> {
    let first = match (a, b) {
        (Some(a), Some(b)) => {
            let (first, mut rest) = by_due(a, b);
            let top: *const Node = first.node();
            let mut at = top;
            // Down the right sides, the earlier one each time.
            loop {
                // SAFETY: `at` is `first` or was just put below it.
                let node = unsafe { &*at };
                let Some(right) = node.right.take() else {
                    rest.node().up.set(at);
                    node.right.set(Some(rest));
                    break;
                };
                let (next, other) = by_due(right, rest);
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

/// The earlier one first.
fn by_due(a: Runnable, b: Runnable) -> (Runnable, Runnable) {
    if b.node().due.get() < a.node().due.get() { (b, a) } else { (a, b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpuset::CpuId;
    use crate::sched::balance::Balance;
    use proptest::prelude::*;
    use std::boxed::Box;
    use std::vec::Vec;

    /// Every side is no longer than its left sibling, later than what is above, and knows that.
    fn check(place: &Cell<Option<Runnable>>, up: *const Node, due: u64) {
        // SAFETY: one host thread, and no heap is at work.
        let Some(item) = (unsafe { (*place.as_ptr()).as_ref() }) else { return };
        let node = item.node();
        assert_eq!(node.up.get(), up);
        assert!(node.due.get() >= due, "later than what is below");
        assert!(rank(&node.left) >= rank(&node.right), "longer on the right");
        assert_eq!(node.rank.get(), rank(&node.right) + 1);
        check(&node.left, node, node.due.get());
        check(&node.right, node, node.due.get());
    }

    proptest! {
        /// Against a sorted list: what comes first, what comes out of the middle, and the shape that
        /// makes all of it logarithmic.
        #[test]
        fn the_next_is_first(steps in prop::collection::vec((0..3u8, 0..40usize, 0..50u64), 1..200)) {
            let things: Vec<&'static Balance> =
                (0..40).map(|_| &*Box::leak(Box::new(Balance::new(CpuId::BOOT)))).collect();
            let mut timers = Timers::new();
            let mut model: Vec<(u64, usize)> = Vec::new();
            for (step, index, due) in steps {
                let item = Runnable::Balance(things[index]);
                let known = model.iter().position(|(_, other)| *other == index);
                match (step, known) {
                    (0, _) => {
                        let first = model.iter().map(|(due, _)| *due).min();
                        prop_assert_eq!(timers.first_due(), first);
                        if let Some(item) = timers.pop() {
                            let at = model.iter().position(|(_, other)| {
                                ptr::eq(things[*other].entry.node(), item.node())
                            });
                            let (due, _) = model.swap_remove(at.expect("put in"));
                            prop_assert_eq!(Some(due), first);
                        }
                    }
                    (_, None) => {
                        prop_assert!(timers.remove(item.node()).is_none());
                        timers.push(item, due);
                        model.push((due, index));
                    }
                    (_, Some(at)) => {
                        prop_assert!(timers.remove(item.node()).is_some());
                        model.swap_remove(at);
                    }
                }
                prop_assert_eq!(timers.first_due(), model.iter().map(|(due, _)| *due).min());
                let first = Cell::new(timers.first.take());
                check(&first, ptr::null(), 0);
                timers.first = first.take();
            }
        }
    }
}
