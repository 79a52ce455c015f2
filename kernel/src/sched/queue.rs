//! First in, first out, without allocation: the link is part of what is queued.
//!
//! Putting something into a queue cannot fail, and freeing memory needs none. A thing is in at most
//! one queue per link, which owns a reference to it and is named in the link, so taking it out from
//! the middle is constant time and is refused by every queue but its own.

use crate::sync::{self, AtomicPtr, Ordering};
use core::cell::Cell;
use core::ptr;

/// What a link is in runs under schedules.
const LINK: &str = "the link at";

/// What makes a thing a member of one [`Queue`] at a time.
pub struct Link<T> {
    /// The queue's reference to the next member.
    next: Cell<Option<T>>,
    /// The member before. Means nothing in the first.
    prev: Cell<*const Link<T>>,
    /// The queue it is in; null for none. Taken from null by one queue at a time, and given back
    /// by that queue: so who has a queue to itself knows whether the link is in *this* one.
    queue: AtomicPtr<()>,
}

// SAFETY: `next` and `prev` are touched only by methods of the queue that holds the link, which
// have `&mut Queue` and found its own address in `queue`, or put it there in place of null.
unsafe impl<T: Send> Sync for Link<T> {}
// SAFETY: as above; what `next` owns is `Send`.
unsafe impl<T: Send> Send for Link<T> {}

