//! Which CPU gets what has become ready.
//!
//! Where it last ran, if that CPU does nothing or something of lower priority; else a CPU that does
//! nothing; else where it last ran, until an idle CPU pulls it ([`super::balance`]). What a CPU does
//! is read without its lock, so the choice is advice; the push is not: under the target's lock, with
//! which the target publishes what it does ([`super::ready`]).

use crate::cpu::{Cpu, Work};
use crate::cpuset::{CpuId, CpuSet};
use crate::ipc;
use crate::object::Ref;
use crate::request::Kinds;
use crate::sched::ending;
use crate::sched::ready::{Gate, Load, Place, Runnable};
use crate::thread::{Standing, Thread};
use arch_contract::irq::IrqsOff;

impl Cpu {
    /// Puts `item`, which is in no queue, last into the run queue of a CPU that suits it, and has
    /// that CPU look if it should. A thread that was doomed is ended instead.
    pub fn make_ready(&self, item: Runnable) {
        let mut item = item;
        loop {
            let target = choose(self, &item);
            match offer(self, target, item, Place::Last) {
                None => return,
                // It went off meanwhile.
                Some(back) => item = back,
            }
        }
    }

    /// Asks `target` to look at what it should do.
    pub(super) fn poke(&self, target: &Cpu) {
        if target.number == self.number {
            self.add_work(Work::READY);
        } else {
            // SAFETY: interrupts are off in the kernel but in windows, and none is open here.
            self.ask(target, Kinds::RESCHEDULE, &unsafe { IrqsOff::assume() });
        }
    }

    /// What this CPU does, as it sees itself: what it has published is about what it did before
    /// its thread left it.
    fn own_load(&self) -> Load {
        self.current_priority().map_or(Load::IDLE, Load::of)
    }

    fn load_of(&self, other: &Cpu) -> Load {
        if other.number == self.number { self.own_load() } else { other.running.load() }
    }

    /// A CPU of `allowed` that does nothing, and has not been given anything to do yet.
    pub(super) fn idle_among(&self, allowed: CpuSet) -> Option<&'static Cpu> {
        allowed
            .iter()
            .filter_map(|number| self.kernel.cpu(number))
            .find(|other| self.load_of(other) == Load::IDLE && other.ready.spare() == 0)
    }
}

/// The CPU for `item`.
fn choose<'a>(cpu: &'a Cpu, item: &Runnable) -> &'a Cpu {
    let kernel = cpu.kernel;
    let takers = kernel.affinities.takers();
    let last = item.entry().last();
    let affinity = item.affinity();
    let allowed = match takers.and(affinity) {
        // Its CPUs are all off, which is refused to CPUs while it lives: it was just doomed.
        CpuSet::NONE => takers,
        some => some,
    };
    let here = kernel.cpu(last).filter(|_| allowed.has(last));
    if let Some(here) = here
        && cpu.load_of(here) < Load::of(item.priority())
    {
        return here;
    }
    cpu.idle_among(allowed.without(last))
        .or(here)
        .or_else(|| allowed.iter().find_map(|number| kernel.cpu(number)))
        .unwrap_or(cpu)
}

/// Puts `item` into `target`'s run queue. Gives it back if that is closed.
pub(super) fn offer(cpu: &Cpu, target: &Cpu, item: Runnable, place: Place) -> Option<Runnable> {
    let mut queue = target.ready.lock();
    if queue.gate == Gate::Closed {
        return Some(item);
    }
    let priority = match &item {
        Runnable::Thread(thread) => match thread.stand_ready(target.number) {
            Ok(priority) => priority,
            Err(_) => {
                drop(queue);
                ending::end_thread(cpu, thread);
                return None;
            }
        },
        other => other.priority(),
    };
    // Inside the lock, so it is what the target did when it last looked into the queue. An equal
    // must be noticed too, or its turn never comes: the first one is.
    let load = target.running.load();
    let notice = load < Load::of(priority) || load == Load::of(priority) && !queue.has(priority);
    queue.push(item, priority, place);
    drop(queue);
    if notice || target.number == cpu.number {
        cpu.poke(target);
    }
    None
}

