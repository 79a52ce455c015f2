//! A process that makes calls by chance, on three threads.
//!
//! Most arguments are what the call wants, made from what earlier calls have given; now and then one is
//! anything. What would end the process or keep it waiting is made more rarely, so that it lives long
//! enough to get somewhere. The kernel may write wherever it is told to: then the process ends by a
//! fault, which is as good an end as any.

use crate::random::Random;
use conformance::signature::{self, Argument, Gives};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use user_rt::abi::ipc::{FOREVER, Tag, WORDS};
use user_rt::abi::{Call, Grant, Kind, SpawnRequest, initial};
use user_rt::shared::{MemoryKind, Shared};
use user_rt::{Args, Error, Handle, Protection, TIMER, call, thread};

/// The argument that makes a process one of these.
pub const ROLE: &str = "child";
/// Threads of one.
pub const THREADS: u64 = 3;
/// Calls that a child of a child makes.
const FEW: &str = "child\x00200\0";
/// Handles and places of a kind that are remembered.
const KNOWN: usize = 8;
/// Where calls may read and write.
const SCRATCH: usize = 4 * 4096;
const STACK: usize = 4096;

/// Memory whose contents do not matter: the kernel writes it, and whoever else.
#[repr(align(4096))]
struct Anything<const BYTES: usize>(UnsafeCell<[u8; BYTES]>);

// SAFETY: it is only ever used by its address.
unsafe impl<const BYTES: usize> Sync for Anything<BYTES> {}

impl<const BYTES: usize> Anything<BYTES> {
    fn address(&self) -> u64 {
        self.0.get().addr() as u64
    }
}

static SPACE: Anything<SCRATCH> = Anything(UnsafeCell::new([0; SCRATCH]));
static STACKS: Anything<{ 8 * STACK }> = Anything(UnsafeCell::new([0; 8 * STACK]));
static NEXT_STACK: AtomicUsize = AtomicUsize::new(0);

/// The last few of a kind.
#[derive(Clone, Copy, Default)]
struct Recent {
    values: [u64; KNOWN],
    count: usize,
}

impl Recent {
    fn add(&mut self, value: u64) {
        self.values[self.count % KNOWN] = value;
        self.count += 1;
    }

    fn any(&self, random: &mut Random) -> Option<u64> {
        let known = self.count.min(KNOWN);
        (known > 0).then(|| self.values[random.below(known as u64) as usize])
    }
}

/// Whoever makes calls.
#[derive(Clone)]
struct Caller {
    random: Random,
    /// By the numbers of the kinds; at 0 those whose kind is not known.
    handles: [Recent; 32],
    pages: Recent,
    /// Whether somebody is there to kill it when it waits for ever.
    watched: bool,
    seed: u64,
}

pub fn main(args: Args) -> u8 {
    let (Ok(calls), Ok(seed)) = (args.number(2), args.number(3)) else { return 2 };
    let counters = args.given::<MemoryKind>("counters");
    let watched = counters.is_some();
    let mut caller = Caller {
        random: Random::new(seed),
        handles: [Recent::default(); 32],
        pages: Recent::default(),
        watched,
        seed,
    };
    let usual = [
        (Kind::Process, initial::PROCESS),
        (Kind::Console, initial::CONSOLE),
        (Kind::Timer, initial::TIMER),
        (Kind::Archive, initial::ARCHIVE),
        (Kind::Machine, initial::MACHINE),
    ];
    for (kind, handle) in usual {
        caller.knows(kind, handle);
    }
    for (kind, name) in
        [(Kind::Endpoint, "endpoint"), (Kind::Notification, "notification"), (Kind::Memory, "memory")]
    {
        if let Some(object) = args.given::<Unknown>(name) {
            caller.knows(kind, object.into_handle());
        }
    }
    // A process whose calls nobody counts has one thread.
    let counts = counters.and_then(|counters| counters.attach(Protection::ReadWrite).ok());
    let Some(counts) = counts else {
        caller.make(calls, &[const { AtomicU64::new(0) }; crate::NOTE]);
        return 0;
    };
    let counts: &'static Shared = user_rt::alloc::boxed::Box::leak(user_rt::alloc::boxed::Box::new(counts));
    let index = args.number(4).unwrap_or(0);
    let count = |number: u64| crate::note(counts, THREADS * index + number);
    let others: user_rt::alloc::vec::Vec<_> = (1..THREADS)
        .map(|number| {
            let mut other = caller.clone();
            other.random = Random::new(seed.wrapping_add(number << 32));
            let count = count(number);
            thread::spawn(move || other.make(calls / THREADS, count))
        })
        .collect();
    caller.make(calls / THREADS, count(0));
    // The calls may have left nothing to wait with, and no memory to give back.
    core::mem::forget(others);
    0
}

enum Unknown {}
impl user_rt::Kind for Unknown {}

/// What a thread that is started by chance does.
extern "C" fn stray(_: u64) -> ! {
    for _ in 0..4 {
        user_rt::yield_now();
    }
    thread::exit()
}

