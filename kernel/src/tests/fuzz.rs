//! A fuzzer of the system-call interface: processes that call anything with almost sensible
//! arguments, in an order that a seed decides, on a machine that is always short of memory.
//!
//! After every step the vector registers must be those of whoever runs; in the end everything is
//! killed, and all memory and all address spaces must have come back. A run is the same every time;
//! `SPANDREL_FUZZ_SEED=N` starts elsewhere and `SPANDREL_FUZZ_RUNS=N` goes on for longer.

use super::{ENTRY, Run, User};
use crate::cap::Object;
use crate::object::Ref;
use crate::process::Process;
use crate::program::STACK_TOP;
use crate::sched;
use crate::thread::{Standing, Thread};
use abi::ipc::{FOREVER, Tag, WORDS};
use abi::testing::Operation;
use abi::{Call, Grant, Handle, SpawnRequest, initial};
use arch_contract::addr::VirtAddr;
use arch_contract::irq::{Interrupt, IrqsOff};
use arch_contract::pte::Paging;
use arch_contract::trap::{Access, Fault, FaultCause};
use arch_contract::user::Window;
use arch_model::profile::Profile;
use arch_model::{Config, Model, VECTOR_WORDS};
use std::collections::HashMap;
use std::vec::Vec;
use zerocopy::IntoBytes;

/// Calls and interrupts of one run.
const STEPS: u32 = 3_000;
/// Runs by default: about a second, unoptimized.
const RUNS: u64 = 6;

/// Operations of `test` after which the kernel is as good as before.
const HARMLESS: [Operation; 5] =
    [Operation::Count, Operation::Mark, Operation::Context, Operation::Loaded, Operation::Idle];

/// xorshift64*: enough to be different everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// A run, and what the test knows of it.
struct Fuzz {
    run: Run,
    random: Random,
    init: User,
    /// Every process that has not ended, but init.
    living: Vec<Ref<Process>>,
    /// What each thread last left in its vector registers, by where the thread is, which it keeps
    /// from being another's.
    vectors: HashMap<*const Thread, (Ref<Thread>, [u64; VECTOR_WORDS])>,
    /// What init gives its children, and where it writes its requests.
    grants: Vec<Grant>,
    page: u64,
    /// Where something was mapped.
    mapped: Vec<u64>,
}

impl Fuzz {
    fn handle(&mut self) -> u64 {
        match self.random.below(20) {
            0 => self.random.of(&[0, 255, 256, u32::MAX as u64, 1 << 32, u64::MAX]),
            1..5 => initial::PROCESS.0.into(),
            5..8 => 1 + self.random.below(12),
            _ => self.handle_of(|object| matches!(object, Object::Process(_))),
        }
    }

    /// A slot of whoever runs that names something of a kind, so that calls on others are not mostly
    /// errors.
    fn handle_of(&mut self, is_kind: fn(&Object) -> bool) -> u64 {
        let (current, cpu) = (self.current(), self.run.cpu());
        let table = current.table.lock(cpu);
        let found: Vec<u64> = (0..40)
            .filter(|&number| match table.get(Handle(number), abi::Rights::empty()) {
                Ok(slot) => is_kind(&slot.object),
                Err(_) => false,
            })
            .map(u64::from)
            .collect();
        drop(table);
        if found.is_empty() { 1 } else { self.random.of(&found) }
    }

    fn address(&mut self) -> u64 {
        let stack = STACK_TOP.0 - 4096;
        let at = match self.random.below(10) {
            0 => self.random.of(&[0, 8, 4096, ENTRY, Model::USER_END.0 - 8, Model::USER_END.0]),
            1 => self.random.of(&[1 << 63, u64::MAX, u64::MAX - 4095, 0xffff_8000_0000_0000]),
            2..6 if !self.mapped.is_empty() => {
                let at = self.random.below(self.mapped.len() as u64) as usize;
                self.mapped[at].wrapping_add(4096 * self.random.below(8))
            }
            _ => stack - 4096 * self.random.below(30),
        };
        match self.random.below(8) {
            0 => at.wrapping_add(self.random.below(4096)),
            1 => at.wrapping_sub(self.random.below(300)),
            _ => at,
        }
    }

