//! The out-of-memory sweep: fail the n-th allocation of a script, for every n. Each time an error
//! comes back to somebody, nothing leaks, nothing panics.

use super::{Run, User};
use crate::cap::LEAF_SLOTS;
use abi::exception::Answer;
use abi::ipc::{FOREVER, Tag, WORDS};
use abi::{Call, Error, Grant, Handle, PAGE_BYTES, Protection, Rights, initial};
use arch_contract::addr::VirtAddr;
use arch_contract::trap::{Access, Fault, FaultCause, Traps};
use arch_model::device::VENDOR_AT;
use arch_model::profile::Profile;
use arch_model::{Bridge, Config};

const PROCESS: u64 = initial::PROCESS.0 as u64;
const MACHINE: u64 = initial::MACHINE.0 as u64;
const NONE: u64 = Handle::NONE.0 as u64;
const ALL: u64 = Rights::all().bits() as u64;
const READ: u64 = Protection::Read as u64;
const READ_WRITE: u64 = Protection::ReadWrite as u64;
const PAGE: u64 = PAGE_BYTES;
const VECTORS: u64 = arch_model::vector::AREA_BYTES as u64;
/// A capability on the timer, to be sent.
const CAPABILITY: u64 = initial::TIMER.0 as u64 | (Rights::READ.bits() as u64) << 32;
/// Far from everything and from each other: pages there want tables of their own.
const PAGED: [u64; 2] = [1 << 41, 1 << 42];

/// Starts a child, maps a lot in the child, ends it, and lets the teardown finish. Returns whether
/// anything was refused.
fn script(run: &mut Run, page: u64) -> bool {
    let init = run.user();
    let child = match run.spawn(page, u64::MAX) {
        Ok(child) => child,
        Err(error) => {
            assert_eq!(error, Error::NoMemory);
            settle(run);
            return true;
        }
    };
    let mut refused = false;
    run.yield_to_other();
    let large = [PROCESS, 0, 40 * 4096, abi::Protection::ReadWrite as u64];
    let mapper = run.user();
    run.call(Call::MemoryMap, &large);
    while run.user() != mapper {
        run.call(Call::Yield, &[]);
    }
    match run.returned() {
        Ok(at) => {
            run.call(Call::MemoryUnmap, &[PROCESS, at + 4096, 8 * 4096]);
            refused |= run.returned() == Err(Error::NoMemory);
        }
        Err(error) => {
            assert_eq!(error, Error::NoMemory);
            refused = true;
        }
    }
    run.call(Call::Exit, &[0]);
    assert_eq!(run.user(), init);
    assert_eq!(run.result(Call::HandleClose, &[child]), Ok(0));
    settle(run);
    refused
}

/// Lets every kernel task finish: init sleeps until nothing else is left to do.
fn settle(run: &mut Run) {
    let now = run.result(Call::ClockRead, &[initial::TIMER.0.into()]).expect("a clock");
    run.call(Call::SleepUntil, &[initial::TIMER.0.into(), now + 1_000]);
    run.call(Call::SleepUntil, &[initial::TIMER.0.into(), now + 1_000]);
}

#[test]
fn every_allocation_may_fail() {
    let mut run = Run::boot(Profile::Minimal);
    let page = run.page();
    // The first round makes init's own table and lists as large as they get.
    assert!(!script(&mut run, page));
    let kernel = run.cpu().kernel;
    let used = kernel.root.used();
    let mut refusals = 0;
    for n in 1.. {
        kernel.memory.refusal.refuse(n);
        let refused = script(&mut run, page);
        let came = kernel.memory.refusal.came();
        kernel.memory.refusal.refuse(0);
        assert_eq!(kernel.root.used(), used, "failing allocation {n} leaks");
        assert_eq!(run.machine.live_contexts(), 1, "failing allocation {n} leaks a context");
        refusals += refused as u32;
        if !came {
            break;
        }
        assert!(n < 10_000, "the script never ends");
    }
    assert!(refusals > 20, "only {refusals} allocations could fail: the sweep does not bite");
}

/// What the script of every call does not make: what its maker does, what ends the machine or stops a CPU,
/// what waits for a person, and what is for tests.
const ELSEWHERE: &[Call] = &[
    Call::Exit,
    Call::Spawn,
    Call::ProcessWait,
    Call::ProcessKill,
    Call::PowerOff,
    Call::CpuPower,
    Call::ConsoleRead,
    Call::Test,
];

