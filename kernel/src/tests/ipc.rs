//! Messages, replies and notifications: who runs when, who gets what, and who hears that nothing will
//! come.

use super::many::thread;
use super::{ENTRY, Run, User};
use crate::program::STACK_TOP;
use crate::sched::ready::Load;
use crate::sync::Ordering;
use abi::ipc::{FOREVER, Tag, WORDS};
use abi::{Call, Error, Grant, Handle, Rights, initial};
use arch_contract::irq::Interrupt;
use arch_model::profile::Profile;

const PROCESS: u64 = initial::PROCESS.0 as u64;
const TIMER: u64 = initial::TIMER.0 as u64;
const NONE: u64 = Handle::NONE.0 as u64;

/// What a thread finds in its registers after a call with a message.
#[derive(Debug, PartialEq)]
pub(super) struct Received {
    pub tag: Tag,
    pub badge: u64,
    pub words: [u64; WORDS],
}

/// `words`, and zeros.
fn words(some: &[u64]) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    words[..some.len()].copy_from_slice(some);
    words
}

impl Run {
    pub(super) fn endpoint(&mut self) -> u64 {
        self.result(Call::EndpointCreate, &[]).expect("an endpoint")
    }

    pub(super) fn notification(&mut self) -> u64 {
        self.result(Call::NotificationCreate, &[]).expect("a notification")
    }

    /// The current thread makes a call with a message.
    pub(super) fn message(&mut self, call: Call, handle: u64, deadline: u64, tag: Tag, words: [u64; WORDS]) {
        // SAFETY: the kernel has answered with it, and nothing runs.
        unsafe { self.frame().as_mut() }.words = words;
        self.call(call, &[handle, deadline, tag.0]);
    }

    /// A call that sends `some` words, all of them.
    pub(super) fn send(&mut self, call: Call, handle: u64, label: u64, some: &[u64]) {
        self.message(call, handle, FOREVER, Tag::new(label, some.len()), words(some));
    }

    pub(super) fn receive(&mut self, endpoint: u64) {
        self.call(Call::EndpointReceive, &[endpoint, FOREVER]);
    }

    /// What the current thread has received.
    pub(super) fn received(&self) -> Result<Received, Error> {
        let frame = self.registers();
        let value = self.returned()?;
        Ok(Received { tag: Tag(value), badge: frame.badge, words: frame.words })
    }

    /// A call after which others may run before its caller does again; what it returned.
    pub(super) fn eventually(&mut self, call: Call, args: &[u64]) -> Result<u64, Error> {
        let caller = self.user();
        self.call(call, args);
        self.to(caller);
        self.returned()
    }

    /// A thread of the current process, which has run up to its first instruction; so has the caller.
    pub(super) fn thread(&mut self) -> User {
        self.thread_with_handle().0
    }

    pub(super) fn thread_with_handle(&mut self) -> (User, u64) {
        let maker = self.user();
        let args = [PROCESS, ENTRY, STACK_TOP.0 - 8192, 0];
        let handle = self.result(Call::ThreadStart, &args).expect("a thread");
        let thread = loop {
            // SAFETY: the kernel has answered with it, and nothing runs.
            if self.user() != maker && unsafe { self.frame().as_ref() }.number == 0 {
                break self.user();
            }
            self.call(Call::Yield, &[]);
        };
        self.to(maker);
        (thread, handle)
    }

    /// The turn goes on to `user`, by yields of others.
    pub(super) fn to(&mut self, user: User) {
        for _ in 0..100 {
            if self.user() == user {
                return;
            }
            self.call(Call::Yield, &[]);
        }
        panic!("{user:?} is not ready");
    }

    /// A process with `grants`, whose thread is returned, and its handle.
    pub(super) fn process(&mut self, grants: &[(u64, Rights)]) -> (User, u64) {
        let (maker, page) = (self.user(), self.page());
        let grants: std::vec::Vec<Grant> = grants
            .iter()
            .map(|(handle, rights)| Grant { handle: Handle(*handle as u32), rights: rights.bits() })
            .collect();
        let handle = self.spawn_with(page, u64::MAX, &grants).expect("a child");
        // The one that was made last.
        let number = |run: &Run| run.cpu().current().expect("somebody runs").process().number;
        let all = (0..20).map(|_| {
            self.call(Call::Yield, &[]);
            (number(self), self.user())
        });
        let (_, child) = all.max_by_key(|(number, _)| *number).expect("twenty");
        self.to(maker);
        (child, handle)
    }

    /// Time passes, and the timer's interrupt with it.
    pub(super) fn sleep(&mut self, nanoseconds: u64) {
        self.machine.advance(nanoseconds);
        self.interrupt(Interrupt::Timer);
    }

    pub(super) fn clock(&mut self) -> u64 {
        self.result(Call::ClockRead, &[TIMER]).expect("a clock")
    }
}

