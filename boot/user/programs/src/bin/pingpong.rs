//! `pingpong [ROUNDS]`: a client that calls a server in another process, which adds 1 to each word. Then
//! the server is asked to die on the job, and the client must hear of it.
#![no_std]
#![no_main]

use user_rt::abi::ipc::WORDS;
use user_rt::abi::{Error, Handle, Rights, initial};
use user_rt::ipc::{Deadline, Endpoint, Message, Received};
use user_rt::{ARCHIVE, Args, Command, Process, exit, println};

user_rt::entry!(main);

/// Where the server finds its endpoint: behind what is usual.
const ENDPOINT: Handle = Handle(initial::MACHINE.0 + 1);
/// What the client is known by.
const BADGE: u64 = 0x2a;
/// The status of a server that was asked to die.
const DEAD: u8 = 9;

/// Labels of messages.
const ADD: u64 = 1;
const DIE: u64 = 2;

fn main(args: Args) -> u8 {
    let result = match args.get(1) {
        Some("server") => serve(&Endpoint::from_handle(ENDPOINT)).map(|()| 0),
        Some(_) => match args.number(1) {
            Ok(rounds) => play(rounds),
            Err(_) => {
                println!("usage: pingpong [ROUNDS]");
                return 2;
            }
        },
        None => play(1000),
    };
    result.unwrap_or_else(|error| {
        println!("pingpong: {error:?}");
        1
    })
}

fn serve(endpoint: &Endpoint) -> Result<(), Error> {
    let mut next = endpoint.receive(Deadline::Never)?;
    loop {
        next = match next {
            Received::Call(message, BADGE) if message.tag.label() == ADD => {
                let words = message.words.map(|word| word.wrapping_add(1));
                endpoint.reply_receive(&Message { words, ..Message::new(ADD, &words) }, Deadline::Never)?
            }
            Received::Call(..) => exit(DEAD),
            Received::Message(..) | Received::Notified(_) => endpoint.receive(Deadline::Never)?,
        };
    }
}

fn play(rounds: u64) -> Result<u8, Error> {
    let endpoint = Endpoint::new()?;
    let server: Process = Command::new("pingpong")
        .arg("server")
        .grant_usual()
        .grant(endpoint.handle(), Rights::READ)
        .start(&ARCHIVE)?;
    let client = endpoint.copy_with_badge(Rights::WRITE, BADGE)?;
    let mut words = [0; WORDS];
    for (number, word) in (0..).zip(&mut words) {
        *word = number << 32;
    }
    let first = words;
    for _ in 0..rounds {
        words = client.call(&Message::new(ADD, &words), Deadline::Never)?.words;
    }
    let right = words.iter().zip(first).all(|(word, first)| *word == first + rounds);
    let last_words = client.call(&Message::new(DIE, &[]), Deadline::Never).err();
    let status = server.wait()?.status();
    println!("pingpong: {rounds} rounds, the server ended with {status}, its client got {last_words:?}");
    Ok(u8::from(!right || last_words != Some(Error::Gone) || status != DEAD))
}