/// The calls of one process, one after the other. What was refused is missing from there on, and what needs it
/// may fail as it likes; no other call may fail.
struct Everything<'a> {
    run: &'a mut Run,
    me: User,
    refused: u32,
    /// A bit for each.
    made: u128,
    /// Of the handles that fill the table.
    highest: u64,
}

impl Everything<'_> {
    /// The current thread makes a call.
    fn say(&mut self, call: Call, args: &[u64]) {
        self.made |= 1 << call as u32;
        self.run.call(call, args);
    }

    /// As [`say`](Self::say), with a message: without words, or with the timer's capability.
    fn message(&mut self, call: Call, handle: u64, tag: Tag) {
        let capability = if tag.capabilities() > 0 { CAPABILITY } else { 0 };
        self.run.registers_mut().words[WORDS - 1] = capability;
        self.say(call, &[handle, FOREVER, tag.0]);
    }

    /// As [`call`](Self::call), for one that makes a handle: the table has to grow for it.
    fn make(&mut self, call: Call, args: &[u64]) -> Option<u64> {
        self.fill_table();
        self.call(call, args)
    }

    /// Leaves no slot free of those that the table has.
    fn fill_table(&mut self) {
        while let Some(handle) = self.call(Call::HandleCopy, &[PROCESS, 0, 0]) {
            let is_new = handle > self.highest;
            self.highest = self.highest.max(handle);
            if is_new && handle as usize % LEAF_SLOTS == LEAF_SLOTS - 1 {
                break;
            }
        }
    }

    /// Makes a call and lets others run until it is done. `None`: it was refused, or what it is about
    /// was before.
    fn call(&mut self, call: Call, args: &[u64]) -> Option<u64> {
        self.say(call, args);
        self.to(self.me);
        match self.run.returned() {
            Ok(value) => Some(value),
            Err(Error::NoMemory) => {
                self.refused += 1;
                None
            }
            Err(error) => {
                assert!(self.refused > 0, "{call:?}: {error:?}, and nothing was refused");
                None
            }
        }
    }

    /// A thread of the process, up to its first instruction: it is current.
    fn thread(&mut self) -> Option<(User, u64)> {
        let args = [PROCESS, super::ENTRY, crate::program::STACK_TOP.0 - 8192, 0];
        let handle = self.make(Call::ThreadStart, &args)?;
        for _ in 0..20 {
            self.run.call(Call::Yield, &[]);
            if self.run.user() != self.me && self.run.registers().number == 0 {
                return Some((self.run.user(), handle));
            }
        }
        panic!("a thread that was started never runs")
    }

    fn to(&mut self, user: User) {
        assert_eq!(self.reach(user), Alive::Yes, "{user:?} never runs");
    }

    /// Whether `user`, whose turn it is if it lives, does.
    fn reach(&mut self, user: User) -> Alive {
        for _ in 0..1000 {
            if self.run.user() == user {
                return Alive::Yes;
            }
            self.run.call(Call::Yield, &[]);
        }
        Alive::No
    }

    /// All calls. Some can be refused only by ending the process.
    fn all(&mut self) {
        self.plain();
        self.capabilities();
        self.memory();
        for part in [Self::converse, Self::page, Self::fault] {
            if part(self) == Alive::No {
                // What was not told to anybody who could be told.
                self.refused += 1;
                return;
            }
        }
        self.drive();
        if self.refused == 0 {
            let made = |call: &Call| self.made & 1 << *call as u32 != 0 || ELSEWHERE.contains(call);
            assert_eq!(Call::ALL.iter().find(|call| !made(call)), None, "was not made");
        }
    }

    /// What is asked and said, and takes no memory.
    fn plain(&mut self) {
        let [timer, archive, console] =
            [initial::TIMER, initial::ARCHIVE, initial::CONSOLE].map(|handle| u64::from(handle.0));
        let Some(page) = self.call(Call::MemoryMap, &[PROCESS, 0, PAGE, READ_WRITE]) else { return };
        for (call, args) in [
            (Call::Null, &[][..]),
            (Call::Yield, &[]),
            (Call::ClockRead, &[timer]),
            (Call::SleepUntil, &[timer, 0]),
            (Call::ConsoleWrite, &[console, page, 0]),
            (Call::ArchiveEntry, &[archive, 0, page, 64]),
            (Call::ArchiveRead, &[archive, 0, 0, page, 64]),
            (Call::ProcessInfo, &[PROCESS, page]),
            (Call::ProcessPriority, &[PROCESS, abi::DEFAULT_PRIORITY]),
            (Call::ThreadAffinity, &[NONE, 1]),
            (Call::ThreadPriority, &[NONE, abi::DEFAULT_PRIORITY]),
            (Call::ThreadBudget, &[NONE, 0, 0]),
            (Call::Membarrier, &[0, 0, 0]),
            (Call::CodePublish, &[page, 64]),
            (Call::Cpus, &[MACHINE, 0]),
            (Call::Quiesce, &[MACHINE]),
        ] {
            self.call(call, args);
        }
    }

    fn capabilities(&mut self) {
        let endpoint = self.make(Call::EndpointCreate, &[]).unwrap_or(0);
        let notification = self.make(Call::NotificationCreate, &[]).unwrap_or(0);
        let copy = self.make(Call::HandleCopy, &[endpoint, ALL, 0x5a]).unwrap_or(0);
        self.make(Call::HandleMove, &[copy, NONE]);
        self.call(Call::NotificationBind, &[notification]);
        self.call(Call::NotificationSignal, &[notification, 1]);
        self.call(Call::NotificationWait, &[notification, 0]);
        self.call(Call::HandleRevoke, &[endpoint]);
        self.call(Call::HandleClose, &[endpoint]);
    }

    fn memory(&mut self) {
        let map = |pages: u64| [PROCESS, 0, pages * PAGE, READ_WRITE];
        // Large enough to be freed in slices.
        if let Some(memory) = self.make(Call::MemoryCreate, &[100 * PAGE]) {
            let attach = [PROCESS, memory, 0, PAGE, 99 * PAGE, READ];
            if let Some(attached) = self.make(Call::MemoryAttach, &attach) {
                let page = self.call(Call::MemoryMap, &map(1)).unwrap_or(0);
                self.call(Call::HandleInfo, &[attached, page]);
            }
            self.call(Call::HandleRevoke, &[memory]);
            self.call(Call::HandleClose, &[memory]);
        }
        // In two pieces, by way of what is cut out of the middle.
        if let Some(at) = self.call(Call::MemoryMap, &map(20)) {
            self.call(Call::MemoryUnmap, &[PROCESS, at + PAGE, 8 * PAGE]);
            self.call(Call::MemoryCopy, &[PROCESS, at + 10 * PAGE, PROCESS, at + 15 * PAGE, 4 * PAGE]);
        }
        let area = self.call(Call::MemoryMap, &map(1)).unwrap_or(0);
        self.call(Call::RseqRegister, &[area]);
    }

    /// Calls with a capability, to a thread that saves the reply and gives one back, and then replies and
    /// receives; and a message that wants no answer.
    fn converse(&mut self) -> Alive {
        let Some(endpoint) = self.make(Call::EndpointCreate, &[]) else { return Alive::Yes };
        let Some((server, _)) = self.thread() else { return Alive::Yes };
        self.run.vector_unit_off();
        if self.run.user() != server {
            // That was refused, which ends the process.
            return Alive::No;
        }
        self.say(Call::EndpointReceive, &[endpoint, FOREVER]);
        self.to(self.me);
        self.fill_table();
        let with_one = Tag::new(1, 0).with_capabilities(1);
        self.message(Call::EndpointCall, endpoint, with_one);
        assert_eq!(self.run.user(), server);
        self.arrived();
        let me = core::mem::replace(&mut self.me, server);
        let reply = self.make(Call::ReplySave, &[]).unwrap_or(NONE);
        self.fill_table();
        self.message(Call::Reply, reply, with_one);
        self.to(server);
        self.say(Call::EndpointReceive, &[endpoint, FOREVER]);
        self.me = me;
        self.to(me);
        self.arrived();
        self.message(Call::EndpointCall, endpoint, Tag::new(1, 0));
        assert_eq!(self.run.user(), server);
        self.message(Call::ReplyReceive, endpoint, Tag::new(1, 0));
        self.to(me);
        self.message(Call::EndpointSend, endpoint, Tag::new(1, 0));
        self.to(server);
        self.say(Call::ThreadExit, &[]);
        self.to(me);
        Alive::Yes
    }

    /// A capability for which there was no slot arrives as none.
    fn arrived(&mut self) {
        self.refused += u32::from(self.run.registers().words[WORDS - 1] == NONE);
    }

    /// A thread touches a page that is not there and is supplied, and then one that only is not mapped.
    fn page(&mut self) -> Alive {
        let Some(endpoint) = self.make(Call::EndpointCreate, &[]) else { return Alive::Yes };
        let paged = self.make(Call::MemoryCreatePaged, &[4 * PAGE, endpoint]).unwrap_or(0);
        let source = self.make(Call::MemoryCreate, &[4 * PAGE]).unwrap_or(0);
        for at in PAGED {
            if self.make(Call::MemoryAttach, &[PROCESS, paged, at, 0, 4 * PAGE, READ]).is_none() {
                return Alive::Yes;
            }
        }
        let Some((client, _)) = self.thread() else { return Alive::Yes };
        let touch = |at| {
            let cause = FaultCause::Page(Access::Read);
            Fault { cause, pc: VirtAddr(super::ENTRY), address: Some(VirtAddr(at)) }
        };
        self.run.fault(touch(PAGED[0]));
        self.to(self.me);
        self.call(Call::EndpointReceive, &[endpoint, FOREVER]);
        self.call(Call::MemorySupply, &[paged, 0, source, 0, 4 * PAGE]);
        self.message(Call::Reply, NONE, Tag::new(0, 0));
        self.to(client);
        // Without tables it is wanted again.
        self.refused += u32::from(!self.is_there(PAGED[0]));
        self.run.fault(touch(PAGED[1]));
        if self.reach(client) == Alive::No {
            return Alive::No;
        }
        self.say(Call::ThreadExit, &[]);
        self.to(self.me);
        Alive::Yes
    }

    fn is_there(&self, at: u64) -> bool {
        let cpu = self.run.cpu();
        cpu.current().is_some_and(|thread| thread.process().space.is_mapped(cpu, VirtAddr(at)))
    }

    /// A thread faults, and its handler looks at it and lets it go on.
    fn fault(&mut self) -> Alive {
        let Some(endpoint) = self.make(Call::EndpointCreate, &[]) else { return Alive::Yes };
        let Some(page) = self.call(Call::MemoryMap, &[PROCESS, 0, PAGE, READ_WRITE]) else {
            return Alive::Yes;
        };
        let Some((client, handle)) = self.thread() else { return Alive::Yes };
        self.to(self.me);
        if self.make(Call::ThreadExceptions, &[handle, endpoint]).is_none() {
            return Alive::Yes;
        }
        self.to(client);
        self.run.fault(Fault { cause: FaultCause::Breakpoint, pc: VirtAddr(super::ENTRY), address: None });
        self.to(self.me);
        self.call(Call::EndpointReceive, &[endpoint, FOREVER]);
        let bytes = 8 * <arch_current::Current as Traps>::REGISTERS as u64;
        self.call(Call::ThreadRegisters, &[NONE, page, bytes]);
        self.call(Call::ThreadSetRegisters, &[NONE, page, bytes]);
        // It has used none until they are set.
        self.call(Call::ThreadVectors, &[NONE, page, VECTORS]);
        self.call(Call::ThreadSetVectors, &[NONE, page, VECTORS]);
        self.message(Call::Reply, NONE, Tag::new(Answer::Resume as u64, 0));
        self.to(client);
        self.say(Call::ThreadExit, &[]);
        self.to(self.me);
        self.call(Call::ThreadWait, &[handle]);
        Alive::Yes
    }

    /// A driver's calls.
    fn drive(&mut self) {
        let Some(page) = self.call(Call::MemoryMap, &[PROCESS, 0, PAGE, READ_WRITE]) else { return };
        let Some(function) = self.make(Call::PciFunction, &[MACHINE, 0]) else { return };
        self.call(Call::PciInfo, &[function, page]);
        self.call(Call::PciRead, &[function, 0, 4]);
        self.call(Call::PciWrite, &[function, (VENDOR_AT + 4).into(), 4, 0]);
        self.call(Call::PciCommand, &[function, 0]);
        if let Some(registers) = self.make(Call::PciBar, &[function, 0]) {
            self.make(Call::MemoryAttach, &[PROCESS, registers, 0, 0, PAGE, READ_WRITE]);
        }
        let interrupt = self.make(Call::PciInterrupt, &[function, 0]).unwrap_or(0);
        let notification = self.make(Call::NotificationCreate, &[]).unwrap_or(0);
        self.call(Call::InterruptBind, &[interrupt, notification, 1]);
        self.call(Call::InterruptAcknowledge, &[interrupt]);
        if let Some(memory) = self.make(Call::DmaCreate, &[function, 4 * PAGE]) {
            self.call(Call::DmaAddress, &[function, memory, 0]);
        }
    }
}

