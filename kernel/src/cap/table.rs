//! The capability table of a process.
//!
//! Two levels: a directory, and leaves of one frame each, which never move, since the brackets of
//! [`derivation`](super::derivation) point into them. The first slot of a leaf says whose it is, so
//! handle 0 is never valid, nor is any other multiple of [`LEAF_SLOTS`]. Free slots are a list
//! through the slots; those that were never used lie above a mark. So every operation takes
//! constant time, but for the directory's growth, which copies a word per leaf.

use super::derivation::{Brackets, TOLL, TreeId};
use super::{Capability, Object};
use crate::cpu::Cpu;
use crate::ipc::{Endpoint, Notification};
use crate::mm::NoMemory;
use crate::mm::budget::Budget;
use crate::mm::frames::{Block, Order};
use crate::mm::heap::Charged;
use crate::mm::list::List;
use crate::mm::memory::Memory;
use crate::mm::object::Attachment;
use crate::object::Ref;
use crate::process::Process;
use crate::sync::{Guard, Lock};
use abi::{Error, Handle, Rights, TABLE_SLOTS};
use arch_contract::addr::PAGE_SIZE;
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::pte::Paging;
use arch_current::Current;
use core::cell::UnsafeCell;
use core::mem;
use core::ptr::{self, NonNull};
use core::task::Poll;

/// Slots of a leaf, its first included.
pub const LEAF_SLOTS: usize = PAGE_SIZE as usize / size_of::<Slot>();

/// What is in a slot.
enum Content {
    Capability(Capability),
    /// Nothing. The next free one, 0 for none.
    Free(u32),
    /// The first slot of a leaf: whose it is, and the handle of this slot if it were one.
    Owner(*const Table, u32),
}

/// One slot: a cache line.
#[repr(C, align(64))]
pub(super) struct Slot {
    /// First: see [`Brackets`].
    pub(super) brackets: Brackets,
    /// Guarded by the table's lock, but for an `Owner`, which never changes.
    content: UnsafeCell<Content>,
}

const _: () = assert!(size_of::<Slot>() == 64 && LEAF_SLOTS.is_power_of_two());

impl Slot {
    const fn new(content: Content) -> Self {
        Self { brackets: Brackets::new(), content: UnsafeCell::new(content) }
    }

    /// The table it is part of, and the handle that names it there.
    ///
    /// # Safety
    /// It is linked, or the table is held.
    pub(super) unsafe fn place(&self) -> (*const Table, Handle) {
        let offset = ptr::from_ref(self).addr() % PAGE_SIZE as usize;
        // SAFETY: a leaf is a frame, so its first slot is where the page begins; that content never
        // changes, and the leaf is there by the caller's obligation.
        match unsafe { &*(*ptr::from_ref(self).byte_sub(offset)).content.get() } {
            Content::Owner(table, first) => (*table, Handle(first + (offset / size_of::<Self>()) as u32)),
            _ => unreachable!("a leaf without an owner"),
        }
    }
}

/// A leaf: [`LEAF_SLOTS`] slots in a frame.
struct Leaf {
    block: Block,
    slots: NonNull<Slot>,
}

// SAFETY: a leaf is its table's own memory; who may touch what of a slot is said there.
unsafe impl Send for Leaf {}

impl Leaf {
    fn slot(&self, index: usize) -> &Slot {
        assert!(index < LEAF_SLOTS);
        // SAFETY: all slots of the frame were written, and they are only ever shared.
        unsafe { self.slots.add(index).as_ref() }
    }
}

/// A capability table, charged to its process's budget. Lies in what does not move once it holds
/// anything.
pub struct Table {
    memory: &'static Memory,
    budget: Ref<Budget>,
    slots: Lock<Slots>,
}

/// A table that is held.
pub struct Slots {
    leaves: List<Leaf>,
    /// The first free slot that was used before, 0 for none.
    free: u32,
    /// The first that was never used.
    unused: u32,
    state: State,
}

/// Whether anything can still be put into a table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Its process is being taken apart.
    Closed,
}

/// How far a slice of emptying a table came.
pub enum Emptied {
    /// This came out; the caller drops it when it holds no lock.
    Capability(Capability),
    /// Nothing yet, but something was done.
    Nothing,
    /// There is nothing more.
    All,
}

