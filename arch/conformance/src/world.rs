//! What a case does to the world: calls with types, memory of the arena, other processes, and what
//! kernels built for testing tell.

use crate::outcome::{Not, OrFail, Outcome, STATUS_FAILED, ensure};
use crate::table::{Case, find};
use crate::{ARENA, Announcement, Order, Os, Word};
use abi::exception::{FaultKind, NO_ADDRESS};
use abi::testing::{Counter, FaultWord, LOADED_LAZILY, LOADED_SWITCHING, Operation, Point};
use abi::{
    Call, CpusThat, Ending, Error, ExitReport, Grant, Handle, ProcessInfo, Protection, Rights, SpawnRequest,
    initial,
};
use alloc::format;
use alloc::string::String;
use core::fmt;

/// A process of the suite, and the set of CPUs that were on when its case began.
pub struct World<O> {
    pub os: O,
    cpus: u64,
}

/// The program's name in the archive.
const PROGRAM: &str = "conformance";
/// Where requests to the kernel are written: the last pages of the arena.
const SCRATCH: Word = Word::new(ARENA + (1 << 30));

/// What a CPU's MMU holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loaded {
    Kernel,
    Active(u64),
    Lazy(u64),
    Switching,
}

/// How a process ended by a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Faulted {
    pub kind: Option<FaultKind>,
    pub pc: u64,
    /// `None` if the machine does not tell.
    pub address: Option<u64>,
}

/// How a CPU stands at a point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// It serves the requests of other CPUs meanwhile.
    Serving = 0,
    /// It serves nobody, like a CPU that is busy with interrupts off.
    Deaf = 1,
}

/// What lies between the store and the load of a litmus test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fence {
    /// The positive control.
    None = 0,
    Full = 1,
}

/// What a kernel task uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Uses {
    /// No mm.
    Nothing = 0,
    /// The caller's mm.
    MyMm = 1,
}

impl<O: Os> Clone for World<O> {
    fn clone(&self) -> Self {
        Self { os: self.os.clone(), cpus: self.cpus }
    }
}

impl<O: Os> World<O> {
    pub(crate) fn new(os: O) -> Self {
        let mut world = Self { os, cpus: 0 };
        world.cpus = world.cpus_on().unwrap_or(1);
        world
    }

    /// A call without addresses, or with addresses of the arena.
    pub(crate) fn call<const N: usize>(&self, call: Call, args: [u64; N]) -> Result<u64, Error> {
        let mut words = [0; 6];
        words[..N].copy_from_slice(&args);
        // SAFETY: the callers in this file pass numbers, and addresses of the arena.
        let (status, value) = unsafe { self.os.call(call as u64, words) };
        match status {
            0 => Ok(value),
            status => Err(Error::from_number(status).unwrap_or(Error::NotSupported)),
        }
    }

    // # Memory

    /// Maps `pages` zeroed pages for reading and writing at `at`, a page boundary.
    pub fn map(&self, at: Word, pages: u64) -> Result<(), Not> {
        self.try_map(at, pages).or_fail("memory_map")
    }

    /// As [`map`](Self::map), where it may be refused.
    pub fn try_map(&self, at: Word, pages: u64) -> Result<(), Error> {
        self.map_as(at.address(), pages * abi::PAGE_BYTES, Protection::ReadWrite as u64).map(|_| ())
    }

    /// Maps memory anywhere; gives where it is.
    pub fn map_as(&self, at: u64, bytes: u64, protection: u64) -> Result<u64, Error> {
        self.call(Call::MemoryMap, [initial::PROCESS.0.into(), at, bytes, protection])
    }

    /// Gives `pages` pages at `at` back.
    pub fn unmap(&self, at: Word, pages: u64) -> Result<(), Not> {
        let args = [initial::PROCESS.0.into(), at.address(), pages * abi::PAGE_BYTES];
        self.call(Call::MemoryUnmap, args).map(|_| ()).or_fail("memory_unmap")
    }

    /// The `index`-th word of a page of flags, which is mapped when the first is asked for by
    /// [`flags`](Self::flags).
    pub fn flag(&self, index: u64) -> Word {
        Word::new(ARENA + 8 * index)
    }

    /// Maps the flags. Once per process.
    pub fn flags(&self) -> Result<(), Not> {
        self.map(Word::new(ARENA), 1)
    }

    /// Acquires what the [`store`](Self::store) that it finds released.
    pub fn load(&self, at: Word) -> u64 {
        self.os.load(at, Order::Synchronizes)
    }

