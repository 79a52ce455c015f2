//! Frames of an address space that the kernel itself refers to, and that therefore stay allocated
//! when user mode unmaps them.
//!
//! A pinned frame is an ordinary frame of the tree with a count here. If its page is unmapped, the
//! frame goes over from the tree to this list, still charged, and is free when the last pin goes. A
//! process pins one frame per thread at most, so a list is enough.

use super::NoMemory;
use super::frames::{Block, Order};
use super::heap::Charged;
use super::list::List;
use super::page_table::Removed;
use arch_contract::addr::PhysAddr;

/// Whose a pinned frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    /// The tree: it is mapped.
    Tree,
    /// This list.
    List,
}

struct Pin {
    frame: PhysAddr,
    /// At least 1.
    count: u32,
    owner: Owner,
}

/// The pinned frames of one address space.
pub struct Pins(List<Pin>);

impl Pins {
    pub const fn new(charged: Charged) -> Self {
        Self(List::new(charged))
    }

    /// Pins a frame that is in the tree.
    pub fn pin(&mut self, frame: PhysAddr) -> Result<(), NoMemory> {
        match self.0.iter_mut().find(|pin| pin.frame == frame) {
            Some(pin) => {
                pin.count += 1;
                Ok(())
            }
            None => self.0.push(Pin { frame, count: 1, owner: Owner::Tree }),
        }
    }

    /// Takes one pin off. The block, if nobody has the frame any more.
    pub fn unpin(&mut self, frame: PhysAddr) -> Option<Block> {
        let index = self.0.iter().position(|pin| pin.frame == frame)?;
        self.0[index].count -= 1;
        match self.0[index].count {
            0 => match self.0.remove(index).owner {
                Owner::Tree => None,
                // SAFETY: `take_over` took the block out of what was removed; this was the only pin.
                Owner::List => Some(unsafe { Block::from_owned(frame, Order::FRAME) }),
            },
            _ => None,
        }
    }

    /// Takes over what is pinned of the pages that were removed from the tree, and says how many.
    pub fn take_over(&mut self, removed: &mut Removed) -> u64 {
        let mut taken = 0;
        for pin in self.0.iter_mut().filter(|pin| pin.owner == Owner::Tree) {
            if removed.keep(pin.frame) {
                pin.owner = Owner::List;
                taken += 1;
            }
        }
        taken
    }

    /// Whether nothing is pinned.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