    fn length(&mut self) -> u64 {
        match self.random.below(10) {
            0 => self.random.of(&[0, 1, 4095, 1 << 30, 1 << 47, !4095, u64::MAX, 1 << 63]),
            1..3 => self.random.below(300),
            3..5 => 4096 * (1 + self.random.below(150)),
            _ => 4096 * (1 + self.random.below(20)),
        }
    }

    fn deadline(&mut self) -> u64 {
        let soon = self.run.cpu().now().0 + self.random.below(1 << 22);
        self.random.of(&[FOREVER, FOREVER, soon, soon, 0])
    }

    fn tag(&mut self) -> u64 {
        let tag = Tag::new(self.random.next() >> 20, self.random.below(7) as usize);
        tag.with_capabilities(self.random.of(&[0, 0, 0, 1, 2, 4])).0
    }

    /// What a call of this kind might be given.
    fn args(&mut self, call: Call) -> [u64; 6] {
        let mut args = [0; 6].map(|_: u64| match self.random.below(3) {
            0 => self.random.next(),
            1 => self.random.below(300),
            _ => self.address(),
        });
        if call == Call::Test {
            args[0] = self.random.of(&HARMLESS) as u64;
            return args;
        }
        if self.random.one_in(12) {
            return args;
        }
        args[0] = self.handle();
        let kind = |handle: Handle| u64::from(handle.0);
        match call {
            Call::ConsoleWrite | Call::ConsoleRead => {
                (args[0], args[1], args[2]) = (kind(initial::CONSOLE), self.address(), self.length());
            }
            Call::ClockRead => args[0] = kind(initial::TIMER),
            Call::SleepUntil => {
                let now = self.run.cpu().now().0;
                let soon = now + self.random.below(1 << 22);
                (args[0], args[1]) =
                    (kind(initial::TIMER), self.random.of(&[soon, soon, soon, soon, now, 0, u64::MAX]));
            }
            Call::MemoryMap => {
                args[1] = if self.random.one_in(2) { 0 } else { self.address() & !4095 };
                (args[2], args[3]) = (self.length(), self.random.below(5));
            }
            Call::MemoryUnmap => (args[1], args[2]) = (self.address() & !4095, self.length()),
            Call::ArchiveEntry => {
                args = [kind(initial::ARCHIVE), self.random.below(3), self.address(), self.length(), 0, 0]
            }
            Call::ArchiveRead => {
                let (index, offset) = (self.random.below(3), self.length());
                args = [kind(initial::ARCHIVE), index, offset, self.address(), self.length(), 0];
            }
            Call::Spawn => (args[0], args[1]) = (kind(initial::ARCHIVE), self.request()),
            Call::ProcessPriority => args[1] = self.random.of(&[100, 100, 100, 99, 50, 0, 101, 256]),
            Call::ThreadStart => {
                let stack = STACK_TOP.0 - 4096 * self.random.below(8);
                (args[1], args[2]) = (self.random.of(&[ENTRY, ENTRY, ENTRY, 0, 1 << 60]), stack);
            }
            Call::ThreadWait | Call::ThreadAffinity | Call::ThreadPriority | Call::ThreadBudget => {
                args[0] = match self.random.below(4) {
                    0 => kind(Handle::NONE),
                    _ => self.handle_of(|object| matches!(object, Object::Thread(_))),
                };
                (args[1], args[2]) = match call {
                    Call::ThreadAffinity => (self.random.of(&[0, 1, 3, u64::MAX, 2]), 0),
                    Call::ThreadPriority => (self.random.of(&[100, 100, 99, 50, 0, 101, 256]), 0),
                    _ => self.random.of(&[(0, 0), (abi::MIN_BUDGET, 1 << 20), (1 << 20, 1 << 20), (9, 10)]),
                };
            }
            Call::EndpointCall | Call::ReplyReceive | Call::EndpointSend | Call::EndpointReceive => {
                args[0] = self.handle_of(|object| matches!(object, Object::Endpoint(_)));
                (args[1], args[2]) = (self.deadline(), self.tag());
            }
            Call::Reply => {
                args[0] = match self.random.below(2) {
                    0 => kind(Handle::NONE),
                    _ => self.handle_of(|object| matches!(object, Object::Reply(_))),
                };
                args[2] = self.tag();
            }
            Call::NotificationSignal | Call::NotificationWait | Call::NotificationBind => {
                args[0] = self.handle_of(|object| matches!(object, Object::Notification(_)));
                if call == Call::NotificationWait {
                    args[1] = self.deadline();
                }
            }
            Call::HandleCopy => (args[1], args[2]) = (self.random.below(64), self.random.of(&[0, 0, 0, 7])),
            Call::HandleMove => args[1] = if self.random.one_in(2) { 0 } else { self.handle() },
            _ => {}
        }
        args
    }

