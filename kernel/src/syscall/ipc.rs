//! Calls on endpoints, replies and notifications.

use super::{Caller, Outcome, outcome};
use crate::cap::{Capability, Object, Where};
use crate::ipc::exception::{self, Handler};
use crate::ipc::message::{self, Kind};
use crate::ipc::{Alarm, Endpoint, Notification, Reply, notification, reply as replies};
use crate::mm::NoMemory;
use crate::object::Ref;
use crate::sched::{self, ready::Runnable};
use abi::{Error, Handle, Rights};

/// `thread_exceptions`: see [`crate::ipc::exception`].
pub(super) fn exceptions(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let of = match args[0] {
        handle if handle == Handle::NONE.0.into() => Object::Thread(caller.thread.clone()),
        handle => caller.capability(handle, Rights::MANAGE)?.object,
    };
    let place = match &of {
        Object::Thread(thread) => &thread.ipc.handler,
        Object::Process(process) => &process.handler,
        _ => return Err(Error::WrongObject),
    };
    if args[1] == Handle::NONE.0.into() {
        exception::set(place, None);
        return Ok(0);
    }
    let (endpoint, badge) = endpoint(caller, args[1], Rights::WRITE)?;
    let process = caller.process();
    let handler = Ref::try_new(process.memory(), Some(&process.budget), Handler::new(endpoint, badge));
    let handler = handler.map_err(|NoMemory| Error::NoMemory)?;
    let make = |origin: &Capability| match &origin.object {
        Object::Endpoint(endpoint)
            if Ref::ptr_eq(endpoint, &handler.endpoint) && origin.rights.contains(Rights::WRITE) =>
        {
            Ok(Capability::new(Object::Handler(handler.clone()), Rights::empty()))
        }
        _ => Err(Error::BadHandle),
    };
    let table = &process.table;
    let made =
        table.derive(caller.cpu, caller.handle(args[1])?, make, (table, Where::Anywhere), caller.irq)?;
    exception::set(place, Some(handler));
    Ok(made.0.into())
}

/// The endpoint that `handle` names, if it carries `rights`, and the badge.
pub(super) fn endpoint(
    caller: &Caller<'_>,
    handle: u64,
    rights: Rights,
) -> Result<(Ref<Endpoint>, u64), Error> {
    let capability = caller.capability(handle, rights)?;
    match capability.object {
        Object::Endpoint(endpoint) => Ok((endpoint, capability.badge)),
        _ => Err(Error::WrongObject),
    }
}

/// The notification that `handle` names, if it carries `rights`.
pub(super) fn notification(
    caller: &Caller<'_>,
    handle: u64,
    rights: Rights,
) -> Result<Ref<Notification>, Error> {
    match caller.capability(handle, rights)?.object {
        Object::Notification(notification) => Ok(notification),
        _ => Err(Error::WrongObject),
    }
}

/// A handle on a new object.
fn create<T>(
    caller: &Caller<'_>,
    value: T,
    object: impl FnOnce(Ref<T>) -> Object,
    rights: Rights,
) -> Result<u64, Error> {
    let process = caller.process();
    let made = Ref::try_new(process.memory(), Some(&process.budget), value);
    let object = object(made.map_err(|NoMemory| Error::NoMemory)?);
    process.table.insert(caller.cpu, Capability::new(object, rights)).map(|handle| handle.0.into())
}

/// What the maker of an object may do with it.
const MADE: Rights = Rights::READ.union(Rights::WRITE).union(Rights::MANAGE);

pub(super) fn create_endpoint(caller: &Caller<'_>) -> Result<u64, Error> {
    create(caller, Endpoint::new(), Object::Endpoint, MADE)
}

pub(super) fn create_notification(caller: &Caller<'_>) -> Result<u64, Error> {
    create(caller, Notification::new(), Object::Notification, MADE)
}

pub(super) fn send(caller: &Caller<'_>, args: [u64; 6], kind: Kind) -> Outcome {
    outcome(try_send(caller, args, kind))
}