/// A call goes straight to the server that waits, and the reply straight back; registers of words that
/// were not sent keep what the receiver had; the loop of a server is one call per message.
#[test]
fn ipc_1_a_call_and_its_reply() {
    let mut run = Run::boot(Profile::Minimal);
    let endpoint = run.endpoint();
    let client = run.user();
    let server = run.thread();
    run.to(server);
    run.receive(endpoint);
    assert_eq!(run.user(), client);
    for turn in 1..4u64 {
        // The third word is not sent.
        run.message(Call::EndpointCall, endpoint, FOREVER, Tag::new(turn, 2), words(&[turn, 7, 99]));
        assert_eq!(run.user(), server, "the receiver goes on at once");
        let tag = Tag(Tag::new(turn, 2).0 | Tag::CALL);
        let received = run.received().expect("a call");
        assert_eq!((received.tag, received.badge, &received.words[..3]), (tag, 0, &[turn, 7, 0][..]));
        run.send(Call::ReplyReceive, endpoint, 0x77, &[turn + 1]);
        assert_eq!(run.user(), client, "and so does the caller");
        // What is its own stays.
        let reply = Received { tag: Tag::new(0x77, 1), badge: 0, words: words(&[turn + 1, 7, 99]) };
        assert_eq!(run.received(), Ok(reply));
    }
}

/// Senders that come first wait, and are served by priority, inside one in the order of their coming.
#[test]
fn ipc_2_the_highest_priority_is_served_first() {
    let mut run = Run::boot(Profile::Minimal);
    let endpoint = run.endpoint();
    let main = run.user();
    let senders = [0; 5].map(|_| run.thread_with_handle());
    for (number, (thread, _)) in senders.iter().enumerate() {
        run.to(*thread);
        run.send(Call::EndpointSend, endpoint, 0, &[number as u64]);
    }
    run.to(main);
    // Those who wait already change their places.
    for (number, priority) in [(0, 90), (2, 90), (3, 95)] {
        assert_eq!(run.result(Call::ThreadPriority, &[senders[number].1, priority]), Ok(0));
    }
    run.to(main);
    let order: std::vec::Vec<u64> = (0..5)
        .map(|_| {
            run.receive(endpoint);
            run.to(main);
            run.received().expect("a message").words[0]
        })
        .collect();
    assert_eq!(order, [1, 4, 3, 0, 2]);
}

/// A deadline ends each kind of waiting, not early; one that is past does not wait.
#[test]
fn ipc_3_deadlines() {
    let mut run = Run::boot(Profile::Minimal);
    let (endpoint, notification) = (run.endpoint(), run.notification());
    let main = run.user();
    let other = run.thread();
    let empty = Tag::new(0, 0).0;
    run.machine.advance(10_000);
    for past in [0, 1] {
        assert_eq!(run.eventually(Call::EndpointReceive, &[endpoint, past]), Err(Error::TimedOut));
        assert_eq!(run.eventually(Call::EndpointSend, &[endpoint, past, empty]), Err(Error::TimedOut));
        assert_eq!(run.eventually(Call::EndpointCall, &[endpoint, past, empty]), Err(Error::TimedOut));
        assert_eq!(run.eventually(Call::NotificationWait, &[notification, past]), Err(Error::TimedOut));
    }
    let waits = [
        (Call::EndpointReceive, endpoint),
        (Call::EndpointSend, endpoint),
        (Call::EndpointCall, endpoint),
        (Call::NotificationWait, notification),
    ];
    for (call, handle) in waits {
        run.to(other);
        let due = run.clock() + 2_000_000;
        run.call(call, &[handle, due, empty]);
        assert_eq!(run.user(), main);
        run.sleep(1_000_000);
        run.call(Call::Yield, &[]);
        assert_eq!(run.user(), main, "{call:?} ended early");
        run.sleep(1_100_000);
        run.to(other);
        assert_eq!(run.returned(), Err(Error::TimedOut), "{call:?}");
        // It is in no queue any more.
        run.to(main);
        assert_eq!(run.eventually(Call::EndpointReceive, &[endpoint, 0]), Err(Error::TimedOut));
        assert_eq!(run.eventually(Call::EndpointSend, &[endpoint, 0, empty]), Err(Error::TimedOut));
    }
    // One that was received and not answered.
    run.to(other);
    let due = run.clock() + 2_000_000;
    run.call(Call::EndpointCall, &[endpoint, due, empty]);
    run.receive(endpoint);
    assert!(run.received().is_ok_and(|received| received.tag.is_call()));
    run.sleep(2_100_000);
    run.to(other);
    assert_eq!(run.returned(), Err(Error::TimedOut));
    run.to(main);
    assert_eq!(run.eventually(Call::Reply, &[NONE, 0, empty]), Err(Error::Gone));
    // A wait that ends before its deadline leaves no timer behind.
    run.to(other);
    let due = run.clock() + 2_000_000;
    run.call(Call::EndpointReceive, &[endpoint, due]);
    run.send(Call::EndpointSend, endpoint, 5, &[]);
    run.to(other);
    assert!(run.received().is_ok_and(|received| received.tag.label() == 5));
    run.receive(endpoint);
    run.sleep(3_000_000);
    run.call(Call::Yield, &[]);
    assert_eq!(run.user(), main, "a deadline of before has ended a later wait");
}

