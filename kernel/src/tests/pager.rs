//! Pages that come from a pager: who asks, who waits, and what is there when the instruction or the call is
//! made again.

use super::{Run, User, ends};
use crate::cpu::Work;
use crate::ipc::quick::meanwhile;
use crate::mm::object::MemoryObject;
use crate::mm::space::Progress;
use crate::object::Ref;
use crate::sched;
use crate::sync::Ordering;
use crate::thread::{Extra, Standing, Thread};
use abi::exception::{Answer, FaultKind};
use abi::ipc::{FOREVER, Tag};
use abi::{Call, Error, Handle, PAGE_BYTES, Protection, Rights, initial};
use arch_contract::addr::VirtAddr;
use arch_contract::irq::Interrupt;
use arch_contract::trap::{Access, Fault, FaultCause};
use arch_model::profile::Profile;
use std::sync::mpsc::channel;
use std::thread::{spawn, yield_now};

const NONE: u64 = Handle::NONE.0 as u64;
const PROCESS: u64 = initial::PROCESS.0 as u64;
const CONSOLE: u64 = initial::CONSOLE.0 as u64;
const READ_WRITE: u64 = Protection::ReadWrite as u64;
const PAGE: u64 = PAGE_BYTES;
/// Where the paged memory is, and where its source.
const HERE: u64 = 1 << 40;
const SOURCE: u64 = 1 << 41;
const BADGE: u64 = 3;

/// A pager and its client in one process: four pages, of which none is there.
struct Pager {
    run: Run,
    pager: User,
    client: User,
    endpoint: u64,
    memory: u64,
    source: u64,
}

fn memory(run: &mut Run, call: Call, args: &[u64], at: u64) -> u64 {
    let memory = run.result(call, args).expect("memory");
    let attach = [PROCESS, memory, at, 0, 4 * PAGE, READ_WRITE];
    run.result(Call::MemoryAttach, &attach).expect("a mapping");
    memory
}

fn pager() -> Pager {
    let mut run = Run::boot(Profile::Minimal);
    let endpoint = run.endpoint();
    let by = [endpoint, Rights::WRITE.bits().into(), BADGE];
    let by = run.result(Call::HandleCopy, &by).expect("a copy");
    let paged = memory(&mut run, Call::MemoryCreatePaged, &[4 * PAGE, by], HERE);
    let source = memory(&mut run, Call::MemoryCreate, &[4 * PAGE], SOURCE);
    let (pager, client) = (run.user(), run.thread());
    Pager { run, pager, client, endpoint, memory: paged, source }
}

impl Pager {
    /// The instruction at 0x2_0000 of the current thread touches `at`.
    fn touch(&mut self, at: u64, access: Access) {
        let (cause, pc) = (FaultCause::Page(access), VirtAddr(0x2_0000));
        self.run.fault(Fault { cause, pc, address: Some(VirtAddr(at)) });
    }

    /// The pager receives that the page at `offset` is wanted.
    fn asked(&mut self, kind: FaultKind, offset: u64) {
        self.run.to(self.pager);
        self.run.receive(self.endpoint);
        self.run.to(self.pager);
        let received = self.run.received().expect("a call");
        let tag = Tag(Tag::new(kind as u64, 1).0 | Tag::CALL);
        assert_eq!((received.tag, received.badge, received.words[0]), (tag, BADGE, offset));
    }

    /// Pages from `offset` on are those of the source.
    fn supply(&mut self, offset: u64, pages: u64) -> Result<u64, Error> {
        let args = [self.memory, offset, self.source, offset, pages * PAGE];
        self.run.result(Call::MemorySupply, &args)
    }

    fn answer(&mut self) {
        self.run.message(Call::Reply, NONE, 0, Tag::new(0, 0), [0; 8]);
        assert_eq!(self.run.returned(), Ok(0));
    }

    /// Whether the current process can use what is there without a fault.
    fn is_there(&mut self, at: u64) -> bool {
        self.run
            .cpu()
            .current()
            .is_some_and(|thread| thread.process().space.is_mapped(self.run.cpu(), VirtAddr(at)))
    }
}

