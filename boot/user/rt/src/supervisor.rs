//! What a program can ask the supervisor that started it for, if it was given its endpoint.

use crate::ipc::{Deadline, Endpoint, Message};
use abi::ipc::WORDS;
use abi::{Error, MAX_NAME};

/// The label of a call to end a process; its words are the name. The label of the reply is 0, or 1 if
/// no process of that name runs.
pub const KILL: u64 = 1;

const _: () = assert!(MAX_NAME == WORDS * 8);

/// Ends the process of that name, as if it had died. Errors: `NotFound` (none runs), those of `call`.
pub fn kill(supervisor: &Endpoint, name: &str) -> Result<(), Error> {
    let mut bytes = [0; MAX_NAME];
    bytes.get_mut(..name.len()).ok_or(Error::NotFound)?.copy_from_slice(name.as_bytes());
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    match supervisor.call(&Message::new(KILL, &words), Deadline::Never)?.tag.label() {
        0 => Ok(()),
        _ => Err(Error::NotFound),
    }
}

/// Whether the words of such a call are this name.
pub fn names(words: &[u64], name: &str) -> bool {
    let mut bytes = words.iter().flat_map(|word| word.to_le_bytes());
    name.bytes().all(|byte| bytes.next() == Some(byte)) && bytes.all(|byte| byte == 0)
}
