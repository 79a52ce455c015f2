//! `block [LIFE]`: a driver for a virtio block device, which serves reading.
//!
//! It is given the device as `disk`, the endpoint it serves as `blocks` and memory that it shares with its
//! client as `buffer`; `user_rt::blocks` is the protocol. The device writes to memory that only it and this
//! process reach; what was asked for is copied from there. The device says by an interrupt that it is
//! done, and the driver sleeps until then.
//!
//! With LIFE, it dies by a fault in every LIFE-th read, while the device is at work: whoever started it may
//! start it again, and the client asks again.
#![no_std]
#![no_main]

mod config;
mod disk;
mod memory;
mod transport;

use core::sync::atomic::Ordering;
use disk::{Disk, Failure};
use user_rt::blocks::{AT_ONCE, BLOCK, COUNT, READ};
use user_rt::ipc::{Deadline, Endpoint, EndpointKind, Message, Received};
use user_rt::shared::{MemoryKind, Shared};
use user_rt::{Args, Error, Protection, println};

user_rt::entry!(main);

fn main(args: Args) -> u8 {
    let (Some(function), Some(endpoint), Some(buffer)) =
        (args.given("disk"), args.given::<EndpointKind>("blocks"), args.given::<MemoryKind>("buffer"))
    else {
        println!("block: to be started by the supervisor, with `disk`, `blocks` and `buffer`");
        return 2;
    };
    let life = args.number(1).unwrap_or(u64::MAX);
    let result = Disk::open(function)
        .and_then(|disk| Ok((disk, buffer.attach(Protection::ReadWrite)?)))
        .and_then(|(mut disk, buffer)| serve(&mut disk, &endpoint, &buffer, life));
    match result {
        Ok(()) => 0,
        Err(why) => {
            println!("block: {why}");
            1
        }
    }
}

/// Serves until nobody can call any more.
fn serve(disk: &mut Disk, endpoint: &Endpoint, buffer: &Shared, life: u64) -> Result<(), Failure> {
    let mut reads = 0;
    let mut next = endpoint.receive(Deadline::Never);
    loop {
        let reply = match next {
            Err(Error::Gone) => return Ok(()),
            Err(error) => return Err(error.into()),
            Ok(Received::Message(..) | Received::Notified(_)) => {
                next = endpoint.receive(Deadline::Never);
                continue;
            }
            Ok(Received::Call(call, _)) => match (call.tag.label(), call.words()) {
                (COUNT, []) => Message::new(0, &[disk.blocks()]),
                (READ, &[first, count]) => {
                    reads += 1;
                    match read(disk, buffer, first, count, reads == life) {
                        Ok(()) => Message::new(0, &[]),
                        Err(Failure::Refused) => Message::new(1, &[]),
                        Err(failure) => return Err(failure),
                    }
                }
                _ => Message::new(1, &[]),
            },
        };
        next = endpoint.reply_receive(&reply, Deadline::Never);
    }
}

/// Reads some blocks into the buffer.
fn read(disk: &mut Disk, buffer: &Shared, first: u64, count: u64, last: bool) -> Result<(), Failure> {
    let inside = first.checked_add(count).is_some_and(|end| end <= disk.blocks());
    let count = count as usize;
    if !inside || !(1..=AT_ONCE).contains(&count) || count * BLOCK > buffer.len() {
        return Err(Failure::Refused);
    }
    if last {
        disk.begin(first, count)?;
        die();
    }
    let data = disk.read(first, count)?;
    for (to, from) in buffer.words().iter().zip(data.as_chunks().0) {
        to.store(u64::from_ne_bytes(*from), Ordering::Relaxed);
    }
    Ok(())
}

/// Ends this process by a fault.
fn die() -> ! {
    // SAFETY: nothing is mapped at address 8, so this ends the process before it reads anything.
    unsafe { core::ptr::without_provenance::<u64>(8).read_volatile() };
    user_rt::exit(3)
}
