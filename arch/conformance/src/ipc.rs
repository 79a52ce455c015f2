//! `IPC`: messages, replies and notifications.
//!
//! All threads of a case are on one CPU, where the case's own is the least urgent: so when it goes on,
//! all others wait.

mod races;

pub use races::*;

use crate::outcome::{OrFail, Outcome, ensure, ensure_eq};
use crate::world::World;
use crate::{Not, Os};
use abi::ipc::{FOREVER, Tag, WORDS};
use abi::{Call, Error, Handle, Rights, initial};

/// The priority of the case's own thread, and of others.
const LEAST: u64 = 10;
const LOW: u64 = 20;
const MIDDLE: u64 = 50;

pub(crate) type Words = [u64; WORDS];

/// What a call with a message has brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Received {
    pub tag: Tag,
    pub badge: u64,
    pub words: Words,
}

/// A call with a message.
fn exchange<O: Os>(
    world: &World<O>,
    call: Call,
    handle: Handle,
    deadline: u64,
    tag: Tag,
    mut words: Words,
) -> Result<Received, Error> {
    let args = [handle.0.into(), deadline, tag.0];
    let (status, value, badge) = world.os.exchange(call as u64, args, &mut words);
    match status {
        0 => Ok(Received { tag: Tag(value), badge, words }),
        status => Err(Error::from_number(status).unwrap_or(Error::NotSupported)),
    }
}

/// Calls `handle` with one word and waits for ever.
fn ask<O: Os>(world: &World<O>, handle: Handle, word: u64) -> Result<Received, Error> {
    exchange(world, Call::EndpointCall, handle, FOREVER, Tag::new(word, 1), [word; WORDS])
}

pub(crate) fn receive<O: Os>(world: &World<O>, handle: Handle, deadline: u64) -> Result<Received, Error> {
    exchange(world, Call::EndpointReceive, handle, deadline, Tag::new(0, 0), [0; WORDS])
}

pub(crate) fn reply<O: Os>(world: &World<O>, reply: Handle, word: u64) -> Result<(), Error> {
    exchange(world, Call::Reply, reply, 0, Tag::new(word, 1), [word; WORDS]).map(|_| ())
}

pub(crate) fn create<O: Os>(world: &World<O>, call: Call) -> Result<Handle, Not> {
    world.call(call, []).map(|handle| Handle(handle as u32)).or_fail("creating an object")
}

/// This thread is where all are, and the least urgent of them.
pub(crate) fn begin<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    world.priority(LEAST)
}

/// Starts a thread beside this one, which has run until it waits when this returns to the least urgent.
/// It ends with the process.
pub(crate) fn start<O: Os>(
    world: &World<O>,
    priority: u64,
    body: impl FnOnce(World<O>) + Send + 'static,
) -> Outcome {
    world.spawn_unwatched(1, move |world| {
        if world.priority(priority).is_ok() {
            body(world);
        }
    })
}

/// Calls without words, with a deadline that is short but for the first thing: that the call is received,
/// which [`RECEIVED`] says. How that ended, and its deadline.
fn ask_for_short<O: Os>(world: &World<O>, endpoint: Handle) -> (Result<Received, Error>, u64) {
    let mut short = 1_000_000;
    loop {
        let deadline = world.now().unwrap_or(0) + short;
        let answer = exchange(world, Call::EndpointCall, endpoint, deadline, Tag::new(1, 0), [0; WORDS]);
        if world.load(world.flag(RECEIVED)) != 0 {
            return (answer, deadline);
        }
        short *= 2;
    }
}

/// The flag that says that a call was received.
const RECEIVED: u64 = 3;

/// Words as many as the tag says, for every number of them, and the badge; the other registers of the
/// receiver keep what it had there. `IPC-1`
pub fn ipc_1_messages_arrive_as_they_were_sent<O: Os>(world: &World<O>) -> Outcome {
    begin(world)?;
    let endpoint = create(world, Call::EndpointCreate)?;
    let badged = world.call(Call::HandleCopy, [endpoint.0.into(), Rights::WRITE.bits().into(), 77]);
    let badged = Handle(badged.or_fail("handle_copy")? as u32);
    let own: Words = [5; WORDS];
    start(world, MIDDLE, move |world| {
        let mut next = exchange(&world, Call::EndpointReceive, endpoint, FOREVER, Tag::new(0, 0), own);
        for count in 0..=WORDS {
            let mut wanted = own;
            wanted[..count].fill(count as u64 + 100);
            let tag = Tag(Tag::new(count as u64, count).0 | Tag::CALL);
            let right = next == Ok(Received { tag, badge: 77, words: wanted });
            world.store(world.flag(1), world.load(world.flag(1)) + u64::from(right));
            // Fewer words come back the more there were.
            next = exchange(&world, Call::ReplyReceive, endpoint, FOREVER, Tag::new(9, WORDS - count), own);
        }
    })?;
    for count in 0..=WORDS {
        let words = [count as u64 + 100; WORDS];
        let tag = Tag::new(count as u64, count);
        let answer = exchange(world, Call::EndpointCall, badged, FOREVER, tag, words).or_fail("call")?;
        let mut wanted = words;
        wanted[..WORDS - count].fill(5);
        ensure_eq!(answer.words, wanted, "the reply to {count} words");
        ensure_eq!(answer.tag, Tag::new(9, WORDS - count), "its tag");
        ensure_eq!(world.load(world.flag(1)), count as u64 + 1, "messages that arrived right");
    }
    // It receives once more: nobody can send to it then.
    world.close(badged).or_fail("handle_close")?;
    world.close(endpoint).or_fail("handle_close")?;
    Ok(())
}

