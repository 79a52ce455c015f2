//! `costs [N]`: does what has a price N times each, every time in a window of its own, for whoever
//! counts instructions from outside (`tools/x bench`). On one CPU: what it measures is the kernel's
//! path, with nobody to wait for.
//!
//! | window | what lies in it |
//! | --- | --- |
//! | 0 | membarrier `PRIVATE_EXPEDITED` |
//! | 1 | membarrier `PRIVATE_EXPEDITED_SYNC_CORE` |
//! | 2 | membarrier `GLOBAL_EXPEDITED` |
//! | 3 | a yield, to the first instruction of the other process |
//! | 4 | a call that a kernel task carries out: an unmapping of more than a slice, with nothing there |
//! | 5 | a sleep: the thread leaves, the CPU idles with its address space loaded, the thread returns |
//! | 6 | a yield to a kernel task that is ready, and back: to the thread that yielded |
//! | 7 | a call to a server in another process, and its reply, without words |
//! | 8 | the same to a server in this process |
//! | 9 | as 7, where client and server have vector registers |
//! | 10 | the first touch of a page that a pager in this process supplies: fault, message, supply, reply |
//! | 11 | mapping one page of new memory, where its tables are there |
//! | 12 | a signal to a thread of a higher priority that waits for it, to that thread's next instruction |
//! | 13 | mapping one page of a memory object that is there, where its tables are |
//! | 14 | closing what 13 made, which unmaps the page |
#![no_std]
#![no_main]

use core::sync::atomic::Ordering;
use core::time::Duration;
use user_programs::watch::Window;
use user_rt::abi::ipc::{FOREVER, Tag, WORDS};
use user_rt::abi::{
    Call, DEFAULT_PRIORITY, Error, Handle, MAX_MEMORY, PAGE_BYTES, Protection, Rights, initial,
};
use user_rt::alloc::boxed::Box;
use user_rt::alloc::format;
use user_rt::alloc::sync::Arc;
use user_rt::ipc::{Deadline, Endpoint, Notification};
use user_rt::membarrier::{Command as Barrier, membarrier};
use user_rt::shared::Memory;
use user_rt::thread::JoinHandle;
use user_rt::{ARCHIVE, Args, Command, TIMER, call, println, thread, yield_now};

user_rt::entry!(main);

/// More pages than the kernel unmaps in one go, where nothing is mapped.
const NOWHERE: u64 = 0x20_0000_0000;
const PAGES: u64 = 32;
/// Where a server that is another process finds its endpoint.
const ENDPOINT: Handle = initial::TIMER;
/// Long enough for the CPU to be idle before it is over.
const NAP: Duration = Duration::from_micros(100);

fn main(args: Args) -> u8 {
    if args.get(1) == Some("serve") {
        // In a thread of its own, as in `yields`.
        let with = if args.get(2).is_some() { Vectors::Used } else { Vectors::Untouched };
        return u8::from(serve(ENDPOINT, with).and_then(JoinHandle::join).is_err());
    }
    let (child, count) = match (args.get(1), args.get(2)) {
        (Some("yield"), Some(_)) => (true, args.number(2)),
        (Some(_), None) => (false, args.number(1)),
        (None, _) => (false, Ok(100)),
        (Some(_), Some(_)) => {
            println!("usage: costs [N]");
            return 2;
        }
    };
    let Ok(count) = count else {
        println!("usage: costs [N]");
        return 2;
    };
    if child {
        return u8::from(yields(count).is_err());
    }
    match all(count) {
        Ok(()) => 0,
        Err((what, error)) => {
            println!("costs: {what}: {error:?}");
            1
        }
    }
}

fn all(count: u64) -> Result<(), (&'static str, Error)> {
    let as_name = |what| move |error| (what, error);
    // What is unregistered must not pay for what is registered later.
    naps(count).map_err(as_name("sleep"))?;
    unmaps(count).map_err(as_name("unmap"))?;
    tasks(count).map_err(as_name("task"))?;
    maps(count).map_err(as_name("map"))?;
    attachments(count).map_err(as_name("attach"))?;
    calls(count).map_err(as_name("call"))?;
    faults(count).map_err(as_name("fault"))?;
    signals(count).map_err(as_name("signal"))?;
    let child = Command::new("costs")
        .arg("yield")
        .arg(&format!("{count}"))
        .grant(initial::CONSOLE, Rights::WRITE)
        .start(&ARCHIVE)
        .map_err(as_name("spawn"))?;
    yields(count).map_err(as_name("yield"))?;
    child.wait().map_err(as_name("wait"))?;
    barriers::<0>(count, Barrier::RegisterPrivateExpedited, Barrier::PrivateExpedited)
        .map_err(as_name("PRIVATE_EXPEDITED"))?;
    barriers::<1>(count, Barrier::RegisterPrivateExpeditedSyncCore, Barrier::PrivateExpeditedSyncCore)
        .map_err(as_name("SYNC_CORE"))?;
    barriers::<2>(count, Barrier::RegisterGlobalExpedited, Barrier::GlobalExpedited)
        .map_err(as_name("GLOBAL_EXPEDITED"))
}

