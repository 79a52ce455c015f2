//! `chain [CALLS]`: a client that calls a server that calls the next, eight deep. The servers have a
//! low priority, the client a high one, and on the same CPU a thread of a priority between the two
//! never waits. As long as the client's call is under way, that one must not run: each server
//! runs at the priority of the client.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use user_rt::abi::{Error, Rights};
use user_rt::alloc::vec::Vec;
use user_rt::ipc::{Deadline, Endpoint, Message, Received};
use user_rt::thread::{Builder, JoinHandle};
use user_rt::{Args, CpuSet, TIMER, println};

user_rt::entry!(main);

const SERVERS: usize = 8;
const LOW: u64 = 80;
const MIDDLE: u64 = 90;

static SPINS: AtomicU64 = AtomicU64::new(0);
static STOP: AtomicBool = AtomicBool::new(false);

fn main(args: Args) -> u8 {
    let calls = if args.get(1).is_some() { args.number(1) } else { Ok(100) };
    let Ok(calls) = calls else {
        println!("usage: chain [CALLS]");
        return 2;
    };
    // All on one CPU, this thread too.
    match Builder::new().cpus(CpuSet::only(0)).spawn(move || run(calls)).and_then(JoinHandle::join) {
        Ok(Ok(status)) => status,
        Ok(Err(error)) | Err(error) => {
            println!("chain: {error:?}");
            1
        }
    }
}

fn run(calls: u64) -> Result<u8, Error> {
    let endpoints: Result<Vec<Endpoint>, Error> = (0..SERVERS).map(|_| Endpoint::new()).collect();
    let endpoints = endpoints?;
    let mut servers = Vec::new();
    for (number, endpoint) in endpoints.iter().enumerate() {
        let own = endpoint.copy(Rights::READ)?;
        let next = endpoints.get(number + 1).map(|next| next.copy(Rights::WRITE)).transpose()?;
        let server = Builder::new().cpus(CpuSet::only(0)).spawn(move || serve(&own, next.as_ref()))?;
        servers.push(server);
    }
    // Every server has answered once, and waits, before it gets its priority.
    let hops = endpoints[0].call(&Message::new(0, &[0]), Deadline::Never)?.words[0];
    for server in &servers {
        server.thread().set_priority(LOW)?;
    }
    let spinner = Builder::new().cpus(CpuSet::only(0)).spawn(spin)?;
    spinner.thread().set_priority(MIDDLE)?;
    while SPINS.load(Ordering::Relaxed) == 0 {
        TIMER.sleep(Duration::from_millis(1))?;
    }
    let (mut right, mut overtaken) = (hops == SERVERS as u64, 0);
    for call in 0..calls {
        let before = SPINS.load(Ordering::Relaxed);
        let reply = endpoints[0].call(&Message::new(0, &[call]), Deadline::Never)?;
        overtaken += u64::from(SPINS.load(Ordering::Relaxed) != before);
        right &= reply.words() == [call + SERVERS as u64];
    }
    STOP.store(true, Ordering::Relaxed);
    spinner.join()?;
    // With no way to send to it left, each server ends, the first one first.
    drop(endpoints);
    for server in servers {
        server.join()?;
    }
    println!("chain: {calls} calls through {SERVERS} servers, {overtaken} overtaken");
    Ok(u8::from(!right || overtaken != 0))
}

/// Adds 1 and asks the next, until nobody can send any more.
fn serve(endpoint: &Endpoint, next: Option<&Endpoint>) {
    let mut received = endpoint.receive(Deadline::Never);
    while let Ok(Received::Call(message, _)) = received {
        let message = Message::new(0, &[message.words[0] + 1]);
        let answer = match next {
            Some(next) => next.call(&message, Deadline::Never),
            None => Ok(message),
        };
        received = match answer {
            Ok(answer) => endpoint.reply_receive(&answer, Deadline::Never),
            Err(_) => endpoint.receive(Deadline::Now),
        };
    }
}

fn spin() {
    while !STOP.load(Ordering::Relaxed) {
        SPINS.fetch_add(1, Ordering::Relaxed);
    }
}
