//! Runs of threaded code under schedules, and memory orders, that a seed chooses.
//!
//! [`run`] makes the calling thread the first *task* of a run. Tasks are host threads, but only one
//! goes at a time: at each *point* (an access to an atomic, a call of [`point`]) and wherever a task
//! waits, the run decides who goes on. Everything random comes from one generator, so a seed
//! replays a run.
//!
//! The schedule is one of probabilistic concurrency testing (Burckhardt et al., ASPLOS 2010): each
//! task has a priority, the highest that can go goes, and at a few random points the one that goes
//! is given another. A task that says that it only waits ([`yield_now`]) goes below all others.
//!
//! Memory is that of [`memory`]: the atomics of [`atomic`] remember what was stored before, and a
//! load may find anything that the program's own barriers do not forbid. What counts as a thread
//! there is an [*actor*](act_as): a simulated CPU, whichever host thread plays it.
//!
//! [`plain`] asks the same memory whether what is no atomic is accessed in an order that barriers make.
//!
//! Outside a run all of this behaves like its namesakes in `std`.

pub mod atomic;
pub mod memory;
pub mod plain;
pub mod relaxed;
pub mod spin;
pub mod sync;
pub mod thread;

mod random;
mod run;

pub use run::{Setting, act_as, actor, at_end, chance, pick, point, run, yield_now};

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// Locks a mutex of the host; after a panic too, since that panic is what is to be reported. In a
/// run, others go on while it waits.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    if !run::is_on() {
        return mutex.lock().unwrap_or_else(PoisonError::into_inner);
    }
    loop {
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => yield_now(),
        }
    }
}
