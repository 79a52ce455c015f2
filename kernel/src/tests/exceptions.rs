//! Faults as messages: what the handler is told, what it can do to the thread, and what becomes of the
//! thread without it.

use super::{Run, User};
use crate::cap::Object;
use crate::ipc::Place as _;
use crate::process::Slice;
use crate::thread::Frame;
use abi::exception::{Answer, FaultKind, NO_ADDRESS, Word};
use abi::ipc::Tag;
use abi::{Call, Error, Handle, Rights, initial};
use arch_contract::addr::VirtAddr;
use arch_contract::trap::{Access, Fault, FaultCause, MAX_REGISTERS, Traps};
use arch_current::Current;
use arch_model::profile::Profile;
use std::vec::Vec;

const NONE: u64 = Handle::NONE.0 as u64;
const BYTES: u64 = 8 * Current::REGISTERS as u64;

const BREAKPOINT: Fault = Fault { cause: FaultCause::Breakpoint, pc: VirtAddr(0x2_0010), address: None };

/// A server and a thread of the same process whose faults it gets.
struct Pair {
    run: Run,
    server: User,
    endpoint: u64,
    thread: User,
    /// On the thread.
    handle: u64,
}

/// The faults of the thread go to the server by a capability with the badge 7.
fn pair() -> Pair {
    let mut run = Run::boot(Profile::Minimal);
    let endpoint = run.endpoint();
    let server = run.user();
    let (thread, handle) = run.thread_with_handle();
    let badged = Rights::WRITE.bits().into();
    let by = run.result(Call::HandleCopy, &[endpoint, badged, 7]).expect("a copy");
    run.result(Call::ThreadExceptions, &[handle, by]).expect("a handler");
    Pair { run, server, endpoint, thread, handle }
}

/// How the process ends that the current one waits for.
fn wait(run: &mut Run, process: u64) -> abi::ExitReport {
    // One that has to wait makes its call again.
    run.eventually(Call::ProcessWait, &[process]).ok();
    abi::ExitReport(run.eventually(Call::ProcessWait, &[process]).expect("it has ended"))
}

impl Pair {
    /// The thread faults; the server has received it when this returns.
    fn fault(&mut self, fault: Fault) {
        self.run.to(self.thread);
        self.run.fault(fault);
        self.run.to(self.server);
        self.run.receive(self.endpoint);
        self.run.to(self.server);
    }

    fn answer(&mut self, answer: Answer) {
        self.run.message(Call::Reply, NONE, 0, Tag::new(answer as u64, 0), [0; 8]);
        assert_eq!(self.run.returned(), Ok(0));
    }
}

/// The handler hears what happened and where; nothing of the thread's registers changes but what it asks
/// for; the answer resumes the thread once.
#[test]
fn ipc_10_a_fault_is_a_call() {
    let mut pair = pair();
    let page = Fault {
        cause: FaultCause::Page(Access::Write),
        pc: VirtAddr(0x2_0014),
        address: Some(VirtAddr(0x1234)),
    };
    let other = Fault { cause: FaultCause::Other(0x15), ..BREAKPOINT };
    let cases = [
        (BREAKPOINT, FaultKind::Breakpoint, [NO_ADDRESS, 0x2_0010, 0]),
        (page, FaultKind::PageWrite, [0x1234, 0x2_0014, 0]),
        (other, FaultKind::Other, [NO_ADDRESS, 0x2_0010, 0x15]),
    ];
    for (fault, kind, words) in cases {
        pair.run.to(pair.thread);
        *pair.run.registers_mut() =
            Frame { pc: 0x2_0014, sp: 0x5000, args: [1, 2, 3, 4, 5, 6], words: [9; 8], ..Frame::default() };
        let before = pair.run.registers();
        pair.fault(fault);
        let received = pair.run.received().expect("a call");
        assert_eq!((received.tag.label(), received.tag.words(), received.badge), (kind as u64, 3, 7));
        assert!(received.tag.is_call());
        let said = [Word::Address, Word::Pc, Word::Code].map(|word| received.words[word as usize]);
        assert_eq!(said, words);
        // It is stopped.
        for _ in 0..5 {
            pair.run.call(Call::Yield, &[]);
            assert_ne!(pair.run.user(), pair.thread);
        }
        pair.answer(Answer::Resume);
        pair.run.to(pair.thread);
        assert_eq!(pair.run.registers(), before, "registers are exact");
        pair.run.to(pair.server);
        pair.run.message(Call::Reply, NONE, 0, Tag::new(0, 0), [0; 8]);
        assert_eq!(pair.run.returned(), Err(Error::Gone), "answered twice");
    }
    // One instruction at a time.
    pair.fault(BREAKPOINT);
    pair.answer(Answer::Step);
    pair.run.to(pair.thread);
    assert!(pair.run.registers().stepping);
    pair.fault(Fault { cause: FaultCause::SingleStep, ..BREAKPOINT });
    assert_eq!(pair.run.received().map(|received| received.tag.label()), Ok(FaultKind::SingleStep as u64));
    pair.answer(Answer::Resume);
    pair.run.to(pair.thread);
    assert!(!pair.run.registers().stepping);
}

