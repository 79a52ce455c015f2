//! What kernels built for testing offer beside the ABI; all others answer `BadCall`.

use crate::call::plain;
use abi::{Call, Error};

pub use abi::testing::{Counter, Operation, Point};

/// Does `operation`; its arguments are said there.
pub fn test<const N: usize>(operation: Operation, arguments: [u64; N]) -> Result<u64, Error> {
    let mut words = [operation as u64, 0, 0, 0, 0, 0];
    words[1..=N].copy_from_slice(&arguments);
    plain(Call::Test, words)
}
