//! Messages: who gets what, in which order, until when; and the steps that all tests of messages take.

use super::{ENTRY, Run, User};
use crate::program::STACK_TOP;
use abi::ipc::{FOREVER, Tag, WORDS};
use abi::{Call, Error, Grant, Handle, Rights, initial};
use arch_contract::irq::Interrupt;
use arch_model::profile::Profile;

pub(super) const PROCESS: u64 = initial::PROCESS.0 as u64;
pub(super) const TIMER: u64 = initial::TIMER.0 as u64;
pub(super) const NONE: u64 = Handle::NONE.0 as u64;

/// What a thread finds in its registers after a call with a message.
#[derive(Debug, PartialEq)]
pub(super) struct Received {
    pub tag: Tag,
    pub badge: u64,
    pub words: [u64; WORDS],
}

/// `words`, and zeros.
pub(super) fn words(some: &[u64]) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    words[..some.len()].copy_from_slice(some);
    words
}

impl Run {
    pub(crate) fn endpoint(&mut self) -> u64 {
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
    pub(crate) fn send(&mut self, call: Call, handle: u64, label: u64, some: &[u64]) {
        self.message(call, handle, FOREVER, Tag::new(label, some.len()), words(some));
    }

    pub(crate) fn receive(&mut self, endpoint: u64) {
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

    pub(crate) fn thread_with_handle(&mut self) -> (User, u64) {
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
    pub(crate) fn to(&mut self, user: User) {
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
    pub(crate) fn sleep(&mut self, nanoseconds: u64) {
        self.machine.advance(nanoseconds);
        self.interrupt(Interrupt::Timer);
    }

    pub(crate) fn clock(&mut self) -> u64 {
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