/// A handler that waits goes on at once, and the thread when it receives again: as with any call. A fault
/// that comes before its handler receives waits; so does one whose handler saves the reply.
#[test]
fn ipc_10_faults_wait_like_calls() {
    let mut pair = pair();
    pair.run.to(pair.server);
    pair.run.receive(pair.endpoint);
    pair.run.to(pair.thread);
    for _ in 0..3 {
        pair.run.fault(BREAKPOINT);
        assert_eq!(pair.run.user(), pair.server, "the handler goes on at once");
        pair.run.send(Call::ReplyReceive, pair.endpoint, Answer::Resume as u64, &[]);
        assert_eq!(pair.run.user(), pair.thread, "and so does the thread");
    }
    pair.run.fault(BREAKPOINT);
    let reply = pair.run.result(Call::ReplySave, &[]).expect("a reply");
    pair.run.call(Call::Yield, &[]);
    assert_eq!(pair.run.user(), pair.server);
    pair.run.message(Call::Reply, reply, 0, Tag::new(Answer::Resume as u64, 0), [0; 8]);
    pair.run.to(pair.thread);
}

/// A thread without a handler of its own has its process's.
#[test]
fn ipc_10_the_handler_of_a_process() {
    let mut run = Run::boot(Profile::Minimal);
    let (endpoint, main) = (run.endpoint(), run.user());
    let (child, handle) = run.process(&[]);
    run.result(Call::ThreadExceptions, &[handle, endpoint]).expect("a handler");
    run.to(child);
    run.fault(BREAKPOINT);
    run.to(main);
    run.receive(endpoint);
    assert_eq!(run.received().map(|received| received.tag.label()), Ok(FaultKind::Breakpoint as u64));
    run.message(Call::Reply, NONE, 0, Tag::new(Answer::Resume as u64, 0), [0; 8]);
    // Who names nothing that can be handled.
    run.to(main);
    assert_eq!(run.result(Call::ThreadExceptions, &[endpoint, endpoint]), Err(Error::WrongObject));
    let notification = run.notification();
    assert_eq!(run.result(Call::ThreadExceptions, &[handle, notification]), Err(Error::WrongObject));
    let weak = run.result(Call::HandleCopy, &[endpoint, 1, 0]).expect("a copy");
    assert_eq!(run.result(Call::ThreadExceptions, &[handle, weak]), Err(Error::NoRight));
    // None any more.
    assert_eq!(run.result(Call::ThreadExceptions, &[handle, NONE]), Ok(0));
    run.to(child);
    run.fault(BREAKPOINT);
    run.to(main);
    assert!(run.output().contains("killed: breakpoint"), "{}", run.output());
}