    /// Puts a request to spawn onto the stack of whoever runs, if there still is one.
    fn request(&mut self) -> u64 {
        let at = STACK_TOP.0 - 8192;
        let mut grants = [Grant { handle: Handle::NONE, rights: 0x3f }; abi::MAX_GRANTS];
        let count = 3 + self.random.below(4) as usize;
        let usual = [initial::CONSOLE, initial::TIMER, initial::ARCHIVE];
        for (index, grant) in grants[..count].iter_mut().enumerate() {
            grant.handle = match usual.get(index) {
                Some(handle) if !self.random.one_in(20) => *handle,
                _ if self.random.one_in(2) => initial::PROCESS,
                _ => Handle(self.handle() as u32),
            };
        }
        let sane = |fuzz: &mut Self, value: u64| match fuzz.random.below(40) {
            0 => fuzz.address(),
            1 => fuzz.length(),
            _ => value,
        };
        let request = SpawnRequest {
            name: sane(self, at + 256),
            name_len: sane(self, 5),
            args: sane(self, at + 512),
            args_len: sane(self, 6),
            grants: sane(self, at + 768),
            grants_len: sane(self, count as u64),
            memory: self.random.of(&[u64::MAX, u64::MAX, 1 << 20, 400 << 10, 100 << 10, 1000, 0]),
            priority: self.random.of(&[100, 100, 99, 50, 0, 101]),
            cpu_budget: self.random.of(&[0, 0, 0, 1, 10_000, 1_000_000]),
            cpu_period: self.random.of(&[0, 0, 0, 1, 1_000_000, 10_000_000]),
        };
        self.write(at, request.as_bytes());
        self.write(at + 256, self.random_name());
        self.write(at + 512, b"child\0");
        self.write(at + 768, grants.as_bytes());
        at
    }

