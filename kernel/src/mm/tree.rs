//! A balanced tree that can say no.
//!
//! What an address space keeps in order (its regions, its pinned frames) is as long as its user
//! wants, and is looked into with the space's lock held. So it is an AVL tree: looking up, putting in
//! and taking out visit as many nodes as the tree is high, which is at most 1.44 times the logarithm
//! of their number.
//!
//! Each node keeps a summary of all below it, which its item defines: so a search can pass over what
//! has nothing for it. A node is made before it is put in, and only that can fail.

use super::NoMemory;
use super::heap::Charged;
use allocator_api2::boxed::Box;
use arrayvec::ArrayVec;
use core::mem;

/// What a tree holds.
pub trait Item {
    /// What a node says of its item and all below it.
    type Summary: Copy + PartialEq;

    /// What two neighbours, or one and the end of the order, leave for another.
    type Room: Copy;

    /// The place in the order. No two in a tree have the same, and it changes only in ways that leave
    /// the order as it is.
    fn key(&self) -> u64;

    /// The summary of the item and those of its node's children, the lower first.
    fn summarize(&self, children: [Option<&Self::Summary>; 2]) -> Self::Summary;

    /// What is left between two that follow each other.
    fn room(before: Option<&Self>, after: Option<&Self>) -> Self::Room;

    /// Whether it can be put there.
    fn fits(&self, room: Self::Room) -> bool;

    /// What becomes of the summary `all` when one of summary `new` is put into `room`, above or below or among
    /// them.
    fn absorb(all: &Self::Summary, new: &Self::Summary, room: Self::Room) -> Absorbed<Self::Summary>;
}

/// See [`Item::absorb`].
pub enum Absorbed<S> {
    /// Nothing, nor of that of any more that these are among.
    Same,
    New(S),
    /// That takes a look at the children.
    Unclear,
}

type Link<T> = Option<Box<Node<T>, Charged>>;

/// An item that is in a tree or about to be.
pub struct Node<T: Item> {
    item: T,
    summary: T::Summary,
    /// Nodes on the longest way down from here, this one included.
    height: u8,
    children: [Link<T>; 2],
}

/// Which child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Below = 0,
    Above = 1,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Below => Self::Above,
            Self::Above => Self::Below,
        }
    }
}

/// The highest that a tree can be: with as many nodes as fit into the memory of any machine, 2^58 of 64 bytes.
const HIGHEST: usize = 84;

/// See the module.
pub struct Tree<T: Item> {
    root: Link<T>,
    charged: Charged,
}

/// A node that is in no tree.
pub struct Loose<T: Item>(Box<Node<T>, Charged>);

impl<T: Item> Loose<T> {
    pub fn item(&self) -> &T {
        &self.0.item
    }
}

impl<T: Item> Node<T> {
    pub fn item(&self) -> &T {
        &self.item
    }

    pub fn summary(&self) -> &T::Summary {
        &self.summary
    }

    pub fn child(&self, side: Side) -> Option<&Self> {
        visit();
        self.children[side as usize].as_deref()
    }

    /// To be called when something below has changed, or the item.
    fn update(&mut self) {
        let [below, above] = self.children.each_ref().map(height);
        self.height = 1 + below.max(above);
        self.summary = self.sum();
    }

    fn sum(&self) -> T::Summary {
        let children = self.children.each_ref().map(|child| child.as_deref().map(|child| &child.summary));
        self.item.summarize(children)
    }

    /// How high it is, or the side that is higher by two.
    #[inline(always)]
    fn measure(&self) -> Result<u8, Side> {
        match self.children.each_ref().map(height) {
            [below, above] if below > above + 1 => Err(Side::Below),
            [below, above] if above > below + 1 => Err(Side::Above),
            [below, above] => Ok(1 + below.max(above)),
        }
    }
}

impl<T: Item> Tree<T> {
    /// An empty tree, whose nodes `charged` pays for.
    pub const fn new(charged: Charged) -> Self {
        Self { root: None, charged }
    }

    pub fn root(&self) -> Option<&Node<T>> {
        self.root.as_deref()
    }

