//! What is left of memory objects that have ended and are too large to be freed in one go.
//!
//! The last reference to an object goes anywhere, also where nothing may take long. There a large one
//! frees nothing: the list of its frames is written into the last of them, and that is put on a stack,
//! in constant time and without memory. The remains are *buried* in slices, by whoever is about to say
//! that something has ended: a call that closes or revokes, or the teardown of a process; or else by a
//! kernel task ([`burial`](super::burial)).

use super::budget::Budget;
use super::frames::{Block, Order};
use super::list::List;
use super::memory::Memory;
use super::space::Progress;
use crate::object::Ref;
use crate::sync::{AtomicBool, Leaf, Ordering};
use arch_contract::addr::{PAGE_SIZE, PhysAddr};
use arch_contract::pte::Paging;
use arch_current::Current;
use core::ptr::NonNull;

/// Frames that are freed at once: of more there are remains.
pub(super) const AT_ONCE: usize = 64;

/// What is left of one. Lies in a frame that was one of its own.
struct Remains {
    /// All but that one.
    frames: List<PhysAddr>,
    budget: Ref<Budget>,
    below: Option<PhysAddr>,
}

const _: () = assert!(size_of::<Remains>() <= PAGE_SIZE as usize);

/// All remains of the machine.
pub(super) struct Graveyard {
    stack: Leaf<Stack>,
    /// Whether there is one on the stack. Changed with the lock held.
    some: AtomicBool,
}

struct Stack {
    /// The frame that the upper one lies in.
    first: Option<PhysAddr>,
    /// Those that somebody has taken off, and frees a slice of.
    taken: usize,
}

impl Graveyard {
    pub(super) const fn new() -> Self {
        Self { stack: Leaf::new(Stack { first: None, taken: 0 }), some: AtomicBool::new(false) }
    }
}

impl Memory {
    /// Takes over the frames of an object that has ended, one at least, which `budget` was charged for.
    pub(super) fn lay_down(&self, mut frames: List<PhysAddr>, budget: Ref<Budget>) {
        if let Some(at) = frames.pop() {
            self.push_remains(at, Remains { frames, budget, below: None });
        }
    }

    /// Whether there is something to bury, or somebody is at it.
    pub fn has_remains(&self) -> bool {
        let stack = self.remains.stack.lock();
        stack.first.is_some() || stack.taken > 0
    }

    /// Whether there is something that nobody is at, as far as this CPU knows: what it has laid down itself it
    /// does.
    #[inline(always)]
    pub(super) fn may_have_remains(&self) -> bool {
        self.remains.some.load(Ordering::Relaxed)
    }

    /// Frees up to `max_frames` frames of what is left of objects. When nothing is left, all of it is free,
    /// whoever has done that.
    pub fn bury(&self, max_frames: u64) -> Progress {
        if let Some((at, mut remains)) = self.pop_remains() {
            for frame in (0..max_frames).map_while(|_| remains.frames.pop()) {
                self.free_frame(&remains.budget, frame);
            }
            if remains.frames.is_empty() {
                self.free_frame(&remains.budget, at);
                drop(remains);
            } else {
                self.push_remains(at, remains);
            }
            self.remains.stack.lock().taken -= 1;
        }
        if self.has_remains() { Progress::More } else { Progress::Done }
    }

    fn free_frame(&self, budget: &Budget, at: PhysAddr) {
        // SAFETY: a frame of an object that has ended, which owned it and gave up the block for the
        // address.
        self.free_block(budget, unsafe { Block::from_owned(at, Order::FRAME) });
    }

    fn place(&self, at: PhysAddr) -> NonNull<Remains> {
        Current::phys(self.machine(), at).cast()
    }

    fn push_remains(&self, at: PhysAddr, mut remains: Remains) {
        let mut stack = self.remains.stack.lock();
        remains.below = stack.first.replace(at);
        self.remains.some.store(true, Ordering::Relaxed);
        // SAFETY: a frame that only the remains refer to, aligned to a page and no smaller than they
        // are.
        unsafe { self.place(at).write(remains) };
    }

    fn pop_remains(&self) -> Option<(PhysAddr, Remains)> {
        let mut stack = self.remains.stack.lock();
        let at = stack.first.take()?;
        // SAFETY: what is on the stack holds remains, which are moved out, as it is taken off.
        let remains = unsafe { self.place(at).read() };
        stack.first = remains.below;
        stack.taken += 1;
        self.remains.some.store(stack.first.is_some(), Ordering::Relaxed);
        Some((at, remains))
    }
}