impl Table {
    pub fn new(charged: Charged) -> Self {
        let (memory, budget) = (charged.memory, charged.budget.clone());
        let slots = Slots { leaves: List::new(charged), free: 0, unused: 1, state: State::Open };
        Self { memory, budget, slots: Lock::new(slots) }
    }

    /// Holds it: for lookups.
    pub fn lock(&self, cpu: &Cpu) -> Guard<'_, Slots> {
        self.slots.lock(cpu)
    }

    /// `None` if somebody holds it.
    #[inline(always)]
    pub fn try_lock(&self) -> Option<Guard<'_, Slots>> {
        self.slots.try_lock()
    }

    /// What `handle` names, if it carries all of `rights`. The error says which is wrong.
    pub fn get(&self, cpu: &Cpu, handle: Handle, rights: Rights) -> Result<Capability, Error> {
        self.lock(cpu).get(handle, rights).cloned()
    }

    /// Puts an original into a free slot. `Gone` if the table is being taken apart.
    pub fn insert(&self, cpu: &Cpu, capability: Capability) -> Result<Handle, Error> {
        self.insert_at(cpu, capability, Where::Anywhere)
    }

    /// As [`insert`](Self::insert), where it says.
    pub fn insert_at(&self, cpu: &Cpu, capability: Capability, at: Where) -> Result<Handle, Error> {
        let mut slots = self.lock(cpu);
        let slot = match slots.claim(self, at) {
            Ok(slot) => slot,
            Err(error) => {
                // It was in no slot, but is dropped as if: with no lock held.
                drop(slots);
                drop(capability);
                return Err(error);
            }
        };
        capability.enter();
        let mut tree = cpu.kernel.trees.lock(TreeId::of(&capability.object));
        let (slot, handle) = slots.fill(slot, capability);
        tree.plant(slot);
        Ok(handle)
    }

    /// Derives from `handle` a capability of the rights that both name, with a badge
    /// ([`Capability::derive`]), into a slot of `to`, which may be this table.
    pub fn copy(
        &self,
        cpu: &Cpu,
        handle: Handle,
        (rights, badge): (Rights, u64),
        (to, at): (&Self, Where),
        irq: &IrqsOff,
    ) -> Result<Handle, Error> {
        self.derive(cpu, handle, |origin| origin.derive(rights, badge), (to, at), irq)
    }

    /// As [`copy`](Self::copy), where `make` says what is derived. It is called with the table held, at
    /// least once.
    pub fn derive(
        &self,
        cpu: &Cpu,
        handle: Handle,
        make: impl Fn(&Capability) -> Result<Capability, Error>,
        (to, at): (&Self, Where),
        irq: &IrqsOff,
    ) -> Result<Handle, Error> {
        let mut toll = if mutant::is(Mutant::CopiesForFree) { 0 } else { TOLL };
        loop {
            let mut pair = Pair::lock(cpu, self, to);
            let (parent, capability) = pair.source.find(handle)?;
            // Should this end here, it is not the last of its object.
            let derived = make(capability)?;
            let parent = NonNull::from(parent);
            let id = TreeId::of(&derived.object);
            if toll > 0 && cpu.kernel.trees.lock(id).is_revoking() {
                drop(pair);
                // It never was in a slot, so nobody counts it.
                drop(derived);
                cpu.kernel.trees.help(cpu, id, toll, irq);
                toll = 0;
                continue;
            }
            let slots = pair.target();
            let slot = slots.claim(to, at)?;
            derived.enter();
            let mut tree = cpu.kernel.trees.lock(id);
            let (slot, handle) = slots.fill(slot, derived);
            if mutant::is(Mutant::GrantsAreOriginals) && !ptr::eq(self, to) {
                tree.plant(slot);
            } else {
                tree.graft(slot, parent);
            }
            return Ok(handle);
        }
    }

    /// Moves what `handle` names, with its place in the derivation, into a slot of `to`, which may be
    /// this table.
    pub fn transfer(&self, cpu: &Cpu, handle: Handle, to: &Self) -> Result<Handle, Error> {
        let mut pair = Pair::lock(cpu, self, to);
        let (from, capability) = pair.source.find(handle)?;
        let (from, id) = (NonNull::from(from), TreeId::of(&capability.object));
        let slot = pair.target().claim(to, Where::Anywhere)?;
        let mut tree = cpu.kernel.trees.lock(id);
        let capability = pair.source.vacate(from);
        let (slot, handle) = pair.target().fill(slot, capability);
        if mutant::is(Mutant::MovedIsOriginal) {
            tree.cut(from);
            tree.plant(slot);
        } else {
            tree.replace(from, slot);
        }
        Ok(handle)
    }

    /// Empties a slot. What was derived from it is its parent's now. The caller
    /// [disposes](Capability::dispose) of what was there when it holds no lock. Pending after a slice of
    /// what must come before: call again.
    pub fn take(&self, cpu: &Cpu, handle: Handle, irq: &IrqsOff) -> Poll<Result<Capability, Error>> {
        let attachment = match self.lock(cpu).find(handle) {
            Ok((_, capability)) => capability.object.detaches().cloned(),
            Err(error) => return Poll::Ready(Err(error)),
        };
        if let Some(attachment) = attachment {
            attachment.detach(cpu, irq);
            return Poll::Pending;
        }
        match self.try_take(cpu, handle) {
            Err(Error::Gone) => Poll::Pending,
            result => Poll::Ready(result),
        }
    }

    /// `Gone` if something else is there by now, which must be detached.
    fn try_take(&self, cpu: &Cpu, handle: Handle) -> Result<Capability, Error> {
        let mut slots = self.lock(cpu);
        let (slot, capability) = slots.find(handle)?;
        if capability.object.detaches().is_some() {
            return Err(Error::Gone);
        }
        let (slot, id) = (NonNull::from(slot), TreeId::of(&capability.object));
        cpu.kernel.trees.lock(id).cut(slot);
        Ok(slots.vacate(slot))
    }

    /// Empties a slot if it has `attachment`, of which nothing is mapped any more.
    pub fn take_attachment(&self, cpu: &Cpu, handle: Handle, attachment: &Ref<Attachment>) {
        self.take_if(
            cpu,
            handle,
            |object| matches!(object, Object::Attachment(there) if Ref::ptr_eq(there, attachment)),
        );
    }

    /// Empties a slot if what it has is `it`, from which nothing must be detached: for who has made a handle
    /// and is not to keep it. Meanwhile another may have closed it, and a third have filled the slot.
    pub fn take_if(&self, cpu: &Cpu, handle: Handle, it: impl FnOnce(&Object) -> bool) {
        let mut slots = self.lock(cpu);
        let Ok((slot, capability)) = slots.find(handle) else { return };
        if !it(&capability.object) {
            return;
        }
        let (slot, id) = (NonNull::from(slot), TreeId::of(&capability.object));
        cpu.kernel.trees.lock(id).cut(slot);
        let taken = slots.vacate(slot);
        drop(slots);
        taken.dispose(cpu);
    }

    /// A step of emptying it for good: from the first on nothing can be put in any more.
    pub fn empty(&self, cpu: &Cpu, irq: &IrqsOff) -> Emptied {
        let mut slots = self.lock(cpu);
        slots.state = State::Closed;
        let Some(last) = slots.leaves.len().checked_sub(1) else { return Emptied::All };
        let handles = last * LEAF_SLOTS..(last + 1) * LEAF_SLOTS;
        let filled = handles.map(|index| Handle(index as u32)).find(|handle| slots.find(*handle).is_ok());
        if let Some(handle) = filled {
            drop(slots);
            return match self.take(cpu, handle, irq) {
                Poll::Ready(Ok(capability)) => Emptied::Capability(capability),
                // Unmapped a little, or somebody else has emptied the slot.
                _ => Emptied::Nothing,
            };
        }
        if let Some(leaf) = slots.leaves.pop() {
            self.memory.free_block(&self.budget, leaf.block);
        }
        Emptied::Nothing
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // A simulated machine that ends unwinds out of whatever its CPUs do.
        #[cfg(test)]
        if std::thread::panicking() {
            return;
        }
        // Brackets elsewhere would point into its leaves.
        assert!(self.slots.get_mut().leaves.is_empty(), "a table was dropped that is not empty");
    }
}