fn try_send(caller: &Caller<'_>, args: [u64; 6], kind: Kind) -> Result<Outcome, Error> {
    let (endpoint, badge) = endpoint(caller, args[0], Rights::WRITE)?;
    message::check(caller.cpu, &caller.thread)?;
    Alarm::set_deadline(&caller.thread, args[1]);
    Ok(Endpoint::send(&endpoint, caller.cpu, &caller.thread, kind, badge, caller.irq))
}

pub(super) fn receive(caller: &Caller<'_>, args: [u64; 6]) -> Outcome {
    outcome(try_receive(caller, args))
}

fn try_receive(caller: &Caller<'_>, args: [u64; 6]) -> Result<Outcome, Error> {
    let (endpoint, _) = endpoint(caller, args[0], Rights::READ)?;
    replies::stop_serving(caller.cpu, &caller.thread);
    Alarm::set_deadline(&caller.thread, args[1]);
    Ok(Endpoint::receive(&endpoint, caller.cpu, &caller.thread, caller.irq))
}

pub(super) fn reply_receive(caller: &Caller<'_>, args: [u64; 6]) -> Outcome {
    outcome(try_reply_receive(caller, args))
}

fn try_reply_receive(caller: &Caller<'_>, args: [u64; 6]) -> Result<Outcome, Error> {
    let cpu = caller.cpu;
    let (endpoint, _) = endpoint(caller, args[0], Rights::READ)?;
    message::check(cpu, &caller.thread)?;
    // A caller that has given up is none.
    let answered = replies::answer(cpu, &caller.thread, caller.irq).ok().flatten();
    Alarm::set_deadline(&caller.thread, args[1]);
    let outcome = Endpoint::receive(&endpoint, cpu, &caller.thread, caller.irq);
    let Some(client) = answered else { return Ok(outcome) };
    Ok(match outcome {
        // It waits: the one it has replied to goes on in its place.
        Outcome::Off => {
            sched::hand_slice_over(cpu, &client);
            Outcome::To(client)
        }
        other => {
            cpu.make_ready(Runnable::Thread(client));
            other
        }
    })
}

pub(super) fn reply(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    let cpu = caller.cpu;
    if args[0] == Handle::NONE.0.into() {
        message::check(cpu, &caller.thread)?;
        return replies::reply(cpu, &caller.thread, caller.irq).map(|()| 0);
    }
    let object = caller.capability(args[0], Rights::WRITE)?.object;
    let Object::Reply(reply) = object else { return Err(Error::WrongObject) };
    message::check(cpu, &caller.thread)?;
    reply.answer(cpu, &caller.thread, caller.irq).map(|()| 0)
}

pub(super) fn save_reply(caller: &Caller<'_>) -> Result<u64, Error> {
    let process = caller.process();
    let reply = Ref::try_new(process.memory(), Some(&process.budget), Reply::new());
    let reply = reply.map_err(|NoMemory| Error::NoMemory)?;
    let capability = Capability::new(Object::Reply(reply.clone()), MADE);
    // Its handle first: what cannot be named could not be met.
    let handle = process.table.insert(caller.cpu, capability)?;
    match Reply::save(&reply, caller.cpu, &caller.thread) {
        Ok(()) => Ok(handle.0.into()),
        Err(error) => {
            let it = |object: &Object| matches!(object, Object::Reply(there) if Ref::ptr_eq(there, &reply));
            process.table.take_if(caller.cpu, handle, it);
            Err(error)
        }
    }
}

pub(super) fn signal(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    notification(caller, args[0], Rights::WRITE)?.signal(caller.cpu, args[1]);
    Ok(0)
}

pub(super) fn wait(caller: &Caller<'_>, args: [u64; 6]) -> Outcome {
    outcome(notification(caller, args[0], Rights::READ).map(|notification| {
        Alarm::set_deadline(&caller.thread, args[1]);
        Notification::wait(&notification, caller.cpu, &caller.thread, caller.irq)
    }))
}

pub(super) fn bind(caller: &Caller<'_>, args: [u64; 6]) -> Result<u64, Error> {
    if args[0] == Handle::NONE.0.into() {
        notification::unbind(&caller.thread);
        return Ok(0);
    }
    let notification = notification(caller, args[0], Rights::READ)?;
    let by = caller.handle(args[0])?;
    Notification::bind(&notification, caller.cpu, &caller.thread, by).map(|()| 0)
}