/// The end that ends a window is the other process's: it has just come back from its own yield. In a
/// thread of its own, which has not touched the vector registers: a switch of those has its own price.
fn yields(count: u64) -> Result<(), Error> {
    let all = thread::spawn(move || {
        for _ in 0..count {
            Window::<3>::begin();
            yield_now();
            Window::<3>::end();
        }
    })?;
    all.join()
}

/// In a thread of its own, as in `yields`.
fn unmaps(count: u64) -> Result<(), Error> {
    let all = thread::spawn(move || {
        for _ in 0..count {
            let _ = Window::<4>::on_this_cpu(unmap_nothing);
        }
    })?;
    all.join()
}

/// Two threads take turns, both without vector registers. One makes the call that a kernel task carries
/// out, which queues the task behind the other. That one yields, and is next after the task.
fn tasks(count: u64) -> Result<(), Error> {
    let other = thread::spawn(move || {
        for _ in 0..count {
            let _ = unmap_nothing();
        }
    })?;
    let one = thread::spawn(move || {
        for _ in 0..count {
            // The other has made its call.
            Window::<6>::on_this_cpu(yield_now);
            yield_now();
        }
    })?;
    one.join()?;
    other.join()
}

/// Whether a thread has vector registers of its own.
#[derive(Clone, Copy)]
enum Vectors {
    Untouched,
    Used,
}

impl Vectors {
    /// For the thread that calls this, and has not touched them yet.
    fn take(self) {
        if let Self::Used = self {
            core::hint::black_box(core::hint::black_box(1.5f64) * 1.5);
        }
    }
}

/// A thread that answers each message by an empty one.
fn serve(endpoint: Handle, vectors: Vectors) -> Result<JoinHandle<()>, Error> {
    // In memory that it need not write: the compiler would use vector registers for that.
    let mut words = Box::new([0; WORDS]);
    thread::spawn(move || {
        vectors.take();
        let mut call = Call::EndpointReceive;
        // SAFETY: a message touches no memory.
        while unsafe { call::exchange(call, endpoint, FOREVER, Tag::new(0, 0), &mut words) }.0 == 0 {
            call = Call::ReplyReceive;
        }
    })
}

/// Calls of a server that waits, from a thread of its own. The first finds it not waiting yet.
fn ask<const WINDOW: u32>(endpoint: Handle, count: u64, vectors: Vectors) -> Result<(), Error> {
    let mut words = Box::new([0; WORDS]);
    let client = thread::spawn(move || {
        vectors.take();
        let mut ask = || {
            // SAFETY: a message touches no memory.
            unsafe { call::exchange(Call::EndpointCall, endpoint, FOREVER, Tag::new(0, 0), &mut words) };
        };
        ask();
        for _ in 0..count {
            Window::<WINDOW>::on_this_cpu(&mut ask);
        }
    })?;
    client.join()
}

fn calls(count: u64) -> Result<(), Error> {
    let endpoint = Endpoint::new()?;
    let receives = endpoint.copy(Rights::READ)?;
    let server = serve(receives.handle(), Vectors::Untouched)?;
    ask::<8>(endpoint.handle(), count, Vectors::Untouched)?;
    drop(endpoint);
    server.join()?;
    calls_to_other::<7>(count, Vectors::Untouched)?;
    calls_to_other::<9>(count, Vectors::Used)
}

/// First touches of the pages of a paged memory object. The pager has filled them before, and supplies each
/// when it is asked.
fn faults(count: u64) -> Result<(), Error> {
    let pages = count.min(MAX_MEMORY / PAGE_BYTES);
    let endpoint = Endpoint::new()?;
    let receives = endpoint.copy(Rights::READ)?;
    let memory = Memory::paged((pages * PAGE_BYTES) as usize, &endpoint)?;
    let source = Memory::new((pages * PAGE_BYTES) as usize)?;
    let mapped = memory.attach(Protection::Read)?;
    let mut words = Box::new([0; WORDS]);
    let pager = thread::spawn(move || {
        let mut call = Call::EndpointReceive;
        // SAFETY: a message touches no memory.
        while unsafe { call::exchange(call, receives.handle(), FOREVER, Tag::new(0, 0), &mut words) }.0 == 0 {
            if memory.supply(words[0], &source).is_err() {
                return;
            }
            call = Call::ReplyReceive;
        }
    })?;
    let client = thread::spawn(move || {
        yield_now();
        for page in mapped.words().chunks(PAGE_BYTES as usize / 8) {
            Window::<10>::on_this_cpu(|| page[0].load(Ordering::Relaxed));
        }
    })?;
    client.join()?;
    drop(endpoint);
    pager.join()
}