/// Three that wait to send: the most urgent is received first, though it came last. `IPC-2`
pub fn ipc_2_the_best_first<O: Os>(world: &World<O>) -> Outcome {
    begin(world)?;
    let endpoint = create(world, Call::EndpointCreate)?;
    for priority in [30, 20, 40, 30] {
        start(world, priority, move |world| {
            let words = [priority; WORDS];
            let _ = exchange(&world, Call::EndpointSend, endpoint, FOREVER, Tag::new(0, 1), words);
        })?;
    }
    for wanted in [40, 30, 30, 20] {
        let received = receive(world, endpoint, FOREVER).or_fail("receive")?;
        ensure_eq!(received.words[0], wanted, "the priority of the next sender");
    }
    Ok(())
}

/// A call that was received and is not answered ends at its deadline, and not before. `IPC-3`
pub fn ipc_3_a_call_that_is_not_answered_in_time<O: Os>(world: &World<O>) -> Outcome {
    begin(world)?;
    let endpoint = create(world, Call::EndpointCreate)?;
    start(world, MIDDLE, move |world| {
        let (answer, deadline) = ask_for_short(&world, endpoint);
        let late = world.now().is_ok_and(|now| now >= deadline);
        world.store(world.flag(1), if answer == Err(Error::TimedOut) && late { 1 } else { 2 });
    })?;
    receive(world, endpoint, FOREVER).or_fail("receive")?;
    world.store(world.flag(RECEIVED), 1);
    world.wait_until(|world| world.load(world.flag(1)) != 0);
    ensure_eq!(world.load(world.flag(1)), 1, "how the call ended");
    ensure_eq!(reply(world, Handle::NONE, 0), Err(Error::Gone), "a reply to nobody");
    let past = world.now()?;
    ensure_eq!(receive(world, endpoint, past), Err(Error::TimedOut), "a deadline that has passed");
    Ok(())
}

/// A caller hears that its server has ended, and that nobody can receive its call. `IPC-4`
pub fn ipc_4_a_server_that_ends<O: Os>(world: &World<O>) -> Outcome {
    begin(world)?;
    let endpoint = create(world, Call::EndpointCreate)?;
    start(world, MIDDLE, move |world| {
        let _ = receive(&world, endpoint, FOREVER);
    })?;
    ensure_eq!(ask(world, endpoint, 1), Err(Error::Gone), "the call of a server that has ended");
    let sends = world.copy(endpoint, Rights::WRITE).or_fail("handle_copy")?;
    start(world, MIDDLE, move |world| {
        let gone = ask(&world, sends, 1) == Err(Error::Gone);
        world.store(world.flag(1), if gone { 1 } else { 2 });
    })?;
    world.close(endpoint).or_fail("handle_close")?;
    ensure_eq!(world.load(world.flag(1)), 1, "how a call ended that nobody can receive");
    ensure_eq!(ask(world, sends, 1), Err(Error::Gone), "a later one");
    Ok(())
}

/// A capability comes with the rights that it was sent with, and may be worth nothing. `IPC-5`
pub fn ipc_5_capabilities_with_the_rights_that_were_given<O: Os>(world: &World<O>) -> Outcome {
    begin(world)?;
    let endpoint = create(world, Call::EndpointCreate)?;
    let timer = |rights: Rights| u64::from(initial::TIMER.0) | u64::from(rights.bits()) << 32;
    let mut words = [3; WORDS];
    (words[5], words[6], words[7]) = (0, timer(Rights::WAIT), timer(Rights::READ));
    let tag = Tag::new(1, 2).with_capabilities(3);
    let refused = exchange(world, Call::EndpointSend, endpoint, FOREVER, tag, words);
    ensure_eq!(refused, Err(Error::BadHandle), "sending what is no handle");
    words[5] = timer(Rights::empty());
    start(world, MIDDLE, move |world| {
        let _ = exchange(&world, Call::EndpointSend, endpoint, FOREVER, tag, words);
    })?;
    let received = receive(world, endpoint, FOREVER).or_fail("receive")?;
    ensure_eq!(&received.words[..5], &[3, 3, 0, 0, 0], "the words");
    let [none, waits, reads] = [5, 6, 7].map(|at| Handle(received.words[at] as u32));
    ensure!(world.clock(reads).is_ok(), "reading the clock by what was sent with READ");
    ensure_eq!(world.clock(waits), Err(Error::NoRight), "and by what was sent without");
    ensure_eq!(world.clock(none), Err(Error::NoRight), "and with no right at all");
    Ok(())
}