    fn random_name(&self) -> &'static [u8] {
        if self.random.0.is_multiple_of(16) { b"chile" } else { b"child" }
    }

    /// Writes into the memory of whoever runs, unless it is not there.
    fn write(&self, at: u64, bytes: &[u8]) {
        // SAFETY: as in `Run::poke`.
        let irq = unsafe { IrqsOff::assume() };
        // SAFETY: as in `Run::poke`.
        let window = unsafe { Window::<Model>::open(self.run.arch, &irq) };
        // Whoever runs may have unmapped it: then the kernel will find garbage, or nothing.
        let _ = window.write(VirtAddr(at), bytes);
    }

    /// Whoever runs does something.
    fn step(&mut self) {
        if self.random.one_in(30) {
            // Tasks have one step before their equals are next.
            self.run.cpu().task_slice_left.set(0);
        }
        if self.random.one_in(60) {
            self.run.cpu().kernel.memory.refusal.refuse(1 + self.random.below(30));
        }
        if self.run.user() == self.init {
            return self.step_of_init();
        }
        match self.random.below(100) {
            0..8 => {
                self.run.machine.advance(self.random.of(&[0, 1000, sched::SLICE, 3 * sched::SLICE]));
                self.run.interrupt(self.random.of(&[Interrupt::Timer, Interrupt::Spurious, Interrupt::Ipi]));
            }
            8..12 => {
                self.run.machine.type_in(b"typed text"[..1 + self.random.below(10) as usize].as_ref());
                self.run.interrupt(Interrupt::Console);
            }
            12..18 => self.use_vectors(),
            18 if self.random.one_in(3) => {
                let address = Some(VirtAddr(self.address()));
                let access = self.random.of(&[Access::Read, Access::Write, Access::Execute]);
                let cause = self.random.of(&[
                    FaultCause::Page(access),
                    FaultCause::BadAddress(access),
                    FaultCause::Breakpoint,
                ]);
                self.run.fault(Fault { cause, pc: VirtAddr(ENTRY), address });
            }
            19 => self.run.raw_call(self.random.next(), &[]),
            _ => self.some_call(),
        }
    }

    /// Nothing else is ready, or init's sleep is over: it keeps things going and sleeps again.
    fn step_of_init(&mut self) {
        self.run.machine.type_in(b"more");
        if self.living.len() > 2 && self.random.one_in(8) {
            // Who waits for what will never be is ended some day.
            let victim = self.random.below(self.living.len() as u64) as usize;
            sched::kill(self.run.cpu(), &self.living[victim].clone());
        }
        if self.living.len() < 4 {
            let grants = self.grants.clone();
            self.run.prepare_spawn(self.page, u64::MAX, &grants);
            self.run.call(Call::Spawn, &[initial::ARCHIVE.0.into(), self.page]);
        } else {
            let due = self.run.cpu().now().0 + self.random.below(1 << 20);
            self.run.call(Call::SleepUntil, &[initial::TIMER.0.into(), due]);
        }
    }

    fn some_call(&mut self) {
        let call = self.random.of(Call::ALL);
        // What ends processes must be rarer than what makes them.
        let call = match call {
            Call::Exit | Call::ProcessKill if !self.random.one_in(4) => Call::Spawn,
            Call::ProcessWait | Call::PowerOff | Call::Null if !self.random.one_in(3) => Call::MemoryMap,
            call => call,
        };
        let args = self.args(call);
        let caller = self.run.user();
        let words = [0; WORDS].map(|_: u64| match self.random.below(3) {
            0 => self.random.next(),
            _ => self.handle() | 0x3f << 32,
        });
        // SAFETY: the kernel has answered with it, and nothing runs.
        unsafe { self.run.frame().as_mut() }.words = words;
        self.run.call(call, &args);
        if call == Call::MemoryMap
            && self.run.user() == caller
            && let Ok(at) = self.run.returned()
        {
            self.mapped.truncate(20);
            self.mapped.insert(0, at);
        }
    }

    fn use_vectors(&mut self) {
        let user = self.run.user();
        if self.run.arch.vectors().is_none() {
            self.run.vector_unit_off();
        }
        // It may have been killed for want of memory, or taken off the CPU.
        if self.run.user() == user && self.run.arch.vectors().is_some() {
            let words = [0; VECTOR_WORDS].map(|_: u64| self.random.next());
            self.run.arch.set_vectors(words);
            let thread = self.current_thread();
            self.vectors.insert(&raw const *thread, (thread, words));
        }
    }

    fn current_thread(&self) -> Ref<Thread> {
        self.run.cpu().current().expect("user mode was entered")
    }

    fn current(&self) -> Ref<Process> {
        self.current_thread().process().clone()
    }

    /// What must hold whenever user mode is entered.
    fn check(&mut self) {
        let current = self.current();
        let thread: *const Thread = &raw const *self.current_thread();
        self.vectors.retain(|_, (thread, _)| !matches!(thread.standing(), Standing::Ended));
        let left = self.vectors.get(&thread).map(|(_, words)| *words);
        match self.run.arch.vectors() {
            None => {
                assert!(!self.run.registers().vectors_on, "FPU-1: on in the frame, off in the CPU");
                assert_eq!(left, None, "FPU-1: lost");
            }
            Some(found) => {
                assert!(self.run.registers().vectors_on, "FPU-2: on in the CPU, off in the frame");
                assert_eq!(found, left.unwrap_or_default(), "FPU-1, FPU-2: of process {}", current.number);
            }
        }
        let cpu = self.run.cpu();
        assert!(cpu.kernel.root.used() <= cpu.kernel.root.limit());
        let mut found = Vec::new();
        for process in self.living.iter().chain([&current]) {
            let table = process.table.lock(cpu);
            for number in 1..table.end() {
                let slot = table.get(Handle(number), abi::Rights::empty());
                if let Ok(Object::Process(other)) = slot.map(|slot| &slot.object) {
                    found.push(other.clone());
                }
            }
        }
        let living = &mut self.living;
        for process in found.into_iter().chain([current]) {
            if process.number != 1 && !living.iter().any(|other| Ref::ptr_eq(other, &process)) {
                living.push(process);
            }
        }
        living.retain(|process| process.report(cpu).is_none());
    }

    /// Kills everything, lets the teardowns finish, and closes what init has.
    fn end(&mut self) {
        self.run.cpu().kernel.memory.refusal.refuse(0);
        for _ in 0..1000 {
            if self.run.user() == self.init {
                break;
            }
            self.run.call(Call::Exit, &[0]);
        }
        assert_eq!(self.run.user(), self.init, "init never comes back");
        self.check();
        self.vectors.clear();
        for process in core::mem::take(&mut self.living) {
            sched::kill(self.run.cpu(), &process);
        }
        for _ in 0..2 {
            let due = self.run.cpu().now().0 + 1_000;
            self.run.call(Call::SleepUntil, &[initial::TIMER.0.into(), due]);
            assert_eq!(self.run.user(), self.init, "the dead run");
        }
        let end = self.current().table.lock(self.run.cpu()).end();
        for handle in initial::MACHINE.0 + 1..end {
            self.run.call(Call::HandleClose, &[handle.into()]);
        }
    }
}

