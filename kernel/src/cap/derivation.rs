//! Which capability was derived from which, and revocation.
//!
//! # Brackets
//! The derivation tree is written down as one writes an expression: each capability has an opening
//! and a closing bracket in a doubly linked list, and what stands between the two was derived from
//! it. `A(B(C)D)` is A with the children B and D, and C derived from B. The brackets lie in the
//! slots, four words each, so that
//! * deriving puts a pair behind the parent's opening bracket;
//! * deleting takes a pair out, which leaves what was derived from it to its parent;
//! * moving puts the new pair around the old one and takes the old one out;
//! * revoking deletes what stands behind the opening bracket until that is the closing one;
//!
//! each in constant time, without memory, and with no case that is special. Originals stand in no
//! brackets.
//!
//! # Locking
//! All capabilities of one tree name the same object (or a place where it is attached, or
//! memory whose pages it is asked for), so it says which lock guards its
//! brackets: one of [`TREES`], by its address. It is a leaf: nothing is waited for inside it. A
//! slot's *content* belongs to its table's lock. A slot is linked exactly while it is filled: both
//! change together under both locks. So a slot that is found linked is filled, its table is alive
//! (one that is taken apart empties every slot first, under its lock), and its content stays as long
//! as the tree is held. That is what lets a revocation go from tree to table against the order of
//! locks: it tries the table's lock; if somebody has it, it lets go of the tree, serves, and looks
//! again.
//!
//! # Revocation ends
//! It goes on in slices of [`SLICE`] deletions, each with locks of its own, so nobody waits for more
//! than one deletion. In between, those who hold what is not deleted yet may derive more from it. So
//! that this cannot outrun the revocation, whoever derives while a revocation is under way in the
//! tree first does [`TOLL`] of its deletions: each new capability costs more than one old one, and
//! what stands between the brackets shrinks with every copy as with every slice. At its last step
//! the revocation has seen, under the tree's lock, its root's brackets side by side. One at a time
//! is under way in a tree; another one helps it first, so the higher priority never waits for the
//! lower.

use super::table::Slot;
use super::{Capability, Object, Table};
use crate::cpu::Cpu;
use crate::mm::object::Attachment;
use crate::object::Ref;
use crate::sync::{Guard, Leaf};
use abi::{Error, Handle};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::smp::Smp;
use arch_current::Current;
use core::cell::Cell;
use core::ptr::{self, NonNull};
use core::task::Poll;

/// Locks that the objects share.
const TREES: usize = 64;
/// Deletions in one slice of a revocation.
const SLICE: usize = 16;
/// Deletions that deriving one capability costs while a revocation is under way in its tree.
pub(super) const TOLL: usize = 2;

/// One bracket.
struct Bracket {
    next: Cell<*const Bracket>,
    before: Cell<*const Bracket>,
}

impl Bracket {
    const fn new() -> Self {
        Self { next: Cell::new(ptr::null()), before: Cell::new(ptr::null()) }
    }

    /// Puts `other` between `self` and what follows it.
    ///
    /// # Safety
    /// `other` stands nowhere. What follows `self` is a bracket of a linked slot; the tree's lock is
    /// held.
    unsafe fn put_behind(&self, other: &Self) {
        let next = self.next.get();
        other.next.set(next);
        other.before.set(self);
        self.next.set(other);
        // SAFETY: the caller's obligation: the neighbour's slot is linked, so it is there.
        if let Some(next) = unsafe { next.as_ref() } {
            next.before.set(other);
        }
    }

    /// Takes it out of its row.
    ///
    /// # Safety
    /// Its neighbours are brackets of linked slots; the tree's lock is held.
    unsafe fn take_out(&self) {
        let (before, next) = (self.before.replace(ptr::null()), self.next.replace(ptr::null()));
        // SAFETY: the caller's obligation.
        if let Some(before) = unsafe { before.as_ref() } {
            before.next.set(next);
        }
        // SAFETY: the caller's obligation.
        if let Some(next) = unsafe { next.as_ref() } {
            next.before.set(before);
        }
    }
}

