//! Where the architecture enters the generic kernel.
//!
//! Every entry has interrupts off and makes the one token that says so; every entry ends in a
//! [`Resume`], which only `return_to_user` can make. A system call that leaves nothing to look at
//! goes straight back. The few that must be quick have ways of their own, which entry code finds by
//! their numbers: what one keeps in registers is not the business of another.

use crate::cpu::{Cpu, Work};
use crate::fault;
use crate::ipc::{self, exception};
use crate::kernel;
use crate::membarrier;
use crate::mm::Machine;
use crate::mm::burial;
use crate::panic;
use crate::sched;
use crate::sched::quick::{self, Turn};
use crate::sched::round_trip;
use crate::syscall::{self, Outcome};
use crate::thread::Frame;
use crate::trace;
use abi::Call;
use abi::trace::Kind;
use arch_contract::Base;
use arch_contract::boot::BootInfo;
use arch_contract::irq::{Interrupt, IrqsOff};
use arch_contract::ret::{CoreSyncOwed, Owed, Reload, Resume};
use arch_contract::trap::{Trap, Traps};
use arch_contract::upcalls::{Upcalls, WAYS, Way};
use arch_contract::vector::Vector;
use arch_current::Current;
use core::fmt;
use core::ptr::NonNull;

type ArchCpu = <Current as Base>::Cpu;

/// What every way of a system call begins with.
#[inline(always)]
fn enter(cpu: &'static ArchCpu) -> (&'static Cpu, IrqsOff) {
    // SAFETY: `boot` bound the value before user mode was first entered.
    let cpu = unsafe { Cpu::of(cpu) };
    trace::event(cpu, Kind::UserEnter, 0, 0);
    // SAFETY: interrupts are off in every upcall; the token of the last one is gone.
    (cpu, unsafe { IrqsOff::assume() })
}

/// Nothing, there and back.
fn null(cpu: &'static ArchCpu, mut frame: NonNull<Frame>) -> Resume<Frame> {
    let (cpu, irq) = enter(cpu);
    // SAFETY: it is the current thread's frame, which this CPU alone has.
    Current::set_result(unsafe { frame.as_mut() }, 0, 0);
    back(cpu, frame, irq)
}

/// A membarrier: straight to it, since it is about this CPU and its mm and not about what a thread
/// can name.
fn membarrier(cpu: &'static ArchCpu, mut frame: NonNull<Frame>) -> Resume<Frame> {
    let (cpu, irq) = enter(cpu);
    // SAFETY: as in `null`.
    let registers = unsafe { frame.as_mut() };
    let made = Current::syscall(registers);
    if !membarrier::alone(cpu, made.args[0], made.args[1]) {
        return call(cpu, frame, irq);
    }
    Current::set_result(registers, 0, 0);
    back(cpu, frame, irq)
}

/// A yield: to an equal, if there is one and nothing is unusual.
fn take_turns(cpu: &'static ArchCpu, mut frame: NonNull<Frame>) -> Resume<Frame> {
    let (cpu, irq) = enter(cpu);
    // SAFETY: as in `null`.
    Current::set_result(unsafe { frame.as_mut() }, 0, 0);
    match quick::take_turns(cpu, irq) {
        Turn::Next(resume) => resume,
        Turn::Mine(irq) => back(cpu, frame, irq),
        Turn::Unclear(irq) => take_turns_slowly(cpu, frame, irq),
    }
}

/// A yield that is not straightforward.
#[cold]
#[inline(never)]
fn take_turns_slowly(cpu: &'static Cpu, frame: NonNull<Frame>, irq: IrqsOff) -> Resume<Frame> {
    match quick::take_turns_if_feasible(cpu, irq) {
        Turn::Next(resume) => resume,
        Turn::Mine(irq) => back(cpu, frame, irq),
        Turn::Unclear(irq) => {
            sched::yield_current(cpu);
            sched::leave(cpu, irq)
        }
    }
}

/// A call of an endpoint: straight to it, if the server waits and nothing is unusual.
fn endpoint_call(cpu: &'static ArchCpu, frame: NonNull<Frame>) -> Resume<Frame> {
    let (cpu, irq) = enter(cpu);
    // SAFETY: as in `null`.
    let made = Current::syscall(unsafe { frame.as_ref() });
    match ipc::quick::call(cpu, &made, irq) {
        Ok(resume) => resume,
        Err(irq) => endpoint_call_slowly(cpu, frame, irq),
    }
}

/// One that is not straightforward.
#[cold]
#[inline(never)]
fn endpoint_call_slowly(cpu: &'static Cpu, frame: NonNull<Frame>, irq: IrqsOff) -> Resume<Frame> {
    // SAFETY: as in `null`.
    let made = Current::syscall(unsafe { frame.as_ref() });
    ipc::quick::call_if_feasible(cpu, &made, irq).unwrap_or_else(|irq| call(cpu, frame, irq))
}