/// Who has received the fault reads and writes the registers, as does who has a handle, until it is
/// answered; what user mode cannot do it does not give.
#[test]
fn ipc_11_registers_of_a_stopped_thread() {
    let mut pair = pair();
    let page = pair.run.page();
    let not_stopped = |pair: &mut Pair| {
        for handle in [NONE, pair.handle] {
            for call in [Call::ThreadRegisters, Call::ThreadSetRegisters] {
                assert_eq!(pair.run.result(call, &[handle, page, BYTES]), Err(Error::NotStopped), "{call:?}");
            }
        }
    };
    not_stopped(&mut pair);
    pair.run.to(pair.thread);
    pair.run.registers_mut().args = [1, 2, 3, 4, 5, 6];
    let before = pair.run.registers();
    // Before anybody has received it, by the handle only.
    pair.run.fault(BREAKPOINT);
    pair.run.to(pair.server);
    assert_eq!(pair.run.result(Call::ThreadRegisters, &[NONE, page, BYTES]), Err(Error::NotStopped));
    assert_eq!(pair.run.result(Call::ThreadRegisters, &[pair.handle, page, BYTES]), Ok(BYTES));
    pair.run.receive(pair.endpoint);
    for handle in [pair.handle, NONE] {
        assert_eq!(pair.run.result(Call::ThreadRegisters, &[handle, page, BYTES]), Ok(BYTES));
        assert_eq!(pair.run.result(Call::ThreadRegisters, &[handle, page, 8]), Err(Error::BadArgument));
    }
    let weak = pair.run.result(Call::HandleCopy, &[pair.handle, 1, 0]).expect("a copy");
    assert_eq!(pair.run.result(Call::ThreadSetRegisters, &[weak, page, BYTES]), Err(Error::NoRight));
    let mut words = [0u64; MAX_REGISTERS];
    let mut bytes = [0; BYTES as usize];
    pair.run.peek(page, &mut bytes);
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().expect("eight"));
    }
    assert_eq!(words, Current::registers(&before));
    // Every bit of every word.
    let ones: Vec<u8> = std::vec![0xff; BYTES as usize];
    pair.run.poke(page, &ones);
    assert_eq!(pair.run.result(Call::ThreadSetRegisters, &[NONE, page, BYTES]), Ok(BYTES));
    pair.answer(Answer::Resume);
    not_stopped(&mut pair);
    pair.run.to(pair.thread);
    let after = pair.run.registers();
    assert_eq!((after.pc, after.sp, after.args, after.words), (!0, !0, [!0; 6], [!0; 8]));
    assert!(!after.privileged && !after.stepping);
}

/// The same for its vector registers, once the fault was received; one that has none yet gets some.
#[test]
fn ipc_11_vector_registers_of_a_stopped_thread() {
    const VECTORS: u64 = arch_model::vector::AREA_BYTES as u64;
    let mut pair = pair();
    let (page, handle) = (pair.run.page(), pair.handle);
    let both = [Call::ThreadVectors, Call::ThreadSetVectors];
    let not_stopped = |pair: &mut Pair, handle| {
        for call in both {
            let refused = pair.run.result(call, &[handle, page, VECTORS]);
            assert_eq!(refused, Err(Error::NotStopped), "{call:?}");
        }
    };
    not_stopped(&mut pair, handle);
    pair.run.to(pair.thread);
    pair.run.fault(BREAKPOINT);
    pair.run.to(pair.server);
    // Somewhere its state may still be in a CPU.
    not_stopped(&mut pair, handle);
    pair.run.receive(pair.endpoint);
    for handle in [pair.handle, NONE] {
        assert_eq!(pair.run.result(Call::ThreadVectors, &[handle, page, VECTORS]), Ok(0), "it has used none");
        for call in both {
            let refused = pair.run.result(call, &[handle, page, VECTORS - 8]);
            assert_eq!(refused, Err(Error::BadArgument), "{call:?}");
        }
    }
    let weak = pair.run.result(Call::HandleCopy, &[pair.handle, 1, 0]).expect("a copy");
    assert_eq!(pair.run.result(Call::ThreadSetVectors, &[weak, page, VECTORS]), Err(Error::NoRight));
    let bytes: Vec<u8> = (0..VECTORS as u8).collect();
    pair.run.poke(page, &bytes);
    assert_eq!(pair.run.result(Call::ThreadSetVectors, &[NONE, page, VECTORS]), Ok(VECTORS));
    pair.answer(Answer::Resume);
    not_stopped(&mut pair, NONE);
    pair.run.to(pair.thread);
    let words = pair.run.cpu().arch().vectors().expect("the units are on");
    assert!(words.iter().flat_map(|word| word.to_le_bytes()).eq(bytes), "{words:x?}");
    // What it has in them when it stops is what is read.
    pair.run.cpu().arch().set_vectors([77; arch_model::vector::VECTOR_WORDS]);
    pair.fault(BREAKPOINT);
    assert_eq!(pair.run.result(Call::ThreadVectors, &[pair.handle, page, VECTORS]), Ok(VECTORS));
    let mut found = [0; VECTORS as usize];
    pair.run.peek(page, &mut found);
    assert!(found.chunks_exact(8).all(|word| word == 77u64.to_le_bytes()), "{found:x?}");
}

