//! `pager`: a file of the boot archive as memory. A client maps it and reads it; each page that it touches
//! for the first time, by an instruction or by a call, comes from this pager.
#![no_std]
#![no_main]

use user_rt::abi::{Call, Error, Handle, PAGE_BYTES, Protection, Rights, initial};
use user_rt::ipc::{Deadline, Endpoint, Message, Received};
use user_rt::shared::{Memory, Shared};
use user_rt::{ARCHIVE, Args, CONSOLE, Command, call, println, thread};

user_rt::entry!(main);

/// The file.
const FILE: &str = "pager";
/// Where the client finds the memory: behind what is usual.
const MEMORY: Handle = Handle(initial::MACHINE.0 + 1);
/// Of a message that says that the client has ended. Those of faults are no larger than a byte.
const ENDED: u64 = 0x100;
const PAGE: usize = PAGE_BYTES as usize;

fn main(args: Args) -> u8 {
    let result = match args.get(1) {
        Some("client") => check(&Memory::from_handle(MEMORY)),
        _ => serve(),
    };
    result.unwrap_or_else(|error| {
        println!("pager: {error:?}");
        1
    })
}

/// The byte at `at`, as it is by now.
fn byte(memory: &Shared, at: usize) -> u8 {
    let word = &memory.words()[at / 8];
    word.load(core::sync::atomic::Ordering::Relaxed).to_le_bytes()[at % 8]
}

/// The client: the memory is the file.
fn check(memory: &Memory) -> Result<u8, Error> {
    let mapped = memory.attach(Protection::Read)?;
    // The first page is touched by a call: three bytes of the file's magic number.
    let letters = mapped.start().as_ptr().addr() as u64 + 1;
    // SAFETY: the kernel only reads.
    let printed =
        unsafe { call::call(Call::ConsoleWrite, [CONSOLE.handle().0.into(), letters, 3, 0, 0, 0]) }?;
    println!(" is there");
    let file = ARCHIVE.read(FILE)?;
    let right = file.iter().enumerate().rev().all(|(at, &there)| byte(&mapped, at) == there);
    Ok(u8::from(printed != 3 || !right))
}

/// The pager: fills each page that is asked for.
fn serve() -> Result<u8, Error> {
    let file = ARCHIVE.read(FILE)?;
    let endpoint = Endpoint::new()?;
    let paged = Memory::paged(file.len(), &endpoint)?;
    let source = Memory::new(file.len())?;
    let frames = source.attach(Protection::ReadWrite)?;
    let client = Command::new("pager")
        .arg("client")
        .grant_usual()
        .grant(paged.handle(), Rights::READ)
        .start(&ARCHIVE)?;
    let ended = endpoint.copy(Rights::WRITE)?;
    let waiter = thread::spawn(move || {
        let report = client.wait()?;
        ended.send(&Message::new(ENDED, &[]), Deadline::Never).map(|()| report.status())
    })?;
    let mut supplied = 0;
    let mut received = endpoint.receive(Deadline::Never)?;
    while let Received::Call(message, _) = received {
        let offset = message.words()[0] as usize;
        // SAFETY: a page of the mapping, which nobody else has until it is supplied.
        let page = unsafe { core::slice::from_raw_parts_mut(frames.start().add(offset).as_ptr(), PAGE) };
        let bytes = &file[offset..file.len().min(offset + PAGE)];
        page[..bytes.len()].copy_from_slice(bytes);
        paged.supply(offset as u64, &source)?;
        supplied += 1;
        received = endpoint.reply_receive(&Message::new(0, &[]), Deadline::Never)?;
    }
    let status = waiter.join()??;
    let pages = file.len().div_ceil(PAGE);
    println!("pager: {supplied} of {pages} pages supplied, the client ended with {status}");
    Ok(u8::from(status != 0 || supplied != pages))
}