/// A caller hears of the end of its server, wherever its call was; a server's reply to one that is gone
/// fails.
#[test]
fn ipc_4_nobody_waits_for_the_dead() {
    let mut run = Run::boot(Profile::Minimal);
    let endpoint = run.endpoint();
    let main = run.user();
    let receives = Rights::READ | Rights::WRITE;
    let (server, handle) = run.process(&[(endpoint, receives)]);
    let own = initial::CONSOLE.0.into();
    // Received, not answered.
    run.to(server);
    run.receive(own);
    run.send(Call::EndpointCall, endpoint, 0, &[]);
    assert_eq!(run.user(), server);
    run.call(Call::Exit, &[1]);
    run.to(main);
    assert_eq!(run.returned(), Err(Error::Gone));
    run.call(Call::ProcessWait, &[handle]);
    run.to(main);

    // The client ends first.
    let (client, handle) = run.process(&[(endpoint, Rights::WRITE)]);
    run.to(client);
    run.send(Call::EndpointCall, own, 0, &[]);
    run.to(main);
    run.receive(endpoint);
    assert_eq!(run.result(Call::ProcessKill, &[handle]), Ok(0));
    assert_eq!(run.result(Call::Reply, &[NONE, 0, 0]), Err(Error::Gone));

    // It ends while it waits to be received.
    let (client, handle) = run.process(&[(endpoint, Rights::WRITE)]);
    run.to(client);
    run.send(Call::EndpointCall, own, 0, &[]);
    run.to(main);
    assert_eq!(run.result(Call::ProcessKill, &[handle]), Ok(0));
    assert_eq!(run.result(Call::EndpointReceive, &[endpoint, 0]), Err(Error::TimedOut));

    // A server that receives again without a reply has given its caller up.
    let other = run.thread();
    run.to(other);
    run.send(Call::EndpointCall, endpoint, 0, &[]);
    run.to(main);
    run.receive(endpoint);
    assert_eq!(run.result(Call::EndpointReceive, &[endpoint, 0]), Err(Error::TimedOut));
    run.to(other);
    assert_eq!(run.returned(), Err(Error::Gone));
}

/// When nobody can receive any more, those who wait to send hear it, however many they are, and those
/// who come later; when nobody can send any more, so do receivers.
#[test]
fn ipc_4_the_end_of_an_endpoint() {
    let mut run = Run::boot(Profile::Minimal);
    let main = run.user();
    let endpoint = run.endpoint();
    let senders: std::vec::Vec<User> = (0..40).map(|_| run.thread()).collect();
    let only = |run: &mut Run, rights: Rights| {
        run.result(Call::HandleCopy, &[endpoint, rights.bits().into(), 0]).expect("a slot")
    };
    let to_send = only(&mut run, Rights::WRITE);
    for sender in &senders {
        run.to(*sender);
        run.send(Call::EndpointCall, to_send, 0, &[]);
    }
    run.to(main);
    assert_eq!(run.result(Call::HandleClose, &[endpoint]), Ok(0));
    for sender in &senders {
        run.to(*sender);
        assert_eq!(run.returned(), Err(Error::Gone));
        run.send(Call::EndpointCall, to_send, 0, &[]);
        run.to(*sender);
        assert_eq!(run.returned(), Err(Error::Gone));
    }
    run.to(main);
    let endpoint = run.endpoint();
    let to_receive =
        run.result(Call::HandleCopy, &[endpoint, Rights::READ.bits().into(), 0]).expect("a slot");
    run.to(senders[0]);
    run.receive(to_receive);
    run.to(main);
    assert_eq!(run.result(Call::HandleClose, &[endpoint]), Ok(0));
    run.to(senders[0]);
    assert_eq!(run.returned(), Err(Error::Gone));
}

/// The badge of the capability that was sent by, and capabilities with the rights that were given;
/// where the receiver has no such thing, zero, and nothing else is lost.
#[test]
fn ipc_5_badges_and_capabilities() {
    let mut run = Run::boot(Profile::Minimal);
    let endpoint = run.endpoint();
    let main = run.user();
    let badged =
        run.result(Call::HandleCopy, &[endpoint, Rights::WRITE.bits().into(), 0x5a]).expect("a slot");
    let (client, _) = run.process(&[(badged, Rights::WRITE), (TIMER, Rights::all())]);
    let (own, timer) = (u64::from(initial::CONSOLE.0), u64::from(initial::TIMER.0));
    run.to(client);
    let mut message = words(&[1, 2, 3]);
    message[6] = timer | u64::from(Rights::READ.bits()) << 32;
    message[7] = timer;
    // A handle that is none is refused before anything is sent.
    message[5] = 4000;
    run.message(Call::EndpointCall, own, FOREVER, Tag::new(9, 3).with_capabilities(3), message);
    assert_eq!((run.user(), run.returned()), (client, Err(Error::BadHandle)));
    message[5] = 0;
    run.message(Call::EndpointCall, own, FOREVER, Tag::new(9, 3).with_capabilities(2), message);
    run.to(main);
    run.receive(endpoint);
    let received = run.received().expect("a call");
    assert_eq!((received.badge, received.tag.label(), received.tag.capabilities()), (0x5a, 9, 2));
    assert_eq!(received.words[..6], [1, 2, 3, 0, 0, 0]);
    let [reads, nothing] = [received.words[6], received.words[7]];
    assert!(run.result(Call::ClockRead, &[reads]).is_ok());
    assert_eq!(run.result(Call::SleepUntil, &[reads, 0]), Err(Error::NoRight));
    assert_eq!(run.result(Call::ClockRead, &[nothing]), Err(Error::NoRight));
    // The reply carries some too. This one is closed meanwhile: by the sender itself it cannot be, so it
    // never was.
    let mut reply = words(&[4]);
    reply[7] = PROCESS | u64::from(Rights::READ.bits()) << 32;
    run.message(Call::Reply, NONE, 0, Tag::new(1, 1).with_capabilities(1), reply);
    run.to(client);
    let received = run.received().expect("a reply");
    assert_eq!((received.words[0], received.badge), (4, 0));
    assert_ne!(received.words[7], 0);
}

