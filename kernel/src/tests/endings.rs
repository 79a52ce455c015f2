//! Who hears that nothing will come: of peers that died, endpoints that ended, replies that were given up.

use super::ipc::NONE;
use super::{Run, User};
use abi::ipc::{FOREVER, Tag, WORDS};
use abi::{Call, Error, Handle, Rights, initial};
use arch_model::profile::Profile;

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
