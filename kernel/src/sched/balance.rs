//! Load moves by pull: a CPU that has nothing to do takes from another's queue (`MIG-2`).
//!
//! Nothing is asked of the CPU that the work is taken from; it may be stuck in the kernel with
//! interrupts off, or not running at all on its host. The lock of its queue is all that is needed,
//! and that is held for a few instructions at a time. `MIG-1`: whoever queued a thread had saved it
//! before; it released the lock after the push. Who takes it acquired the lock before. Those two
//! accesses order all that the thread did on the one CPU before all it does on the other.
//!
//! A CPU that goes idle looks once. What is queued on a busy CPU after that stays there, if no CPU
//! was seen idle at that moment; so a CPU that has more than it runs looks around from time to time
//! ([`step`]) and interrupts CPUs that are idle. That is a kernel task, whose storage is part of the
//! CPU; while nothing waits that could go elsewhere, no timer is armed for it.

use crate::cpu::Cpu;
use crate::cpuset::{CpuId, CpuSet};
use crate::rendezvous::{self, Point};
use crate::request::{Kinds, wait_until};
use crate::sched::ready::{Entry, Gate, Load, Place, Runnable};
use crate::sched::{ending, place};
use crate::thread::Fate;
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};

/// Nanoseconds between two looks of a CPU that has more than it runs.
pub const PERIOD: u64 = 4_000_000;

/// The kernel task that spreads the load of a CPU.
pub struct Balance {
    pub(super) entry: Entry,
    pub(super) cpu: CpuId,
}

impl Balance {
    pub const fn new(cpu: CpuId) -> Self {
        Self { entry: Entry::new(cpu), cpu }
    }
}

/// The CPUs that take work, without this one.
fn others(cpu: &Cpu) -> CpuSet {
    cpu.kernel.affinities.takers().without(cpu.number)
}

/// Takes the best of what this CPU, which has nothing, may run from the CPU that has most to spare.
#[inline(never)]
pub(super) fn pull(cpu: &Cpu) -> Option<Runnable> {
    let mut left = others(cpu);
    loop {
        let victims = left.iter().filter_map(|number| cpu.kernel.cpu(number));
        let victim =
            victims.filter(|other| other.ready.spare() > 0).max_by_key(|other| other.ready.spare())?;
        left = left.without(victim.number);
        if mutant::is(Mutant::M43) {
            ask_first(cpu, victim);
        }
        let item = victim.ready.lock().pop_for(cpu.number);
        if let Some(Runnable::Thread(thread)) = &item
            && thread.stand_again(cpu.number) == Fate::Doomed
        {
            // Who doomed it looks for it on the victim, where it is no more.
            ending::end_thread(cpu, thread);
            return pull(cpu);
        }
        if let Some(item) = item {
            let queue = cpu.ready.lock();
            let priority = item.priority();
            cpu.rival.set(queue.has(priority));
            cpu.running.publish(&queue, Load::of(priority));
            return Some(item);
        }
    }
}

/// A mutant's: has `victim` agree before anything is taken from it.
fn ask_first(cpu: &Cpu, victim: &Cpu) {
    // SAFETY: interrupts are off in the kernel but in windows, and none is open here.
    let irq = unsafe { IrqsOff::assume() };
    let ticket = cpu.ask_and_tell(CpuSet::of(victim.number), Kinds::BARRIER, &irq);
    wait_until(cpu, || ticket.is_served(cpu.kernel));
}

/// Arms the timer of [`step`] if something is ready here that may go elsewhere.
#[inline]
pub(super) fn arm(cpu: &'static Cpu) {
    if cpu.ready.spare() > 0 && !cpu.balancing.get() && !others(cpu).is_empty() {
        cpu.balancing.set(true);
        let due = cpu.now().0 + PERIOD;
        cpu.timers.lock().push(Runnable::Balance(&cpu.balance), due);
    }
}

/// Whether what becomes ready here is nothing to others: none idles, and the timer of [`step`] is armed if it
/// is of any use.
#[inline(always)]
pub(crate) fn is_settled(cpu: &Cpu) -> bool {
    let others = others(cpu);
    others.is_empty() || cpu.balancing.get() && cpu.idle_among(others).is_none()
}

/// Has as many idle CPUs look for work as there are things that wait here behind what this CPU runs
/// next. The timer is armed anew on the way out, if anything still does.
pub(super) fn step(cpu: &'static Cpu) {
    cpu.balancing.set(false);
    let left_over = cpu.ready.lock().left_over() as usize;
    for idle in others(cpu)
        .iter()
        .filter_map(|number| cpu.kernel.cpu(number))
        .filter(|other| other.running.load() == Load::IDLE)
        .take(left_over)
    {
        cpu.poke(idle);
    }
}

/// This CPU takes work from now on. It is on.
pub fn open(cpu: &Cpu) {
    cpu.ready.lock().gate = Gate::Open;
    cpu.kernel.affinities.open(cpu);
}

/// Moves all that is queued on this CPU, which has no current thread, to others, and takes no work
/// any more. Whether that is possible: not if some thread may run nowhere else.
pub fn evacuate(cpu: &Cpu) -> bool {
    if cpu.kernel.affinities.takers().has(cpu.number) && cpu.kernel.affinities.close(cpu).is_err() {
        return false;
    }
    loop {
        let mut queue = cpu.ready.lock();
        // From here on wakers who had chosen this CPU choose again.
        queue.gate = Gate::Closed;
        let item = queue.pop();
        drop(queue);
        let Some(item) = item else { break };
        match item {
            Runnable::Balance(_) => cpu.balancing.set(false),
            item => cpu.make_ready(item),
        }
    }
    // It stays on.
    let Some(heir) = cpu.kernel.cpu(CpuId::BOOT) else { return true };
    loop {
        let (sleeper, is_alarm) = {
            let mut timers = cpu.timers.lock();
            let sleeper = timers.pop_with_key();
            let is_alarm =
                matches!(&sleeper, Some((Runnable::Thread(thread), _)) if thread.ipc.alarm.is_at(cpu));
            (sleeper, is_alarm)
        };
        let Some((item, due)) = sleeper else { break };
        if let Runnable::Balance(_) = item {
            cpu.balancing.set(false);
            continue;
        }
        if is_alarm {
            rendezvous::point(cpu, Point::AlarmMoves);
        }
        let mut timers = heir.timers.lock();
        match &item {
            // Its wait has ended meanwhile.
            Runnable::Thread(thread)
                if is_alarm && !thread.ipc.alarm.moves(cpu, heir) && !mutant::is(Mutant::AlarmOfNobody) => {}
            Runnable::Thread(_) if is_alarm => timers.push(item, due),
            Runnable::Thread(thread) if thread.stand_timed_on(heir.number) == Fate::Doomed => {
                drop(timers);
                ending::end_thread(cpu, thread);
            }
            _ => timers.push(item, due),
        }
    }
    // It arms its timer anew.
    cpu.poke(heir);
    true
}

/// Gives what a better one took the CPU from to a CPU that does nothing, if there is one.
pub(super) fn hand_out(cpu: &Cpu, item: Runnable) -> Option<Runnable> {
    match cpu.idle_among(others(cpu).and(item.affinity())) {
        Some(idle) => place::offer(cpu, idle, item, Place::Last),
        None => Some(item),
    }
}