/// What cannot be a message is refused, and nothing has happened.
#[test]
fn ipc_5_bad_messages() {
    let mut run = Run::boot(Profile::Minimal);
    let endpoint = run.endpoint();
    for tag in [9, 8 | 1 << 4, 5 << 4, Tag::CALL, Tag::NOTIFIED, 1 << 7, 1 << 15] {
        for call in [Call::EndpointCall, Call::EndpointSend, Call::ReplyReceive] {
            assert_eq!(run.result(call, &[endpoint, FOREVER, tag]), Err(Error::BadArgument), "{tag:#x}");
        }
        assert_eq!(run.result(Call::Reply, &[NONE, 0, tag]), Err(Error::BadArgument), "{tag:#x}");
    }
    let other = run.notification();
    assert_eq!(run.result(Call::EndpointReceive, &[other, 0]), Err(Error::WrongObject));
    assert_eq!(run.result(Call::NotificationWait, &[endpoint, 0]), Err(Error::WrongObject));
    assert_eq!(run.result(Call::Reply, &[endpoint, 0, 0]), Err(Error::WrongObject));
    assert_eq!(run.result(Call::ReplySave, &[]), Err(Error::NotFound));
    let to_send = run.result(Call::HandleCopy, &[endpoint, Rights::WRITE.bits().into(), 0]).expect("a slot");
    assert_eq!(run.result(Call::EndpointReceive, &[to_send, 0]), Err(Error::NoRight));
    assert_eq!(run.result(Call::EndpointCreate, &[]).map(|_| ()), Ok(()));
}

/// A reply that was saved is made once, by whoever has the handle; closing the handle gives the caller up.
#[test]
fn ipc_6_a_reply_is_made_once() {
    let mut run = Run::boot(Profile::Minimal);
    let endpoint = run.endpoint();
    let main = run.user();
    let clients = [run.thread(), run.thread()];
    let mut replies = std::vec::Vec::new();
    for client in clients {
        run.to(client);
        run.send(Call::EndpointCall, endpoint, 0, &[]);
        run.to(main);
        run.receive(endpoint);
        replies.push(run.result(Call::ReplySave, &[]).expect("a call to reply to"));
        assert_eq!(run.result(Call::Reply, &[NONE, 0, 0]), Err(Error::Gone), "it was saved");
    }
    // The later one first.
    run.send(Call::Reply, replies[1], 0, &[11]);
    assert_eq!(run.returned(), Ok(0));
    assert_eq!(run.result(Call::Reply, &[replies[1], 0, 0]), Err(Error::Gone));
    run.to(clients[1]);
    assert_eq!(run.received().map(|received| received.words[0]), Ok(11));
    run.to(main);
    let second = run.result(Call::HandleCopy, &[replies[0], Rights::all().bits().into(), 0]).expect("a slot");
    assert_eq!(run.result(Call::HandleClose, &[replies[0]]), Ok(0));
    run.call(Call::Yield, &[]);
    run.to(main);
    assert_eq!(run.result(Call::HandleClose, &[second]), Ok(0));
    run.to(clients[0]);
    assert_eq!(run.returned(), Err(Error::Gone));
}

/// A reply object whose caller has given up answers nothing, though the caller waits again.
#[test]
fn ipc_6_a_late_reply_answers_nothing() {
    let mut run = Run::boot(Profile::Minimal);
    let endpoint = run.endpoint();
    let main = run.user();
    let client = run.thread();
    run.to(client);
    let soon = run.clock() + 1_000_000;
    run.message(Call::EndpointCall, endpoint, soon, Tag::new(1, 0), [0; WORDS]);
    run.to(main);
    run.receive(endpoint);
    let late = run.result(Call::ReplySave, &[]).expect("a call to reply to");
    run.sleep(2_000_000);
    run.to(client);
    assert_eq!(run.returned(), Err(Error::TimedOut));
    run.send(Call::EndpointCall, endpoint, 2, &[]);
    run.to(main);
    run.receive(endpoint);
    assert_eq!(run.received().map(|received| received.tag.label()), Ok(2));
    assert_eq!(run.result(Call::Reply, &[late, 0, 0]), Err(Error::Gone));
    run.send(Call::Reply, NONE, 7, &[]);
    run.to(client);
    assert_eq!(run.received().map(|received| received.tag.label()), Ok(7));
}

/// Along a chain of calls each runs at the caller's priority, and no longer than until the reply.
#[test]
fn ipc_7_priority_goes_along_a_chain() {
    let mut run = Run::boot(Profile::Minimal);
    let main = run.user();
    let endpoints = [run.endpoint(), run.endpoint(), run.endpoint()];
    let servers = endpoints.map(|endpoint| {
        let (server, handle) = run.thread_with_handle();
        run.to(server);
        run.receive(endpoint);
        run.to(main);
        assert_eq!(run.result(Call::ThreadPriority, &[handle, 90]), Ok(0));
        server
    });
    // In the middle: it would run if a server did at its own.
    let (spinner, handle) = run.thread_with_handle();
    assert_eq!(run.result(Call::ThreadPriority, &[handle, 95]), Ok(0));
    run.send(Call::EndpointCall, endpoints[0], 0, &[1]);
    for (server, next) in [(0, 1), (1, 2)] {
        assert_eq!(run.user(), servers[server]);
        assert_eq!(run.cpu().current_priority(), Some(100));
        run.call(Call::Yield, &[]);
        assert_eq!(run.user(), servers[server]);
        run.send(Call::EndpointCall, endpoints[next], 0, &[1]);
    }
    for server in [2, 1, 0] {
        assert_eq!(run.user(), servers[server]);
        assert_eq!(run.cpu().current_priority(), Some(100));
        run.send(Call::ReplyReceive, endpoints[server], 0, &[server as u64]);
    }
    assert_eq!(run.user(), main);
    assert_eq!(run.received().map(|received| received.words[0]), Ok(0));
    // A server that replies without receiving has its own priority again at once.
    run.send(Call::EndpointCall, endpoints[0], 0, &[1]);
    assert_eq!(run.user(), servers[0]);
    run.call(Call::Reply, &[NONE, 0, 0]);
    assert_eq!(run.user(), main);
    let now = run.clock();
    run.call(Call::SleepUntil, &[TIMER, now + 1_000_000]);
    assert_eq!(run.user(), spinner, "the server keeps what was lent");
}