/// The reply to a call that has timed out is not taken for that to the caller's next. `IPC-6`
pub fn ipc_6_a_late_reply_answers_nothing<O: Os>(world: &World<O>) -> Outcome {
    begin(world)?;
    let endpoint = create(world, Call::EndpointCreate)?;
    start(world, MIDDLE, move |world| {
        let (first, _) = ask_for_short(&world, endpoint);
        world.store(world.flag(1), if first == Err(Error::TimedOut) { 1 } else { 2 });
        let second = ask(&world, endpoint, 2).map_or(0, |answer| answer.words[0]);
        world.store(world.flag(2), second);
    })?;
    receive(world, endpoint, FOREVER).or_fail("receive")?;
    let late = world.call(Call::ReplySave, []).or_fail("reply_save")?;
    world.store(world.flag(RECEIVED), 1);
    world.wait_until(|world| world.load(world.flag(1)) != 0);
    receive(world, endpoint, FOREVER).or_fail("receive")?;
    ensure_eq!(reply(world, Handle(late as u32), 3), Err(Error::Gone), "a late reply");
    reply(world, Handle::NONE, 4).or_fail("reply")?;
    ensure_eq!(world.load(world.flag(1)), 1, "how the first call ended");
    ensure_eq!(world.load(world.flag(2)), 4, "the answer to the second");
    Ok(())
}

/// While a call of this thread is under way, nobody runs who is less urgent than it, though the server is
/// still less so. `IPC-7`
pub fn ipc_7_nobody_overtakes_a_call<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let endpoint = create(world, Call::EndpointCreate)?;
    start(world, LOW, move |world| {
        let mut next = receive(&world, endpoint, FOREVER);
        while let Ok(received) = next {
            let words = received.words.map(|word| word + 1);
            next = exchange(&world, Call::ReplyReceive, endpoint, FOREVER, Tag::new(0, 1), words);
        }
    })?;
    // It waits after this.
    ask(world, endpoint, 1).or_fail("call")?;
    start(world, MIDDLE, move |world| {
        while world.load(world.flag(1)) == 0 {
            world.store(world.flag(2), world.load(world.flag(2)) + 1);
            world.os.pause();
        }
    })?;
    while world.load(world.flag(2)) == 0 {
        world.sleep(1_000_000)?;
    }
    for turn in 0..20 {
        let before = world.load(world.flag(2));
        let answer = ask(world, endpoint, turn).or_fail("call")?;
        ensure_eq!(answer.words[0], turn + 1, "the answer");
        ensure_eq!(world.load(world.flag(2)), before, "turns of who is less urgent");
    }
    world.store(world.flag(1), 1);
    world.close(endpoint).or_fail("handle_close")?;
    Ok(())
}

/// Bits add up until they are taken, at the notification or where its thread receives. `IPC-9`
pub fn ipc_9_bits_stay<O: Os>(world: &World<O>) -> Outcome {
    begin(world)?;
    let endpoint = create(world, Call::EndpointCreate)?;
    let notification = create(world, Call::NotificationCreate)?;
    let signal = |bits| world.call(Call::NotificationSignal, [notification.0.into(), bits]).or_fail("signal");
    let wait = |deadline| world.call(Call::NotificationWait, [notification.0.into(), deadline]);
    signal(1)?;
    signal(4)?;
    ensure_eq!(wait(FOREVER), Ok(5), "the bits of two signals");
    ensure_eq!(wait(0), Err(Error::TimedOut), "what is left of them");
    start(world, MIDDLE, move |world| {
        let bits = world.call(Call::NotificationWait, [notification.0.into(), FOREVER]);
        world.store(world.flag(1), bits.unwrap_or(99));
        let bound = world.call(Call::NotificationBind, [notification.0.into()]);
        let received = receive(&world, endpoint, FOREVER);
        let is_it = received.is_ok_and(|received| received.tag.is_notified() && received.badge == 6);
        world.store(world.flag(2), if bound.is_ok() && is_it { 1 } else { 2 });
    })?;
    signal(2)?;
    ensure_eq!(world.load(world.flag(1)), 2, "what a waiter got");
    signal(6)?;
    ensure_eq!(world.load(world.flag(2)), 1, "whether a receiver was notified");
    Ok(())
}
