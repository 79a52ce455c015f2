//! The script: every call there is, on objects of its own.
//!
//! What was refused is missing from there on, and what needs it may fail as it likes; no other call may fail.
//! Nothing here takes memory by itself but by the calls that are made.

use crate::REFUSED;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use user_rt::abi::device::{Command, PciInfo};
use user_rt::abi::exception::Answer;
use user_rt::abi::ipc::{Tag, WORDS};
use user_rt::abi::{Call, Handle, PAGE_BYTES, Rights, initial};
use user_rt::{Error, Protection, TIMER, call, exception, println, thread};

/// The argument that makes a process run it.
pub const ROLE: &str = "script";
/// What it ends with when a call failed for another reason, or was not made.
const WRONG: u8 = 2;

/// What the script does not make: what its maker does, what ends the machine or stops a CPU, what waits for a
/// person, what is for tests, and what QEMU's teaching device has nothing for.
const ELSEWHERE: &[Call] = &[
    Call::Exit,
    Call::Spawn,
    Call::ProcessWait,
    Call::ProcessKill,
    Call::PowerOff,
    Call::CpuPower,
    Call::ConsoleRead,
    Call::Test,
    Call::PciWrite,
];

const NONE: u64 = Handle::NONE.0 as u64;
const PROCESS: u64 = initial::PROCESS.0 as u64;
const PAGE: u64 = PAGE_BYTES;
const READ: u64 = Protection::Read as u64;
const READ_WRITE: u64 = Protection::ReadWrite as u64;
const ALL: u64 = Rights::all().bits() as u64;
/// Places far from everything, and from each other: they want tables of their own.
const PAGED: [u64; 2] = [1 << 41, 1 << 42];
const FAULTS: u64 = 1 << 43;
const COPIED: u64 = 1 << 44;
/// How long one thread may keep another waiting.
const PATIENCE: Duration = Duration::from_secs(10);

/// Slots by which a table grows.
const LEAF_SLOTS: u64 = 64;
/// Of the handles that fill the table.
static HIGHEST: AtomicU64 = AtomicU64::new(0);

static REFUSALS: AtomicU32 = AtomicU32::new(0);
static FAILED: AtomicBool = AtomicBool::new(false);
static MADE: [AtomicBool; 128] = [const { AtomicBool::new(false) }; 128];

/// Memory that is only used by its address.
#[repr(align(4096))]
struct Pages<const BYTES: usize>(UnsafeCell<[u8; BYTES]>);

// SAFETY: no reference to what is in it is ever made.
unsafe impl<const BYTES: usize> Sync for Pages<BYTES> {}

impl<const BYTES: usize> Pages<BYTES> {
    fn at(&self) -> u64 {
        self.0.get().addr() as u64
    }
}

static SPACE: Pages<8192> = Pages(UnsafeCell::new([0; 8192]));
static STACK: Pages<16384> = Pages(UnsafeCell::new([0; 16384]));

pub fn main() -> u8 {
    plain();
    capabilities();
    memory();
    conversation();
    paging();
    faults();
    device();
    let refused = REFUSALS.load(Ordering::Relaxed) > 0;
    let made = |call: &Call| MADE[*call as usize].load(Ordering::Relaxed) || ELSEWHERE.contains(call);
    if !refused && let Some(missing) = Call::ALL.iter().find(|call| !made(call)) {
        println!("sweep: {missing:?} was not made");
        return WRONG;
    }
    match (FAILED.load(Ordering::Relaxed), refused) {
        (true, _) => WRONG,
        (false, true) => REFUSED,
        (false, false) => 0,
    }
}

/// Something could not be had for want of memory.
fn refused() {
    REFUSALS.fetch_add(1, Ordering::Relaxed);
}