/// The bit that the last signal has.
const LAST: u64 = 2;

/// The one who waits ends the window: a signal has it run at once.
fn signals(count: u64) -> Result<(), Error> {
    let notification = Arc::new(Notification::new()?);
    let waits = notification.clone();
    let waiter = thread::spawn(move || {
        loop {
            let bits = waits.wait(Deadline::Never)?;
            Window::<12>::end();
            if bits & LAST != 0 {
                return Ok(());
            }
        }
    })?;
    let signaller = thread::spawn(move || {
        for _ in 0..count {
            Window::<12>::begin();
            notification.signal(1)?;
        }
        notification.signal(LAST)
    })?;
    signaller.thread().set_priority(DEFAULT_PRIORITY - 1)?;
    signaller.join()??;
    waiter.join()?
}

fn calls_to_other<const WINDOW: u32>(count: u64, vectors: Vectors) -> Result<(), Error> {
    let endpoint = Endpoint::new()?;
    let command = Command::new("costs").arg("serve");
    let command = if let Vectors::Used = vectors { command.arg("vectors") } else { command };
    let server = command
        .grant(initial::CONSOLE, Rights::WRITE)
        .grant(endpoint.handle(), Rights::READ)
        .start(&ARCHIVE)?;
    ask::<WINDOW>(endpoint.handle(), count, vectors)?;
    drop(endpoint);
    server.wait().map(|_| ())
}

/// A page between two that stay, in a thread without vector registers.
fn maps(count: u64) -> Result<(), Error> {
    let all = thread::spawn(move || {
        let map = |at: u64| {
            let read_write = Protection::ReadWrite as u64;
            // SAFETY: nothing of this program is there.
            unsafe {
                call::call(Call::MemoryMap, [initial::PROCESS.0.into(), at, PAGE_BYTES, read_write, 0, 0])
            }
        };
        let here = NOWHERE + (1 << 30);
        map(here)?;
        map(here + 2 * PAGE_BYTES)?;
        for _ in 0..count {
            let page = Window::<11>::on_this_cpu(|| map(here + PAGE_BYTES))?;
            // SAFETY: nobody has it.
            unsafe { call::call(Call::MemoryUnmap, [initial::PROCESS.0.into(), page, PAGE_BYTES, 0, 0, 0]) }?;
        }
        Ok(())
    })?;
    all.join()?
}

/// The middle page of three, whose others stay, in a thread without vector registers.
fn attachments(count: u64) -> Result<(), Error> {
    let memory = Memory::new(3 * PAGE_BYTES as usize)?;
    let all = thread::spawn(move || {
        let [process, object]: [u64; 2] = [initial::PROCESS.0.into(), memory.handle().0.into()];
        let here = NOWHERE + (2 << 30);
        let attach = |page: u64| {
            let (at, offset) = (here + page * PAGE_BYTES, page * PAGE_BYTES);
            let how = Protection::ReadWrite as u64;
            // SAFETY: nothing of this program is there.
            unsafe { call::call(Call::MemoryAttach, [process, object, at, offset, PAGE_BYTES, how]) }
        };
        attach(0)?;
        attach(2)?;
        for _ in 0..count {
            let attached = Window::<13>::on_this_cpu(|| attach(1))?;
            // SAFETY: nobody has the page.
            Window::<14>::on_this_cpu(|| unsafe {
                call::call(Call::HandleClose, [attached, 0, 0, 0, 0, 0])
            })?;
        }
        Ok(())
    })?;
    all.join()?
}

fn naps(count: u64) -> Result<(), Error> {
    // The first one is the end of what others did here before.
    TIMER.sleep(NAP)?;
    for _ in 0..count {
        let until = TIMER.now()? + NAP;
        Window::<5>::on_this_cpu(|| TIMER.sleep_until(until))?;
    }
    Ok(())
}

fn barriers<const WINDOW: u32>(count: u64, register: Barrier, barrier: Barrier) -> Result<(), Error> {
    membarrier(register)?;
    for _ in 0..count {
        Window::<WINDOW>::on_this_cpu(|| membarrier(barrier))?;
    }
    Ok(())
}

fn unmap_nothing() -> Result<u64, Error> {
    let process: Handle = initial::PROCESS;
    // SAFETY: nothing of this program lies there.
    unsafe { call::call(Call::MemoryUnmap, [process.0.into(), NOWHERE, PAGES * PAGE_BYTES, 0, 0, 0]) }
}