/// Whether the process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Alive {
    Yes,
    No,
}

/// All of them in a child, which then ends. Returns how many were refused.
fn everything(run: &mut Run, page: u64) -> u32 {
    let init = run.user();
    let grants = [initial::CONSOLE, initial::TIMER, initial::ARCHIVE, initial::MACHINE]
        .map(|handle| Grant { handle, rights: 0x3f });
    let Ok(child) = run.spawn_with(page, u64::MAX, &grants) else {
        settle(run);
        return 1;
    };
    let me = run.yield_to_other();
    let mut script = Everything { run, me, refused: 0, made: 0, highest: 0 };
    script.all();
    let refused = script.refused;
    if script.reach(me) == Alive::Yes {
        run.call(Call::Exit, &[0]);
    }
    assert_eq!(run.user(), init);
    assert_eq!(run.result(Call::HandleClose, &[child]), Ok(0));
    settle(run);
    refused
}

/// Processes that were made and have ended leave all memory as it was, to the byte and to the frame.
#[test]
fn a_thousand_processes_leave_nothing() {
    let mut run = Run::boot(Profile::Minimal);
    let page = run.page();
    let init = run.user();
    let kernel = run.cpu().kernel;
    let mut before = None;
    for number in 0..1000 {
        let child = run.spawn(page, u64::MAX).expect("a child");
        run.yield_to_other();
        run.call(Call::Exit, &[0]);
        assert_eq!(run.user(), init);
        assert_eq!(run.result(Call::HandleClose, &[child]), Ok(0));
        settle(&mut run);
        let now = (kernel.root.used(), kernel.memory.free_bytes());
        assert_eq!(*before.get_or_insert(now), now, "after {number} processes");
        run.machine.events();
    }
}