    /// A node to be [inserted](Self::insert).
    #[inline(always)]
    pub fn make(&self, item: T) -> Result<Loose<T>, NoMemory> {
        let node = Box::try_new_uninit_in(self.charged.clone()).map_err(|_| NoMemory)?;
        let summary = item.summarize([None, None]);
        Ok(Loose(Box::write(node, Node { item, summary, height: 1, children: [None, None] })))
    }

    /// Puts a node in, which [fits](Item::fits).
    pub fn insert(&mut self, node: Loose<T>) {
        let inserted = self.insert_if_fits(node);
        debug_assert!(inserted.is_ok());
    }

    /// Puts a node in, or gives it back if it does not fit between what is before it and behind it.
    #[inline(always)]
    pub fn insert_if_fits(&mut self, node: Loose<T>) -> Result<(), Loose<T>> {
        let (key, new) = (node.item().key(), node.0.summary);
        let (mut before, mut after) = (None, None);
        let mut path = ArrayVec::<*mut Link<T>, HIGHEST>::new();
        let mut at = &raw mut self.root;
        // SAFETY: `at` is the root's link or one of a node that the link before it owns, all of them reached
        // through `self`, which is `&mut`; nothing is changed on the way down.
        while let Some(parent) = unsafe { (*at).as_deref_mut() } {
            visit();
            // A tree is not higher: cannot fail.
            let _ = path.try_push(at);
            let parent = &raw mut *parent;
            // SAFETY: a node of this tree, as above.
            let item = unsafe { &(*parent).item };
            let side = if item.key() > key {
                after = Some(item);
                Side::Below
            } else {
                before = Some(item);
                Side::Above
            };
            // SAFETY: as above.
            at = unsafe { &raw mut (*parent).children[side as usize] };
        }
        let room = T::room(before, after);
        if !node.item().fits(room) {
            return Err(node);
        }
        // SAFETY: as above; the items that were looked at are not referred to any more.
        unsafe { *at = Some(node.0) };
        let mut is_higher = true;
        while let Some(at) = path.pop() {
            // SAFETY: as above: what is below was changed, but not where this link is.
            match added_below(unsafe { &mut *at }, &new, room, is_higher) {
                Some(higher) => is_higher = higher,
                None => break,
            }
        }
        Ok(())
    }

    /// Takes the item with this key out.
    pub fn remove(&mut self, key: u64) -> Option<T> {
        remove(&mut self.root, key).map(|node| Box::into_inner(node).item)
    }

    /// Takes the first out.
    pub fn pop(&mut self) -> Option<T> {
        take_first(&mut self.root).map(|node| Box::into_inner(node).item)
    }

    /// Does something with the item that has this key. `None` if there is none.
    pub fn change<R>(&mut self, key: u64, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        change_at(&mut self.root, key, change)
    }

    /// The item with the highest key up to `key`.
    pub fn floor(&self, key: u64) -> Option<&T> {
        let (mut at, mut found) = (self.root(), None);
        while let Some(node) = at {
            let side = if node.item.key() <= key {
                found = Some(&node.item);
                Side::Above
            } else {
                Side::Below
            };
            at = node.child(side);
        }
        found
    }

    /// The first item that `is_reached`, as all behind it are.
    #[inline]
    pub fn first(&self, is_reached: impl Fn(&T) -> bool) -> Option<&T> {
        let (mut at, mut found) = (self.root(), None);
        while let Some(node) = at {
            let side = if is_reached(&node.item) {
                found = Some(&node.item);
                Side::Below
            } else {
                Side::Above
            };
            at = node.child(side);
        }
        found
    }

    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }
}

#[inline(always)]
fn height<T: Item>(link: &Link<T>) -> u8 {
    link.as_ref().map_or(0, |node| node.height)
}

