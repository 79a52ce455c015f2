//! Restartable sequences: per-CPU data without atomic instructions. What the kernel promises is
//! said at [`abi::rseq`]; the sequences themselves are assembly, in `rseq_<machine>.rs`, since their
//! first and last instruction and their registers at a restart are the contract.

#[cfg_attr(target_arch = "x86_64", path = "rseq_x86_64.rs")]
#[cfg_attr(target_arch = "powerpc64", path = "rseq_ppc64le.rs")]
mod sequences;

use crate::call::call;
use abi::{Call, Error};
use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};

pub use abi::rseq::Area;

/// The registered area of one thread. It belongs to the thread that made it.
pub struct Registration {
    area: Box<UnsafeCell<Area>>,
    _not_send: PhantomData<*mut ()>,
}

impl Registration {
    /// Registers an area for this thread. Errors: `BadArgument` if it has one, `NoMemory`.
    pub fn new() -> Result<Self, Error> {
        let area = Box::new(UnsafeCell::new(Area::default()));
        // SAFETY: the kernel writes into the area only, which stays until it is taken back.
        unsafe { register(area.get() as u64) }?;
        Ok(Self { area, _not_send: PhantomData })
    }

    /// The area, for sequences made elsewhere.
    pub fn area(&self) -> *mut Area {
        self.area.get()
    }

    /// The CPU this thread ran on when it was read.
    pub fn cpu(&self) -> u32 {
        // SAFETY: the area is alive; the kernel writes whole fields, and only while this thread
        // does not run.
        unsafe { (&raw const (*self.area()).cpu).read_volatile() }
    }

    /// How often a sequence of this thread was restarted.
    pub fn restarts(&self) -> u32 {
        // SAFETY: as in `cpu`.
        unsafe { (&raw const (*self.area()).restarts).read_volatile() }
    }

    /// Adds 1 to the counter of the CPU this thread runs on, and says which that was.
    pub fn increment(&self, counters: &Counters) -> u32 {
        // SAFETY: the area is registered for this thread, which is the one that runs: `self` is
        // not `Send`. A CPU's number is below 64, and its counter is written by sequences only.
        unsafe { sequences::user_rt_rseq_increment(self.area(), counters.as_ptr()) }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: nothing is written for address 0. There is a registration to end.
        let _ = unsafe { register(0) };
    }
}

/// # Safety
/// `area` is 0, or an [`Area`] that stays in place until the registration ends.
unsafe fn register(area: u64) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    unsafe { call(Call::RseqRegister, [area, 0, 0, 0, 0, 0]) }.map(|_| ())
}

/// A counter for each CPU, each on cache lines of its own.
pub struct Counters([Counter; 64]);

#[repr(C, align(128))]
struct Counter(AtomicU64);

impl Counters {
    /// All zero.
    pub const fn new() -> Self {
        Self([const { Counter(AtomicU64::new(0)) }; 64])
    }

    /// What CPU `cpu` has counted, 0–63.
    pub fn of(&self, cpu: u32) -> u64 {
        self.0[cpu as usize].0.load(Ordering::Relaxed)
    }

    /// What all have counted. Exact when nobody counts meanwhile.
    pub fn sum(&self) -> u64 {
        (0..64).map(|cpu| self.of(cpu)).sum()
    }

    /// The first counter; the next lies 128 bytes on. For sequences made elsewhere.
    pub fn as_ptr(&self) -> *const u64 {
        self.0.as_ptr().cast()
    }
}