/// The two brackets of a slot. Guarded by the tree of the object that the slot holds.
#[repr(C)]
pub(super) struct Brackets {
    /// First: a revocation finds the slot by the address of its opening bracket.
    open: Bracket,
    close: Bracket,
}

impl Brackets {
    pub(super) const fn new() -> Self {
        Self { open: Bracket::new(), close: Bracket::new() }
    }
}

/// What is known of the trees of a few objects. Holding it is holding their brackets.
pub(super) struct Tree {
    active: Option<Active>,
    /// Revocations that were ever begun here.
    begun: u64,
}

/// The revocation that is under way.
#[derive(Clone, Copy)]
struct Active {
    root: NonNull<Slot>,
    number: u64,
}

// SAFETY: `root` is a slot that is linked, by whoever has the tree's lock.
unsafe impl Send for Active {}

impl Tree {
    pub(super) fn is_revoking(&self) -> bool {
        self.active.is_some()
    }

    /// Links a slot that holds an original.
    pub(super) fn plant(&mut self, slot: NonNull<Slot>) {
        let brackets = self.of(slot);
        // SAFETY: the slot is not linked, and nothing follows.
        unsafe { brackets.open.put_behind(&brackets.close) };
    }

    /// Links a slot that holds what was derived from `parent`, which is linked in this tree.
    pub(super) fn graft(&mut self, slot: NonNull<Slot>, parent: NonNull<Slot>) {
        let brackets = self.of(slot);
        // SAFETY: the parent is linked, and so is what follows; the slot is not.
        unsafe {
            self.of(parent).open.put_behind(&brackets.open);
            brackets.open.put_behind(&brackets.close);
        }
    }

    /// Links `to` in the place of `from`, which is linked in this tree and then is not.
    pub(super) fn replace(&mut self, from: NonNull<Slot>, to: NonNull<Slot>) {
        let (old, new) = (self.of(from), self.of(to));
        // SAFETY: `from` is linked, and so is what stands between its brackets; `to` is not. In the
        // end the new `(` stands behind the old one and the new `)` before the old one.
        unsafe {
            old.open.put_behind(&new.open);
            (*old.close.before.get()).put_behind(&new.close);
        }
        if let Some(active) = &mut self.active
            && active.root == from
        {
            active.root = to;
        }
        self.cut(from);
    }

    /// Unlinks a slot of this tree. What was derived from it is its parent's now. If it is the root
    /// of a revocation, that ends.
    pub(super) fn cut(&mut self, slot: NonNull<Slot>) {
        if self.active.is_some_and(|active| active.root == slot) {
            self.active = None;
        }
        let brackets = self.of(slot);
        // SAFETY: the slot is linked, and so are its neighbours.
        unsafe {
            brackets.open.take_out();
            brackets.close.take_out();
        }
    }

    /// The first of what was derived from `slot`, which is linked.
    fn first_below(&self, slot: NonNull<Slot>) -> Option<NonNull<Slot>> {
        let brackets = self.of(slot);
        // Behind an opening bracket stands its own closing one, or a child's opening one.
        let behind = brackets.open.next.get();
        if ptr::eq(behind, &brackets.close) { None } else { NonNull::new(behind.cast_mut().cast()) }
    }

    /// The brackets of a slot that is linked in this tree, or about to be.
    fn of(&self, slot: NonNull<Slot>) -> &Brackets {
        // SAFETY: the slot's table is held, or it is linked and this tree is held: it is there. The
        // brackets are cells, which only whoever holds the tree touches.
        unsafe { &(*slot.as_ptr()).brackets }
    }
}

/// The trees of all objects.
pub struct Trees([Leaf<Tree>; TREES]);

/// The tree of an object, by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TreeId(u8);

impl TreeId {
    pub(super) fn of(object: &Object) -> Self {
        // Objects are cache lines apart, or further.
        let key = object.key();
        Self(((key ^ key >> 7 ^ key >> 13) % TREES) as u8)
    }
}