/// Who has a call of the thread that it has given up since has nothing of what stops it later.
#[test]
fn ipc_11_a_call_that_was_given_up_opens_no_registers() {
    let mut pair = pair();
    let (page, service) = (pair.run.page(), pair.run.endpoint());
    pair.run.to(pair.thread);
    let soon = pair.run.clock() + 1_000_000;
    pair.run.message(Call::EndpointCall, service, soon, Tag::new(1, 0), [0; 8]);
    pair.run.to(pair.server);
    pair.run.receive(service);
    pair.run.sleep(2_000_000);
    pair.run.to(pair.thread);
    assert_eq!(pair.run.returned(), Err(Error::TimedOut));
    pair.run.fault(BREAKPOINT);
    pair.run.to(pair.server);
    for call in [Call::ThreadRegisters, Call::ThreadSetRegisters] {
        assert_eq!(pair.run.result(call, &[NONE, page, BYTES]), Err(Error::NotStopped), "{call:?}");
    }
}

/// However the handler goes, the fault ends the process in the end, and says so.
#[test]
fn ipc_12_a_handler_that_is_gone() {
    type How = fn(&mut Run, u64);
    let ways: [(&str, How); 5] = [
        ("receives again", |run, own| run.call(Call::EndpointReceive, &[own, 0])),
        ("ends", |run, _| run.call(Call::Exit, &[0])),
        ("says so", |run, _| run.message(Call::Reply, NONE, 0, Tag::new(Answer::End as u64, 0), [0; 8])),
        ("says nonsense", |run, _| run.message(Call::Reply, NONE, 0, Tag::new(77, 0), [0; 8])),
        ("loses the reply", |run, _| {
            let reply = run.result(Call::ReplySave, &[]).expect("a reply");
            assert_eq!(run.result(Call::HandleClose, &[reply]), Ok(0));
        }),
    ];
    for (what, way) in ways {
        let mut run = Run::boot(Profile::Minimal);
        let (endpoint, main) = (run.endpoint(), run.user());
        let (server, _) = run.process(&[(endpoint, Rights::READ)]);
        let (child, handle) = run.process(&[]);
        run.result(Call::ThreadExceptions, &[handle, endpoint]).expect("a handler");
        run.to(server);
        let own = initial::CONSOLE.0.into();
        run.receive(own);
        run.to(child);
        run.fault(BREAKPOINT);
        assert_eq!(run.user(), server, "{what}");
        way(&mut run, own);
        run.to(main);
        let report = wait(&mut run, handle);
        assert_eq!((report.ending(), report.status()), (Some(abi::Ending::Fault), abi::FAULT_STATUS));
        assert_eq!(run.output().matches("killed: breakpoint").count(), 1, "{what}: {}", run.output());
    }
}

/// A handler of a thread that is closed leaves the faults to that of the process.
#[test]
fn ipc_12_a_threads_handler_that_was_closed() {
    let mut it = pair();
    let [own, all] = [8, 9].map(|badge| {
        let copy = [it.endpoint, Rights::WRITE.bits().into(), badge];
        it.run.result(Call::HandleCopy, &copy).expect("a copy")
    });
    it.run.result(Call::ThreadExceptions, &[initial::PROCESS.0.into(), all]).expect("a handler");
    let handler = it.run.result(Call::ThreadExceptions, &[it.handle, own]).expect("a handler");
    assert_eq!(it.run.result(Call::HandleClose, &[handler]), Ok(0));
    it.fault(BREAKPOINT);
    assert_eq!(it.run.received().map(|received| received.badge), Ok(9));
}

/// A handler ends with its capability: with that on the endpoint, too. Faults in its queue when the endpoint
/// ends are the end of their processes.
#[test]
fn ipc_12_a_handler_that_was_revoked() {
    type How = fn(&mut Run, u64, u64, u64);
    let ways: [How; 3] = [
        |run, _, _, handler| assert_eq!(run.result(Call::HandleClose, &[handler]), Ok(0)),
        |run, _, by, _| assert_eq!(run.result(Call::HandleClose, &[by]), Ok(0)),
        |run, endpoint, _, _| assert_eq!(run.eventually(Call::HandleRevoke, &[endpoint]), Ok(0)),
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let mut run = Run::boot(Profile::Minimal);
        let (endpoint, main) = (run.endpoint(), run.user());
        let (child, handle) = run.process(&[]);
        let by = run.result(Call::HandleCopy, &[endpoint, 2, 0]).expect("a copy");
        let handler = run.result(Call::ThreadExceptions, &[handle, by]).expect("a handler");
        way(&mut run, endpoint, by, handler);
        run.to(child);
        run.fault(BREAKPOINT);
        run.to(main);
        let ended = run.output().contains("killed: breakpoint");
        // What was derived from a handle that is closed is derived from its origin.
        assert_eq!(ended, number != 1, "{number}");
        if number == 1 {
            assert_eq!(run.result(Call::HandleClose, &[endpoint]), Ok(0));
        }
        let report = wait(&mut run, handle);
        assert_eq!(report.ending(), Some(abi::Ending::Fault));
    }
}