/// The page is mapped, with what the pager wrote, when the instruction is executed again; not before the
/// answer, and the registers are as they were.
#[test]
fn ipc_13_a_page_comes_before_its_instruction() {
    let mut it = pager();
    it.run.poke(SOURCE + PAGE, b"from the pager");
    it.run.to(it.client);
    let before = it.run.registers();
    it.touch(HERE + PAGE + 5, Access::Read);
    it.asked(FaultKind::PageRead, PAGE);
    assert!(!it.is_there(HERE + PAGE));
    let page = it.run.page();
    let bytes = 8 * <arch_current::Current as arch_contract::trap::Traps>::REGISTERS as u64;
    let registers = it.run.result(Call::ThreadRegisters, &[NONE, page, bytes]);
    assert_eq!(registers, Err(Error::NotStopped), "a pager has no business there");
    assert_eq!(it.supply(PAGE, 1), Ok(0));
    it.answer();
    it.run.to(it.client);
    assert_eq!(it.run.registers(), before);
    let mut bytes = [0; 14];
    it.run.peek(HERE + PAGE, &mut bytes);
    assert_eq!(&bytes, b"from the pager");
    // The pages are the same ones.
    it.run.poke(HERE + PAGE, b"to");
    let mut two = [0; 2];
    it.run.peek(SOURCE + PAGE, &mut two);
    assert_eq!(&two, b"to");
    // One that was supplied but is not mapped asks nobody.
    assert_eq!(it.supply(2 * PAGE, 2), Ok(0));
    it.touch(HERE + 3 * PAGE, Access::Write);
    assert_eq!(it.run.user(), it.client);
    assert!(it.is_there(HERE + 3 * PAGE) && !it.is_there(HERE));
}

/// Two threads that touch one page both go on after one supply; an answer without a supply is a question
/// again.
#[test]
fn ipc_13_two_threads_want_one_page() {
    let mut it = pager();
    let other = it.run.thread();
    for thread in [it.client, other] {
        it.run.to(thread);
        it.touch(HERE, Access::Write);
    }
    it.asked(FaultKind::PageWrite, 0);
    assert_eq!(it.supply(0, 1), Ok(0));
    it.answer();
    it.asked(FaultKind::PageWrite, 0);
    // A page that is there stays what it is.
    it.run.poke(SOURCE, b"first");
    let second = it.run.result(Call::MemoryCreate, &[4 * PAGE]).expect("memory");
    assert_eq!(it.run.result(Call::MemorySupply, &[it.memory, 0, second, 0, PAGE]), Ok(0));
    it.answer();
    for thread in [it.client, other] {
        it.run.to(thread);
    }
    let mut bytes = [0; 5];
    it.run.peek(HERE, &mut bytes);
    assert_eq!(&bytes, b"first");
    it.touch(HERE + PAGE, Access::Read);
    for _ in 0..2 {
        it.asked(FaultKind::PageRead, PAGE);
        it.answer();
        it.run.to(other);
        assert!(!it.is_there(HERE + PAGE));
        it.touch(HERE + PAGE, Access::Read);
    }
}

/// A page that was supplied and that nobody has touched stays what it is.
#[test]
fn ipc_13_a_page_is_supplied_once() {
    let mut it = pager();
    it.run.poke(SOURCE, b"first");
    let second = it.run.result(Call::MemoryCreate, &[4 * PAGE]).expect("memory");
    assert_eq!(it.supply(0, 1), Ok(0));
    assert_eq!(it.run.result(Call::MemorySupply, &[it.memory, 0, second, 0, PAGE]), Ok(0));
    it.run.to(it.client);
    it.touch(HERE, Access::Read);
    assert_eq!(it.run.user(), it.client, "it is there");
    let mut bytes = [0; 5];
    it.run.peek(HERE, &mut bytes);
    assert_eq!(&bytes, b"first");
}

