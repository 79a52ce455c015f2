//! Where host threads wait for each other. None of it is part of the memory that is modelled:
//! what it carries, it carries behind the scenes.

use crate::{lock, run};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// As that of `std`, but for who waits: [`wait`](Self::wait).
#[derive(Default)]
pub struct Condvar(std::sync::Condvar);

impl Condvar {
    pub const fn new() -> Self {
        Self(std::sync::Condvar::new())
    }

    fn key(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    /// Lets go of `mutex`, which `guard` holds, until notified.
    pub fn wait<'a, T>(&self, mutex: &'a Mutex<T>, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        if !run::is_on() {
            return self.0.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        drop(guard);
        run::wait(self.key());
        lock(mutex)
    }

    pub fn notify_all(&self) {
        run::wake(self.key());
        self.0.notify_all();
    }
}

struct Channel<T> {
    state: Mutex<State<T>>,
    news: Condvar,
}

struct State<T> {
    queue: VecDeque<T>,
    senders: usize,
    is_received: bool,
}

/// The other side is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone;

pub struct Sender<T>(Arc<Channel<T>>);
pub struct Receiver<T>(Arc<Channel<T>>);

/// As `std::sync::mpsc::channel`.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let state = State { queue: VecDeque::new(), senders: 1, is_received: true };
    let channel = Arc::new(Channel { state: Mutex::new(state), news: Condvar::new() });
    (Sender(channel.clone()), Receiver(channel))
}

impl<T> Sender<T> {
    /// # Errors
    /// If nobody will receive it.
    pub fn send(&self, value: T) -> Result<(), Gone> {
        let mut state = lock(&self.0.state);
        if !state.is_received {
            return Err(Gone);
        }
        state.queue.push_back(value);
        self.0.news.notify_all();
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        lock(&self.0.state).senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        lock(&self.0.state).senders -= 1;
        self.0.news.notify_all();
    }
}

impl<T> Receiver<T> {
    /// # Errors
    /// If nothing is there and nobody will send.
    pub fn recv(&self) -> Result<T, Gone> {
        let mut state = lock(&self.0.state);
        loop {
            if let Some(value) = state.queue.pop_front() {
                return Ok(value);
            }
            if state.senders == 0 {
                return Err(Gone);
            }
            state = self.0.news.wait(&self.0.state, state);
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.is_received = false;
        // What was sent in vain may hold senders of this very channel.
        let queue = core::mem::take(&mut state.queue);
        drop(state);
        drop(queue);
    }
}