/// One run.
fn fuzz(seed: u64) {
    let profile = Profile::ALL[seed as usize % Profile::ALL.len()];
    let hardware_ids = if seed.is_multiple_of(3) { 6 } else { 64 };
    let config = Config { profile, ram: (2 + seed % 3) << 20, hardware_ids, ..Config::default() };
    let mut run = Run::boot_with(config, "log=quiet");
    let page = run.page();
    let init = run.user();
    let mut grants = Vec::new();
    for handle in [initial::CONSOLE, initial::TIMER, initial::ARCHIVE] {
        grants.push(Grant { handle, rights: 0x3f });
    }
    // The second of init's children, and all later ones, may manage its first.
    grants.push(Grant { handle: Handle(initial::MACHINE.0 + 1), rights: 0x3f });
    let mut fuzz = Fuzz {
        run,
        random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
        init,
        living: Vec::new(),
        vectors: HashMap::new(),
        grants,
        page,
        mapped: Vec::new(),
    };
    // init's table is as large as it gets from here on, since each step fills one slot at most; and
    // so are its lists after a short round.
    for _ in 0..STEPS {
        fuzz.run.result(Call::HandleCopy, &[initial::CONSOLE.0.into(), 1]).expect("a copy");
    }
    fuzz.end();
    let mut used = None;
    for steps in [10, STEPS] {
        fuzz.run.spawn_with(page, u64::MAX, &fuzz.grants[..3]).expect("room for one");
        for _ in 0..steps {
            fuzz.step();
            fuzz.check();
        }
        fuzz.end();
        let now = fuzz.run.cpu().kernel.root.used();
        assert_eq!(*used.get_or_insert(now), now, "memory leaks");
        assert_eq!(fuzz.run.machine.live_contexts(), 1, "an address space leaks");
    }
}

#[test]
fn calls_by_chance() {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => default,
    };
    let first = number("SPANDREL_FUZZ_SEED", 1);
    for seed in first..first + number("SPANDREL_FUZZ_RUNS", RUNS) {
        let outcome = std::panic::catch_unwind(|| fuzz(seed));
        if let Err(cause) = outcome {
            std::eprintln!("with SPANDREL_FUZZ_SEED={seed}");
            std::panic::resume_unwind(cause);
        }
    }
}