impl<T> Link<T> {
    pub const fn new() -> Self {
        Self { next: Cell::new(None), prev: Cell::new(ptr::null()), queue: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Which of `queues` holds it, if one does. Advice, but for who has them to itself.
    pub fn holder_among(&self, queues: &[Queue<T>]) -> Option<usize>
    where
        T: Linked,
    {
        let first = queues.as_ptr() as usize;
        let offset = (self.queue.load(Ordering::Relaxed) as usize).checked_sub(first)?;
        let index = offset / size_of::<Queue<T>>();
        (index < queues.len()).then_some(index)
    }

    /// Its queue is through with it.
    fn give_up(&self) {
        sync::own(LINK, self);
        // Release: pairs with the acquire in `claim`.
        self.queue.store(ptr::null_mut(), Ordering::Release);
    }
}

/// A reference to something that can be queued.
///
/// # Safety
/// [`link`](Self::link) answers with the same link whenever it is asked, at an address that is good
/// while this value exists, wherever it was moved.
pub unsafe trait Linked: Sized {
    fn link(&self) -> &Link<Self>;
}

/// First in, first out. It stays where it is while it holds something.
pub struct Queue<T: Linked> {
    head: Option<T>,
    /// The last member; null when empty.
    tail: *const Link<T>,
}

// SAFETY: `tail` points to a link that the queue owns through `head`'s chain.
unsafe impl<T: Linked + Send> Send for Queue<T> {}

impl<T: Linked> Queue<T> {
    pub const fn new() -> Self {
        Self { head: None, tail: ptr::null() }
    }

    pub fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// The first.
    pub fn first(&self) -> Option<&T> {
        self.head.as_ref()
    }

    /// Puts `item`, which is in no queue, last.
    pub fn push(&mut self, item: T) {
        let link: *const Link<T> = self.claim(&item);
        if self.tail.is_null() {
            self.head = Some(item);
        } else {
            item.link().prev.set(self.tail);
            // SAFETY: `tail` is the last member, which the chain owns.
            unsafe { (*self.tail).next.set(Some(item)) };
        }
        self.tail = link;
    }

    /// Puts `item`, which is in no queue, first.
    pub fn push_front(&mut self, item: T) {
        let link: *const Link<T> = self.claim(&item);
        match self.head.take() {
            None => self.tail = link,
            Some(head) => {
                head.link().prev.set(link);
                item.link().next.set(Some(head));
            }
        }
        self.head = Some(item);
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<T> {
        let item = self.head.take()?;
        self.head = item.link().next.take();
        if self.head.is_none() {
            self.tail = ptr::null();
        }
        item.link().give_up();
        Some(item)
    }

    /// Puts `item` last and takes the first, if `may` says so of it: one turn. Else `item` comes back.
    ///
    /// # Safety
    /// 1. `item` is in no queue, and nobody puts it into one meanwhile: what other queues did with it
    ///    comes before this. (So its link is claimed by a store.)
    /// 2. The queue is not empty.
    #[inline(always)]
    pub unsafe fn exchange(&mut self, item: T, may: impl FnOnce(&T, &T) -> bool) -> Result<T, T> {
        // SAFETY: the caller's obligation 2.
        let first = unsafe { self.head.take().unwrap_unchecked() };
        if !may(&item, &first) {
            core::mem::forget(self.head.replace(first));
            return Err(item);
        }
        let (link, left): (*const Link<T>, *const Link<T>) = (item.link(), first.link());
        item.link().queue.store(self.mark(), Ordering::Relaxed);
        sync::own(LINK, link);
        // SAFETY: the link of `first`, which is still here.
        let left = unsafe { &*left };
        let none = match left.next.take() {
            Some(second) => {
                item.link().prev.set(self.tail);
                // SAFETY: `tail` is the last member, which the chain owns.
                let none = unsafe { (*self.tail).next.replace(Some(item)) };
                core::mem::forget(none);
                self.head.replace(second)
            }
            None => self.head.replace(item),
        };
        // The head was just taken, as the last member has no next one: there is nothing to drop.
        core::mem::forget(none);
        self.tail = link;
        left.give_up();
        Ok(first)
    }

    /// Takes the member with this link out, if it is one of this queue.
    pub fn remove(&mut self, link: &Link<T>) -> Option<T> {
        if !ptr::eq(link.queue.load(Ordering::Relaxed), self.mark()) {
            return None;
        }
        if self.first().is_some_and(|first| ptr::eq(first.link(), link)) {
            return self.pop();
        }
        let prev = link.prev.get();
        let next = link.next.take();
        match &next {
            Some(next) => next.link().prev.set(prev),
            None => self.tail = prev,
        }
        // SAFETY: the one before is a member, which the chain owns.
        let item = unsafe { (*prev).next.replace(next) };
        link.give_up();
        item
    }

    /// The members, in order.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter(self.head.as_ref())
    }

    /// What stands in the links of this queue's members.
    fn mark(&self) -> *mut () {
        ptr::from_ref(self).cast_mut().cast()
    }

    /// Says that `item` is this queue's.
    fn claim<'a>(&mut self, item: &'a T) -> &'a Link<T> {
        let link = item.link();
        // Acquire: what the last queue did with the link is done. Pairs with the release in `give_up`.
        let was =
            link.queue.compare_exchange(ptr::null_mut(), self.mark(), Ordering::Acquire, Ordering::Relaxed);
        assert!(was.is_ok(), "it is in a queue already");
        sync::own(LINK, link);
        link
    }
}

impl<T: Linked> Drop for Queue<T> {
    /// One by one: dropping the chain by its links would recurse.
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// See [`Queue::iter`].
pub struct Iter<'a, T: Linked>(Option<&'a T>);