/// A server runs on the budget of a caller that has one: when that is used up, it waits for the
/// caller's next period.
#[test]
fn ipc_8_a_server_runs_on_its_callers_budget() {
    let mut run = Run::boot(Profile::Minimal);
    let main = run.user();
    let endpoint = run.endpoint();
    let server = run.thread();
    run.to(server);
    run.receive(endpoint);
    let client = run.thread();
    run.to(client);
    assert_eq!(run.result(Call::ThreadBudget, &[NONE, 1_000_000, 100_000_000]), Ok(0));
    run.send(Call::EndpointCall, endpoint, 0, &[]);
    assert_eq!(run.user(), server);
    run.sleep(1_100_000);
    assert_eq!(run.user(), main, "the budget is used up");
    for _ in 0..10 {
        run.call(Call::Yield, &[]);
        assert_eq!(run.user(), main);
    }
    run.sleep(100_000_000);
    run.to(server);
    run.send(Call::ReplyReceive, endpoint, 0, &[]);
    // By itself it has no limit.
    run.to(main);
    run.send(Call::EndpointCall, endpoint, 0, &[]);
    assert_eq!(run.user(), server);
    run.sleep(3_000_000);
    run.to(server);
    run.send(Call::ReplyReceive, endpoint, 0, &[]);
    assert_eq!(run.received().map(|received| received.tag.is_call()), Ok(false));
}

/// A caller that gives up, by its deadline or because it is ended, has lent nothing from then on: neither
/// its priority nor its budget.
#[test]
fn ipc_7_a_loan_ends_with_its_call() {
    for short_ways in [true, false] {
        for killed in [true, false] {
            for budget in [true, false] {
                let mut run = Run::boot(Profile::Minimal);
                run.cpu().kernel.short_ways.closed.store(!short_ways, Ordering::Relaxed);
                let main = run.user();
                let endpoint = run.endpoint();
                let (server, handle) = run.thread_with_handle();
                let (client, process) = run.process(&[(endpoint, Rights::WRITE), (TIMER, Rights::all())]);
                run.to(server);
                run.receive(endpoint);
                run.to(main);
                assert_eq!(run.result(Call::ThreadPriority, &[handle, 90]), Ok(0));
                run.to(client);
                if budget {
                    assert_eq!(run.result(Call::ThreadBudget, &[NONE, 1_000_000, 100_000_000]), Ok(0));
                }
                let soon =
                    run.result(Call::ClockRead, &[initial::TIMER.0.into()]).expect("a clock") + 100_000;
                let deadline = if killed { FOREVER } else { soon };
                run.message(Call::EndpointCall, initial::CONSOLE.0.into(), deadline, Tag::new(0, 0), [0; 8]);
                assert_eq!((run.user(), run.cpu().current_priority()), (server, Some(100)));
                if budget {
                    run.sleep(1_100_000);
                    assert_eq!(run.user(), main, "the budget is used up");
                } else {
                    run.to(main);
                }
                match killed {
                    true => assert_eq!(run.result(Call::ProcessKill, &[process]), Ok(0)),
                    false => run.sleep(200_000),
                }
                for _ in 0..20 {
                    run.call(Call::Yield, &[]);
                    assert_ne!(run.user(), server, "it keeps the priority");
                }
                // It is ready, at its own.
                run.to(main);
                let own = run.cpu().now().0 + 1_000_000;
                run.call(Call::SleepUntil, &[TIMER, own]);
                for _ in 0..5 {
                    if run.user() == server {
                        break;
                    }
                    let own = run.cpu().now().0 + 1_000_000;
                    run.call(Call::SleepUntil, &[initial::TIMER.0.into(), own]);
                }
                assert_eq!((run.user(), run.cpu().current_priority()), (server, Some(90)));
            }
        }
    }
}

/// A saved reply keeps nothing of a caller that has given up, or has been answered.
#[test]
fn ipc_6_a_saved_reply_keeps_no_dead_caller() {
    for killed in [true, false] {
        let mut run = Run::boot(Profile::Minimal);
        let endpoint = run.endpoint();
        let main = run.user();
        let (client, process) = run.process(&[(endpoint, Rights::WRITE)]);
        run.to(client);
        let soon = run.cpu().now().0 + 100_000;
        let deadline = if killed { FOREVER } else { soon };
        run.message(Call::EndpointCall, initial::CONSOLE.0.into(), deadline, Tag::new(0, 0), [0; 8]);
        run.to(main);
        run.receive(endpoint);
        let handle = run.result(Call::ReplySave, &[]).expect("a reply");
        let thread = run.cpu().current().expect("main");
        let named = thread.process().table.get(run.cpu(), Handle(handle as u32), Rights::empty());
        let Ok(crate::cap::Object::Reply(reply)) = named.map(|named| named.object) else {
            panic!("no reply")
        };
        assert_eq!(reply.callers(), 1);
        match killed {
            true => assert_eq!(run.result(Call::ProcessKill, &[process]), Ok(0)),
            false => run.sleep(200_000),
        }
        run.to(main);
        assert_eq!(reply.callers(), 0);
        assert_eq!(run.result(Call::Reply, &[handle, 0, 0]), Err(Error::Gone));
    }
}