    pub fn store(&self, at: Word, value: u64) {
        self.os.store(at, value, Order::Synchronizes);
    }

    /// Orders nothing.
    pub fn load_plain(&self, at: Word) -> u64 {
        self.os.load(at, Order::Plain)
    }

    /// Orders nothing.
    pub fn store_plain(&self, at: Word, value: u64) {
        self.os.store(at, value, Order::Plain);
    }

    /// Waits, without giving the CPU up, until `at` holds `value`.
    pub fn wait_for(&self, at: Word, value: u64) {
        while self.load(at) != value {
            self.os.pause();
        }
    }

    /// As long as a wake-up may be late before it counts as lost, in nanoseconds. A simulated CPU that waits makes
    /// the time pass, also while the host lets the others wait.
    pub const PATIENCE: u64 = if O::SIMULATED { 2_000_000_000 } else { 5_000_000_000 };

    /// Waits until flag `flag` is not 0, and fails if that takes too long.
    pub fn in_time(&self, flag: u64, what: &str) -> Outcome {
        let last = self.now()? + Self::PATIENCE;
        while self.load(self.flag(flag)) == 0 {
            ensure!(self.now()? < last, "{what}");
            self.os.pause();
        }
        Ok(())
    }

    /// Waits until `condition` holds; gives the CPU up in between.
    pub fn wait_until(&self, mut condition: impl FnMut(&Self) -> bool) {
        while !condition(self) {
            self.os.pause();
            self.yield_now();
        }
    }

    // # Threads

    /// Starts a thread of this process on the CPUs of a set.
    pub fn spawn(&self, cpus: u64, body: impl FnOnce(Self) + Send + 'static) -> Result<O::Thread, Not> {
        let on = self.cpus;
        let thread = self.os.spawn(cpus, move |os| body(Self { os, cpus: on })).or_fail("thread_start")?;
        // It begins where its maker may run, and would go to its place from there. The maker's CPU
        // may have other things to do, or be made to stand still.
        self.let_run(&thread, cpus)?;
        Ok(thread)
    }

    /// As [`spawn`](Self::spawn); nobody waits for it, and it ends with its process.
    pub fn spawn_unwatched(&self, cpus: u64, body: impl FnOnce(Self) + Send + 'static) -> Result<(), Not> {
        // Whoever lets go of a thread on a machine waits for it.
        core::mem::forget(self.spawn(cpus, body)?);
        Ok(())
    }

    /// Waits until a thread has ended, and keeps it for [`join`](Self::join), which may unmap its stack.
    pub fn wait_end(&self, thread: &O::Thread) -> Result<(), Not> {
        self.call(Call::ThreadWait, [O::handle(thread).0.into()]).map(|_| ()).or_fail("thread_wait")
    }

    pub fn join(&self, thread: O::Thread) -> Result<(), Not> {
        self.os.join(thread).or_fail("thread_wait")
    }

    /// Says how urgent the calling thread is: at most as it was.
    pub fn priority(&self, priority: u64) -> Result<(), Not> {
        self.call(Call::ThreadPriority, [Handle::NONE.0.into(), priority])
            .map(|_| ())
            .or_fail("thread_priority")
    }

    /// Moves the calling thread to one CPU; it is there when this returns.
    pub fn move_to(&self, cpu: u32) -> Result<(), Not> {
        self.affinity(1 << cpu).map(|_| ()).or_fail("thread_affinity")
    }

    /// Says where the calling thread may run.
    pub fn affinity(&self, set: u64) -> Result<u64, Error> {
        self.call(Call::ThreadAffinity, [Handle::NONE.0.into(), set])
    }

    /// Says where a thread that this one started may run.
    pub fn let_run(&self, thread: &O::Thread, set: u64) -> Result<(), Not> {
        let args = [O::handle(thread).0.into(), set];
        self.call(Call::ThreadAffinity, args).map(|_| ()).or_fail("thread_affinity")
    }

    pub fn yield_now(&self) {
        // It cannot fail.
        let _ = self.call(Call::Yield, []);
    }

    /// Nanoseconds since boot.
    pub fn now(&self) -> Result<u64, Not> {
        self.call(Call::ClockRead, [initial::TIMER.0.into()]).or_fail("clock_read")
    }

    /// Sleeps for at least so long.
    pub fn sleep(&self, nanoseconds: u64) -> Result<(), Not> {
        self.sleep_until(self.now()?.saturating_add(nanoseconds))
    }

