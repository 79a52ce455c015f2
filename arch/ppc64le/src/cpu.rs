//! The two values everything hangs off: one [`Machine`], one [`Cpu`] per CPU.
//!
//! SPRG0 holds the address of the [`Cpu`]; entry code moves it into r13, which the ABI reserves and
//! the compiler never allocates, so it stays there as long as the CPU is in the kernel.

use crate::broadcast::Broadcast;
use crate::controller::Controller;
use crate::device::{NoPci, Pci};
use crate::rtas::CpuCalls;
use crate::sources::Sources;
use crate::trap::{Entered, Frame};
use crate::tree::Terminal;
use arch_contract::boot::HardwareCpu;
use arch_contract::irq::Interrupt;
use arch_contract::upcalls::WAYS;
use core::cell::{Cell, UnsafeCell};
use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

/// Where the physical map is: quadrant 3, and physical address 0 at its start.
pub const PHYSICAL_MAP: u64 = 0xc000_0000_0000_0000;

/// Whether the key-0 authority masks keep the kernel off user pages (KUAP, KUEP).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UserPages {
    Guarded,
    /// The CPU ignores the masks.
    Open,
}

/// How firmware handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Firmware {
    OpenFirmware,
    FlattenedTree,
}

/// What is known of the machine.
pub struct Machine {
    pub(crate) timebase: u64,
    /// The largest value of the decrementer that does not count as expired.
    pub(crate) decrementer_max: u64,
    /// Bytes that a `dcbz` clears, which divide a page. `None` if that is not known.
    pub(crate) cache_block: Option<NonZeroUsize>,
    pub(crate) console: Option<Terminal>,
    pub(crate) controller: Controller,
    /// Set when the console's interrupt source is switched on.
    pub(crate) console_interrupt: Option<u32>,
    /// The interrupt sources of devices.
    pub(crate) sources: Sources,
    /// `Err`: why there is no host bridge that can be used.
    pub(crate) pci: Result<Pci, NoPci>,
    pub(crate) user_pages: UserPages,
    pub(crate) firmware: Firmware,
    pub(crate) cpus: Cpus,
    /// `None`: firmware starts and stops no CPUs.
    pub(crate) cpu_calls: Option<CpuCalls>,
    pub(crate) broadcast: Broadcast,
    /// Console input that was fetched and not yet asked for: up to 16 bytes, and how many.
    pub(crate) typed: [AtomicU64; 2],
    pub(crate) typed_count: AtomicUsize,
}

/// The values of all CPUs of the device tree, side by side in memory of their own.
pub(crate) struct Cpus {
    first: *const Cpu,
    count: usize,
}

// SAFETY: it names `Cpu`s, which are made before a second CPU runs and never moved. What a CPU may
// touch of another's is atomic, or written before that one is started.
unsafe impl Sync for Cpus {}

impl Cpus {
    /// # Safety
    /// `count` of them lie at `first`, or will before anyone asks, for ever.
    pub(crate) const unsafe fn new(first: *const Cpu, count: usize) -> Self {
        Self { first, count }
    }

    /// The `index`-th. Panics if there is none.
    pub(crate) fn get(&self, index: usize) -> &'static Cpu {
        assert!(index < self.count, "there is no CPU {index}");
        // SAFETY: as `new` was promised.
        unsafe { &*self.first.add(index) }
    }
}

/// What a CPU knows. The leading fields are read by entry code, by offset. No two share a cache line.
#[repr(C, align(128))]
pub struct Cpu {
    /// r12, r11 and CR between the vector and the frame.
    pub(crate) scratch: [Cell<u64>; 3],
    /// The frame of the current user thread: where the next trap saves.
    pub(crate) frame: Cell<*mut Frame>,
    /// Top of the ordinary stack; each trap from user mode starts there.
    pub(crate) stack: u64,
    /// The kernel's r2.
    pub(crate) toc: u64,
    /// The ways of system calls, in the kernel above.
    pub(crate) ways: &'static [Entered; WAYS],
    /// Registers of a kernel that faulted, and the stack it is reported on.
    pub(crate) faulted: UnsafeCell<crate::kernel_fault::Registers>,
    pub(crate) upper: Cell<*const ()>,
    pub(crate) machine: &'static Machine,
    pub(crate) on_interrupt: fn(&'static Cpu, Interrupt),
    /// Which of the machine's CPUs it is.
    pub(crate) index: usize,
    pub(crate) server: HardwareCpu,
    /// With XIVE: how many events it has taken out of its queue.
    pub(crate) events_taken: Cell<u64>,
    /// Set when a deadline is armed, so that running out of decrementer without one says nothing.
    pub(crate) armed: Cell<bool>,
    /// Set by whoever starts it, cleared by itself as it stops: a CPU that is on may look stopped
    /// to firmware, since an idle one is halted.
    pub(crate) on: AtomicBool,
}
