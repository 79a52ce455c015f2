//! Threads that are tasks of the run.

use crate::sync::Condvar;
use crate::{lock, run};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

pub use crate::run::yield_now;

struct Packet<T> {
    result: Mutex<Option<std::thread::Result<T>>>,
    news: Condvar,
}

/// As that of `std`.
pub struct JoinHandle<T>(Arc<Packet<T>>);

impl<T> JoinHandle<T> {
    /// # Errors
    /// What it panicked with.
    pub fn join(self) -> std::thread::Result<T> {
        let mut result = lock(&self.0.result);
        loop {
            if let Some(result) = result.take() {
                return result;
            }
            result = self.0.news.wait(&self.0.result, result);
        }
    }
}

/// A new task, or host thread where no run is on.
pub fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let packet = Arc::new(Packet { result: Mutex::new(None), news: Condvar::new() });
    let theirs = packet.clone();
    let body = move || {
        let result = catch_unwind(AssertUnwindSafe(body));
        *lock(&theirs.result) = Some(result);
        theirs.news.notify_all();
    };
    match run::is_on() {
        true => run::spawn(body),
        false => drop(std::thread::spawn(body)),
    }
    JoinHandle(packet)
}