impl<'a, T: Linked> Iterator for Iter<'a, T> {
    type Item = &'a T;
    fn next(&mut self) -> Option<&'a T> {
        let item = self.0?;
        // SAFETY: the queue is borrowed, so no method of it changes a link meanwhile.
        self.0 = unsafe { (*item.link().next.as_ptr()).as_ref() };
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(spandrel_schedule)]
    use crate::{cpuset::CpuId, sched::balance::Balance, sched::ready::Runnable};
    #[cfg(spandrel_schedule)]
    use std::boxed::Box;
    use std::rc::Rc;
    use std::vec::Vec;

    struct Thing(u32, Link<Item>);
    struct Item(Rc<Thing>);

    // SAFETY: the link is in the counted thing, which does not move; the tests make one value each.
    unsafe impl Linked for Item {
        fn link(&self) -> &Link<Self> {
            &self.0.1
        }
    }

    fn thing(number: u32) -> Rc<Thing> {
        Rc::new(Thing(number, Link::new()))
    }

    fn numbers(queue: &Queue<Item>) -> Vec<u32> {
        queue.iter().map(|item| item.0.0).collect()
    }

    /// A turn is a push and a pop.
    #[test]
    fn an_exchange_is_one_turn() {
        for members in 1..4 {
            let (mut queue, mut other) = (Queue::new(), Queue::new());
            for number in 0..members {
                queue.push(Item(thing(number)));
                other.push(Item(thing(number)));
            }
            for turn in 10..15 {
                other.push(Item(thing(turn)));
                let expected = other.pop().map(|item| item.0.0);
                // SAFETY: 1. a new thing is in no queue. 2. there are some members, always.
                let refused = unsafe { queue.exchange(Item(thing(turn)), |_, _| false) };
                assert_eq!(refused.map_err(|item| item.0.0).err(), Some(turn));
                // SAFETY: as above.
                let (Ok(first) | Err(first)) = unsafe { queue.exchange(Item(thing(turn)), |_, _| true) };
                assert_eq!(Some(first.0.0), expected);
                assert_eq!(numbers(&queue), numbers(&other));
            }
            // The ends are sound.
            queue.push(Item(thing(20)));
            queue.push_front(Item(thing(21)));
            assert_eq!(queue.pop().map(|item| item.0.0), Some(21));
            // Each knows the one before it: all can be taken out, from the end.
            let members: Vec<_> = queue.iter().map(|item| item.0.clone()).collect();
            for member in members.iter().rev() {
                assert!(queue.remove(&member.1).is_some());
            }
            assert!(queue.is_empty());
        }
    }

    /// Taken out of the front, the middle and the end, the others keep their order, and the ends
    /// still work.
    #[test]
    fn removal_keeps_the_order() {
        for out in 0..4 {
            let things: Vec<_> = (0..4).map(thing).collect();
            let mut queue = Queue::new();
            for thing in &things[1..] {
                queue.push(Item(thing.clone()));
            }
            queue.push_front(Item(things[0].clone()));
            assert!(queue.remove(&things[out].1).is_some_and(|item| item.0.0 == out as u32));
            assert!(queue.remove(&things[out].1).is_none(), "it is in no queue");
            let rest: Vec<_> = (0..4).filter(|&number| number != out as u32).collect();
            assert_eq!(numbers(&queue), rest);
            queue.push(Item(things[out].clone()));
            assert_eq!(numbers(&queue), [rest, std::vec![out as u32]].concat());
            while queue.pop().is_some() {}
            assert!(queue.is_empty() && things.iter().all(|thing| Rc::strong_count(thing) == 1));
        }
    }

    /// What one queue has given up another may take, on another CPU, though nothing else orders the two.
    #[cfg(spandrel_schedule)]
    #[test]
    fn what_was_given_up_may_be_taken() {
        for seed in 0..20 {
            schedule::run(schedule::Setting::seed(seed), || {
                let thing: &'static Balance = Box::leak(Box::new(Balance::new(CpuId::BOOT)));
                let mut queue = Queue::new();
                queue.push(Runnable::Balance(thing));
                // It knows that it was put in, and no more.
                let known = schedule::memory::knowledge();
                let other = schedule::thread::spawn(move || {
                    schedule::act_as(1);
                    schedule::memory::learn(&known);
                    while !thing.entry.link().queue.load(Ordering::Relaxed).is_null() {
                        schedule::yield_now();
                    }
                    Queue::new().push(Runnable::Balance(thing));
                });
                assert!(queue.pop().is_some());
                other.join().expect("it does not panic");
            });
        }
    }

    /// A queue gives nothing out that is in another.
    #[test]
    fn only_its_own_queue_gives_it_out() {
        let one = thing(1);
        let (mut a, mut b) = (Queue::new(), Queue::new());
        a.push(Item(one.clone()));
        assert!(b.remove(&one.1).is_none());
        assert!(a.remove(&one.1).is_some());
    }
}
