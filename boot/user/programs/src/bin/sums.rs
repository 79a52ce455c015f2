//! `sums server [LIFE]` adds the numbers it is sent, and dies by a fault on every LIFE-th call.
//! `sums client COUNT` has COUNT sums made, and makes those calls again that died with the server;
//! half way it has the supervisor kill the server too. The manifest `main` starts both: no sum is
//! wrong or missing.
#![no_std]
#![no_main]

use user_rt::ipc::{Deadline, Endpoint, EndpointKind, Message, Received};
use user_rt::{Args, Error, println, supervisor};

user_rt::entry!(main);

/// Calls that die one after the other before the client believes that there is no server any more.
const PATIENCE: u32 = 20;

fn main(args: Args) -> u8 {
    let endpoint = args.given::<EndpointKind>("sums");
    let result = match (args.get(1), endpoint) {
        (Some("server"), Some(endpoint)) => serve(&endpoint, args.number(2).unwrap_or(u64::MAX)),
        (Some("client"), Some(endpoint)) => {
            ask(&endpoint, args.number(2).unwrap_or(1000), args.given("supervisor").as_ref())
        }
        _ => {
            println!("sums: to be started by the supervisor, as server or client of `sums`");
            return 2;
        }
    };
    match result {
        // Nobody can call a server whose clients are all gone: its work is done.
        Ok(()) | Err(Error::Gone) if args.get(1) == Some("server") => 0,
        Ok(()) => 0,
        Err(error) => {
            println!("sums: {error:?}");
            1
        }
    }
}

fn serve(endpoint: &Endpoint, life: u64) -> Result<(), Error> {
    let mut next = endpoint.receive(Deadline::Never)?;
    for _ in 1..life {
        let sum = match next {
            Received::Call(message, _) => {
                message.words().iter().fold(0u64, |sum, word| sum.wrapping_add(*word))
            }
            Received::Message(..) | Received::Notified(_) => 0,
        };
        next = endpoint.reply_receive(&Message::new(0, &[sum]), Deadline::Never)?;
    }
    // The last call is never answered.
    crash()
}

/// Ends this process by a fault.
fn crash() -> ! {
    // SAFETY: nothing is mapped at address 8, so this ends the process before it reads anything.
    unsafe { core::ptr::without_provenance::<u64>(8).read_volatile() };
    user_rt::exit(3)
}

fn ask(endpoint: &Endpoint, count: u64, supervisor: Option<&Endpoint>) -> Result<(), Error> {
    let mut again = 0;
    for number in 0..count {
        if number == count / 2
            && let Some(supervisor) = supervisor
        {
            supervisor::kill(supervisor, "server")?;
        }
        let mut patience = PATIENCE;
        let reply = loop {
            match endpoint.call(&Message::new(0, &[number, number, 1]), Deadline::Never) {
                Ok(reply) => break reply,
                Err(Error::Gone) if patience > 0 => {
                    patience -= 1;
                    again += 1;
                }
                Err(error) => return Err(error),
            }
        };
        if reply.words() != [2 * number + 1] {
            println!("sums: {number} + {number} + 1 = {:?}?", reply.words());
            return Err(Error::BadArgument);
        }
    }
    println!("sums: {count} sums, {again} calls made again");
    Ok(())
}