/// Allocations that may be refused without a word: the tables of a page that a short way could not map.
const UNTOLD: u32 = 4;

/// As [`every_allocation_may_fail`], for all calls there are. What was not refused has happened, and does not
/// depend on what was.
#[test]
fn every_allocation_of_every_call_may_fail() {
    let mut run = Run::boot_with(Config { bridge: Bridge::Two, ..Config::default() }, "log=quiet");
    let page = run.page();
    assert_eq!(everything(&mut run, page), 0);
    let kernel = run.cpu().kernel;
    let used = kernel.root.used();
    let free = kernel.memory.free_bytes();
    let (mut refusals, mut untold) = (0, 0);
    for n in 1.. {
        kernel.memory.refusal.refuse(n);
        let refused = everything(&mut run, page);
        let came = kernel.memory.refusal.came();
        kernel.memory.refusal.refuse(0);
        assert_eq!(kernel.root.used(), used, "failing allocation {n} leaks");
        assert_eq!(kernel.memory.free_bytes(), free, "failing allocation {n} leaks frames");
        assert_eq!(run.machine.live_contexts(), 1, "failing allocation {n} leaks a context");
        assert!(came || refused == 0, "{refused} were told of allocation {n}, which was not refused");
        untold += u32::from(came && refused == 0);
        refusals += u32::from(refused > 0);
        run.machine.events();
        if !came {
            break;
        }
        assert!(n < 10_000, "the script never ends");
    }
    assert!(refusals > 100, "only {refusals} allocations could fail: the sweep does not bite");
    // What a short way could not have, the long way asks for again.
    assert!(untold <= UNTOLD, "of {untold} refusals nobody was told");
}
