//! System calls as functions of numbers. The other modules give them types.

use abi::ipc::{Tag, WORDS};
use abi::{Call, Error, Handle};

/// Makes a call and says how it went.
///
/// A status that is no [`Error`] of this ABI comes back as [`Error::NotSupported`]: the kernel is
/// newer than the program.
///
/// # Safety
/// The call with these arguments writes no memory that Rust believes unchanged or owned by
/// someone else, and unmaps none that is in use.
pub unsafe fn call(call: Call, arguments: [u64; 6]) -> Result<u64, Error> {
    // SAFETY: the caller's promise, passed on.
    let (status, value) = unsafe { raw(call as u64, arguments) };
    match status {
        0 => Ok(value),
        status => Err(Error::from_number(status).unwrap_or(Error::NotSupported)),
    }
}

/// Makes a call by number, which need not exist. Gives status and value as the kernel left them.
///
/// # Safety
/// As [`call`].
pub unsafe fn raw(number: u64, arguments: [u64; 6]) -> (u64, u64) {
    // SAFETY: the caller's promise, passed on.
    unsafe { crate::arch::call(number, arguments) }
}

/// Makes a call with a message: its words go from `words` and come there. Gives status, value and badge.
///
/// # Safety
/// As [`call`].
#[inline(always)]
pub unsafe fn exchange(
    call: Call,
    handle: Handle,
    deadline: u64,
    tag: Tag,
    words: &mut [u64; WORDS],
) -> (u64, u64, u64) {
    // SAFETY: the caller's promise, passed on.
    unsafe { crate::arch::exchange(call as u64, word(handle), deadline, tag.0, words) }
}

/// A call that touches no memory of the program: numbers in, a number out.
pub(crate) fn plain<const N: usize>(number: Call, given: [u64; N]) -> Result<u64, Error> {
    debug_assert!(!matches!(number, Call::MemoryUnmap | Call::ConsoleRead));
    let mut arguments = [0; 6];
    arguments[..N].copy_from_slice(&given);
    // SAFETY: every caller in this crate passes one of the calls without an address.
    unsafe { call(number, arguments) }
}

/// The argument that names an object.
pub(crate) fn word(handle: Handle) -> u64 {
    handle.0.into()
}
