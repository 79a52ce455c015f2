//! The kernel task that buries what is left of large memory objects ([`remains`](super::remains)) when nobody
//! is about to who would wait for it: the last reference went with a call or a slice that ended nothing else.
//!
//! The machine has one, whose storage is part of the kernel, so that it needs no memory. Each call, job and
//! fault looks at its end whether there is something to do ([`look`]), which is one load.

use super::space::Progress;
use crate::cpu::Cpu;
use crate::cpuset::CpuId;
use crate::process::Slice;
use crate::sched::ready::{Entry, Priority, Runnable};
use crate::sync::{AtomicBool, AtomicU8, Ordering};
use crate::syscall::SLICE_PAGES;

/// See the module.
pub struct Burial {
    pub(crate) entry: Entry,
    /// Whether it is in a run queue, or has a slice.
    is_queued: AtomicBool,
    /// That of whoever ran when there was something to do.
    priority: AtomicU8,
}

impl Burial {
    pub const fn new() -> Self {
        let priority = AtomicU8::new(abi::DEFAULT_PRIORITY as u8);
        Self { entry: Entry::new(CpuId::BOOT), is_queued: AtomicBool::new(false), priority }
    }

    pub(crate) fn priority(&self) -> Priority {
        self.priority.load(Ordering::Relaxed)
    }

    /// Starts it, if nobody has. Acquire: what the last slice did to the entry comes before. Pairs with the
    /// release in `slice`.
    #[cold]
    #[inline(never)]
    fn start(&'static self, cpu: &Cpu) {
        if self.is_queued.swap(true, Ordering::Acquire) {
            return;
        }
        let priority = cpu.current_priority().unwrap_or(abi::DEFAULT_PRIORITY as Priority);
        self.priority.store(priority, Ordering::Relaxed);
        cpu.make_ready(Runnable::Burial(self));
    }

    /// A slice of it.
    pub(crate) fn slice(&'static self, cpu: &Cpu) -> Slice {
        if let Progress::More = cpu.kernel.memory.bury(SLICE_PAGES) {
            return Slice::More;
        }
        self.is_queued.store(false, Ordering::Release);
        // Whoever looked before that has left it to this one.
        look(cpu);
        Slice::Done
    }
}

impl Default for Burial {
    fn default() -> Self {
        Self::new()
    }
}

/// Has what is left of objects buried, if there is something.
#[inline(always)]
pub fn look(cpu: &Cpu) {
    if cpu.kernel.memory.may_have_remains() {
        cpu.kernel.burial.start(cpu);
    }
}
