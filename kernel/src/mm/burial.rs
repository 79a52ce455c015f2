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
    /// That of whoever ran here when there was something to do, or the default if nobody did: a call that has
    /// its thread wait, and a job that is done, leave a CPU with nobody. Nobody waits for the burial; who waits
    /// for memory or for an end buries itself.
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
        // Whoever looked before that has left it to this one. What they laid down before they looked is found
        // under the lock that they had then; a mere load could still miss it.
        if cpu.kernel.memory.has_remains() {
            self.start(cpu);
        }
        Slice::Done
    }
}

impl Default for Burial {
    fn default() -> Self {
        Self::new()
    }
}

/// Has what is left of objects buried, if there is something; says whether there is.
#[inline(always)]
pub fn look(cpu: &Cpu) -> bool {
    let may_have = cpu.kernel.memory.may_have_remains();
    if may_have {
        cpu.kernel.burial.start(cpu);
    }
    may_have
}
