//! Where threads may run, and which CPUs take work.
//!
//! Both change under one lock, with the list of all threads that may not run everywhere: so a set
//! always holds a CPU that takes work, and a CPU stops taking it only when every such thread has
//! another.

use crate::cpu::Cpu;
use crate::cpuset::{CpuSet, SharedSet};
use crate::object::Ref;
use crate::sched::place;
use crate::sched::queue::Queue;
use crate::sync::Lock;
use crate::thread::{Restricted, Standing, Thread};
use abi::Error;

/// What the kernel knows of sets of CPUs.
pub struct Affinities {
    restricted: Lock<Queue<Restricted>>,
    /// Written under the lock; read without it for advice.
    takers: SharedSet,
}

impl Affinities {
    pub fn new() -> Self {
        Self { restricted: Lock::new(Queue::new()), takers: SharedSet::new() }
    }

    /// The CPUs that take work.
    #[inline]
    pub fn takers(&self) -> CpuSet {
        self.takers.load()
    }

    /// `cpu`, the calling one, takes work from now on.
    pub(super) fn open(&self, cpu: &Cpu) {
        let _list = self.restricted.lock(cpu);
        self.takers.join(cpu.number);
    }

    /// `cpu`, the calling one, takes no work any more. `BadArgument` if some thread could not run
    /// then, or nothing could.
    pub(super) fn close(&self, cpu: &Cpu) -> Result<(), Error> {
        let list = self.restricted.lock(cpu);
        let rest = self.takers().without(cpu.number);
        let has_place = |set: CpuSet| !set.and(rest).is_empty();
        if !has_place(CpuSet::ALL) || !list.iter().all(|thread| has_place(thread.0.affinity())) {
            return Err(Error::BadArgument);
        }
        self.takers.leave(cpu.number);
        Ok(())
    }

    /// Lets `thread` run on `set` only, as soon as it is next moved. Says what the set was.
    fn store(&self, cpu: &Cpu, thread: &Ref<Thread>, set: CpuSet) -> Result<CpuSet, Error> {
        let mut list = self.restricted.lock(cpu);
        if set.and(self.takers()).is_empty() {
            return Err(Error::BadArgument);
        }
        let before = thread.swap_affinity(set);
        let was = list.remove_thread(thread);
        // A thread that ends is taken out of the list after it says that it has ended.
        if set != CpuSet::ALL && !matches!(thread.standing(), Standing::Ended) {
            list.push(Restricted(thread.clone()));
        }
        drop(list);
        drop(was);
        Ok(before)
    }

    /// `thread` has ended, or never begins.
    pub(crate) fn forget(&self, cpu: &Cpu, thread: &Thread) {
        if thread.affinity() != CpuSet::ALL {
            let was = self.restricted.lock(cpu).remove_thread(thread);
            drop(was);
        }
    }
}

/// Lets `thread` run on `set` only. If it is ready elsewhere it is moved; if it runs elsewhere its
/// CPU is asked to drop it, which has happened when [`has_moved`]. Says what the set was.
///
/// # Errors
/// `BadArgument` if no CPU of `set` takes work.
pub fn set(cpu: &Cpu, thread: &Ref<Thread>, set: CpuSet) -> Result<CpuSet, Error> {
    let before = cpu.kernel.affinities.store(cpu, thread, set)?;
    // Ready, it is placed anew even where it may stay: what may be pulled from there is counted.
    match thread.standing() {
        Standing::On(_) if set != before => place::replace(cpu, thread),
        _ => {}
    }
    Ok(before)
}

/// Whether `thread` is on no CPU that it may not run on.
pub fn has_moved(thread: &Thread) -> bool {
    !matches!(thread.standing(), Standing::On(at) if !thread.affinity().has(at))
}
