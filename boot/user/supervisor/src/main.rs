//! `supervisor [NAME]`: starts the processes of the manifest NAME (`main` if not said) with the
//! capabilities it lists, and restarts what dies.
//!
//! It makes the endpoints, notifications and memory that processes share, so these outlive them: a
//! client keeps its capability when its server is restarted. Only the call that was under way gets
//! `Gone`, and is made again by the client; later ones wait until there is a server again. Each process
//! has a [keeper](keeper), a thread that owns what the process is given; when a process stays ended,
//! that goes, and then its clients hear `Gone` for good.
//!
//! Ends with the process that the manifest calls `until`, with its status; or else with the last one,
//! with the first status that was not 0.
#![no_std]
#![no_main]

mod capabilities;
mod keeper;

use keeper::{Keeper, Slot};
use manifest::{Manifest, SUFFIX};
use user_rt::alloc::format;
use user_rt::alloc::sync::Arc;
use user_rt::alloc::vec::Vec;
use user_rt::ipc::{self, Deadline, Endpoint, Message, Notification, Received};
use user_rt::{ARCHIVE, Args, Error, Rights, println, supervisor, thread};

user_rt::entry!(main);

/// The status if nothing could be started.
const NOT_STARTED: u8 = 126;

fn main(args: Args) -> u8 {
    let name = args.get(1).unwrap_or("main");
    let packed = match ARCHIVE.read(&format!("{name}{SUFFIX}")) {
        Ok(packed) => packed.leak(),
        Err(error) => {
            println!("supervisor: there is no manifest `{name}`: {error:?}");
            return NOT_STARTED;
        }
    };
    let Some(manifest) = Manifest::unpack(packed) else {
        println!("supervisor: the manifest `{name}` was packed for another supervisor");
        return NOT_STARTED;
    };
    supervise(&manifest).unwrap_or_else(|error| {
        println!("supervisor: {error:?}");
        NOT_STARTED
    })
}

/// Starts everything, and sees it to its end.
fn supervise(manifest: &Manifest<'static>) -> Result<u8, Error> {
    // Its bits say that some process has ended for good.
    let ended = Notification::new()?;
    ended.bind()?;
    let requests = Endpoint::new()?;
    let given = capabilities::of_all(manifest, &requests)?;
    let slots: Vec<_> = manifest.processes.iter().map(|process| Arc::new(Slot::new(process.name))).collect();
    let mut keepers = Vec::new();
    let mut all = manifest.processes.iter().zip(given).zip(&slots);
    let started = all.try_for_each(|((process, capabilities), slot)| {
        let ended = ended.copy(Rights::WRITE)?;
        let keeper = Keeper::new(process.clone(), capabilities, Arc::clone(slot), ended);
        keepers.push(thread::spawn(|| keeper.keep())?);
        Ok(())
    });
    let status = started.and_then(|()| serve(manifest, &requests, &slots));
    slots.iter().for_each(|slot| slot.stop());
    keepers.into_iter().try_for_each(|keeper| keeper.join())?;
    status
}

/// Answers requests until it is time to end, and gives the status to end with.
fn serve(manifest: &Manifest<'_>, requests: &Endpoint, slots: &[Arc<Slot>]) -> Result<u8, Error> {
    loop {
        match requests.receive(Deadline::Never)? {
            Received::Call(message, _) => {
                let found = message.tag.label() == supervisor::KILL
                    && slots.iter().any(|slot| slot.is_named(message.words()) && slot.kill());
                // Who has given up meanwhile wants no answer.
                let _ = ipc::reply(&Message::new(u64::from(!found), &[]));
            }
            Received::Message(..) => {}
            Received::Notified(_) => {
                let ends: Vec<Option<u8>> = slots.iter().map(|slot| slot.ended()).collect();
                let until = manifest.until.and_then(|index| *ends.get(index as usize)?);
                if let Some(status) = until {
                    return Ok(status);
                }
                if let Some(all) = ends.into_iter().collect::<Option<Vec<u8>>>() {
                    return Ok(all.into_iter().find(|&status| status != 0).unwrap_or(0));
                }
            }
        }
    }
}