/// The value, unless it was refused, or what it is about was.
fn judge(call: Call, result: Result<u64, Error>) -> Option<u64> {
    MADE[call as usize].store(true, Ordering::Relaxed);
    match result {
        Ok(value) => return Some(value),
        Err(Error::NoMemory) => refused(),
        Err(_) if REFUSALS.load(Ordering::Relaxed) > 0 => {}
        Err(error) => {
            println!("sweep: {call:?}: {error:?}, and nothing was refused");
            FAILED.store(true, Ordering::Relaxed);
        }
    }
    None
}

fn make(call: Call, arguments: &[u64]) -> Option<u64> {
    let mut words = [0; 6];
    words[..arguments.len()].copy_from_slice(arguments);
    // SAFETY: every address here lies in `SPACE`, or where this script has mapped something, to which there
    // are no references.
    judge(call, unsafe { call::call(call, words) })
}

/// As [`make`], for a call that makes a handle: the table has to grow for it.
fn create(call: Call, arguments: &[u64]) -> Option<u64> {
    fill_table();
    make(call, arguments)
}

/// Leaves no slot free of those that the table has.
fn fill_table() {
    while let Some(handle) = make(Call::HandleCopy, &[PROCESS, 0, 0]) {
        let is_new = HIGHEST.fetch_max(handle, Ordering::Relaxed) < handle;
        if is_new && handle % LEAF_SLOTS == LEAF_SLOTS - 1 {
            break;
        }
    }
}

/// A call with a message: its tag, and the words that came.
fn exchange(call: Call, handle: u64, tag: Tag, mut words: [u64; WORDS]) -> Option<(Tag, [u64; WORDS])> {
    let deadline = TIMER.now().map_or(0, |now| (now + PATIENCE).as_nanos() as u64);
    // SAFETY: none of these touches memory.
    let (status, value, _) =
        unsafe { call::exchange(call, Handle(handle as u32), deadline, tag, &mut words) };
    let result = Error::from_number(status).map_or(Ok(value), Err);
    judge(call, result).map(|value| (Tag(value), words))
}

/// What is asked and said, and takes no memory.
fn plain() {
    let (timer, archive, machine) =
        (initial::TIMER.0.into(), initial::ARCHIVE.0.into(), initial::MACHINE.0.into());
    let at = SPACE.at();
    make(Call::Null, &[]);
    make(Call::Yield, &[]);
    make(Call::ClockRead, &[timer]);
    make(Call::SleepUntil, &[timer, 0]);
    make(Call::ConsoleWrite, &[initial::CONSOLE.0.into(), at, 0]);
    make(Call::ArchiveEntry, &[archive, 0, at, 64]);
    make(Call::ArchiveRead, &[archive, 0, 0, at, 64]);
    make(Call::ProcessInfo, &[PROCESS, at]);
    make(Call::ProcessPriority, &[PROCESS, 50]);
    make(Call::ThreadAffinity, &[NONE, 1]);
    make(Call::ThreadPriority, &[NONE, 50]);
    make(Call::ThreadBudget, &[NONE, 0, 0]);
    make(Call::Membarrier, &[0, 0, 0]);
    make(Call::CodePublish, &[at, 64]);
    make(Call::Cpus, &[machine, 0]);
    make(Call::Quiesce, &[machine]);
}

fn capabilities() {
    let Some(notification) = create(Call::NotificationCreate, &[]) else { return };
    if let Some(copy) = make(Call::HandleCopy, &[notification, ALL, 0]) {
        create(Call::HandleMove, &[copy, NONE]);
    }
    make(Call::HandleInfo, &[notification, SPACE.at()]);
    make(Call::NotificationBind, &[notification]);
    make(Call::NotificationSignal, &[notification, 1]);
    make(Call::NotificationWait, &[notification, 0]);
    make(Call::NotificationBind, &[NONE]);
    make(Call::HandleRevoke, &[notification]);
    make(Call::HandleClose, &[notification]);
}

