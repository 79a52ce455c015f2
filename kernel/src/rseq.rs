//! Restartable sequences: what the kernel does for [`abi::rseq`].
//!
//! A thread's area is pinned when it is registered, and reached through the physical map, so nothing
//! here can fault. It is looked at in one place, on the edge to user mode, when something may have
//! come between two instructions of the sequence: the thread was chosen after it had been off its
//! CPU, or a membarrier asked for a restart. Both say so by [`Work::RSEQ`](crate::cpu::Work::RSEQ).
//! Not when the thread leaves: what its call does to the program counter until it runs again would
//! be lost.
//!
//! The area is user memory: any word may change at any time, and what it says is used for nothing
//! but the thread's own registers.

use crate::cpu::Cpu;
use crate::mm::space::SpaceError;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::thread::{Extra, Thread};
use crate::trace;
use abi::Error;
use abi::rseq::Area;
use abi::testing::Counter;
use arch_contract::addr::{PhysAddr, VirtAddr};
use arch_contract::pte::Paging;
use arch_contract::trap::Traps;
use arch_current::Current;
use core::mem::offset_of;

/// The registration of one thread: where its area is. Read and written by the CPU that has the
/// thread.
pub struct Registration(AtomicU64);

/// No address of RAM.
const NONE: u64 = u64::MAX;

impl Registration {
    pub const fn new() -> Self {
        Self(AtomicU64::new(NONE))
    }

    /// The one test that a thread without an area pays.
    #[inline(always)]
    pub fn exists(&self) -> bool {
        self.0.load(Ordering::Relaxed) != NONE
    }

    fn area(&self) -> Option<PhysAddr> {
        self.exists().then(|| PhysAddr(self.0.load(Ordering::Relaxed)))
    }
}

/// Registers the area at `address` for `thread`, which is current on `cpu`, or ends its registration
/// if `address` is 0.
pub fn register(cpu: &Cpu, thread: &Thread, address: u64) -> Result<(), Error> {
    if address == 0 {
        forget(cpu, thread);
        return Ok(());
    }
    if thread.rseq.exists() || !address.is_multiple_of(size_of::<Area>() as u64) {
        return Err(Error::BadArgument);
    }
    let area = thread.process().space.pin(cpu, VirtAddr(address)).map_err(|refused| match refused {
        SpaceError::NoMemory => Error::NoMemory,
        _ => Error::BadAddress,
    })?;
    thread.rseq.0.store(area.0, Ordering::Relaxed);
    thread.add_extra(Extra::Rseq);
    // The area learns the CPU on the way back.
    cpu.add_work(crate::cpu::Work::RSEQ);
    Ok(())
}

/// Ends the registration of a thread that is current here or has ended.
pub fn forget(cpu: &Cpu, thread: &Thread) {
    if let Some(area) = thread.rseq.area() {
        thread.rseq.0.store(NONE, Ordering::Relaxed);
        thread.drop_extra(Extra::Rseq);
        thread.process().space.unpin(cpu, area);
    }
}

/// The last look before the current thread of `cpu` executes user code: tells the area which CPU that
/// is, and moves the program counter out of the sequence that it stands in.
#[cold]
pub fn settle(cpu: &Cpu) {
    let Some(thread) = cpu.current() else { return };
    let Some(area) = thread.rseq.area() else { return };
    word32(cpu, area, offset_of!(Area, cpu)).store(cpu.number.get().into(), Ordering::Relaxed);
    let word = |offset| word64(cpu, area, offset).load(Ordering::Relaxed);
    let start = word(offset_of!(Area, start));
    if start == 0 {
        return;
    }
    // SAFETY: the thread is current on this CPU, which alone has its frame.
    let frame = unsafe { thread.frame().as_mut() };
    // Wraps where the range does; one that is longer than the address space is the user's mistake.
    if Current::pc(frame).0.wrapping_sub(start) >= word(offset_of!(Area, length)) {
        return;
    }
    Current::set_pc(frame, VirtAddr(word(offset_of!(Area, abort))));
    word64(cpu, area, offset_of!(Area, start)).store(0, Ordering::Relaxed);
    word32(cpu, area, offset_of!(Area, restarts)).fetch_add(1, Ordering::Relaxed);
    trace::count(cpu, Counter::Restarts);
}

fn word32(cpu: &Cpu, area: PhysAddr, offset: usize) -> &AtomicU32 {
    let at = Current::phys(cpu.machine(), PhysAddr(area.0 + offset as u64));
    // SAFETY: a word of an area, which is aligned to its size and lies in a frame that is pinned as
    // long as it is registered. User code that writes it meanwhile does so as another CPU would.
    unsafe { AtomicU32::from_ptr(at.as_ptr().cast()) }
}

fn word64(cpu: &Cpu, area: PhysAddr, offset: usize) -> &AtomicU64 {
    let at = Current::phys(cpu.machine(), PhysAddr(area.0 + offset as u64));
    // SAFETY: as in `word32`.
    unsafe { AtomicU64::from_ptr(at.as_ptr().cast()) }
}