/// What a step of a revocation came to.
enum Step {
    /// Nothing is under way.
    Over,
    Deleted(Capability),
    /// What is next must be detached first.
    Attached(Ref<Attachment>),
    /// Somebody has the table of what is next.
    Taken,
}

impl Trees {
    pub const fn new() -> Self {
        Self([const { Leaf::new(Tree { active: None, begun: 0 }) }; TREES])
    }

    pub(super) fn lock(&self, tree: TreeId) -> Guard<'_, Tree> {
        self.0[tree.0 as usize].lock()
    }

    /// Does up to `most` deletions of the revocation that is under way in `tree`, if one is. The
    /// caller holds no lock. A slice of unmapping counts as a deletion.
    pub(super) fn help(&self, cpu: &Cpu, tree: TreeId, most: usize, irq: &IrqsOff) {
        let mut done = 0;
        while done < most {
            match self.step(tree) {
                Step::Over => return,
                Step::Deleted(capability) => {
                    capability.dispose(cpu);
                    done += 1;
                }
                Step::Attached(attachment) => {
                    attachment.detach(cpu, irq);
                    done += 1;
                }
                Step::Taken => {
                    cpu.serve();
                    Current::relax(cpu.arch());
                }
            }
        }
    }

    fn step(&self, tree: TreeId) -> Step {
        let mut tree = self.lock(tree);
        let Some(active) = tree.active else { return Step::Over };
        let Some(first) = tree.first_below(active.root) else {
            tree.active = None;
            return Step::Over;
        };
        // SAFETY: it is linked, so its table is there, and stays while the tree or its lock is held.
        let table = unsafe { &*first.as_ref().place().0 };
        let Some(mut slots) = table.try_lock() else { return Step::Taken };
        if let Some(attachment) = slots.detaches(first) {
            return Step::Attached(attachment);
        }
        tree.cut(first);
        Step::Deleted(slots.vacate(first))
    }
}

impl Default for Trees {
    fn default() -> Self {
        Self::new()
    }
}

/// The work of `handle_revoke`: deletes all that was derived from one capability.
pub struct Revocation {
    root: Handle,
    /// Its tree and its number there, once it is under way.
    begun: Option<(TreeId, u64)>,
}

impl Revocation {
    pub fn new(root: Handle) -> Self {
        Self { root, begun: None }
    }

    /// One slice of it, on behalf of the process that has `table`. When it is ready, there was a
    /// moment at which nothing derived from the root existed. A root that is deleted meanwhile ends
    /// it: what is left is its parent's, who can revoke it.
    pub fn slice(&mut self, table: &Table, cpu: &Cpu, irq: &IrqsOff) -> Poll<Result<u64, Error>> {
        let trees = &cpu.kernel.trees;
        let (id, number) = match self.begun {
            Some(begun) => begun,
            None => match begin(table, cpu, self.root) {
                Ok(Ok(begun)) => *self.begun.insert(begun),
                Ok(Err(other)) => {
                    trees.help(cpu, other, SLICE, irq);
                    return Poll::Pending;
                }
                Err(error) => return Poll::Ready(Err(error)),
            },
        };
        trees.help(cpu, id, if mutant::is(Mutant::RevokedAtOnce) { usize::MAX } else { SLICE }, irq);
        match trees.lock(id).active {
            Some(active) if active.number == number => Poll::Pending,
            _ => Poll::Ready(Ok(0)),
        }
    }
}

/// Makes the revocation of `root` the one that is under way in its tree, or says in which tree
/// another one is.
fn begin(table: &Table, cpu: &Cpu, root: Handle) -> Result<Result<(TreeId, u64), TreeId>, Error> {
    let slots = table.lock(cpu);
    let (slot, capability) = slots.find(root)?;
    let id = TreeId::of(&capability.object);
    let mut tree = cpu.kernel.trees.lock(id);
    if tree.is_revoking() {
        return Ok(Err(id));
    }
    tree.begun += 1;
    let number = tree.begun;
    tree.active = Some(Active { root: NonNull::from(slot), number });
    Ok(Ok((id, number)))
}
