//! Frames of an address space that the kernel itself refers to, and that therefore stay allocated
//! when user mode unmaps them.
//!
//! A pinned frame is an ordinary frame of the tree with a count here. If its page is unmapped, the
//! frame goes over from the page tables to here, still charged, and is free when the last pin goes.
//! They lie in a tree by their frames.

use super::NoMemory;
use super::frames::{Block, Order};
use super::heap::Charged;
use super::page_table::Removed;
use super::tree::{Absorbed, Item, Tree};
use arch_contract::addr::PhysAddr;

/// Whose a pinned frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    /// The page tables: it is mapped.
    Tables,
    /// The pins.
    Pins,
}

struct Pin {
    frame: PhysAddr,
    /// At least 1.
    count: u32,
    owner: Owner,
}

impl Item for Pin {
    type Summary = ();
    type Room = ();

    fn key(&self) -> u64 {
        self.frame.0
    }

    fn summarize(&self, _: [Option<&()>; 2]) {}

    fn room(_: Option<&Self>, _: Option<&Self>) {}

    fn fits(&self, (): ()) -> bool {
        true
    }

    fn absorb((): &(), (): &(), (): ()) -> Absorbed<()> {
        Absorbed::Same
    }
}

/// The pinned frames of one address space.
pub struct Pins(Tree<Pin>);

impl Pins {
    pub const fn new(charged: Charged) -> Self {
        Self(Tree::new(charged))
    }

    /// Pins a frame that is mapped.
    pub fn pin(&mut self, frame: PhysAddr) -> Result<(), NoMemory> {
        match self.0.change(frame.0, |pin| pin.count += 1) {
            Some(()) => Ok(()),
            None => {
                let pin = self.0.make(Pin { frame, count: 1, owner: Owner::Tables })?;
                self.0.insert(pin);
                Ok(())
            }
        }
    }

    /// Takes one pin off. The block, if nobody has the frame any more.
    pub fn unpin(&mut self, frame: PhysAddr) -> Option<Block> {
        let count = self.0.change(frame.0, |pin| {
            pin.count -= 1;
            pin.count
        });
        if count? > 0 {
            return None;
        }
        match self.0.remove(frame.0)?.owner {
            Owner::Tables => None,
            // SAFETY: `take_over` took the block out of what was removed; this was the only pin.
            Owner::Pins => Some(unsafe { Block::from_owned(frame, Order::FRAME) }),
        }
    }

    /// Takes over what is pinned of the pages that were removed from the page tables, and says how
    /// many.
    pub fn take_over(&mut self, removed: &mut Removed) -> u64 {
        if self.0.is_empty() {
            return 0;
        }
        removed.keep(|frame| {
            let mapped = |pin: &mut Pin| core::mem::replace(&mut pin.owner, Owner::Pins) == Owner::Tables;
            self.0.change(frame.0, mapped).unwrap_or(false)
        })
    }

    /// Whether nothing is pinned.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
