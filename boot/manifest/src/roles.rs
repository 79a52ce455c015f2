//! What a process may be to an object, in words, and which rights that takes.

use crate::ObjectKind;
use abi::Rights;

/// A role, its rights.
type Role = (&'static str, Rights);

const READ: Rights = Rights::READ;
const WRITE: Rights = Rights::WRITE;

const CONSOLE: &[Role] = &[("writer", WRITE), ("reader", READ), ("both", READ.union(WRITE))];
const TIMER: &[Role] = &[("clock", READ), ("sleeper", READ.union(Rights::WAIT))];
const ARCHIVE: &[Role] = &[("reader", READ), ("starter", READ.union(Rights::EXECUTE))];
const MACHINE: &[Role] = &[("watcher", READ), ("manager", READ.union(Rights::MANAGE))];
const ENDPOINT: &[Role] = &[(SERVER, READ), (CLIENT, WRITE)];
const SUPERVISOR: &[Role] = &[(CLIENT, WRITE)];
const NOTIFICATION: &[Role] = &[("waiter", READ), ("signaller", WRITE)];
const MEMORY: &[Role] = &[("reader", READ), ("writer", READ.union(WRITE))];

const FUNCTION: &[Role] = &[(DRIVER, READ.union(WRITE).union(Rights::MANAGE))];

/// Who has a device to itself.
pub const DRIVER: &str = "driver";
/// Who receives from an endpoint.
pub const SERVER: &str = "server";
/// Who calls through one.
pub const CLIENT: &str = "client";

/// The roles at an object of this kind.
pub fn of(kind: ObjectKind) -> &'static [Role] {
    match kind {
        ObjectKind::Console => CONSOLE,
        ObjectKind::Timer => TIMER,
        ObjectKind::Archive => ARCHIVE,
        ObjectKind::Machine => MACHINE,
        ObjectKind::Supervisor => SUPERVISOR,
        ObjectKind::Endpoint => ENDPOINT,
        ObjectKind::Notification => NOTIFICATION,
        ObjectKind::Memory(_) => MEMORY,
        ObjectKind::Function(_) => FUNCTION,
    }
}

/// What an object of this kind is called in messages.
pub fn noun(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Console => "console",
        ObjectKind::Timer => "timer",
        ObjectKind::Archive => "archive",
        ObjectKind::Machine => "machine",
        ObjectKind::Supervisor => "supervisor",
        ObjectKind::Endpoint => "endpoint",
        ObjectKind::Notification => "notification",
        ObjectKind::Memory(_) => "memory",
        ObjectKind::Function(_) => "device",
    }
}

/// Roles that an object of this kind needs, if it is used at all.
pub fn needed(kind: ObjectKind) -> &'static [&'static str] {
    match kind {
        ObjectKind::Endpoint => &[SERVER, CLIENT],
        ObjectKind::Notification => &["waiter", "signaller"],
        _ => &[],
    }
}