/// Deadlines where both sides are there already, so that a short way could be gone: a call that is not
/// answered, a wait for the next message, and a wait of a caller that was answered in time.
#[test]
fn ipc_3_deadlines_of_those_who_meet() {
    let mut run = Run::boot(Profile::Minimal);
    let (endpoint, main) = (run.endpoint(), run.user());
    let (server, client) = (run.thread(), run.thread());
    run.to(server);
    run.receive(endpoint);
    run.to(client);
    let due = run.clock() + 1_000_000;
    run.message(Call::EndpointCall, endpoint, due, Tag::new(1, 0), [0; WORDS]);
    assert_eq!(run.user(), server);
    let due = run.clock() + 1_000_000;
    run.message(Call::ReplyReceive, endpoint, due, Tag::new(2, 0), [0; WORDS]);
    assert_eq!(run.user(), client);
    assert_eq!(run.received().map(|received| received.tag.label()), Ok(2));
    run.to(main);
    run.sleep(1_100_000);
    run.to(server);
    assert_eq!(run.returned(), Err(Error::TimedOut), "the server's");
    run.receive(endpoint);
    // The client's deadline was that of its first call.
    run.to(client);
    run.send(Call::EndpointCall, endpoint, 3, &[]);
    assert_eq!(run.user(), server);
    run.sleep(2_000_000);
    run.send(Call::ReplyReceive, endpoint, 4, &[]);
    run.to(client);
    assert_eq!(run.received().map(|received| received.tag.label()), Ok(4));
    let due = run.clock() + 1_000_000;
    run.message(Call::EndpointCall, endpoint, due, Tag::new(5, 0), [0; WORDS]);
    assert_eq!(run.user(), server);
    run.to(main);
    run.sleep(1_100_000);
    run.to(client);
    assert_eq!(run.returned(), Err(Error::TimedOut), "the client's");
}

/// A server that replies when nobody can send any more: the reply arrives, and it hears that.
#[test]
fn ipc_4_the_last_reply() {
    let mut run = Run::boot(Profile::Minimal);
    let (endpoint, main) = (run.endpoint(), run.user());
    let receives = run.result(Call::HandleCopy, &[endpoint, Rights::READ.bits().into(), 0]).expect("a slot");
    let (server, client) = (run.thread(), run.thread());
    run.to(server);
    run.receive(receives);
    run.to(client);
    run.send(Call::EndpointCall, endpoint, 1, &[]);
    assert_eq!(run.user(), server);
    run.to(main);
    assert_eq!(run.result(Call::HandleClose, &[endpoint]), Ok(0));
    run.to(server);
    run.send(Call::ReplyReceive, receives, 2, &[]);
    run.to(server);
    assert_eq!(run.returned(), Err(Error::Gone));
    run.to(client);
    assert_eq!(run.received().map(|received| received.tag.label()), Ok(2));
}

/// A caller that is doomed when it is answered does not go on, and its server does.
#[test]
fn ipc_6_a_doomed_caller_is_answered() {
    let mut run = Run::boot(Profile::Minimal);
    let (endpoint, main) = (run.endpoint(), run.user());
    let (server, client) = (run.thread(), run.thread());
    run.to(server);
    run.receive(endpoint);
    run.to(client);
    let thread = run.cpu().current().expect("the client");
    run.send(Call::EndpointCall, endpoint, 1, &[]);
    assert_eq!(run.user(), server);
    // As its killer does, who comes no further for now.
    assert!(matches!(thread.doom(), crate::thread::Standing::Awaiting(_)));
    run.send(Call::ReplyReceive, endpoint, 2, &[]);
    assert_eq!(run.user(), main);
    assert!(matches!(thread.standing(), crate::thread::Standing::Ended));
}

