//! Store buffering between two CPUs in the kernel: what shows whether a port's full barrier is one.
//!
//! Between user code and the barrier of a membarrier lie locks and interrupts, which order as much.
//! So the hook is tried where nothing else is: two CPUs with interrupts off meet, each stores its
//! word, executes the barrier or, as a control, nothing, and loads the other's. Part of kernels that
//! are built for testing.

use crate::cpu::Cpu;
use crate::sync::{AtomicU64, Ordering};
use arch_contract::addr::PhysAddr;
use arch_contract::barrier::{Barriers, Site};
use arch_contract::pte::Paging;
use arch_current::Current;

/// What lies between the store and the load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Between {
    Nothing,
    FullBarrier,
}

/// Bytes from one word of the page to the next: each has cache lines of its own.
const APART: u64 = 256;
/// Rounds of one call: a bit of the answer each.
const ROUNDS: u64 = 64;

/// The words of the page at `page`, which is held, for the side 0 or 1.
struct Side<'a> {
    own: &'a AtomicU64,
    other: &'a AtomicU64,
    arrived: &'a AtomicU64,
    other_arrived: &'a AtomicU64,
}

impl<'a> Side<'a> {
    fn new(cpu: &'a Cpu, page: PhysAddr, side: u64) -> Self {
        let word = |index: u64| {
            let at = Current::phys(cpu.machine(), PhysAddr(page.0 + index * APART));
            // SAFETY: an aligned word of a frame that is held; others write it as atomically.
            unsafe { AtomicU64::from_ptr(at.as_ptr().cast()) }
        };
        let other = 1 - side;
        Self { own: word(side), other: word(other), arrived: word(2 + side), other_arrived: word(2 + other) }
    }

    /// Waits, deaf, until the other side is here too, and goes on without a moment's delay: no hint
    /// to the machine that it waits. Acquire and release: what each did before, it did before what
    /// the other does next.
    fn meet(&self) {
        let here = self.arrived.load(Ordering::Relaxed) + 1;
        self.arrived.store(here, Ordering::Release);
        while self.other_arrived.load(Ordering::Acquire) < here {}
    }
}

/// Plays 64 rounds against the CPU that makes the same call as the other side. Bit n of the answer:
/// in round n the other's store was not seen. Not so on both sides, if there is a full barrier.
pub fn store_buffering(cpu: &Cpu, page: PhysAddr, side: u64, between: Between) -> u64 {
    let words = Side::new(cpu, page, side);
    (0..ROUNDS).fold(0, |missed, round| {
        words.own.store(0, Ordering::Relaxed);
        words.meet();
        // Who came last goes on first: which of them is late, and by how much, changes.
        for _ in 0..if round % 2 == side { round / 2 } else { 0 } {
            core::hint::black_box(());
        }
        words.own.store(1, Ordering::Relaxed);
        match between {
            // Not a compiler fence, which is a real one on ppc64le. That the two accesses stay in
            // order is for the compiler's habit alone: were they swapped, the control would fire too.
            Between::Nothing => {}
            // The hook itself: it is what is tried, and no site of the kernel's.
            Between::FullBarrier => Current::full_barrier(cpu.arch(), Site::Register),
        }
        let seen = words.other.load(Ordering::Relaxed);
        words.meet();
        missed | u64::from(seen == 0) << round
    })
}