/// A reply and the wait for the next message. As [`endpoint_call`].
fn reply_receive(cpu: &'static ArchCpu, frame: NonNull<Frame>) -> Resume<Frame> {
    let (cpu, irq) = enter(cpu);
    // SAFETY: as in `null`.
    let made = Current::syscall(unsafe { frame.as_ref() });
    match ipc::quick::reply_receive(cpu, &made, irq) {
        Ok(resume) => resume,
        Err(irq) => reply_receive_slowly(cpu, frame, irq),
    }
}

/// One that is not straightforward.
#[cold]
#[inline(never)]
fn reply_receive_slowly(cpu: &'static Cpu, frame: NonNull<Frame>, irq: IrqsOff) -> Resume<Frame> {
    // SAFETY: as in `null`.
    let made = Current::syscall(unsafe { frame.as_ref() });
    ipc::quick::reply_receive_if_feasible(cpu, &made, irq).unwrap_or_else(|irq| call(cpu, frame, irq))
}

/// A signal. As [`endpoint_call`].
fn signal(cpu: &'static ArchCpu, frame: NonNull<Frame>) -> Resume<Frame> {
    let (cpu, irq) = enter(cpu);
    // SAFETY: as in `null`.
    let made = Current::syscall(unsafe { frame.as_ref() });
    match ipc::quick::signal::signal(cpu, &made, irq) {
        Turn::Next(resume) => resume,
        Turn::Mine(irq) => back(cpu, frame, irq),
        Turn::Unclear(irq) => signal_slowly(cpu, frame, irq),
    }
}

/// One that is not straightforward.
#[cold]
#[inline(never)]
fn signal_slowly(cpu: &'static Cpu, frame: NonNull<Frame>, irq: IrqsOff) -> Resume<Frame> {
    // SAFETY: as in `null`.
    let made = Current::syscall(unsafe { frame.as_ref() });
    match ipc::quick::signal::signal_if_feasible(cpu, &made, irq) {
        Turn::Next(resume) => resume,
        Turn::Mine(irq) => back(cpu, frame, irq),
        Turn::Unclear(irq) => call(cpu, frame, irq),
    }
}

/// A wait for a signal. As [`endpoint_call`].
fn wait(cpu: &'static ArchCpu, frame: NonNull<Frame>) -> Resume<Frame> {
    let (cpu, irq) = enter(cpu);
    // SAFETY: as in `null`.
    let made = Current::syscall(unsafe { frame.as_ref() });
    match ipc::quick::signal::wait(cpu, &made, irq) {
        Turn::Next(resume) => resume,
        Turn::Mine(irq) => back(cpu, frame, irq),
        Turn::Unclear(irq) => wait_slowly(cpu, frame, irq),
    }
}

/// One that is not straightforward.
#[cold]
#[inline(never)]
fn wait_slowly(cpu: &'static Cpu, frame: NonNull<Frame>, irq: IrqsOff) -> Resume<Frame> {
    // SAFETY: as in `null`.
    let made = Current::syscall(unsafe { frame.as_ref() });
    match ipc::quick::signal::wait_if_feasible(cpu, &made, irq) {
        Turn::Next(resume) => resume,
        Turn::Mine(irq) => back(cpu, frame, irq),
        Turn::Unclear(irq) => call(cpu, frame, irq),
    }
}

/// A mapping of a memory object: at once, if it is of one page and nothing is unusual.
fn attach(cpu: &'static ArchCpu, mut frame: NonNull<Frame>) -> Resume<Frame> {
    let (cpu, irq) = enter(cpu);
    // SAFETY: it is the current thread's frame, which this CPU alone has.
    let registers = unsafe { frame.as_mut() };
    match syscall::quick::attach(cpu, &Current::syscall(registers)) {
        Some(handle) => Current::set_result(registers, 0, handle.0.into()),
        None => return call(cpu, frame, irq),
    }
    back(cpu, frame, irq)
}

/// Any call that has no way of its own.
fn other(cpu: &'static ArchCpu, frame: NonNull<Frame>) -> Resume<Frame> {
    let (cpu, irq) = enter(cpu);
    call(cpu, frame, irq)
}

/// Any call that has no way of its own.
#[inline(never)]
fn call(cpu: &'static Cpu, mut frame: NonNull<Frame>, irq: IrqsOff) -> Resume<Frame> {
    // SAFETY: it is the current thread's frame, which this CPU alone has.
    let registers = unsafe { frame.as_mut() };
    match syscall::dispatch(cpu, Current::syscall(registers), &irq) {
        Outcome::Done(result) => sched::set_result(registers, result),
        Outcome::Off => return sched::leave(cpu, irq),
        Outcome::To(thread) => return sched::leave_to(cpu, thread, irq),
        Outcome::Message => return back_with(cpu, frame, Reload::Full, irq),
        Outcome::Job => return round_trip::to_job(cpu, irq),
        Outcome::Pending(pending) => {
            sched::wait_pending(cpu, pending, &irq);
            return sched::leave(cpu, irq);
        }
    }
    back(cpu, frame, irq)
}