/// Faults that nobody will receive any more are reported one in a slice: a report goes to the console.
#[test]
fn ipc_12_one_report_in_a_slice() {
    const MANY: usize = 3;
    let mut run = Run::boot(Profile::Minimal);
    let (endpoint, main) = (run.endpoint(), run.user());
    let children: Vec<_> = (0..MANY).map(|_| run.process(&[])).collect();
    for (child, handle) in &children {
        run.result(Call::ThreadExceptions, &[*handle, endpoint]).expect("a handler");
        run.to(*child);
        run.fault(BREAKPOINT);
        run.to(main);
    }
    let cpu = run.cpu();
    let thread = cpu.current().expect("the main thread");
    let named =
        thread.process().table.get(cpu, Handle(endpoint as u32), Rights::empty()).expect("its handle");
    let Object::Endpoint(endpoint) = &named.object else { panic!("not an endpoint") };
    for _ in 0..MANY {
        assert_eq!(endpoint.closing_slice(cpu), Slice::More);
        assert_eq!(run.output().matches("killed: breakpoint").count(), 1);
    }
    assert_eq!(endpoint.closing_slice(cpu), Slice::Done);
}

/// A thread that is stopped can be killed, wherever its call is.
#[test]
fn ipc_12_a_stopped_thread_can_be_killed() {
    for received in [false, true] {
        let mut run = Run::boot(Profile::Minimal);
        let (endpoint, main) = (run.endpoint(), run.user());
        let (child, handle) = run.process(&[]);
        run.result(Call::ThreadExceptions, &[handle, endpoint]).expect("a handler");
        run.to(child);
        run.fault(BREAKPOINT);
        run.to(main);
        if received {
            run.receive(endpoint);
        }
        assert_eq!(run.result(Call::ProcessKill, &[handle]), Ok(0));
        let report = wait(&mut run, handle);
        assert_eq!(report.ending(), Some(abi::Ending::Killed));
        if received {
            run.message(Call::Reply, NONE, 0, Tag::new(0, 0), [0; 8]);
            assert_eq!(run.returned(), Err(Error::Gone));
        }
        let page = run.page();
        assert_eq!(run.result(Call::ThreadRegisters, &[NONE, page, BYTES]), Err(Error::NotStopped));
        assert_eq!(run.result(Call::EndpointReceive, &[endpoint, 0]), Err(Error::TimedOut));
    }
}

/// Handlers that wait for their own handlers: when the first ends, so do all processes, one after the other
/// and not one inside the other.
#[test]
fn ipc_12_handlers_of_handlers() {
    const CHAIN: usize = 12;
    let mut run = Run::boot(Profile::Minimal);
    let main = run.user();
    let own = initial::CONSOLE.0.into();
    let endpoints: Vec<u64> = (0..CHAIN).map(|_| run.endpoint()).collect();
    let children: Vec<(User, u64)> =
        endpoints.iter().map(|&endpoint| run.process(&[(endpoint, Rights::READ)])).collect();
    for (number, (child, _)) in children.iter().enumerate() {
        run.to(main);
        if number > 0 {
            let args = [children[number].1, endpoints[number - 1]];
            run.result(Call::ThreadExceptions, &args).expect("a handler");
        }
        run.to(*child);
        run.receive(own);
    }
    // The last has nobody's faults to wait for.
    run.to(main);
    run.send(Call::EndpointSend, endpoints[CHAIN - 1], 0, &[]);
    for (number, (child, _)) in children.iter().enumerate().rev() {
        run.to(*child);
        if number > 0 {
            run.fault(BREAKPOINT);
        }
    }
    run.call(Call::Exit, &[0]);
    run.to(main);
    for (number, (_, process)) in children.iter().enumerate() {
        let ending = wait(&mut run, *process).ending();
        assert_eq!(
            ending,
            Some(if number == 0 { abi::Ending::Exited } else { abi::Ending::Fault }),
            "{number}"
        );
    }
    assert_eq!(run.output().matches("killed: breakpoint").count(), CHAIN - 1);
}
