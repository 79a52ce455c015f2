//! Messages: what calls on endpoints have in common.
//!
//! A message is a [`Tag`] and up to [`WORDS`] words, in registers. It goes from the sender's registers
//! to the receiver's when both are there; nothing is buffered in between. Message registers beyond those
//! that the tag counts keep what the receiver had in them.
//!
//! # Capabilities
//! The last registers of a message carry capabilities instead of words, as many as the tag says: the
//! sender puts a handle into bits 0–31 and the [`Rights`](crate::Rights) that the copy is to have into
//! bits 32–63; the receiver finds a new handle, or 0: then its table was full, or the sender's handle
//! was closed meanwhile. Nothing else of the message is lost by that.
//!
//! # Deadlines
//! In nanoseconds since boot. One that is past, such as 0, makes a call that does not wait;
//! [`FOREVER`] is none.
//!
//! # Who runs
//! Threads that wait at an endpoint are served in the order of their priorities, and in the order of
//! their coming inside one. A call hands the CPU over: the receiver goes on in the rest of the caller's
//! slice, at least at the caller's priority as it was then, and on the caller's budget if that has one,
//! until it replies, saves the reply or receives again. So do those that it calls meanwhile.

/// Most words of a message.
pub const WORDS: usize = 8;
/// Most capabilities of a message.
pub const CAPABILITIES: usize = 4;
/// No deadline.
pub const FOREVER: u64 = u64::MAX;

/// What a message is: bits 0–3 the number of words, bits 4–6 the number of capabilities, both together
/// at most [`WORDS`]; bit 8 whether it is a call, bit 9 whether it is no message but what was signalled
/// to the bound notification, whose bits are the badge, both said by the kernel and zero in what is
/// sent; bits 16–63 a label of the sender's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag(pub u64);

impl Tag {
    /// The receiver is to reply.
    pub const CALL: u64 = 1 << 8;
    /// No message: the badge is what was signalled.
    pub const NOTIFIED: u64 = 1 << 9;
    /// The bits of the numbers.
    const COUNTS: u64 = 0x7f;
    /// Where the label begins.
    const LABEL: u32 = 16;

    /// A message of `words` words with a label of 48 bits.
    pub const fn new(label: u64, words: usize) -> Self {
        Self(label << Self::LABEL | words as u64)
    }
    /// With `count` capabilities.
    pub const fn with_capabilities(self, count: usize) -> Self {
        Self(self.0 | (count as u64) << 4)
    }
    pub const fn label(self) -> u64 {
        self.0 >> Self::LABEL
    }
    pub const fn words(self) -> usize {
        self.0 as usize & 15
    }
    pub const fn capabilities(self) -> usize {
        self.0 as usize >> 4 & 7
    }
    pub const fn is_call(self) -> bool {
        self.0 & Self::CALL != 0
    }
    pub const fn is_notified(self) -> bool {
        self.0 & Self::NOTIFIED != 0
    }
    /// Whether it may be sent and carries no capabilities.
    #[inline(always)]
    pub const fn is_of_words(self) -> bool {
        // Both counts in one: that of the capabilities lies above that of the words.
        self.0 & 0xffff <= WORDS as u64
    }
    /// Whether it may be sent.
    pub const fn is_valid(self) -> bool {
        let rest = self.0 & ((1 << Self::LABEL) - 1) & !Self::COUNTS;
        rest == 0 && self.capabilities() <= CAPABILITIES && self.words() + self.capabilities() <= WORDS
    }
}
