//! `test`: what kernels built for testing offer to scripts. See [`abi::testing`].

use super::{Caller, Outcome};
use crate::cpu::Cpu;
use crate::cpuset::CpuId;
use crate::litmus::{self, Between};
use crate::provoke;
use crate::rendezvous::{Point, Stop};
use crate::sched::context::{self, Loaded};
use crate::sched::task::{Task, slices};
use crate::trace;
use abi::Error;
use abi::testing::{Counter, FaultWord, LOADED_LAZILY, LOADED_SWITCHING, Operation};
use abi::trace::Kind;
use arch_contract::addr::VirtAddr;
use arch_contract::smp::Smp;
use arch_contract::tlb::Tlb;
use arch_current::Current;
use core::task::Poll;

/// Makes the call.
pub(super) fn call(caller: &Caller<'_>, args: [u64; 6]) -> Outcome {
    let cpu = caller.cpu;
    // A CPU that the machine has, on or off.
    let of = |number: u64| CpuId::new(number).and_then(|number| cpu.kernel.any_cpu(number));
    let of = |number: u64| of(number).ok_or(Error::BadArgument);
    let [_, a, b, c, d, ..] = args;
    let result =
        Operation::from_number(args[0]).ok_or(Error::BadArgument).and_then(|operation| match operation {
            Operation::Arm => arm(a, of(b)?, c),
            Operation::Stopped => Ok(of(a)?.rendezvous.stands().into()),
            Operation::Release => Ok(of(a)?.rendezvous.release().into()),
            Operation::Task => task(caller, of(a)?, b, [c, d]),
            Operation::Count => Ok(count(of(a)?, Counter::from_number(b).ok_or(Error::BadArgument)?)),
            Operation::Mark => {
                trace::event(cpu, Kind::Mark, a, 0);
                Ok(0)
            }
            Operation::Stick => {
                cpu.rendezvous.stick(cpu);
                Ok(0)
            }
            Operation::LimitIds => {
                cpu.kernel.ids.limit_to(u32::try_from(a).map_err(|_| Error::BadArgument)?);
                Ok(0)
            }
            Operation::Context => Ok(caller.process().space.id().get()),
            Operation::Loaded => Ok(match of(a)?.words.loaded() {
                Loaded::Kernel => 0,
                Loaded::Active(id) => id.get(),
                Loaded::Lazy(id) => id.get() | LOADED_LAZILY,
                Loaded::Switching { to, .. } => to.get() | LOADED_SWITCHING,
            }),
            Operation::Fault => {
                let which = FaultWord::from_number(a).ok_or(Error::BadArgument)?;
                Ok(cpu.kernel.last_fault.word(which))
            }
            Operation::NonMaskable => {
                let sent = Current::send_non_maskable(cpu.arch(), of(a)?.arch(), caller.irq);
                sent.map(|()| 0).map_err(|_| Error::NotSupported)
            }
            Operation::StoreBuffering => store_buffering(caller, a, b, c),
            Operation::Idle => Ok(of(a)?.trace.is_idle().into()),
            Operation::Broadcasts => Ok(Current::broadcast_from(cpu.machine()).is_some().into()),
            Operation::Steps => Ok(of(a)?.trace.steps()),
            Operation::SwitchAgain => {
                Ok(context::bits(context::load_again(cpu, &caller.process().space, caller.irq)))
            }
            Operation::Refuse => {
                let came = cpu.kernel.memory.refusal.came();
                cpu.kernel.memory.refusal.refuse(a);
                Ok(came.into())
            }
            Operation::Trespass => provoke::trespass(a, b).map(|()| 0),
        });
    Outcome::Done(result)
}

fn arm(point: u64, cpu: &Cpu, how: u64) -> Result<u64, Error> {
    let point = Point::from_number(point).ok_or(Error::BadArgument)?;
    let stop = match how {
        // Nothing is served in the middle of a switch.
        0 if !matches!(point, Point::Switching | Point::SwitchSampled | Point::EpisodeEnds) => Stop::Serving,
        1 => Stop::Deaf,
        _ => return Err(Error::BadArgument),
    };
    cpu.rendezvous.arm(point, stop);
    Ok(0)
}

fn store_buffering(caller: &Caller<'_>, page: u64, side: u64, barrier: u64) -> Result<u64, Error> {
    let between = match (side, barrier) {
        (0 | 1, 0) => Between::Nothing,
        (0 | 1, 1) => Between::FullBarrier,
        _ => return Err(Error::BadArgument),
    };
    let (cpu, space) = (caller.cpu, &caller.process().space);
    let page = space.pin(cpu, VirtAddr(page)).map_err(|_| Error::BadAddress)?;
    let missed = litmus::store_buffering(cpu, page, side, between);
    space.unpin(cpu, page);
    Ok(missed)
}

fn count(cpu: &Cpu, counter: Counter) -> u64 {
    match counter {
        Counter::Rollovers => cpu.kernel.ids.rollovers(),
        Counter::TeardownInterrupts => cpu.kernel.teardown_interrupts(),
        _ => cpu.trace.counted(counter),
    }
}

/// Queues a kernel task on `target`.
fn task(
    caller: &Caller<'_>,
    target: &'static Cpu,
    kind: u64,
    [slice_count, touched]: [u64; 2],
) -> Result<u64, Error> {
    if !caller.cpu.kernel.online().has(target.number) {
        return Err(Error::BadArgument);
    }
    let process = caller.process();
    let uses = match kind {
        0 => None,
        1 | 2 => Some(process.clone()),
        _ => return Err(Error::BadArgument),
    };
    let mut left = slice_count;
    let work = slices(move |_, _| {
        if kind == 2 {
            // Whether it may is known: it does not.
            let _ = provoke::trespass(0, touched);
        }
        left = left.saturating_sub(1);
        if left == 0 { Poll::Ready(()) } else { Poll::Pending }
    });
    let priority = caller.thread.priority();
    Task::spawn_on(caller.cpu, target, process.charged(), priority, uses, work)?;
    Ok(0)
}