impl Caller {
    fn knows(&mut self, kind: Kind, handle: Handle) {
        self.handles[kind as usize % 32].add(handle.0.into());
    }

    /// Makes that many calls.
    fn make(&mut self, calls: u64, note: &[AtomicU64]) {
        for _ in 0..calls {
            self.one(note);
        }
    }

    /// Makes a call, and notes which.
    fn one(&mut self, note: &[AtomicU64]) {
        if self.random.one_in(40) {
            note[0].fetch_add(1, Ordering::Relaxed);
            return self.no_call();
        }
        let call = self.random.of(Call::ALL);
        if !self.wanted(call) {
            return;
        }
        let (takes, gives) = signature::of(call);
        let mut arguments = [0; 6];
        for (argument, takes) in arguments.iter_mut().zip(takes) {
            *argument = self.argument(*takes);
        }
        let own = u64::from(initial::PROCESS.0);
        match call {
            // The console is for those who have something to say.
            Call::ConsoleWrite => arguments[2] = 0,
            Call::ProcessKill if arguments[0] == own && !self.random.one_in(50) => return,
            _ => {}
        }
        note[0].fetch_add(1, Ordering::Relaxed);
        note[1].store(call as u64, Ordering::Relaxed);
        // SAFETY: none can be given: the calls may write to or unmap any memory of this process. That
        // is the point of it; nothing here relies on what they leave, and a process that destroys itself
        // is one of the ends its maker expects.
        let (status, value) = unsafe { self.enter(call, arguments) };
        if status != 0 {
            // A status that does not exist is a finding, and so is an end that nobody expects.
            assert!(Error::from_number(status).is_some(), "{call:?} gives {status}, seed {}", self.seed);
            return;
        }
        match gives {
            Gives::Handle(kind) => self.knows(kind, Handle(value as u32)),
            Gives::Page => self.pages.add(value),
            Gives::Number if call == Call::HandleCopy => self.handles[0].add(value),
            Gives::Number => {}
        }
    }

    /// Makes the call.
    ///
    /// # Safety
    /// As `call::raw`.
    unsafe fn enter(&mut self, call: Call, arguments: [u64; 6]) -> (u64, u64) {
        let exchanges = matches!(
            call,
            Call::EndpointCall
                | Call::ReplyReceive
                | Call::EndpointSend
                | Call::EndpointReceive
                | Call::Reply
                | Call::ReplySave
        );
        if !exchanges {
            // SAFETY: the caller's promise.
            return unsafe { call::raw(call as u64, arguments) };
        }
        let [handle, deadline, tag, ..] = arguments;
        let mut words = [0; WORDS];
        for word in &mut words {
            *word = self.handle_of_any_kind() | self.random.below(64) << 32;
        }
        let handle = Handle(handle as u32);
        // SAFETY: the caller's promise.
        let (status, value, _) = unsafe { call::exchange(call, handle, deadline, Tag(tag), &mut words) };
        if status == 0 {
            let came = Tag(value).capabilities().min(WORDS);
            words[WORDS - came..].iter().for_each(|word| self.handles[0].add(*word & 0xffff_ffff));
        }
        (status, value)
    }

    /// A call that does not exist.
    fn no_call(&mut self) {
        let number = self.random.next() | 1 << 12;
        // SAFETY: the kernel refuses it.
        let (status, _) = unsafe { call::raw(number, [self.seed; 6]) };
        assert!(status == Error::BadCall as u64, "call {number} gives {status}, seed {}", self.seed);
    }

    /// Whether to make a call that was chosen: some end everything, and some wait.
    fn wanted(&mut self, call: Call) -> bool {
        match call {
            Call::Exit | Call::ThreadExit => self.random.one_in(200),
            Call::ProcessWait | Call::ThreadWait => self.watched && self.random.one_in(500),
            // A page or a fault may wait for a server that never answers.
            Call::MemoryCreatePaged | Call::ThreadExceptions => self.watched && self.random.one_in(20),
            Call::ProcessKill | Call::Spawn => self.random.one_in(6),
            Call::ThreadStart | Call::HandleClose => self.random.one_in(3),
            // What test kernels offer is for those who know what they do.
            Call::Test => false,
            _ => true,
        }
    }

