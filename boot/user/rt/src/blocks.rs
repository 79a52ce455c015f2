//! Reading blocks from whoever serves them: the protocol of the block driver.
//!
//! Client and driver share memory, into whose beginning the driver puts what was asked for.

use crate::ipc::{Deadline, Endpoint, Message};
use abi::Error;

/// Bytes of a block.
pub const BLOCK: usize = 512;
/// Blocks that are read at once, at most: the shared memory has room for them.
pub const AT_ONCE: usize = 128;

/// The label of a call that asks how many blocks there are: the word of the reply.
pub const COUNT: u64 = 1;
/// The label of a call to read; its words are the first block, and how many. The reply has the label 0,
/// or 1 if that could not be read.
pub const READ: u64 = 2;

/// How many blocks there are. Errors: those of `call`.
pub fn count(driver: &Endpoint) -> Result<u64, Error> {
    let reply = driver.call(&Message::new(COUNT, &[]), Deadline::Never)?;
    reply.words().first().copied().ok_or(Error::NotSupported)
}

/// Has `count` blocks put into the shared memory. Errors: `NotFound` (they could not be read), those of
/// `call`.
pub fn read(driver: &Endpoint, first: u64, count: usize) -> Result<(), Error> {
    match driver.call(&Message::new(READ, &[first, count as u64]), Deadline::Never)?.tag.label() {
        0 => Ok(()),
        _ => Err(Error::NotFound),
    }
}
