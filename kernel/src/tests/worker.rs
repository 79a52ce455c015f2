//! A CPU that runs by itself: a host thread that does what it is told, and serves other CPUs in
//! between. For unit tests of what only happens between CPUs that act at the same time.

use crate::cpu::Cpu;
use std::boxed::Box;
use std::sync::mpsc;

/// A CPU of its own.
pub(crate) struct Worker {
    todo: mpsc::Sender<Job>,
}

type Job = Box<dyn FnOnce(&'static Cpu) + Send>;

impl Worker {
    pub(crate) fn new(cpu: &'static Cpu) -> Self {
        struct Own(&'static Cpu);
        // SAFETY: from here on only the new thread acts as this CPU; others use what they may.
        unsafe impl Send for Own {}
        let own = Own(cpu);
        let (todo, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            let own = own;
            loop {
                match jobs.try_recv() {
                    Ok(job) => job(own.0),
                    Err(mpsc::TryRecvError::Empty) => {
                        own.0.serve();
                        std::thread::yield_now();
                    }
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
        });
        Self { todo }
    }

    /// Has the CPU do `job`, and waits for it.
    pub(crate) fn run<R: Send + 'static>(&self, job: impl FnOnce(&'static Cpu) -> R + Send + 'static) -> R {
        self.start(job).recv().expect("the CPU did not panic")
    }

    /// Has the CPU do `job`; the result comes over the channel.
    pub(crate) fn start<R: Send + 'static>(
        &self,
        job: impl FnOnce(&'static Cpu) -> R + Send + 'static,
    ) -> mpsc::Receiver<R> {
        let (done, result) = mpsc::channel();
        let job = move |cpu: &'static Cpu| drop(done.send(job(cpu)));
        self.todo.send(Box::new(job)).expect("the CPU did not panic");
        result
    }
}