/// A call that reads or writes memory that is not there waits for the pager and is made again, whole.
#[test]
fn ipc_13_a_call_that_touches_an_absent_page() {
    let mut it = pager();
    it.run.poke(SOURCE, b"paged in");
    it.run.to(it.client);
    let pc = it.run.registers().pc;
    it.run.call(Call::ConsoleWrite, &[CONSOLE, HERE, 8]);
    it.asked(FaultKind::PageRead, 0);
    assert!(!it.run.output().contains("paged in"));
    assert_eq!(it.supply(0, 1), Ok(0));
    it.answer();
    it.run.to(it.client);
    assert_eq!(it.run.registers().pc, pc, "at the call, not behind it");
    assert_eq!(it.run.result(Call::ConsoleWrite, &[CONSOLE, HERE, 8]), Ok(8));
    assert_eq!(it.run.output().matches("paged in").count(), 1);
    // One that is there and only not mapped needs nobody: the call is made again at once.
    assert_eq!(it.supply(PAGE, 1), Ok(0));
    let pc = it.run.registers().pc;
    it.run.call(Call::ProcessInfo, &[PROCESS, HERE + PAGE]);
    assert_eq!((it.run.user(), it.run.registers().pc), (it.client, pc));
    assert_eq!(it.run.result(Call::ProcessInfo, &[PROCESS, HERE + PAGE]), Ok(0));
    // Memory that is nobody's is an error as before, and the call is behind its caller.
    let pc = it.run.registers().pc;
    assert_eq!(it.run.result(Call::ConsoleWrite, &[CONSOLE, HERE + 4 * PAGE, 8]), Err(Error::BadAddress));
    assert_ne!(it.run.registers().pc, pc);
}

/// Without a pager it is an ordinary fault: the handler's, if there is one, or the end of the process; and
/// an error of a call. Whether the pager goes before it was asked or after.
#[test]
fn ipc_13_a_pager_that_is_gone() {
    let mut it = pager();
    it.run.to(it.client);
    it.touch(HERE, Access::Read);
    it.run.to(it.pager);
    let third = it.run.thread();
    it.run.to(third);
    it.run.call(Call::ConsoleWrite, &[CONSOLE, HERE, 8]);
    // Nobody can receive.
    it.asked(FaultKind::PageRead, 0);
    let faults = it.run.endpoint();
    it.run.result(Call::ThreadExceptions, &[NONE, faults]).expect("a handler");
    assert_eq!(it.run.eventually(Call::HandleClose, &[it.endpoint]), Ok(0));
    it.run.call(Call::EndpointReceive, &[faults, 0]);
    it.run.to(third);
    it.run.call(Call::ConsoleWrite, &[CONSOLE, HERE, 8]);
    assert_eq!(it.run.returned(), Err(Error::BadAddress));
    assert!(it.run.cpu().current().is_some_and(|thread| !thread.extras().has(Extra::Stopped)));
    it.run.to(it.client);
    it.run.result(Call::ThreadExceptions, &[NONE, faults]).expect("a handler");
    it.touch(HERE, Access::Read);
    it.run.to(it.pager);
    it.run.receive(faults);
    let received = it.run.received().expect("a call");
    assert_eq!((received.tag.label(), received.words[0]), (FaultKind::PageRead as u64, HERE));
}

/// Who revokes the capability by which a pager is asked takes the memory back, also what was supplied: what
/// touches it, and who waits for it, has an ordinary fault.
#[test]
fn ipc_13_a_pager_that_is_revoked() {
    let mut it = pager();
    assert_eq!(it.supply(PAGE, 1), Ok(0));
    it.run.to(it.client);
    it.touch(HERE, Access::Read);
    it.asked(FaultKind::PageRead, 0);
    let faults = it.run.endpoint();
    it.run.result(Call::ThreadExceptions, &[PROCESS, faults]).expect("a handler");
    assert_eq!(it.run.eventually(Call::HandleRevoke, &[it.endpoint]), Ok(0));
    let gone = it.run.result(Call::HandleCopy, &[it.memory, 0, 0]);
    assert_eq!(gone, Err(Error::BadHandle));
    assert!(!it.is_there(HERE + PAGE));
    it.answer();
    it.run.to(it.client);
    it.touch(HERE, Access::Read);
    it.run.to(it.pager);
    it.run.call(Call::EndpointReceive, &[it.endpoint, 0]);
    assert_eq!(it.run.returned(), Err(Error::TimedOut), "nobody asks");
    it.run.receive(faults);
    let received = it.run.received().expect("a call");
    assert_eq!((received.tag.label(), received.words[0]), (FaultKind::PageRead as u64, HERE));
}