    fn argument(&mut self, takes: Argument) -> u64 {
        match takes {
            Argument::Soon => return self.soon(),
            // One that nobody ends must not wait for a period of years.
            Argument::Span if !self.watched => {}
            _ if self.random.one_in(24) => return self.anything(),
            _ => {}
        }
        let random = &mut self.random;
        match takes {
            Argument::Handle(kind) => self.handle(kind),
            Argument::AnyHandle => self.handle_of_any_kind(),
            Argument::Address => self.address(),
            Argument::Bytes => random.below(300),
            Argument::Page => match random.below(3) {
                0 => 0,
                _ => self.pages.any(random).unwrap_or(0) + 4096 * random.below(3),
            },
            Argument::PageBytes => 4096 * (1 + random.below(8)),
            Argument::Small => random.below(5),
            Argument::Rights => random.below(64),
            Argument::Badge => random.of(&[0, 0, 0, 7]),
            Argument::Protection => random.below(4),
            Argument::Soon => self.soon(),
            Argument::Span if self.watched => random.of(&[0, 0, 50_000, 60_000, 9, 1 << 60]),
            Argument::Span => random.of(&[0, 0, 50_000, 60_000, 9]),
            Argument::Tag => {
                let tag = Tag::new(random.next() >> 20, random.below(5) as usize);
                tag.with_capabilities(random.of(&[0, 0, 1, 3])).0
            }
            Argument::Bits => random.next() & random.next() & random.next(),
            Argument::Priority => random.below(52),
            Argument::Entry => (stray as extern "C" fn(u64) -> !) as usize as u64,
            Argument::Stack => {
                let number = 1 + NEXT_STACK.fetch_add(1, Ordering::Relaxed) % 8;
                STACKS.address() + (number * STACK) as u64
            }
            Argument::Request => self.request(),
            Argument::Word => random.next(),
        }
    }

    fn handle(&mut self, kind: Kind) -> u64 {
        match self.random.below(16) {
            0 => self.handle_of_any_kind(),
            // Often the calling thread.
            1 | 2 if kind == Kind::Thread => 0,
            _ => match self.handles[kind as usize % 32].any(&mut self.random) {
                Some(handle) => handle,
                None => self.random.below(40),
            },
        }
    }

    fn handle_of_any_kind(&mut self) -> u64 {
        match self.random.below(8) {
            0 => self.random.below(40),
            1 | 2 => self.handles[0].any(&mut self.random).unwrap_or(0),
            _ => {
                // Not those without which it can do nothing more, if it can be avoided.
                let kind = Kind::Memory as u64 + self.random.below(8);
                self.handles[kind as usize % 32].any(&mut self.random).unwrap_or(0)
            }
        }
    }

    fn address(&mut self) -> u64 {
        let random = &mut self.random;
        match random.below(12) {
            0 => self.pages.any(random).unwrap_or(0) + random.below(4096),
            1 => (main as fn(Args) -> u8) as usize as u64,
            2 => SPACE.address() + SCRATCH as u64 - random.below(64),
            3 => self.anything(),
            _ => SPACE.address() + 8 * random.below(SCRATCH as u64 / 16),
        }
    }

    /// A word that some check may forget.
    fn anything(&mut self) -> u64 {
        let random = &mut self.random;
        match random.below(8) {
            0 => random.below(300),
            1 => 4096 * random.below(1 << 20),
            2 => u64::MAX - random.below(8192),
            3 => 1 << random.below(64),
            4 => 0u64.wrapping_sub(1 << random.below(64)),
            5 => 0x7fff_ffff_f000 + random.below(8192) - 4096,
            6 => 0xffff_8000_0000_0000 + random.next() % (1 << 32),
            _ => random.next(),
        }
    }

    /// A time until which one can wait.
    fn soon(&mut self) -> u64 {
        if self.watched && self.random.one_in(5000) {
            return FOREVER;
        }
        match self.random.below(3) {
            0 => TIMER.now().map_or(0, |now| now.as_nanos() as u64 + self.random.below(1_000_000)),
            _ => 0,
        }
    }

    /// A request to start another of these, which makes few calls and has few things; nearly right.
    fn request(&mut self) -> u64 {
        let at = SPACE.address() + SCRATCH as u64 / 2;
        let grants = [self.handle_of_any_kind(); 4].map(|_| Grant {
            handle: Handle(self.handle_of_any_kind() as u32),
            rights: self.random.below(64) as u32,
        });
        let mut args = [0u8; 64];
        let words = [FEW, "00000000000\0"].map(str::as_bytes).concat();
        args[..5].copy_from_slice(b"fuzz\0");
        args[5..5 + words.len()].copy_from_slice(&words);
        // The seed, in digits.
        let mut seed = self.random.below(1 << 32);
        for digit in args[5 + FEW.len()..5 + words.len() - 1].iter_mut().rev() {
            *digit = b'0' + (seed % 10) as u8;
            seed /= 10;
        }
        let mut request = SpawnRequest {
            name: at + 256,
            name_len: 4,
            args: at + 256,
            args_len: 5 + words.len() as u64,
            grants: at + 512,
            grants_len: 4,
            memory: self.random.of(&[u64::MAX, 1 << 20, 512 << 10, 100 << 10]),
            priority: self.random.below(51),
            cpu_budget: self.random.of(&[0, 0, 0, 1, 10_000, 1_000_000]),
            cpu_period: self.random.of(&[0, 0, 0, 1, 1_000_000, 10_000_000]),
        };
        if self.random.one_in(10) {
            request.grants_len = self.random.below(40);
        }
        // SAFETY: inside `SPACE`, to which there are no references, and aligned.
        unsafe {
            (at as *mut SpawnRequest).write(request);
            ((at + 256) as *mut [u8; 64]).write(args);
            ((at + 512) as *mut [Grant; 4]).write(grants);
        }
        at
    }
}
