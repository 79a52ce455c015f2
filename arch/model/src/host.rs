//! What the simulated machine, and whoever plays its CPUs and users, stand on: host threads as they
//! are, or, under `--cfg spandrel_schedule`, tasks of a run whose schedule and memory a seed
//! chooses.

#[cfg(spandrel_schedule)]
pub use schedule::{
    act_as, atomic, chance, lock, memory::Clock, memory::knowing, memory::knowledge, memory::learn, pick,
    plain::Thing, plain::all_uses_are_over, plain::own, plain::touch, sync::Condvar, sync::Receiver,
    sync::Sender, sync::channel, thread,
};

/// A load of the page-table walker: what it found, and what that released.
#[cfg(spandrel_schedule)]
pub(crate) fn walk(entry: &atomic::AtomicU64) -> (u64, Clock) {
    entry.peek()
}

#[cfg(not(spandrel_schedule))]
pub use threads::*;

/// Plain host threads, and the host's memory.
#[cfg(not(spandrel_schedule))]
mod threads {
    use core::ptr::NonNull;
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
    pub struct Clock(());

    impl Clock {
        #[must_use]
        pub fn and(&self, _other: &Self) -> Self {
            *self
        }
    }

    pub fn knowledge() -> Clock {
        Clock(())
    }

    pub fn learn(_clock: &Clock) {}

    /// From here on, the calling thread plays this CPU.
    pub fn act_as(_cpu: usize) {}

    /// Calls `access`, whose loads know `clock` besides.
    pub fn knowing<R>(_clock: &Clock, access: impl FnOnce() -> R) -> R {
        access()
    }

    /// Something whose accesses are watched in runs under schedules.
    #[derive(Clone, Copy)]
    pub struct Thing {
        pub kind: &'static str,
        pub number: usize,
    }

    impl Thing {
        /// The page of `size` bytes that `at` lies in.
        pub fn page(at: NonNull<u8>, _size: u64) -> Self {
            Self { kind: "the page at", number: at.addr().get() }
        }
    }

    pub fn touch(_thing: Thing) {}

    pub fn own(_thing: Thing) {}

    pub(crate) fn all_uses_are_over() {}

    /// A load of the page-table walker.
    pub(crate) fn walk(entry: &atomic::AtomicU64) -> (u64, Clock) {
        // Acquire: pairs with the release of `write_entry`. `PTE-4`
        (entry.load(atomic::Ordering::Acquire), Clock(()))
    }

    /// Whether something happens that happens once in `of` times.
    pub fn chance(_of: u64) -> bool {
        false
    }
    /// One of `0..bound`: the first.
    pub fn pick(_bound: u64) -> u64 {
        0
    }
}