    /// Sleeps until the clock says so.
    pub fn sleep_until(&self, at: u64) -> Result<(), Not> {
        self.call(Call::SleepUntil, [initial::TIMER.0.into(), at]).map(|_| ()).or_fail("sleep_until")
    }

    /// Sleeps until the process ends.
    pub fn sleep_for_ever(&self) {
        let _ = self.call(Call::SleepUntil, [initial::TIMER.0.into(), u64::MAX]);
    }

    // # CPUs

    /// The CPUs that were on when the case began.
    pub fn cpus(&self) -> u64 {
        self.cpus
    }

    pub fn cpus_on(&self) -> Result<u64, Error> {
        self.call(Call::Cpus, [initial::MACHINE.0.into(), CpusThat::AreOn as u64])
    }

    /// The numbers of the CPUs but 0.
    pub fn others(&self) -> impl Iterator<Item = u32> + use<O> {
        let cpus = self.cpus;
        (1..64).filter(move |cpu| cpus & 1 << cpu != 0)
    }

    /// Two CPUs that are not 0.
    pub fn two_others(&self) -> Result<[u32; 2], Not> {
        let mut others = self.others();
        match [others.next(), others.next()] {
            [Some(first), Some(second)] => Ok([first, second]),
            _ => Err(Not::Skipped("too few CPUs")),
        }
    }

    /// The same; the first does not have this process loaded. A thread may have begun on a CPU,
    /// which then has it still: no switch lies before the next one there.
    pub fn two_others_without_us(&self) -> Result<[u32; 2], Not> {
        let [first, second] = self.two_others()?;
        let mine = self.context()?;
        Ok(match self.loaded(first)? {
            Loaded::Lazy(id) | Loaded::Active(id) if id == mine => [second, first],
            _ => [first, second],
        })
    }

    /// Turns a CPU off (0) or on (1).
    pub fn cpu_power(&self, cpu: u32, on: u64) -> Result<u64, Error> {
        self.call(Call::CpuPower, [initial::MACHINE.0.into(), cpu.into(), on])
    }

    /// Waits until every process that has ended is taken apart.
    pub fn quiesce(&self) -> Result<(), Not> {
        self.call(Call::Quiesce, [initial::MACHINE.0.into()]).map(|_| ()).or_fail("quiesce")
    }

    // # membarrier and restartable sequences

    pub fn membarrier(&self, command: u64, flags: u64, cpu: u64) -> Result<u64, Error> {
        use abi::membarrier::Command::{self, *};
        let call = || self.call(Call::Membarrier, [command, flags, cpu]);
        let known = Command::from_number(command);
        match known {
            Some(Global | GlobalExpedited | PrivateExpedited | PrivateExpeditedRseq) => {}
            Some(PrivateExpeditedSyncCore) => self.os.announce(Announcement::AsksForCoreSync),
            // It promises no order.
            _ => return call(),
        }
        self.os.announce(Announcement::AsksForBarrier);
        let answer = call();
        if answer.is_ok() {
            self.os.announce(Announcement::WasToldOfBarrier);
        }
        if known == Some(PrivateExpeditedSyncCore) {
            self.os.announce(match answer {
                Ok(_) => Announcement::WasToldOfCoreSync,
                Err(_) => Announcement::WasRefusedCoreSync,
            });
        }
        answer
    }

    /// A command that has to work.
    pub fn barrier(&self, command: abi::membarrier::Command) -> Result<(), Not> {
        self.membarrier(command as u64, 0, 0).map(|_| ()).or_fail("membarrier")
    }

    /// Registers an area for the calling thread; its first four bytes say on which CPU it runs.
    pub fn register_area(&self, at: Word) -> Result<(), Not> {
        self.call(Call::RseqRegister, [at.address()]).map(|_| ()).or_fail("rseq_register")
    }

    /// The writer's part of code modification.
    pub fn publish_code(&self, at: Word, bytes: u64) -> Result<(), Not> {
        self.call(Call::CodePublish, [at.address(), bytes]).map(|_| ()).or_fail("code_publish")
    }

    /// The CPU that the area of the calling thread names.
    pub fn cpu_of(&self, area: Word) -> u32 {
        self.load(area) as u32
    }

    // # What kernels built for testing offer