/// Takes `thread`, which stands on `at`, out of the run queue there; if it is not in it, it runs, or
/// somebody is moving it, who looks at what is wanted of it after this: has the CPU look.
pub(super) fn take_or_poke(cpu: &Cpu, thread: &Thread, at: CpuId) -> Option<Runnable> {
    let at = cpu.kernel.any_cpu(at)?;
    let taken = at.ready.lock().remove(&thread.entry);
    if taken.is_none() && cpu.kernel.online().has(at.number) {
        cpu.poke(at);
    }
    taken
}

/// Something about `thread` changed that decides where it stands in its queue, or whether it may go
/// on: puts it where it belongs now, or has its CPU look. The change was written before.
pub(crate) fn replace(cpu: &Cpu, thread: &Ref<Thread>) {
    match thread.standing() {
        Standing::On(at) => {
            if let Some(item) = take_or_poke(cpu, thread, at) {
                cpu.make_ready(item);
            }
        }
        waits => ipc::replace(thread, &waits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Run;
    use crate::tests::many::{boot, start, thread};
    use abi::{Call, initial};

    /// A thread that was just taken out of the queue of CPU 0, while the threads of CPUs 0 and 1 run, and
    /// that is for CPUs `set`: as one that a waker has whose choice of a CPU is old.
    fn taken(set: u64) -> (Run, Ref<Thread>) {
        let (mut run, _) = boot(2);
        start(&mut run);
        run.on(1).take_interrupts();
        assert!(!run.idles());
        let handle = start(run.on(0));
        let thread = thread(&run, handle);
        assert_eq!(run.result(Call::ThreadAffinity, &[handle, set]), Ok(u64::MAX));
        let there = run.cpu().ready.lock().remove(&thread.entry);
        assert!(matches!(there, Some(Runnable::Thread(_))));
        (run, thread)
    }

    /// `SMP-3`: who has chosen a CPU that goes off then chooses again.
    #[test]
    fn smp_3_a_closed_run_queue_takes_nothing() {
        let (mut run, thread) = taken(3);
        let cpu = run.cpu();
        run.call(Call::CpuPower, &[initial::MACHINE.0.into(), 1, 0]);
        run.on(1).take_interrupts();
        assert!(!run.arch.is_started());
        let target = run.cpu();
        assert!(offer(cpu, target, Runnable::Thread(thread), Place::Last).is_some());
        assert!(target.ready.lock().best().is_none());
    }

    /// `MIG-1`: a thread that was put where it may not run any more goes on where it may, whichever way
    /// its turn comes: nobody who changes its set finds it while it is put there.
    #[test]
    fn mig_1_who_may_not_run_here_is_not_chosen() {
        for closed in [true, false] {
            let (mut run, thread) = taken(1);
            let cpu = run.cpu();
            cpu.kernel.short_ways.closed.store(closed, crate::sync::Ordering::Relaxed);
            let target = run.on(1).cpu();
            let user = run.user();
            assert!(offer(cpu, target, Runnable::Thread(thread.clone()), Place::Last).is_none());
            // Its CPU knows of it, and has nothing else to look at.
            run.take_interrupts();
            assert!(run.user() == user && target.work() == Work::NONE);
            run.call(Call::Yield, &[]);
            assert!(run.user() == user, "closed: {closed}");
            assert!(matches!(thread.standing(), Standing::On(at) if at == cpu.number));
        }
    }

    /// `MIG-1`: a thread that was put on another CPU has run there when it had its turn, by a yield.
    #[test]
    fn mig_1_it_ran_last_where_it_had_its_turn() {
        let (mut run, thread) = taken(3);
        let cpu = run.cpu();
        let target = run.on(1).cpu();
        assert!(thread.entry.last() != target.number);
        assert!(offer(cpu, target, Runnable::Thread(thread.clone()), Place::Last).is_none());
        run.take_interrupts();
        run.yield_to_other();
        assert_eq!(thread.entry.last(), target.number);
    }
}