/// Where a capability is put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Where {
    Anywhere,
    /// In this slot, which was never used, nor any above it: for what a process starts with.
    At(Handle),
}

/// A slot that was taken off the free ones, to be filled at once.
struct Claimed(u32);

impl Slots {
    /// What `handle` names, if it carries all of `rights`. The error says which is wrong.
    #[inline]
    pub fn get(&self, handle: Handle, rights: Rights) -> Result<&Capability, Error> {
        let (_, capability) = self.find(handle)?;
        if capability.rights.contains(rights) { Ok(capability) } else { Err(Error::NoRight) }
    }

    /// The endpoint that `handle` names, if it is a handle, does so and carries all of `rights`, with the
    /// badge.
    #[inline(always)]
    pub fn endpoint(&self, handle: u64, rights: Rights) -> Option<(&Ref<Endpoint>, u64)> {
        match self.content(handle as usize)?.1 {
            Content::Capability(Capability { object: Object::Endpoint(endpoint), rights: has, badge })
                if has.contains(rights) =>
            {
                Some((endpoint, *badge))
            }
            _ => None,
        }
    }

    /// As [`endpoint`](Self::endpoint), a notification.
    #[inline(always)]
    pub fn notification(&self, handle: u64, rights: Rights) -> Option<&Ref<Notification>> {
        match self.content(handle as usize)?.1 {
            Content::Capability(Capability {
                object: Object::Notification(notification),
                rights: has,
                ..
            }) if has.contains(rights) => Some(notification),
            _ => None,
        }
    }