    fn test<const N: usize>(&self, operation: Operation, args: [u64; N]) -> Result<u64, Not> {
        let mut words = [operation as u64, 0, 0, 0, 0, 0];
        words[1..=N].copy_from_slice(&args);
        match self.call(Call::Test, words) {
            Ok(value) => Ok(value),
            Err(Error::BadCall) => Err(Not::Skipped("the kernel is not built for testing")),
            Err(error) => Err(Not::Failed(format!("test operation {operation:?}: {error:?}"))),
        }
    }

    pub fn count(&self, cpu: u32, counter: Counter) -> Result<u64, Not> {
        self.test(Operation::Count, [cpu.into(), counter as u64])
    }

    /// Has `cpu` stop the next time it passes `point`.
    pub fn arm(&self, point: Point, cpu: u32, how: Stop) -> Result<(), Not> {
        self.test(Operation::Arm, [point as u64, cpu.into(), how as u64]).map(|_| ())
    }

    /// Waits until `cpu` stands at the point it was armed for.
    pub fn wait_stopped(&self, cpu: u32) -> Result<(), Not> {
        while self.test(Operation::Stopped, [cpu.into()])? == 0 {
            self.os.pause();
        }
        Ok(())
    }

    /// Interrupts `cpu` as nothing can forbid.
    pub fn non_maskable(&self, cpu: u32) -> Result<(), Not> {
        match self.call(Call::Test, [Operation::NonMaskable as u64, cpu.into()]) {
            Err(Error::NotSupported) => Err(Not::Skipped("no non-maskable interrupt is survived here")),
            result => result.map(|_| ()).or_fail("a non-maskable interrupt"),
        }
    }

    pub fn release(&self, cpu: u32) -> Result<(), Not> {
        self.test(Operation::Release, [cpu.into()]).map(|_| ())
    }

    /// Queues a kernel task.
    pub fn task(&self, cpu: u32, uses: Uses, slices: u64) -> Result<(), Not> {
        self.test(Operation::Task, [cpu.into(), uses as u64, slices]).map(|_| ())
    }

    /// Keeps the caller's CPU in the kernel, deaf, until it is released.
    pub fn stick(&self) -> Result<(), Not> {
        self.test(Operation::Stick, []).map(|_| ())
    }

    /// 64 rounds of store buffering in the kernel, as side 0 or 1: the rounds in which the other's
    /// store was not seen.
    pub fn store_buffering(&self, page: Word, side: u64, fence: Fence) -> Result<u64, Not> {
        self.test(Operation::StoreBuffering, [page.address(), side, fence as u64])
    }

    pub fn limit_ids(&self, count: u64) -> Result<(), Not> {
        self.test(Operation::LimitIds, [count]).map(|_| ())
    }

    /// The id of this address space.
    pub fn context(&self) -> Result<u64, Not> {
        self.test(Operation::Context, [])
    }

    /// Whether a flush reaches other CPUs without their help.
    pub fn broadcasts(&self) -> Result<bool, Not> {
        Ok(self.test(Operation::Broadcasts, [])? == 1)
    }

    /// What the port's switch does, of this address space to itself, if all that is cached of it is stale: the
    /// bits of [`Operation::SwitchAgain`].
    pub fn switch_again(&self) -> Result<u64, Not> {
        self.test(Operation::SwitchAgain, [])
    }

    /// The last steps of `cpu`'s memory contexts, in hexadecimal digits.
    pub fn steps(&self, cpu: u32) -> Result<u64, Not> {
        self.test(Operation::Steps, [cpu.into()])
    }

    pub fn idles(&self, cpu: u32) -> Result<bool, Not> {
        Ok(self.test(Operation::Idle, [cpu.into()])? == 1)
    }

    pub fn loaded(&self, cpu: u32) -> Result<Loaded, Not> {
        Ok(match self.test(Operation::Loaded, [cpu.into()])? {
            0 => Loaded::Kernel,
            word if word & LOADED_SWITCHING != 0 => Loaded::Switching,
            word if word & LOADED_LAZILY != 0 => Loaded::Lazy(word & !LOADED_LAZILY),
            id => Loaded::Active(id),
        })
    }

    /// Waits until `cpu` holds what it should.
    pub fn wait_loaded(&self, cpu: u32, wanted: Loaded) -> Result<(), Not> {
        while self.loaded(cpu)? != wanted {
            self.os.pause();
            self.yield_now();
        }
        Ok(())
    }

    // # Handles

    pub fn copy(&self, handle: Handle, rights: Rights) -> Result<Handle, Error> {
        let copy = self.call(Call::HandleCopy, [handle.0.into(), rights.bits().into(), 0])?;
        Ok(Handle(copy as u32))
    }

