//! Locks for short pieces of work among a program's threads.

/// A lock whose waiters let others run.
pub type Mutex<T> = spin::mutex::SpinMutex<T, Yielding>;

/// Who waits lets the holder run, which may be a thread on the same CPU.
#[derive(Debug)]
pub struct Yielding;

impl spin::RelaxStrategy for Yielding {
    fn relax() {
        crate::yield_now();
    }
}
