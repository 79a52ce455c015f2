//! `lines server` has the console to itself, and `lines client N` writes N lines through it, a few words at
//! a time; those of several clients never mix, since the server keeps what each has written until its
//! line ends. It is given the console, and its clients, told apart by their badges, only the endpoint
//! `lines`. A client can also wait for what is typed, one at a time: others are refused meanwhile. `lines
//! echo` does, and writes it back.
#![no_std]
#![no_main]

use user_rt::alloc::collections::BTreeMap;
use user_rt::alloc::format;
use user_rt::alloc::string::String;
use user_rt::alloc::vec::Vec;
use user_rt::ipc::{Deadline, Endpoint, EndpointKind, Message, Notification, Received, Reply};
use user_rt::sync::Mutex;
use user_rt::{Args, CONSOLE, Error, Rights, exit, println, thread};

user_rt::entry!(main);

/// Labels of calls. The words of a text are its bytes, the label says in bits 8 and up how many.
const WRITE: u64 = 1;
const READ: u64 = 2;
/// Bytes in a message.
const PIECE: usize = 64;
/// Bytes of a line, at most; a longer one is cut into lines.
const LINE: usize = 200;

fn main(args: Args) -> u8 {
    let endpoint = args.given::<EndpointKind>("lines");
    let result = match (args.get(1), endpoint) {
        (Some("server"), Some(endpoint)) => serve(&endpoint),
        (Some("client"), Some(endpoint)) => talk(&endpoint, args.number(2).unwrap_or(10)),
        (Some("echo"), Some(endpoint)) => echo(&endpoint),
        _ => {
            println!("lines: to be started by the supervisor, as server or client of `lines`");
            return 2;
        }
    };
    // A client has nowhere to say why.
    u8::from(result.is_err())
}

/// Who waits for what is typed.
static READER: Mutex<Option<Reply>> = Mutex::new(None);

fn serve(endpoint: &Endpoint) -> Result<(), Error> {
    let mut lines: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    // Reading waits, and writing must not wait for that.
    let wanted = Notification::new()?;
    let told = wanted.copy(Rights::READ)?;
    let reader = thread::spawn(move || read_for_others(&told))?;
    // It never ends by itself.
    core::mem::forget(reader);
    let mut next = endpoint.receive(Deadline::Never);
    loop {
        let answer = match next {
            // Nobody can write any more.
            Err(Error::Gone) => exit(0),
            Err(error) => return Err(error),
            Ok(Received::Call(message, badge)) => answer(&message, lines.entry(badge).or_default(), &wanted)?,
            Ok(_) => None,
        };
        next = match answer {
            Some(status) => endpoint.reply_receive(&Message::new(status, &[]), Deadline::Never),
            None => endpoint.receive(Deadline::Never),
        };
    }
}

/// Does what a call wants. The status is that of the answer, if it is answered now.
fn answer(message: &Message, line: &mut Vec<u8>, wanted: &Notification) -> Result<Option<u64>, Error> {
    match message.tag.label() & 0xff {
        WRITE => {
            let bytes = message.words().iter().flat_map(|word| word.to_le_bytes());
            for byte in bytes.take((message.tag.label() >> 8) as usize) {
                line.push(byte);
                if byte == b'\n' || line.len() == LINE {
                    CONSOLE.write(line)?;
                    line.clear();
                }
            }
            Ok(Some(0))
        }
        READ => {
            let mut reader = READER.lock();
            if reader.is_some() {
                return Ok(Some(1));
            }
            *reader = Some(Reply::save()?);
            wanted.signal(1)?;
            Ok(None)
        }
        _ => Ok(Some(1)),
    }
}

/// Gives what is typed to whoever waits for it; without a reader it stays in the console.
fn read_for_others(wanted: &Notification) {
    let mut typed = [0; PIECE];
    while wanted.wait(Deadline::Never).is_ok() {
        let count = CONSOLE.read(&mut typed).unwrap_or(0);
        if let Some(reader) = READER.lock().take() {
            // Who has given up wants nothing.
            let _ = reader.send(&text(0, &typed[..count]));
        }
    }
}

/// A message with up to [`PIECE`] bytes.
fn text(label: u64, bytes: &[u8]) -> Message {
    let mut padded = [0; PIECE];
    padded[..bytes.len()].copy_from_slice(bytes);
    let words: Vec<u64> = padded.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    Message::new(label | (bytes.len() as u64) << 8, &words)
}

/// Writes lines, in pieces that another client could come between.
fn talk(endpoint: &Endpoint, count: u64) -> Result<(), Error> {
    for number in 0..count {
        let line: String = format!("line {number} of {count}, written piece by piece and not torn\n");
        write(endpoint, line.as_bytes())?;
    }
    Ok(())
}

fn write(endpoint: &Endpoint, text: &[u8]) -> Result<(), Error> {
    text.chunks(7).try_for_each(|piece| endpoint.call(&self::text(WRITE, piece), Deadline::Never).map(|_| ()))
}

/// Writes back a line that somebody types.
fn echo(endpoint: &Endpoint) -> Result<(), Error> {
    write(endpoint, b"type a line\n")?;
    let mut line = Vec::from(b"you typed ");
    while !line.ends_with(b"\r") {
        let reply = endpoint.call(&Message::new(READ, &[]), Deadline::Never)?;
        let bytes = reply.words().iter().flat_map(|word| word.to_le_bytes());
        line.extend(bytes.take((reply.tag.label() >> 8) as usize));
    }
    line.push(b'\n');
    write(endpoint, &line)
}