    /// A slot, and what is in it. `None` if there is no such slot.
    #[inline(always)]
    fn content(&self, index: usize) -> Option<(&Slot, &Content)> {
        let slot = self.leaves.get(index / LEAF_SLOTS)?.slot(index % LEAF_SLOTS);
        // SAFETY: the table is held, and shared here.
        Some((slot, unsafe { &*slot.content.get() }))
    }

    #[inline]
    pub(super) fn find(&self, handle: Handle) -> Result<(&Slot, &Capability), Error> {
        match self.content(handle.0 as usize) {
            Some((slot, Content::Capability(capability))) => Ok((slot, capability)),
            _ => Err(Error::BadHandle),
        }
    }

    /// What [`Table::derive`] does, where nothing has to be waited for and nothing to be grown: `None` if a
    /// revocation is under way in the tree, no slot is free that was used before, or `make` has nothing.
    /// Then nothing was done. `make` is called with the table and the tree held.
    #[inline(always)]
    pub fn derive_at_once(
        &mut self,
        cpu: &Cpu,
        origin: Handle,
        make: impl FnOnce(&Capability) -> Option<Capability>,
    ) -> Option<Handle> {
        let (parent, capability) = self.find(origin).ok()?;
        if self.free == 0 || self.state == State::Closed {
            return None;
        }
        let mut tree = cpu.kernel.trees.lock(TreeId::of(&capability.object));
        if tree.is_revoking() {
            return None;
        }
        let derived = make(capability)?;
        derived.enter();
        let parent = NonNull::from(parent);
        let (slot, handle) = {
            let index = self.free;
            let slot = self.slot(index);
            // SAFETY: the table is held, and `&mut` here.
            match unsafe { slot.content.get().replace(Content::Capability(derived)) } {
                Content::Free(next) => {
                    let slot = NonNull::from(slot);
                    self.free = next;
                    (slot, Handle(index))
                }
                _ => unreachable!("a slot in the list of free ones is not free"),
            }
        };
        tree.graft(slot, parent);
        Some(handle)
    }

    /// Whether `handle` names `process`, with the right to map.
    #[inline(always)]
    pub fn may_map(&self, handle: Handle, process: &Ref<Process>) -> bool {
        self.get(handle, Rights::MAP).is_ok_and(
            |capability| matches!(&capability.object, Object::Process(named) if Ref::ptr_eq(named, process)),
        )
    }

    /// All handles are below this.
    #[cfg(test)]
    pub fn end(&self) -> u32 {
        (self.leaves.len() * LEAF_SLOTS) as u32
    }

    fn slot(&self, index: u32) -> &Slot {
        self.leaves[index as usize / LEAF_SLOTS].slot(index as usize % LEAF_SLOTS)
    }