/// The call is done, and `frame` is the one that it was made with: straight back, if there is
/// nothing to look at but what is owed before user mode.
#[inline(always)]
fn back(cpu: &'static Cpu, frame: NonNull<Frame>, irq: IrqsOff) -> Resume<Frame> {
    // Only the result was written.
    back_with(cpu, frame, Reload::ResultOnly, irq)
}

/// As [`back`], where more registers were written.
#[inline(always)]
fn back_with(cpu: &'static Cpu, frame: NonNull<Frame>, reload: Reload, irq: IrqsOff) -> Resume<Frame> {
    let owed = match cpu.work() {
        Work::NONE => Owed { core_sync: CoreSyncOwed::No },
        Work::CORE_SYNC => Owed { core_sync: cpu.take_core_sync() },
        _ => return sched::leave(cpu, irq),
    };
    // SAFETY: 1. it is the current thread's frame, which this CPU alone has. 2. the memory context
    // was not changed since the trap: only `sched::leave` does. 3. the caller says what was written.
    unsafe { cpu.return_to_user(frame, owed, reload, &irq) }
}

/// Who makes which call. The last of them, for every number from there on, is no call's.
const fn ways() -> [Way<Current>; WAYS] {
    let mut ways: [Way<Current>; WAYS] = [other; WAYS];
    ways[Call::Null as usize] = null;
    ways[Call::Yield as usize] = take_turns;
    ways[Call::Membarrier as usize] = membarrier;
    ways[Call::EndpointCall as usize] = endpoint_call;
    ways[Call::ReplyReceive as usize] = reply_receive;
    ways[Call::NotificationSignal as usize] = signal;
    ways[Call::NotificationWait as usize] = wait;
    ways[Call::MemoryAttach as usize] = attach;
    ways
}

/// The generic kernel, as the architecture calls it.
pub struct Upcall;

impl Upcalls<Current> for Upcall {
    fn boot(info: BootInfo, machine: &'static Machine, cpu: &'static ArchCpu) -> Resume<Frame> {
        // SAFETY: interrupts are off in every upcall, and this is the CPU's first.
        kernel::boot(info, machine, cpu, unsafe { IrqsOff::assume() })
    }

    fn boot_secondary(cpu: &'static ArchCpu) -> Resume<Frame> {
        // SAFETY: the value was bound before the CPU was started.
        let cpu = unsafe { Cpu::of(cpu) };
        // SAFETY: interrupts are off in every upcall, and no token of this CPU is left from before
        // it was off.
        kernel::boot_secondary(cpu, unsafe { IrqsOff::assume() })
    }

    const WAYS: &'static [Way<Current>; WAYS] = &ways();

    fn trap(cpu: &'static ArchCpu, mut frame: NonNull<Frame>, trap: Trap) -> Resume<Frame> {
        // SAFETY: as in `enter`.
        let cpu = unsafe { Cpu::of(cpu) };
        // SAFETY: as in `enter`.
        let irq = unsafe { IrqsOff::assume() };
        trace::event(cpu, Kind::UserEnter, if matches!(trap, Trap::Interrupt(_)) { 1 } else { 2 }, 0);
        match trap {
            Trap::Interrupt(interrupt) => cpu.note(interrupt),
            Trap::Fault(fault) => {
                let irq = match ipc::quick::fault::ask(cpu, &fault, irq) {
                    Ok(resume) => return resume,
                    Err(irq) => irq,
                };
                let outcome = exception::raise(cpu, &fault, &irq);
                burial::look(cpu);
                if let Outcome::To(handler) = outcome {
                    return sched::leave_to(cpu, handler, irq);
                }
                return sched::leave(cpu, irq);
            }
            Trap::VectorUnitOff => {
                let area = cpu.current().map(|thread| thread.make_vector_area(cpu.machine()));
                match area {
                    Some(Ok(area)) => {
                        // SAFETY: it is the current thread's frame, which this CPU alone has.
                        let frame = unsafe { frame.as_mut() };
                        // SAFETY: 1. it is this thread's area, initialized. 2. the units were
                        // off: whoever used them before was saved or has ended.
                        unsafe { Current::load(cpu.arch(), frame, area, &irq) };
                    }
                    _ => fault::no_memory_for_vectors(cpu, &irq),
                }
            }
        }
        sched::leave(cpu, irq)
    }

    fn interrupt(cpu: &'static ArchCpu, interrupt: Interrupt) {
        // SAFETY: windows are opened after `bind`.
        let cpu = unsafe { Cpu::of(cpu) };
        trace::interrupted(cpu);
        cpu.note(interrupt);
    }

    fn kernel_fault(cpu: Option<&ArchCpu>, describe: &dyn Fn(&mut dyn fmt::Write) -> fmt::Result) -> ! {
        panic::end(cpu.map(Current::machine), format_args!("fault in the kernel"), describe)
    }

    fn boot_failure(why: fmt::Arguments<'_>) -> ! {
        panic::refuse(None, why)
    }
}
