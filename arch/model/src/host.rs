//! What the simulated machine, and whoever plays its CPUs and users, stand on: host threads as they
//! are, or, under `--cfg spandrel_schedule`, tasks of a run whose schedule and memory a seed
//! chooses.

#[cfg(spandrel_schedule)]
pub use schedule::{
    act_as, atomic, chance, lock, memory::Clock, memory::knowledge, memory::learn, point, sync::Condvar,
    sync::Receiver, sync::Sender, sync::channel, thread,
};

#[cfg(not(spandrel_schedule))]
pub use threads::*;

/// Plain host threads, and the host's memory.
#[cfg(not(spandrel_schedule))]
mod threads {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    pub use core::sync::atomic;
    pub use std::sync::mpsc::{Receiver, Sender, channel};
    pub use std::thread;

    /// Locks, after a panic of another host thread too: that panic is what is to be reported.
    pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// That of `std`, with the interface that both can have.
    #[derive(Default)]
    pub struct Condvar(std::sync::Condvar);

    impl Condvar {
        pub const fn new() -> Self {
            Self(std::sync::Condvar::new())
        }

        /// Lets go of `mutex`, which `guard` holds, until notified.
        pub fn wait<'a, T>(&self, _mutex: &'a Mutex<T>, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
        }

        pub fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    /// What an actor knows of the memory: all there is.
    #[derive(Clone, Copy, Default)]
    pub struct Clock;

    impl Clock {
        pub fn add(&mut self, _other: &Self) {}
    }

    pub fn knowledge() -> Clock {
        Clock
    }

    pub fn learn(_clock: &Clock) {}

    /// From here on, the calling thread plays this CPU.
    pub fn act_as(_cpu: usize) {}

    /// Another thread may go on.
    pub fn point() {}

    /// Whether something happens that happens once in `of` times.
    pub fn chance(_of: u64) -> bool {
        false
    }
}
