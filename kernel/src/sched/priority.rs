//! Priorities that change, and priorities that are lent.
//!
//! A thread runs at the higher of its own priority and what it was lent. Lending is for whoever
//! waits for a thread: a call to a server, a lock. It is a hook without a policy: who makes a chain
//! lends along it, and gives back what is then the highest of those who still wait.

use crate::cpu::Cpu;
use crate::object::Ref;
use crate::sched::place;
use crate::sched::ready::Priority;
use crate::thread::Thread;

/// Gives `thread` another priority of its own, at once: if it is ready it is last among its new
/// equals, wherever it is ready, and if it runs its CPU looks whether it still should.
pub fn set(cpu: &Cpu, thread: &Ref<Thread>, priority: Priority) {
    thread.store_priority(priority);
    place::replace(cpu, thread);
}

/// Lends `thread` `priority`: it runs at that at least, until [`give_back`]. At once, as [`set`].
pub fn lend(cpu: &Cpu, thread: &Ref<Thread>, priority: Priority) {
    let before = thread.priority();
    thread.store_lent(priority);
    if thread.priority() != before {
        place::replace(cpu, thread);
    }
}

/// Takes back what was lent to `thread`, but for `rest`, the highest of what others still lend.
pub fn give_back(cpu: &Cpu, thread: &Ref<Thread>, rest: Priority) {
    lend(cpu, thread, rest);
}