    pub fn move_to_process(&self, handle: Handle, process: Handle) -> Result<Handle, Error> {
        let moved = self.call(Call::HandleMove, [handle.0.into(), process.0.into()])?;
        Ok(Handle(moved as u32))
    }

    pub fn close(&self, handle: Handle) -> Result<(), Error> {
        self.call(Call::HandleClose, [handle.0.into()]).map(|_| ())
    }

    pub fn revoke(&self, root: Handle) -> Result<(), Error> {
        self.call(Call::HandleRevoke, [root.0.into()]).map(|_| ())
    }

    /// A memory object of zeroes.
    pub fn memory(&self, pages: u64) -> Result<Handle, Error> {
        let memory = self.call(Call::MemoryCreate, [pages * abi::PAGE_BYTES])?;
        Ok(Handle(memory as u32))
    }

    /// Maps the first pages of a memory object at `at`, a page boundary.
    pub fn attach(
        &self,
        memory: Handle,
        at: Word,
        pages: u64,
        protection: Protection,
    ) -> Result<Handle, Error> {
        let length = pages * abi::PAGE_BYTES;
        let args = [initial::PROCESS.0.into(), memory.0.into(), at.address(), 0, length, protection as u64];
        Ok(Handle(self.call(Call::MemoryAttach, args)? as u32))
    }

    /// Copies inside the calling process.
    pub fn copy_memory(&self, from: Word, to: Word, bytes: u64) -> Result<u64, Error> {
        let own = initial::PROCESS.0.into();
        self.call(Call::MemoryCopy, [own, from.address(), own, to.address(), bytes])
    }

    /// The clock, by any handle.
    pub fn clock(&self, timer: Handle) -> Result<u64, Error> {
        self.call(Call::ClockRead, [timer.0.into()])
    }

    // # Other processes

    pub fn process_priority(&self, process: Handle, priority: u64) -> Result<(), Error> {
        self.call(Call::ProcessPriority, [process.0.into(), priority]).map(|_| ())
    }

    /// Whether a process has ended. Needs the [`flags`](Self::flags).
    pub fn has_ended(&self, process: Handle) -> Result<bool, Not> {
        let at = self.flag(256);
        self.call(Call::ProcessInfo, [process.0.into(), at.address()]).or_fail("process_info")?;
        Ok(self.load(at.plus(core::mem::offset_of!(ProcessInfo, ended) as u64)) != 0)
    }

    /// The priority of this process. Needs the [`flags`](Self::flags).
    pub fn own_priority(&self) -> Result<u64, Error> {
        let at = self.flag(256);
        self.call(Call::ProcessInfo, [initial::PROCESS.0.into(), at.address()])?;
        Ok(self.load(at.plus(core::mem::offset_of!(ProcessInfo, priority) as u64)))
    }

    /// Bytes charged to this process. Needs the [`flags`](Self::flags).
    pub fn own_memory(&self) -> Result<u64, Error> {
        let at = self.flag(256);
        self.call(Call::ProcessInfo, [initial::PROCESS.0.into(), at.address()])?;
        Ok(self.load(at.plus(core::mem::offset_of!(ProcessInfo, memory) as u64)))
    }

    /// Starts a child that plays `role` of the case `case`. It is granted what this process has.
    pub fn child(&self, case: &str, role: u64) -> Result<Handle, Not> {
        let grants = [initial::CONSOLE, initial::TIMER, initial::ARCHIVE, initial::MACHINE];
        let args = format!("{PROGRAM}\0{case}\0{role}\0");
        let scratch = |offset: u64| SCRATCH.plus(offset);
        let [name_at, args_at, grants_at] = [scratch(256), scratch(512), scratch(1024)];
        self.map(SCRATCH, 1)?;
        self.write(name_at, PROGRAM.as_bytes());
        self.write(args_at, args.as_bytes());
        for (at, handle) in (0..).step_by(size_of::<Grant>()).zip(grants) {
            let rights = Rights::all().bits();
            self.store(grants_at.plus(at), u64::from(handle.0) | u64::from(rights) << 32);
        }
        let request = [
            name_at.address(),
            PROGRAM.len() as u64,
            args_at.address(),
            args.len() as u64,
            grants_at.address(),
            grants.len() as u64,
            u64::MAX,
            abi::DEFAULT_PRIORITY,
            0,
            0,
        ];
        const { assert!(size_of::<SpawnRequest>() == size_of::<[u64; 10]>()) };
        for (offset, word) in (0..).step_by(8).zip(request) {
            self.store(scratch(offset), word);
        }
        let child = self.call(Call::Spawn, [initial::ARCHIVE.0.into(), SCRATCH.address()]);
        self.unmap(SCRATCH, 1)?;
        child.map(|handle| Handle(handle as u32)).or_fail("spawn")
    }