fn memory() {
    // In two pieces, by way of what is cut out of the middle.
    if make(Call::MemoryMap, &[PROCESS, COPIED, 20 * PAGE, READ_WRITE]).is_some() {
        make(Call::MemoryUnmap, &[PROCESS, COPIED + 4 * PAGE, 8 * PAGE]);
        make(Call::RseqRegister, &[COPIED]);
        make(Call::RseqRegister, &[0]);
        make(Call::MemoryCopy, &[PROCESS, COPIED, PROCESS, COPIED + 12 * PAGE, 4 * PAGE]);
    }
    // Large enough to be freed in slices.
    if let Some(memory) = create(Call::MemoryCreate, &[100 * PAGE]) {
        create(Call::MemoryAttach, &[PROCESS, memory, 0, PAGE, 99 * PAGE, READ]);
        make(Call::HandleRevoke, &[memory]);
        make(Call::HandleClose, &[memory]);
    }
}

/// Starts a thread, at most one at a time.
fn start(entry: extern "C" fn(u64) -> !, argument: u64) -> Option<u64> {
    let entry = entry as usize as u64;
    create(Call::ThreadStart, &[PROCESS, entry, STACK.at() + size_of_val(&STACK) as u64, argument])
}

fn join(thread: u64) {
    make(Call::ThreadWait, &[thread]);
}

/// A thread ends. It is never told how that went.
fn end() -> ! {
    MADE[Call::ThreadExit as usize].store(true, Ordering::Relaxed);
    thread::exit()
}

/// A message of one word, with the timer's capability.
fn with_capability() -> (Tag, [u64; WORDS]) {
    let mut words = [0; WORDS];
    words[WORDS - 1] = u64::from(initial::TIMER.0) | u64::from(Rights::READ.bits()) << 32;
    (Tag::new(1, 0).with_capabilities(1), words)
}

/// A capability for which there was no slot arrives as none.
fn arrived((_, words): (Tag, [u64; WORDS])) {
    if words[WORDS - 1] == NONE {
        refused();
    }
}

/// Two calls, of which one is answered by way of a reply object, and a message that wants no answer.
fn conversation() {
    let Some(endpoint) = create(Call::EndpointCreate, &[]) else { return };
    let Some(client) = start(client, endpoint) else { return };
    let (tag, words) = with_capability();
    fill_table();
    if let Some(received) = exchange(Call::EndpointReceive, endpoint, Tag::new(0, 0), [0; WORDS]) {
        arrived(received);
        let reply = create(Call::ReplySave, &[]).unwrap_or(NONE);
        fill_table();
        exchange(Call::Reply, reply, tag, words);
        exchange(Call::EndpointReceive, endpoint, Tag::new(0, 0), [0; WORDS]);
        exchange(Call::ReplyReceive, endpoint, Tag::new(1, 0), [0; WORDS]);
    }
    join(client);
    make(Call::HandleClose, &[endpoint]);
}

extern "C" fn client(endpoint: u64) -> ! {
    let (tag, words) = with_capability();
    if let Some(answer) = exchange(Call::EndpointCall, endpoint, tag, words) {
        arrived(answer);
    }
    exchange(Call::EndpointCall, endpoint, Tag::new(1, 0), [0; WORDS]);
    exchange(Call::EndpointSend, endpoint, Tag::new(1, 0), [0; WORDS]);
    end()
}

/// A thread touches a page that is not there, and this one supplies it; and then where it only is not mapped.
fn paging() {
    let Some(endpoint) = create(Call::EndpointCreate, &[]) else { return };
    let Some(paged) = create(Call::MemoryCreatePaged, &[4 * PAGE, endpoint]) else { return };
    let Some(source) = create(Call::MemoryCreate, &[4 * PAGE]) else { return };
    for at in PAGED {
        if create(Call::MemoryAttach, &[PROCESS, paged, at, 0, 4 * PAGE, READ]).is_none() {
            return;
        }
    }
    let Some(client) = start(touch_both, PAGE) else { return };
    if exchange(Call::EndpointReceive, endpoint, Tag::new(0, 0), [0; WORDS]).is_some() {
        make(Call::MemorySupply, &[paged, PAGE, source, 0, PAGE]);
        exchange(Call::Reply, NONE, Tag::new(0, 0), [0; WORDS]);
    }
    join(client);
}