/// Bits stay until they are taken, all of them at once; a waiter gets them, and a bound thread that
/// receives.
#[test]
fn ipc_9_notifications() {
    let mut run = Run::boot(Profile::Minimal);
    let main = run.user();
    let (endpoint, notification) = (run.endpoint(), run.notification());
    assert_eq!(run.result(Call::NotificationSignal, &[notification, 1]), Ok(0));
    assert_eq!(run.result(Call::NotificationSignal, &[notification, 4]), Ok(0));
    assert_eq!(run.result(Call::NotificationWait, &[notification, FOREVER]), Ok(5));
    assert_eq!(run.result(Call::NotificationWait, &[notification, 0]), Err(Error::TimedOut));
    let other = run.thread();
    run.to(other);
    run.call(Call::NotificationWait, &[notification, FOREVER]);
    assert_eq!(run.result(Call::NotificationSignal, &[notification, 0]), Ok(0));
    run.call(Call::Yield, &[]);
    assert_eq!(run.user(), main, "no bit, no signal");
    assert_eq!(run.result(Call::NotificationSignal, &[notification, 8]), Ok(0));
    run.to(other);
    assert_eq!(run.returned(), Ok(8));
    // Bound: before it receives, and while it does.
    assert_eq!(run.result(Call::NotificationBind, &[notification]), Ok(0));
    assert_eq!(run.result(Call::NotificationSignal, &[notification, 2]), Ok(0));
    let notified = |run: &Run| run.received().map(|received| (received.tag, received.badge));
    let with = |bits| Ok((Tag(Tag::NOTIFIED), bits));
    run.receive(endpoint);
    assert_eq!(notified(&run), with(2));
    run.receive(endpoint);
    assert_eq!(run.user(), main);
    assert_eq!(run.result(Call::NotificationBind, &[notification]), Err(Error::BadArgument));
    assert_eq!(run.result(Call::NotificationSignal, &[notification, 6]), Ok(0));
    run.to(other);
    assert_eq!(notified(&run), with(6));
    // No more.
    assert_eq!(run.result(Call::NotificationBind, &[NONE]), Ok(0));
    run.receive(endpoint);
    assert_eq!(run.result(Call::NotificationSignal, &[notification, 1]), Ok(0));
    run.call(Call::Yield, &[]);
    assert_eq!(run.user(), main);
    assert_eq!(run.result(Call::NotificationBind, &[notification]), Ok(0));
    // A thread that ends leaves it.
    run.send(Call::EndpointSend, endpoint, 0, &[]);
    run.to(other);
    assert_eq!(run.result(Call::NotificationBind, &[NONE]), Ok(0));
    run.to(main);
    assert_eq!(run.result(Call::NotificationBind, &[NONE]), Ok(0));
    run.to(other);
    assert_eq!(run.result(Call::NotificationBind, &[notification]), Ok(0));
    run.call(Call::ThreadExit, &[]);
    assert_eq!(run.user(), main);
    assert_eq!(run.result(Call::NotificationBind, &[notification]), Ok(0));
}

/// What is signalled goes to a bound thread as long as its process has the handle by which it was bound:
/// whether it receives already or begins to, and another can have the notification afterwards.
#[test]
fn ipc_9_a_binding_ends_with_its_handle() {
    for receives in [false, true] {
        let mut run = Run::boot(Profile::Minimal);
        let main = run.user();
        let (endpoint, notification) = (run.endpoint(), run.notification());
        let copy = [notification, Rights::READ.bits().into(), 0];
        let lent = run.result(Call::HandleCopy, &copy).expect("a slot");
        let other = run.thread();
        run.to(other);
        assert_eq!(run.result(Call::NotificationBind, &[lent]), Ok(0));
        if receives {
            run.receive(endpoint);
        }
        run.to(main);
        assert_eq!(run.eventually(Call::HandleRevoke, &[notification]), Ok(0));
        assert_eq!(run.result(Call::NotificationSignal, &[notification, 1]), Ok(0));
        if !receives {
            run.to(other);
            run.receive(endpoint);
        }
        for _ in 0..5 {
            run.call(Call::Yield, &[]);
            assert_eq!(run.user(), main, "it heard of the signal");
        }
        assert_eq!(run.result(Call::NotificationBind, &[notification]), Ok(0));
        run.receive(endpoint);
        assert_eq!(run.received().map(|received| received.badge), Ok(1));
    }
}

/// When nobody can signal any more, those who wait hear it.
#[test]
fn ipc_9_the_end_of_a_notification() {
    let mut run = Run::boot(Profile::Minimal);
    let main = run.user();
    let notification = run.notification();
    let waits = run.result(Call::HandleCopy, &[notification, Rights::READ.bits().into(), 0]).expect("a slot");
    let other = run.thread();
    run.to(other);
    run.call(Call::NotificationWait, &[waits, FOREVER]);
    assert_eq!(run.user(), main);
    assert_eq!(run.result(Call::HandleClose, &[notification]), Ok(0));
    run.to(other);
    assert_eq!(run.returned(), Err(Error::Gone));
    assert_eq!(run.result(Call::NotificationWait, &[waits, FOREVER]), Err(Error::Gone));
}

/// What was lent ends with the duty, also where that is saved: who is better than the server itself goes
/// before it.
#[test]
fn ipc_7_a_loan_ends_with_the_duty() {
    let mut run = Run::boot(Profile::Minimal);
    let endpoint = run.endpoint();
    let client = run.user();
    let (server, of_server) = run.thread_with_handle();
    let (better, of_better) = run.thread_with_handle();
    run.to(server);
    run.receive(endpoint);
    run.to(client);
    for (handle, priority) in [(of_server, 50), (of_better, 70)] {
        assert!(run.result(Call::ThreadPriority, &[handle, priority]).is_ok());
    }
    run.send(Call::EndpointCall, endpoint, 1, &[]);
    assert_eq!(run.user(), server, "at the priority of its client");
    run.call(Call::ReplySave, &[]);
    assert_eq!(run.user(), better);
}

/// A server that is better than its client runs, and is seen by others, at its own priority.
#[test]
fn ipc_7_a_better_server_is_seen_as_such() {
    let mut run = Run::boot(Profile::Minimal);
    let endpoint = run.endpoint();
    let server = run.user();
    let (client, of_client) = run.thread_with_handle();
    assert!(run.result(Call::ThreadPriority, &[of_client, 50]).is_ok());
    run.receive(endpoint);
    assert_eq!((run.user(), run.cpu().running.load()), (client, Load::of(50)));
    run.send(Call::EndpointCall, endpoint, 1, &[]);
    let own = run.cpu().current_priority().expect("it runs");
    assert_eq!((run.user(), run.cpu().running.load()), (server, Load::of(own)));
    assert!(own > 50);
}