/// An answer that is no promise of the page is the end of the process.
#[test]
fn ipc_13_a_pager_that_gives_up() {
    ends(|| {
        let mut it = pager();
        it.run.to(it.client);
        it.touch(HERE, Access::Read);
        it.asked(FaultKind::PageRead, 0);
        it.run.message(Call::Reply, NONE, 0, Tag::new(Answer::End as u64, 0), [0; 8]);
        (0..10).for_each(|_| it.run.call(Call::Yield, &[]));
    });
}

/// What can be supplied, and by whom.
#[test]
fn ipc_13_supplies_are_checked() {
    let mut it = pager();
    let weak = Rights::READ | Rights::WRITE | Rights::EXECUTE;
    let (memory, source, endpoint) = (it.memory, it.source, it.endpoint);
    let run = &mut it.run;
    let weak = run.result(Call::HandleCopy, &[memory, weak.bits().into(), 0]).expect("a copy");
    let poor = run.result(Call::HandleCopy, &[source, Rights::READ.bits().into(), 0]).expect("a copy");
    let refusals = [
        ([weak, 0, source, 0, PAGE], Error::NoRight),
        ([memory, 0, poor, 0, PAGE], Error::NoRight),
        ([memory, 0, memory, 0, PAGE], Error::WrongObject),
        ([PROCESS, 0, source, 0, PAGE], Error::WrongObject),
        ([memory, 0, source, 0, 0], Error::BadArgument),
        ([memory, 0, source, 0, 1], Error::BadArgument),
        ([memory, 1, source, 0, PAGE], Error::BadArgument),
        ([memory, 0, source, 0, 5 * PAGE], Error::BadArgument),
        ([memory, 3 * PAGE, source, 0, 2 * PAGE], Error::BadArgument),
        ([memory, 0, source, 3 * PAGE, 2 * PAGE], Error::BadArgument),
        ([memory, u64::MAX - PAGE + 1, source, 0, PAGE], Error::BadArgument),
    ];
    for (args, error) in refusals {
        assert_eq!(run.result(Call::MemorySupply, &args), Err(error), "{args:x?}");
    }
    for (args, error) in [
        ([0, endpoint], Error::BadArgument),
        ([1, endpoint], Error::BadArgument),
        ([abi::MAX_MEMORY + PAGE, endpoint], Error::BadArgument),
        ([PAGE, PROCESS], Error::NoRight),
        ([PAGE, source], Error::WrongObject),
    ] {
        assert_eq!(run.result(Call::MemoryCreatePaged, &args), Err(error), "{args:x?}");
    }
    for number in 0..=abi::MAX_SOURCES {
        let source = run.result(Call::MemoryCreate, &[PAGE]).expect("memory");
        let supplied = run.result(Call::MemorySupply, &[memory, 0, source, 0, PAGE]);
        assert_eq!(supplied.is_ok(), number < abi::MAX_SOURCES, "{number}: {supplied:?}");
        assert_eq!(run.result(Call::HandleClose, &[source]), Ok(0));
    }
}

/// As [`pager`], where the pager waits at its endpoint and the thread returned, which is the client's, has touched
/// the first page by the short way, which was supplied.
fn asked_shortly() -> (Pager, Ref<Thread>) {
    let mut it = pager();
    it.run.to(it.pager);
    it.run.receive(it.endpoint);
    it.run.to(it.client);
    let client = it.run.cpu().current().expect("the client").clone();
    it.ask();
    assert_eq!(it.supply(0, 1), Ok(0));
    (it, client)
}

impl Pager {
    /// The client, which runs, touches the first page; the pager has the CPU.
    fn ask(&mut self) {
        let gone = self.gone();
        self.touch(HERE, Access::Read);
        assert_eq!((self.run.user(), self.gone()), (self.pager, gone + 1));
    }

