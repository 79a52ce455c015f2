//! Two CPUs at the same object, one of them stopped between two of its steps.

use super::{Handle, create, receive};
use crate::outcome::{OrFail, Outcome, ensure_eq};
use crate::world::{Stop, World};
use crate::{Not, Os};
use abi::ipc::FOREVER;
use abi::testing::Point;
use abi::{Call, Error};

/// A deadline that never comes, and for which there is a timer all the same.
const NEVER: u64 = 1 << 62;

/// Flags: the other thread is where it should be, may go on, and what came of it.
const THERE: u64 = 0;
const GOES: u64 = 1;
const RESULT: u64 = 2;

fn bind<O: Os>(world: &World<O>, notification: Handle) -> Result<u64, Error> {
    world.call(Call::NotificationBind, [notification.0.into()])
}

fn signal<O: Os>(world: &World<O>, notification: Handle, bits: u64) -> Outcome {
    world.call(Call::NotificationSignal, [notification.0.into(), bits]).map(|_| ()).or_fail("signal")
}

fn wait<O: Os>(world: &World<O>, notification: Handle) -> u64 {
    world.call(Call::NotificationWait, [notification.0.into(), NEVER]).unwrap_or(0)
}

/// This thread is on CPU 0; gives another CPU.
fn begin<O: Os>(world: &World<O>) -> Result<u32, Not> {
    world.flags()?;
    world.move_to(0)?;
    world.others().next().ok_or(Not::Skipped("too few CPUs"))
}

/// Starts a thread on `cpu` that does `first` and stops at `point` in what it does then. It ends with the
/// process.
fn stop_at<O: Os>(
    world: &World<O>,
    cpu: u32,
    point: Point,
    first: impl FnOnce(&World<O>) + Send + 'static,
    then: impl FnOnce(&World<O>) + Send + 'static,
) -> Outcome {
    world.spawn_unwatched(1 << cpu, move |world| {
        first(&world);
        world.store(world.flag(THERE), 1);
        world.wait_for(world.flag(GOES), 1);
        then(&world);
    })?;
    world.wait_for(world.flag(THERE), 1);
    world.arm(point, cpu, Stop::Serving)?;
    world.store(world.flag(GOES), 1);
    world.wait_stopped(cpu)
}

/// What is signalled when a receiver has looked for bits, and is not found at its endpoint yet, ends its
/// receiving. `IPC-9`
pub fn ipc_9_a_signal_between_look_and_stand<O: Os>(world: &World<O>) -> Outcome {
    let cpu = begin(world)?;
    let endpoint = create(world, Call::EndpointCreate)?;
    let notification = create(world, Call::NotificationCreate)?;
    let binds = move |world: &World<O>| {
        let _ = bind(world, notification);
    };
    let receives = move |world: &World<O>| {
        let received = receive(world, endpoint, FOREVER);
        let is_it = received.is_ok_and(|received| received.tag.is_notified() && received.badge == 4);
        world.store(world.flag(RESULT), if is_it { 1 } else { 2 });
    };
    stop_at(world, cpu, Point::Receiving, binds, receives)?;
    signal(world, notification, 4)?;
    world.release(cpu)?;
    world.in_time(RESULT, "a receiver does not hear of what was signalled as it began")?;
    ensure_eq!(world.load(world.flag(RESULT)), 1, "whether it was that");
    Ok(())
}

/// Of two threads that bind a notification which both have found free, one does. `IPC-9`
pub fn ipc_9_two_bind_at_once<O: Os>(world: &World<O>) -> Outcome {
    let cpu = begin(world)?;
    let endpoint = create(world, Call::EndpointCreate)?;
    let notification = create(world, Call::NotificationCreate)?;
    let binds = move |world: &World<O>| {
        let refused = bind(world, notification) == Err(Error::BadArgument);
        world.store(world.flag(RESULT), if refused { 1 } else { 2 });
    };
    stop_at(world, cpu, Point::Binding, |_| {}, binds)?;
    bind(world, notification).or_fail("notification_bind")?;
    world.release(cpu)?;
    world.wait_until(|world| world.load(world.flag(RESULT)) != 0);
    ensure_eq!(world.load(world.flag(RESULT)), 1, "whether the second was refused");
    signal(world, notification, 2)?;
    let received = receive(world, endpoint, FOREVER).or_fail("receive")?;
    ensure_eq!(received.badge, 2, "what the first has heard of");
    Ok(())
}

/// A wait ends, and the next begins, while the CPU that has its alarm goes off and has it in its hands:
/// the alarm goes to nobody. `IPC-3`
pub fn ipc_3_a_wait_that_ends_while_its_alarm_moves<O: Os>(world: &World<O>) -> Outcome {
    let cpu = begin(world)?;
    let notification = create(world, Call::NotificationCreate)?;
    let all = world.cpus();
    let waiter = world.spawn(all, move |world| {
        // Not before its maker has said where it may run.
        world.wait_until(|world| world.load(world.flag(GOES)) == 1);
        if world.move_to(cpu).is_ok() && world.affinity(all).is_ok() {
            world.store(world.flag(THERE), 1);
            let bits = wait(&world, notification);
            let moved = world.move_to(0).is_ok();
            world.store(world.flag(RESULT), if moved { bits } else { 99 });
            world.store(world.flag(RESULT + 1), wait(&world, notification));
        }
    })?;
    world.store(world.flag(GOES), 1);
    world.wait_until(|world| world.load(world.flag(THERE)) == 1);
    while !world.idles(cpu)? {
        world.os.pause();
    }
    world.arm(Point::AlarmMoves, cpu, Stop::Serving)?;
    let third = world.others().nth(1).ok_or(Not::Skipped("too few CPUs"))?;
    let off = world.spawn(1 << third, move |world| {
        let off = world.cpu_power(cpu, 0);
        world.store(world.flag(RESULT + 2), if off.is_ok() { 1 } else { 2 });
    })?;
    world.wait_stopped(cpu)?;
    signal(world, notification, 1)?;
    world.wait_until(|world| world.load(world.flag(RESULT)) == 1);
    world.release(cpu)?;
    world.wait_until(|world| world.load(world.flag(RESULT + 2)) == 1);
    signal(world, notification, 2)?;
    world.wait_until(|world| world.load(world.flag(RESULT + 1)) == 2);
    world.join(waiter)?;
    world.join(off)?;
    ensure_eq!(world.cpu_power(cpu, 1), Ok(0), "turning CPU {cpu} on");
    Ok(())
}
