//! Endpoints, replies, notifications. See [`abi::ipc`] for what they mean.

use crate::call::{self, plain, word};
use crate::object::{Kind, Object, copy_handle};
use abi::ipc::{FOREVER, Tag, WORDS};
use abi::{Call, Error, Handle, Rights};
use core::time::Duration;

/// An endpoint.
#[derive(Debug)]
pub enum EndpointKind {}
impl Kind for EndpointKind {}
/// A handle on one.
pub type Endpoint = Object<EndpointKind>;

/// The duty to reply to a call.
#[derive(Debug)]
pub enum ReplyKind {}
impl Kind for ReplyKind {}
/// A handle on it.
pub type Reply = Object<ReplyKind>;

/// A notification.
#[derive(Debug)]
pub enum NotificationKind {}
impl Kind for NotificationKind {}
/// A handle on one.
pub type Notification = Object<NotificationKind>;

/// How long a call may wait: until a time since boot.
#[derive(Clone, Copy, Debug)]
pub enum Deadline {
    Never,
    At(Duration),
    /// Not at all.
    Now,
}

impl Deadline {
    fn word(self) -> u64 {
        match self {
            Self::Never => FOREVER,
            Self::At(time) => u64::try_from(time.as_nanos()).unwrap_or(FOREVER),
            Self::Now => 0,
        }
    }
}

/// A message, as it is sent or was received.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    pub tag: Tag,
    pub words: [u64; WORDS],
}

impl Message {
    /// With `words`, at most [`WORDS`]; more are left out.
    pub fn new(label: u64, words: &[u64]) -> Self {
        let count = words.len().min(WORDS);
        let mut all = [0; WORDS];
        all[..count].copy_from_slice(&words[..count]);
        Self { tag: Tag::new(label, count), words: all }
    }

    /// Adds a capability: a copy of `handle` with these rights at most. The last one that is added comes
    /// first in [`handles`](Self::handles).
    pub fn with_handle(mut self, handle: Handle, rights: Rights) -> Self {
        let count = self.tag.capabilities() + 1;
        if let Some(at) = WORDS.checked_sub(count) {
            self.words[at] = u64::from(handle.0) | u64::from(rights.bits()) << 32;
        }
        // What is too much for a message the kernel refuses.
        self.tag = Tag::new(self.tag.label(), self.tag.words()).with_capabilities(count);
        self
    }

    /// The words.
    pub fn words(&self) -> &[u64] {
        &self.words[..self.tag.words()]
    }

    /// The handles that came with it; [`Handle::NONE`] where there was no room.
    pub fn handles(&self) -> impl Iterator<Item = Handle> {
        self.words[WORDS - self.tag.capabilities()..].iter().map(|word| Handle(*word as u32))
    }
}

/// What came to a receiver.
#[derive(Clone, Copy, Debug)]
pub enum Received {
    /// A message that wants a reply, and the badge it came by.
    Call(Message, u64),
    /// A message that wants none, and the badge.
    Message(Message, u64),
    /// Bits of the bound notification.
    Notified(u64),
}

/// A call with a message both ways.
fn exchange(
    number: Call,
    handle: Handle,
    deadline: Deadline,
    message: &Message,
) -> Result<(Message, u64), Error> {
    let mut words = message.words;
    // SAFETY: none of these calls touches the program's memory.
    let (status, value, badge) =
        unsafe { call::exchange(number, handle, deadline.word(), message.tag, &mut words) };
    match status {
        0 => Ok((Message { tag: Tag(value), words }, badge)),
        status => Err(Error::from_number(status).unwrap_or(Error::NotSupported)),
    }
}

/// What a receiving call has brought.
fn received((message, badge): (Message, u64)) -> Received {
    match message.tag {
        tag if tag.is_notified() => Received::Notified(badge),
        tag if tag.is_call() => Received::Call(message, badge),
        _ => Received::Message(message, badge),
    }
}

/// Nothing to send.
const EMPTY: Message = Message { tag: Tag::new(0, 0), words: [0; WORDS] };

impl Endpoint {
    /// A new one. Errors: `NoMemory`, `TableFull`.
    pub fn new() -> Result<Self, Error> {
        plain(Call::EndpointCreate, []).map(|handle| Self::from_handle(Handle(handle as u32)))
    }

    /// A second handle with at most `rights`; whoever receives what is sent by it is told `badge`, which
    /// is not 0. Errors: `BadArgument` (this one has a badge), `TableFull`.
    pub fn copy_with_badge(&self, rights: Rights, badge: u64) -> Result<Self, Error> {
        copy_handle(self.handle(), rights, badge).map(Self::from_handle)
    }

    /// Sends `message` and waits for the reply. Needs `WRITE`. Errors: `TimedOut`, `Gone`.
    #[inline]
    pub fn call(&self, message: &Message, deadline: Deadline) -> Result<Message, Error> {
        exchange(Call::EndpointCall, self.handle(), deadline, message).map(|(message, _)| message)
    }

    /// Sends `message` and waits until it is received. Needs `WRITE`. Errors: `TimedOut`, `Gone`.
    pub fn send(&self, message: &Message, deadline: Deadline) -> Result<(), Error> {
        exchange(Call::EndpointSend, self.handle(), deadline, message).map(|_| ())
    }

    /// Waits for a message. Needs `READ`. Errors: `TimedOut`, `Gone`.
    pub fn receive(&self, deadline: Deadline) -> Result<Received, Error> {
        exchange(Call::EndpointReceive, self.handle(), deadline, &EMPTY).map(received)
    }

    /// Replies to the last call, then waits for a message. Needs `READ`. Errors: `TimedOut`, `Gone`.
    #[inline]
    pub fn reply_receive(&self, reply: &Message, deadline: Deadline) -> Result<Received, Error> {
        exchange(Call::ReplyReceive, self.handle(), deadline, reply).map(received)
    }
}

/// Replies to the call that this thread received last. Errors: `Gone`.
pub fn reply(message: &Message) -> Result<(), Error> {
    exchange(Call::Reply, Handle::NONE, Deadline::Never, message).map(|_| ())
}

impl Reply {
    /// The duty to reply to the call that this thread received last, for later. Errors: `NotFound`,
    /// `NoMemory`, `TableFull`.
    pub fn save() -> Result<Self, Error> {
        plain(Call::ReplySave, []).map(|handle| Self::from_handle(Handle(handle as u32)))
    }

    /// Replies. Errors: `Gone`.
    pub fn send(self, message: &Message) -> Result<(), Error> {
        exchange(Call::Reply, self.handle(), Deadline::Never, message).map(|_| ())
    }
}

impl Notification {
    /// A new one. Errors: `NoMemory`, `TableFull`.
    pub fn new() -> Result<Self, Error> {
        plain(Call::NotificationCreate, []).map(|handle| Self::from_handle(Handle(handle as u32)))
    }

    /// Adds `bits` and wakes whoever waits for them. Needs `WRITE`.
    pub fn signal(&self, bits: u64) -> Result<(), Error> {
        plain(Call::NotificationSignal, [word(self.handle()), bits]).map(|_| ())
    }

    /// Waits for bits, and takes them. Needs `READ`. Errors: `TimedOut`, `Gone`.
    pub fn wait(&self, deadline: Deadline) -> Result<u64, Error> {
        plain(Call::NotificationWait, [word(self.handle()), deadline.word()])
    }

    /// From now on its bits end the calling thread's receiving too. Needs `READ`. Errors: `BadArgument`.
    pub fn bind(&self) -> Result<(), Error> {
        plain(Call::NotificationBind, [word(self.handle())]).map(|_| ())
    }
}
