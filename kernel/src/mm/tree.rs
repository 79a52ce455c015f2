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
use core::mem;

/// What a tree holds.
pub trait Item {
    /// What a node says of its item and all below it.
    type Summary: Copy;

    /// The place in the order. No two in a tree have the same, and it changes only in ways that leave
    /// the order as it is.
    fn key(&self) -> u64;

    /// The summary of the item and those of its node's children, the lower first.
    fn summarize(&self, children: [Option<&Self::Summary>; 2]) -> Self::Summary;
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
        let [below, above] = &self.children;
        self.height = 1 + height(below).max(height(above));
        let children = [below, above].map(|child| child.as_deref().map(|child| &child.summary));
        self.summary = self.item.summarize(children);
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
    pub fn make(&self, item: T) -> Result<Loose<T>, NoMemory> {
        let summary = item.summarize([None, None]);
        let node = Node { item, summary, height: 1, children: [None, None] };
        Box::try_new_in(node, self.charged.clone()).map(Loose).map_err(|_| NoMemory)
    }

    /// Puts a node in. Its key is not in the tree.
    pub fn insert(&mut self, node: Loose<T>) {
        insert(&mut self.root, node.0);
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

fn height<T: Item>(link: &Link<T>) -> u8 {
    link.as_ref().map_or(0, |node| node.height)
}

fn insert<T: Item>(link: &mut Link<T>, new: Box<Node<T>, Charged>) {
    visit();
    let Some(node) = link else {
        *link = Some(new);
        return;
    };
    debug_assert!(new.item.key() != node.item.key(), "a key is in the tree once");
    let side = if new.item.key() < node.item.key() { Side::Below } else { Side::Above };
    insert(&mut node.children[side as usize], new);
    balance(link);
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

/// Makes the heights of both sides differ by one at most, where they differ by two at most.
fn balance<T: Item>(link: &mut Link<T>) {
    let Some(node) = link else { return };
    let [below, above] = node.children.each_ref().map(height);
    let high = match (below, above) {
        _ if below > above + 1 => Side::Below,
        _ if above > below + 1 => Side::Above,
        _ => return node.update(),
    };
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
