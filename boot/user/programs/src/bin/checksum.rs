//! `checksum`: reads a whole disk through the block driver, and prints the sum of what it has read. Half way
//! it has the supervisor kill the driver, if it was given the supervisor. A read whose driver dies is
//! made again: the sum is right all the same.
#![no_std]
#![no_main]

use core::sync::atomic::Ordering;
use user_rt::blocks::{self, AT_ONCE, BLOCK};
use user_rt::ipc::EndpointKind;
use user_rt::shared::MemoryKind;
use user_rt::{Args, Error, Protection, println, supervisor};

user_rt::entry!(main);

/// Of FNV-1a, which is taken here by words of 8 bytes.
const START: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x100_0000_01b3;
/// Calls that die one after the other before it believes that there is no driver any more.
const PATIENCE: u32 = 20;

fn main(args: Args) -> u8 {
    match sum(args) {
        Ok(()) => 0,
        Err(error) => {
            println!("checksum: {error:?}");
            1
        }
    }
}

fn sum(args: Args) -> Result<(), Error> {
    let driver = args.given::<EndpointKind>("blocks").ok_or(Error::NotFound)?;
    let buffer = args.given::<MemoryKind>("buffer").ok_or(Error::NotFound)?.attach(Protection::Read)?;
    let supervisor = args.given::<EndpointKind>("supervisor");
    let mut again = 0;
    let total = persist(&mut again, || blocks::count(&driver))?;
    let (mut sum, mut first, mut killed) = (START, 0, false);
    while first < total {
        if let Some(supervisor) = &supervisor
            && !killed
            && first >= total / 2
        {
            supervisor::kill(supervisor, "driver")?;
            killed = true;
        }
        let count = AT_ONCE.min((total - first) as usize);
        persist(&mut again, || blocks::read(&driver, first, count))?;
        for word in &buffer.words()[..count * BLOCK / 8] {
            sum = (sum ^ word.load(Ordering::Relaxed)).wrapping_mul(PRIME);
        }
        first += count as u64;
    }
    println!("checksum: {total} blocks, {sum:#018x}, {again} calls made again");
    Ok(())
}

/// Makes a call again whose server died.
fn persist<T>(again: &mut u32, call: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 0..PATIENCE {
        match call() {
            Err(Error::Gone) => *again += 1,
            result => return result,
        }
    }
    Err(Error::Gone)
}