    /// How often a short way was gone.
    fn gone(&self) -> u64 {
        self.run.cpu().kernel.short_ways.gone.load(Ordering::Relaxed)
    }

    fn answer_and_receive(&mut self, endpoint: u64) {
        self.run.message(Call::ReplyReceive, endpoint, FOREVER, Tag::new(Answer::Resume as u64, 0), [0; 8]);
    }
}

/// Who looks at the registers of a thread that awaits an answer keeps it where it is: also the answer that takes
/// the short way comes after.
#[test]
fn ipc_10_a_short_answer_waits_for_who_looks_at_the_registers() {
    let (mut it, client) = asked_shortly();
    let (looks, looking) = channel();
    let looker = spawn(move || {
        client.look_at_standing(|_| {
            looks.send(()).expect("somebody answers");
            (0..10_000).all(|_| {
                yield_now();
                client.awaits_now()
            })
        })
    });
    looking.recv().expect("it looks");
    let gone = it.gone();
    it.answer_and_receive(it.endpoint);
    assert!(looker.join().expect("it has looked"), "answered meanwhile");
    assert_eq!((it.run.user(), it.gone()), (it.client, gone + 1));
}

/// An answer that cannot be given on the short way is given on the long one: the client awaited it all the time.
#[test]
fn ipc_13_an_answer_with_a_wait_elsewhere() {
    let (mut it, client) = asked_shortly();
    let elsewhere = it.run.endpoint();
    let gone = it.gone();
    it.answer_and_receive(elsewhere);
    assert_eq!((it.run.user(), it.gone()), (it.client, gone));
    assert!(it.is_there(HERE) && !client.extras().has(Extra::Stopped));
}

/// A client that is to end, which was found on the pager's CPU while that tried to answer, ends there; and the
/// pager goes on as if its caller had given up.
#[test]
fn ipc_13_a_client_that_is_doomed_while_it_is_answered() {
    let (mut it, client) = asked_shortly();
    let elsewhere = it.run.endpoint();
    let sender = it.run.thread();
    it.run.to(it.pager);
    let doomed = client.clone();
    meanwhile::once(move || drop(doomed.doom()));
    it.answer_and_receive(elsewhere);
    assert!(matches!(client.standing(), Standing::Ended));
    it.run.to(sender);
    it.run.call(Call::EndpointSend, &[elsewhere, FOREVER, Tag::new(7, 0).0]);
    it.run.to(it.pager);
    assert_eq!(it.run.received().map(|received| received.tag.label()), Ok(7));
}

/// A client that was doomed and has not been found yet is not answered on the short way, and does not go on.
#[test]
fn ipc_13_a_doomed_client_is_not_answered() {
    let (mut it, client) = asked_shortly();
    let third = it.run.thread();
    it.run.to(it.pager);
    drop(client.doom());
    let gone = it.gone();
    it.answer_and_receive(it.endpoint);
    assert_eq!((it.run.user(), it.gone()), (third, gone));
    assert!(matches!(client.standing(), Standing::Ended));
}

/// The last reference to a large object may be that of a fault: what is left of it is buried though nobody calls.
#[test]
fn what_a_fault_leaves_is_buried() {
    let mut it = pager();
    it.run.to(it.pager);
    it.run.receive(it.endpoint);
    it.run.to(it.client);
    let cpu = it.run.cpu();
    let mut object = MemoryObject::new(cpu.current().expect("the client").process().charged());
    while object.grow(200, 16) == Ok(Progress::More) {}
    let object = object.shared().expect("memory");
    meanwhile::once(move || drop(object));
    it.touch(HERE, Access::Read);
    assert_eq!(cpu.work(), Work::NONE, "the scheduler has looked");
    let memory = cpu.kernel.memory;
    for _ in 0..10 {
        it.run.machine.advance(sched::SLICE);
        it.run.interrupt(Interrupt::Timer);
    }
    assert!(!memory.has_remains());
    assert_eq!(it.run.user(), it.pager);
}