extern "C" fn touch_both(offset: u64) -> ! {
    PAGED.iter().for_each(|at| touch(at + offset));
    end()
}

fn touch(at: u64) {
    // SAFETY: a page that is mapped, or whose absence somebody mends.
    unsafe { (at as *const u8).read_volatile() };
}

/// What a thread waits for before it faults: 1, or 2 if it is not to.
static GO: AtomicU64 = AtomicU64::new(0);

/// A thread faults, and its handler looks at it and maps what it wants.
fn faults() {
    let Some(endpoint) = create(Call::EndpointCreate, &[]) else { return };
    let Some(client) = start(fault, FAULTS) else { return };
    let handler = create(Call::ThreadExceptions, &[client, endpoint]);
    GO.store(if handler.is_some() { 1 } else { 2 }, Ordering::Relaxed);
    if handler.is_some() && exchange(Call::EndpointReceive, endpoint, Tag::new(0, 0), [0; WORDS]).is_some() {
        let registers = exception::registers();
        judge(Call::ThreadRegisters, registers.as_ref().map(|_| 0).map_err(|error| *error));
        if let Ok(registers) = registers {
            judge(Call::ThreadSetRegisters, exception::set_registers(&registers).map(|()| 0));
        }
        // It has used none, so these are zeroes.
        let vectors = [NONE, SPACE.at() + PAGE, size_of::<exception::Vectors>() as u64];
        make(Call::ThreadVectors, &vectors);
        make(Call::ThreadSetVectors, &vectors);
        let mapped = make(Call::MemoryMap, &[PROCESS, FAULTS, PAGE, READ_WRITE]);
        let answer = if mapped.is_some() { Answer::Resume } else { Answer::End };
        exchange(Call::Reply, NONE, Tag::new(answer as u64, 0), [0; WORDS]);
    }
    join(client);
}

extern "C" fn fault(at: u64) -> ! {
    thread::wait_until(|| GO.load(Ordering::Relaxed) != 0);
    if GO.load(Ordering::Relaxed) == 1 {
        touch(at);
    }
    end()
}

/// QEMU's teaching device, `-device edu`.
const EDU: (u16, u16) = (0x1234, 0x11e8);

fn device() {
    let at = SPACE.at();
    let machine = initial::MACHINE.0.into();
    for index in 0.. {
        let Some(function) = create(Call::PciFunction, &[machine, index]) else { return };
        if make(Call::PciInfo, &[function, at]).is_none() {
            return;
        }
        // SAFETY: the kernel has just written one there, and any bits are one.
        let info = unsafe { (at as *const PciInfo).read() };
        if (info.vendor, info.device_id) == EDU {
            return drive(function);
        }
        make(Call::HandleClose, &[function]);
    }
}

fn drive(function: u64) {
    make(Call::PciRead, &[function, 0, 4]);
    make(Call::PciCommand, &[function, Command::MEMORY.bits()]);
    if let Some(registers) = create(Call::PciBar, &[function, 0]) {
        create(Call::MemoryAttach, &[PROCESS, registers, 0, 0, PAGE, READ_WRITE]);
    }
    if let (Some(interrupt), Some(notification)) =
        (create(Call::PciInterrupt, &[function, 0]), create(Call::NotificationCreate, &[]))
    {
        make(Call::InterruptBind, &[interrupt, notification, 1]);
        make(Call::InterruptAcknowledge, &[interrupt]);
    }
    if let Some(memory) = create(Call::DmaCreate, &[function, 4 * PAGE]) {
        make(Call::DmaAddress, &[function, memory, 0]);
        create(Call::MemoryAttach, &[PROCESS, memory, 0, 0, 4 * PAGE, READ_WRITE]);
    }
}
