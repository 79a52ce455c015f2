//! Threads: a closure on a stack of its own, on the CPUs it may run on.
//!
//! The kernel starts a thread at a function with one argument; here that is [`begin`], and the
//! argument is the [`Packet`] which holds the closure before and its result after. The maker owns
//! packet and stack, and touches neither until `thread_wait` has said that the thread has ended.

use crate::call::{call, plain, word};
use crate::cpus::CpuSet;
use crate::memory::Mapping;
use crate::object::{Kind, Object};
use abi::{Call, Error, Handle, PAGE_BYTES, Protection, initial};
use alloc::boxed::Box;
use core::ptr::NonNull;
use core::time::Duration;

/// A thread.
#[derive(Debug)]
pub enum ThreadKind {}
impl Kind for ThreadKind {}
/// A handle on one.
pub type Thread = Object<ThreadKind>;

/// The thread that asks.
pub static CURRENT: Thread = Thread::from_handle(Handle::NONE);

/// Bytes of a thread's stack if its maker does not say.
pub const STACK_BYTES: usize = 32 * 1024;

impl Thread {
    /// Waits until it has ended. Needs `WAIT`. Errors: `BadArgument` for the caller.
    pub fn wait(&self) -> Result<(), Error> {
        plain(Call::ThreadWait, [word(self.handle())]).map(|_| ())
    }

    /// The CPUs it may run on. Needs `MANAGE`.
    pub fn affinity(&self) -> Result<CpuSet, Error> {
        plain(Call::ThreadAffinity, [word(self.handle()), 0]).map(CpuSet)
    }

    /// Says where it may run; when this returns it runs nowhere else. Needs `MANAGE`. Errors:
    /// `BadArgument` if no CPU of the set is on.
    pub fn set_affinity(&self, cpus: CpuSet) -> Result<CpuSet, Error> {
        plain(Call::ThreadAffinity, [word(self.handle()), cpus.0]).map(CpuSet)
    }

    /// Sets its priority. Needs `MANAGE`. Errors: `BadArgument` above the caller's own.
    pub fn set_priority(&self, priority: u64) -> Result<(), Error> {
        plain(Call::ThreadPriority, [word(self.handle()), priority]).map(|_| ())
    }

    /// Lets it run for `budget` in each `period` at most; zero and zero without limit. Needs
    /// `MANAGE`. Errors: `BadArgument`.
    pub fn set_budget(&self, budget: Duration, period: Duration) -> Result<(), Error> {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let arguments = [word(self.handle()), nanoseconds(budget), nanoseconds(period)];
        plain(Call::ThreadBudget, arguments).map(|_| ())
    }
}

/// Ends the calling thread. What it owns is not dropped.
pub fn exit() -> ! {
    loop {
        // The kernel has no way to fail this; if it had, asking again is all there is to do.
        let _ = plain(Call::ThreadExit, []);
    }
}

/// Waits for what another thread does: looks a few times, then lets others run in between.
pub fn wait_until(mut condition: impl FnMut() -> bool) {
    const LOOKS: u32 = 100;
    loop {
        for _ in 0..LOOKS {
            if condition() {
                return;
            }
            core::hint::spin_loop();
        }
        crate::yield_now();
    }
}

/// Starts a thread that may run where this one may.
pub fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>, Error> {
    Builder::new().spawn(body)
}

/// What a thread is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Builder {
    cpus: Option<CpuSet>,
    stack: usize,
}

impl Builder {
    pub const fn new() -> Self {
        Self { cpus: None, stack: STACK_BYTES }
    }

    /// Where it runs. No instruction of its closure is executed elsewhere.
    pub const fn cpus(mut self, cpus: CpuSet) -> Self {
        self.cpus = Some(cpus);
        self
    }

    /// Bytes of its stack, at least.
    pub const fn stack(mut self, bytes: usize) -> Self {
        self.stack = bytes;
        self
    }