    /// Starts a thread of this process at any address with any stack, and does not wait for it.
    pub fn thread_start(&self, entry: u64, stack: u64) -> Result<(), Error> {
        let handle = self.call(Call::ThreadStart, [initial::PROCESS.0.into(), entry, stack, 0])?;
        self.call(Call::HandleClose, [handle]).map(|_| ())
    }

    /// The name of the `index`-th program of the archive. Needs the [`flags`](Self::flags).
    pub fn archive_entry(&self, index: u64) -> Result<String, Error> {
        let at = self.flag(256);
        let room = abi::MAX_NAME as u64;
        let archive = initial::ARCHIVE.0.into();
        let len = self.call(Call::ArchiveEntry, [archive, index, at.address(), room])?.min(room);
        let bytes = (0..len).map(|byte| (self.load(at.plus(byte & !7)) >> (8 * (byte & 7))) as u8);
        Ok(bytes.map(char::from).collect())
    }

    /// Runs `role` of `case`, which has to end by a fault, and says by which.
    pub fn fault_of(&self, case: &str, role: u64) -> Result<Faulted, Not> {
        let child = self.child(case, role)?;
        let report = self.wait(child)?;
        if report.ending() != Some(Ending::Fault) {
            let how = (report.ending(), report.status());
            return Err(Not::Failed(format!("role {role} did not fault, it ended by {how:?}")));
        }
        let word = |which: FaultWord| self.test(Operation::Fault, [which as u64]);
        Ok(Faulted {
            kind: FaultKind::from_number(word(FaultWord::Kind)?),
            pc: word(FaultWord::Pc)?,
            address: Some(word(FaultWord::Address)?).filter(|&address| address != NO_ADDRESS),
        })
    }

    /// What a role ends with, its failure said.
    pub fn tell(&self, outcome: Outcome) -> u8 {
        if let Err(not) = &outcome {
            self.say(format_args!("conformance: in another process: {not}"));
        }
        outcome.map_or_else(|not| not.status(), |()| 0)
    }

    /// Waits until it has ended.
    pub fn wait(&self, child: Handle) -> Result<ExitReport, Not> {
        let report = self.call(Call::ProcessWait, [child.0.into()]).map(ExitReport).or_fail("process_wait");
        let _ = self.call(Call::HandleClose, [child.0.into()]);
        report
    }

    pub fn kill(&self, child: Handle) -> Result<(), Not> {
        self.call(Call::ProcessKill, [child.0.into()]).map(|_| ()).or_fail("process_kill")
    }

    /// Ends this process.
    pub fn exit(&self, status: u8) -> ! {
        loop {
            let _ = self.call(Call::Exit, [status.into()]);
        }
    }

    fn write(&self, at: Word, bytes: &[u8]) {
        for (offset, chunk) in (0..).step_by(8).zip(bytes.chunks(8)) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.store(at.plus(offset), u64::from_le_bytes(word));
        }
    }

    pub fn say(&self, line: fmt::Arguments<'_>) {
        self.os.say(line);
    }

    fn run(&self, case: &Case<O>) -> Result<(), Not> {
        if self.cpus.count_ones() < case.cpus {
            return Err(Not::Skipped("too few CPUs"));
        }
        if !case.machines.has::<O>() {
            return Err(Not::Skipped("cannot be seen on this machine"));
        }
        (case.run)(self)
    }
}

/// A process of the suite: runs the case `id`, or one of its roles, and gives the exit status.
pub fn main<O: Os>(os: O, id: &str, role: Option<u64>) -> u8 {
    let world = World::new(os);
    let Some(case) = find::<O>(id) else {
        world.say(format_args!("conformance: there is no case `{id}`"));
        return STATUS_FAILED;
    };
    let outcome = match role {
        None => world.run(case),
        Some(role) => match case.role {
            Some(play) => return play(&world, role),
            None => Err(Not::Failed("it has no roles".into())),
        },
    };
    match &outcome {
        Ok(()) => world.say(format_args!("conformance: {id}: PASS")),
        Err(not) => world.say(format_args!("conformance: {id}: {not}")),
    }
    outcome.map_or_else(|not| not.status(), |()| 0)
}