    /// Takes a slot off the free ones.
    fn claim(&mut self, table: &Table, at: Where) -> Result<Claimed, Error> {
        if self.state == State::Closed {
            return Err(Error::Gone);
        }
        match at {
            Where::Anywhere if self.free != 0 => {
                let index = self.free;
                // SAFETY: the table is held, and `&mut` here.
                self.free = match unsafe { &*self.slot(index).content.get() } {
                    Content::Free(next) => *next,
                    _ => unreachable!("a slot in the list of free ones is not free"),
                };
                Ok(Claimed(index))
            }
            Where::Anywhere => self.fresh(table).map(Claimed),
            Where::At(handle) => loop {
                match self.fresh(table)? {
                    index if index == handle.0 => return Ok(Claimed(index)),
                    index if index > handle.0 => return Err(Error::BadHandle),
                    index => self.set_free(index),
                }
            },
        }
    }

    /// The next slot that was never used.
    fn fresh(&mut self, table: &Table) -> Result<u32, Error> {
        let index = self.unused.max(1);
        if index >= TABLE_SLOTS {
            return Err(Error::TableFull);
        }
        if index as usize / LEAF_SLOTS == self.leaves.len() {
            self.grow(table).map_err(|NoMemory| Error::NoMemory)?;
        }
        self.unused = index + 1;
        if (self.unused as usize).is_multiple_of(LEAF_SLOTS) {
            self.unused += 1;
        }
        Ok(index)
    }

    fn grow(&mut self, table: &Table) -> Result<(), NoMemory> {
        self.leaves.reserve(1)?;
        let block = table.memory.alloc_block(&table.budget, Order::FRAME)?;
        let slots = Current::phys(table.memory.machine(), block.at()).cast::<Slot>();
        let first = self.leaves.len() * LEAF_SLOTS;
        for index in 0..LEAF_SLOTS {
            let content = if index == 0 { Content::Owner(table, first as u32) } else { Content::Free(0) };
            // SAFETY: the frame is ours alone, and holds as many.
            unsafe { slots.add(index).write(Slot::new(content)) };
        }
        // There is room: cannot fail.
        self.leaves.push(Leaf { block, slots })
    }

    fn fill(&mut self, Claimed(index): Claimed, capability: Capability) -> (NonNull<Slot>, Handle) {
        let slot = self.slot(index);
        // SAFETY: the table is held, and `&mut` here.
        unsafe { *slot.content.get() = Content::Capability(capability) };
        (NonNull::from(slot), Handle(index))
    }

    /// What must be detached before this slot, which is filled, may be emptied.
    pub(super) fn detaches(&self, slot: NonNull<Slot>) -> Option<Ref<Attachment>> {
        // SAFETY: it is in a leaf of this table, which is held, and shared here.
        match unsafe { &*(*slot.as_ptr()).content.get() } {
            Content::Capability(capability) => capability.object.detaches().cloned(),
            _ => None,
        }
    }

    /// Empties a slot of this table that is filled.
    pub(super) fn vacate(&mut self, slot: NonNull<Slot>) -> Capability {
        // SAFETY: it is in a leaf of this table, which is held.
        let (slot, handle) = unsafe { (slot.as_ref(), slot.as_ref().place().1) };
        // SAFETY: the table is held, and `&mut` here.
        let content = unsafe { slot.content.get().replace(Content::Free(self.free)) };
        self.free = handle.0;
        match content {
            Content::Capability(capability) => capability,
            _ => unreachable!("a slot that is emptied was filled"),
        }
    }

    fn set_free(&mut self, index: u32) {
        let next = mem::replace(&mut self.free, index);
        // SAFETY: the table is held, and `&mut` here.
        unsafe { *self.slot(index).content.get() = Content::Free(next) };
    }
}

/// The tables of source and target, both held. They may be one.
struct Pair<'a> {
    source: Guard<'a, Slots>,
    /// `None` if it is the source.
    target: Option<Guard<'a, Slots>>,
}

impl<'a> Pair<'a> {
    /// The lower address first, so that no two wait for each other.
    fn lock(cpu: &Cpu, source: &'a Table, target: &'a Table) -> Self {
        match ptr::from_ref(source).cmp(&ptr::from_ref(target)) {
            core::cmp::Ordering::Equal => Self { source: source.lock(cpu), target: None },
            core::cmp::Ordering::Less => {
                let source = source.lock(cpu);
                Self { source, target: Some(target.lock(cpu)) }
            }
            core::cmp::Ordering::Greater => {
                let target = Some(target.lock(cpu));
                Self { source: source.lock(cpu), target }
            }
        }
    }

    fn target(&mut self) -> &mut Slots {
        self.target.as_deref_mut().unwrap_or(&mut self.source)
    }
}