/// What each of a run's users sees, step by step, as a text.
fn history(seed: u64, closed: bool) -> (std::vec::Vec<std::string::String>, u64) {
    let mut run = Run::boot(Profile::ALL[seed as usize % Profile::ALL.len()]);
    run.cpu().kernel.short_ways.closed.store(closed, Ordering::Relaxed);
    let main = run.user();
    let endpoints = [run.endpoint(), run.endpoint()];
    let notification = run.notification();
    let threads: std::vec::Vec<(User, u64)> = (0..5).map(|_| run.thread_with_handle()).collect();
    let (mut state, mut replies) = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, std::vec![NONE]);
    let mut random = |end: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) % end
    };
    let mut history = std::vec::Vec::new();
    for step in 0..400 {
        if run.user() == main {
            // It never waits, and nobody waits for it.
            let (_, handle) = threads[random(5) as usize];
            match random(24) {
                0..3 => run.sleep([1_000, 3_000_000, 20_000_000][random(3) as usize]),
                3 => run.call(Call::NotificationSignal, &[notification, 1 << random(3)]),
                4 => run.call(Call::ThreadPriority, &[handle, 98 + random(3)]),
                5 => run.call(Call::ThreadPriority, &[handle, 100]),
                6 => {
                    let (budget, period) = [(0, 0), (0, 0), (50_000, 1_000_000)][random(3) as usize];
                    run.call(Call::ThreadBudget, &[handle, budget, period]);
                }
                _ => run.call(Call::Yield, &[]),
            }
        } else {
            let endpoint = endpoints[random(2) as usize];
            let soon = run.cpu().now().0 + 5_000;
            let deadline = [0, soon].get(random(20) as usize).copied().unwrap_or(FOREVER);
            let tag = Tag::new(step, random(9) as usize);
            let tag = if random(12) == 0 { Tag::new(step, 2).with_capabilities(2) } else { tag };
            let mut words = [0; WORDS].map(|_: u64| random(1 << 40));
            (words[6], words[7]) = (TIMER, endpoint | 7 << 32);
            // Two serve an endpoint each, most of the time, and the others call them.
            let who = threads.iter().position(|(thread, _)| *thread == run.user()).expect("one of them");
            let usual = |run: &mut Run, handle| match who {
                0 | 1 => run.message(Call::ReplyReceive, endpoints[who], deadline, tag, words),
                _ => run.message(Call::EndpointCall, handle, deadline, tag, words),
            };
            match random(80) {
                0..5 => run.message(Call::EndpointCall, endpoint, deadline, tag, words),
                5..10 => run.message(Call::ReplyReceive, endpoint, deadline, tag, words),
                10 => run.message(Call::EndpointReceive, endpoint, deadline, tag, words),
                11 => run.message(Call::EndpointSend, endpoint, deadline, tag, words),
                12 => run.call(Call::NotificationWait, &[notification, deadline]),
                13 => run.call(Call::NotificationBind, &[[NONE, notification][random(2) as usize]]),
                14 => {
                    let saver = run.user();
                    run.call(Call::ReplySave, &[]);
                    if let (true, Ok(handle)) = (run.user() == saver, run.returned()) {
                        replies.push(handle);
                    }
                }
                16.. => usual(&mut run, endpoint),
                _ => {
                    let reply = replies[random(replies.len() as u64) as usize];
                    run.message(Call::Reply, reply, 0, tag, words);
                }
            }
            // Vector registers take the second short way.
            if random(40) == 0 && run.user() != main && run.arch.vectors().is_none() {
                run.vector_unit_off();
            }
        }
        // SAFETY: nothing runs, and the threads live.
        let frames: std::vec::Vec<_> = threads.iter().map(|(thread, _)| unsafe { thread.0.read() }).collect();
        let cpu = run.cpu();
        let current = cpu.current().expect("main waits for nothing");
        let priorities: std::vec::Vec<_> =
            threads.iter().map(|(_, handle)| thread(&run, *handle).priority()).collect();
        history.push(std::format!(
            "{step}: {:?} at {:?}, seen at {:?} of {priorities:?}, for {}, until {:?}, {:?}, {frames:x?}",
            threads.iter().position(|(thread, _)| *thread == run.user()),
            current.priority(),
            cpu.running.load(),
            current.cpu_time.load(Ordering::Relaxed),
            cpu.slice_end.get(),
            run.arch.vectors().is_some(),
        ));
    }
    (history, run.cpu().kernel.short_ways.gone.load(Ordering::Relaxed))
}

/// The short way does what the long one does: whatever a few threads do with endpoints, each step leaves
/// every register, who runs, what others see of the CPU, what is lent to whom, how long it has run and may
/// run, the same.
#[test]
fn ipc_1_the_short_way_is_the_long_way() {
    let mut gone = 0;
    for seed in 0..40 {
        let ((short, often), (long, never)) = (history(seed, false), history(seed, true));
        assert_eq!(never, 0);
        gone += often;
        for (a, b) in short.iter().zip(&long) {
            assert_eq!(a, b, "seed {seed}");
        }
    }
    assert!(gone > 400, "the short way was gone {gone} times only");
}