    /// Starts it. Errors: `NoMemory`, `TableFull`.
    pub fn spawn<T: Send + 'static>(
        self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, Error> {
        let stack = Stack::new(self.stack)?;
        let packet = Packet { cpus: self.cpus, body: Some(Box::new(body)), result: None };
        let packet = NonNull::from(Box::leak(Box::new(packet)));
        let entry = begin::<T> as extern "C" fn(NonNull<Packet<T>>) -> !;
        let arguments =
            [word(initial::PROCESS), entry as usize as u64, stack.top(), packet.as_ptr() as u64, 0, 0];
        // SAFETY: the thread runs `begin` on memory that is its own until it has ended.
        match unsafe { call(Call::ThreadStart, arguments) } {
            Ok(handle) => {
                let thread = Thread::from_handle(Handle(handle as u32));
                Ok(JoinHandle { thread, running: Some(Running { packet, _stack: stack }) })
            }
            Err(error) => {
                // SAFETY: leaked above, and no thread was started that could have it.
                drop(unsafe { Box::from_raw(packet.as_ptr()) });
                Err(error)
            }
        }
    }
}

/// A thread that its maker waits for; dropping this waits too.
#[derive(Debug)]
pub struct JoinHandle<T> {
    thread: Thread,
    running: Option<Running<T>>,
}

/// What the thread has until it has ended.
#[derive(Debug)]
struct Running<T> {
    packet: NonNull<Packet<T>>,
    _stack: Stack,
}

// SAFETY: the packet is owned memory; its body and its result are `Send`.
unsafe impl<T: Send> Send for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// The thread.
    pub fn thread(&self) -> &Thread {
        &self.thread
    }

    /// Waits until it has ended, and gives what its closure returned. Errors: `BadArgument` if no
    /// CPU it was to run on was on, `Gone` if it ended without returning.
    pub fn join(mut self) -> Result<T, Error> {
        self.finish()
    }

    fn finish(&mut self) -> Result<T, Error> {
        let running = self.running.take().ok_or(Error::Gone)?;
        if let Err(error) = self.thread.wait() {
            // It may still run: what it has is lost.
            core::mem::forget(running);
            return Err(error);
        }
        // SAFETY: leaked in `spawn`; the thread has ended, and what it wrote is visible to whoever
        // was told so by the kernel.
        let packet = unsafe { Box::from_raw(running.packet.as_ptr()) };
        packet.result.unwrap_or(Err(Error::Gone))
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

/// What a thread and its maker hand each other.
struct Packet<T> {
    cpus: Option<CpuSet>,
    body: Option<Box<dyn FnOnce() -> T + Send>>,
    result: Option<Result<T, Error>>,
}

/// Where a thread begins.
extern "C" fn begin<T>(packet: NonNull<Packet<T>>) -> ! {
    {
        // SAFETY: the maker leaves the packet to this thread until it has ended.
        let packet = unsafe { &mut *packet.as_ptr() };
        let there = packet.cpus.map_or(Ok(CpuSet::ALL), |cpus| CURRENT.set_affinity(cpus));
        let body = packet.body.take();
        packet.result = body.map(|body| there.map(|_| body()));
    }
    exit()
}

/// A stack above a page that cannot be written, which ends the process that runs over.
#[derive(Debug)]
struct Stack {
    _guard: Mapping,
    memory: Mapping,
}

impl Stack {
    /// At least `bytes`, and the page below. Errors: `NoMemory`.
    fn new(bytes: usize) -> Result<Self, Error> {
        const GUARD: usize = PAGE_BYTES as usize;
        // Another thread may map something where the guard goes just when it is free.
        for _ in 0..8 {
            let whole = Mapping::new(bytes.max(GUARD).checked_add(GUARD).ok_or(Error::NoMemory)?)?;
            let (below, memory) = whole.split(GUARD);
            let at = below.start().as_ptr() as u64;
            below.unmap()?;
            match Mapping::with(GUARD, at, Protection::Read) {
                Ok(guard) => return Ok(Self { _guard: guard, memory }),
                Err(Error::BadAddress) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::NoMemory)
    }

    /// One past its last byte.
    fn top(&self) -> u64 {
        self.memory.start().as_ptr() as u64 + self.memory.len() as u64
    }
}