fn remove<T: Item>(link: &mut Link<T>, key: u64) -> Link<T> {
    visit();
    let node = link.as_mut()?;
    let removed = match key.cmp(&node.item.key()) {
        core::cmp::Ordering::Less => remove(&mut node.children[Side::Below as usize], key),
        core::cmp::Ordering::Greater => remove(&mut node.children[Side::Above as usize], key),
        core::cmp::Ordering::Equal => {
            let [below, mut above] = mem::take(&mut node.children);
            // The first above takes its place.
            let successor = match take_first(&mut above) {
                None => below,
                Some(mut first) => {
                    first.children = [below, above];
                    Some(first)
                }
            };
            mem::replace(link, successor)
        }
    };
    balance(link);
    removed
}

fn take_first<T: Item>(link: &mut Link<T>) -> Link<T> {
    visit();
    let node = link.as_mut()?;
    match &mut node.children {
        [below @ Some(_), _] => {
            let first = take_first(below);
            balance(link);
            first
        }
        [None, above] => {
            let above = above.take();
            mem::replace(link, above)
        }
    }
}

fn change_at<T: Item, R>(link: &mut Link<T>, key: u64, change: impl FnOnce(&mut T) -> R) -> Option<R> {
    visit();
    let node = link.as_mut()?;
    let result = match key.cmp(&node.item.key()) {
        core::cmp::Ordering::Less => change_at(&mut node.children[Side::Below as usize], key, change),
        core::cmp::Ordering::Greater => change_at(&mut node.children[Side::Above as usize], key, change),
        core::cmp::Ordering::Equal => Some(change(&mut node.item)),
    };
    node.update();
    result
}

/// One of summary `new` was put into `room` below, which made that side higher or not. Says whether it made
/// the whole higher; `None` if nothing above can see it at all.
#[inline(always)]
fn added_below<T: Item>(
    link: &mut Link<T>,
    new: &T::Summary,
    room: T::Room,
    is_higher: bool,
) -> Option<bool> {
    let node = link.as_mut()?;
    match T::absorb(&node.summary, new, room) {
        Absorbed::Same if !is_higher => return None,
        Absorbed::Same => {}
        Absorbed::New(summary) => node.summary = summary,
        Absorbed::Unclear => node.summary = node.sum(),
    }
    debug_assert!(node.summary == node.sum(), "a summary that is not of what is below");
    if !is_higher {
        return Some(false);
    }
    let before = node.height;
    match node.measure() {
        Ok(height) => {
            node.height = height;
            Some(height > before)
        }
        Err(side) => {
            turn(link, side);
            Some(height(link) > before)
        }
    }
}

/// Makes the heights of both sides differ by one at most, where they differ by two at most.
fn balance<T: Item>(link: &mut Link<T>) {
    let Some(node) = link else { return };
    match node.measure() {
        Ok(_) => node.update(),
        Err(side) => turn(link, side),
    }
}

/// The same where the `high` side is higher by two.
#[inline(never)]
fn turn<T: Item>(link: &mut Link<T>, high: Side) {
    let Some(node) = link else { return };
    let child = &mut node.children[high as usize];
    let inner = child.as_ref().is_some_and(|child| {
        height(&child.children[high.other() as usize]) > height(&child.children[high as usize])
    });
    if inner {
        raise(child, high.other());
    }
    raise(link, high);
}

/// Puts the child on that side in the place of its parent.
fn raise<T: Item>(link: &mut Link<T>, side: Side) {
    let Some(mut node) = link.take() else { return };
    let Some(mut child) = node.children[side as usize].take() else {
        *link = Some(node);
        return;
    };
    node.children[side as usize] = child.children[side.other() as usize].take();
    node.update();
    child.children[side.other() as usize] = Some(node);
    child.update();
    *link = Some(child);
}

/// Counts, in tests, what work on trees is measured in.
#[inline(always)]
fn visit() {
    #[cfg(test)]
    testing::VISITS.with(|visits| visits.set(visits.get() + 1));
}

#[cfg(test)]
pub(super) mod testing {
    use core::cell::Cell;

    std::thread_local! {
        /// Nodes visited by this thread.
        pub(super) static VISITS: Cell<u64> = const { Cell::new(0) };
    }

    /// Nodes visited so far.
    pub(in crate::mm) fn visits() -> u64 {
        VISITS.with(Cell::get)
    }
}
