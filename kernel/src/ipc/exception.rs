//! Exceptions as messages: a fault is a call that its thread makes without having asked for it.
//!
//! The thread waits as a caller does, in the queue of the endpoint and then for the reply, and lends what
//! a caller lends, so whoever handles faults is an ordinary server. Three things are different. Its
//! registers are not a call's: what is sent is what it keeps beside them ([`State`](super::State)`::stopped`), and no result
//! is ever stored there; [`Extra::Stopped`] keeps it off the short ways of messages, which know nothing of that; a page of a
//! pager's has its own ([`quick::fault`](super::quick::fault)). Who
//! receives the call may look at the registers, and change them. And a wait that ends without an answer is
//! the end of its process.
//!
//! A page of a pager's that is touched is such a call too, to the endpoint of its memory object. There the
//! answer says that it was supplied; without one the page is wanted again.
//!
//! # Who touches the registers
//! While a stopped thread stands in a queue or [`Standing::Awaiting`], nobody has it. Who wants its registers
//! takes them under the lock of its standing
//! ([`Thread::while_stopped`](crate::thread::Thread::while_stopped)). Who answers claims it under the same lock,
//! on the short way too ([`Thread::claim_stopped_to_run`](crate::thread::Thread::claim_stopped_to_run)).
//!
//! # Nothing nests
//! That a handler is gone is learnt at the end of a thread, and may be the end of another process, whose
//! threads may be handlers too. So here nothing is ended at once: the process is condemned, its kernel task
//! ends the thread with the others.

use super::{Alarm, Endpoint};
use crate::cpu::Cpu;
use crate::fault;
use crate::ipc::message::Kind;
use crate::mm::NoMemory;
use crate::mm::object::MemoryObject;
use crate::mm::space::PageIn;
use crate::object::Ref;
use crate::process::Process;
use crate::sched::ending;
use crate::sched::ready::Runnable;
use crate::sync::{AtomicBool, Leaf, Ordering};
use crate::syscall::Outcome;
use crate::thread::{Extra, Fate, Standing, Thread};
use abi::exception::{Answer, FaultKind, NO_ADDRESS};
use abi::ipc::{FOREVER, Tag};
use abi::{Ending, Error, ExitReport};
use arch_contract::addr::VirtAddr;
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::trap::{Access, Fault, FaultCause, Step, Traps};
use arch_current::Current;

/// What faults go by. It ends with its capability, which is derived from that on the endpoint: so a
/// revocation takes the faults back.
pub struct Handler {
    pub endpoint: Ref<Endpoint>,
    badge: u64,
    ended: AtomicBool,
}

impl Handler {
    /// One that has a capability in a moment.
    pub const fn new(endpoint: Ref<Endpoint>, badge: u64) -> Self {
        Self { endpoint, badge, ended: AtomicBool::new(false) }
    }

    /// Its capability is gone: no further fault goes by it.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Where a thread or a process keeps it.
pub type Place = Leaf<Option<Ref<Handler>>>;

/// Puts `handler` there in the place of the one before.
pub fn set(place: &Place, handler: Option<Ref<Handler>>) {
    let before = core::mem::replace(&mut *place.lock(), handler);
    drop(before);
}

/// The handler of `thread`, or else of its process, if it has not ended.
fn handler_of(thread: &Thread) -> Option<Ref<Handler>> {
    let lives = |handler: &Ref<Handler>| !handler.ended.load(Ordering::Relaxed);
    let own = thread.ipc.handler.lock().clone().filter(lives);
    own.or_else(|| thread.process().handler.lock().clone().filter(lives))
}

/// What has stopped a thread.
#[derive(Clone, Copy)]
pub struct Stop {
    fault: Fault,
    asked: Asked,
}

/// Who is to answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Handler,
    /// The pager of a memory object, for the page at this offset.
    Pager(u64),
}

impl Stop {
    /// Whether whoever is to answer may touch the registers: a pager has no business there.
    pub fn opens_registers(&self) -> bool {
        self.asked == Asked::Handler
    }
}

/// The current thread has faulted: its pager supplies the page, or it stops until its handler answers, or,
/// if it has none, its process ends. Says as a call does what became of the thread.
pub fn raise(cpu: &'static Cpu, fault: &Fault, irq: &IrqsOff) -> Outcome {
    let Some(thread) = cpu.current() else { return Outcome::Off };
    if let (FaultCause::Page(access), Some(at)) = (fault.cause, fault.address) {
        match thread.process().space.page_in(cpu, at, access) {
            Ok(PageIn::There) => return Outcome::Off,
            Ok(PageIn::Absent(object, offset)) => {
                if let Some(asked) = ask_pager(cpu, &thread, fault, (&object, offset), irq) {
                    return asked;
                }
            }
            Ok(PageIn::NotPaged) | Err(NoMemory) => {}
        }
    }
    if let Some(handler) = handler_of(&thread) {
        let stop = Stop { fault: *fault, asked: Asked::Handler };
        if let Some(asked) = ask(cpu, &thread, stop, (&handler.endpoint, handler.badge), irq) {
            return asked;
        }
    }
    drop(thread);
    fault::kill_current(cpu, fault, irq);
    Outcome::Off
}

/// A call of the current thread could not touch its memory at `at`, before it has done anything: if the page
/// is a pager's, the call is made again when it is there.
#[cold]
#[inline(never)]
pub fn page_for_call(cpu: &'static Cpu, at: VirtAddr, access: Access, irq: &IrqsOff) -> Outcome {
    let refused = Outcome::Done(Err(Error::BadAddress));
    let Some(thread) = cpu.current() else { return Outcome::Off };
    let page = thread.process().space.page_in(cpu, at, access);
    // SAFETY: the thread is current here.
    let frame = unsafe { thread.frame().as_mut() };
    let pc = Current::pc(frame);
    if !mutant::is(Mutant::CallsNotMadeAgain) {
        Current::restart_syscall(frame);
    }
    match page {
        Ok(PageIn::There) => Outcome::Off,
        Ok(PageIn::Absent(object, offset)) => {
            let fault = Fault { cause: FaultCause::Page(access), pc: Current::pc(frame), address: Some(at) };
            let asked = ask_pager(cpu, &thread, &fault, (&object, offset), irq);
            asked.unwrap_or_else(|| {
                Current::set_pc(frame, pc);
                refused
            })
        }
        Ok(PageIn::NotPaged) | Err(NoMemory) => {
            Current::set_pc(frame, pc);
            refused
        }
    }
}

/// The current thread waits for the page of a paged object. `None` if the pager is gone.
fn ask_pager(
    cpu: &'static Cpu,
    thread: &Ref<Thread>,
    fault: &Fault,
    (object, offset): (&MemoryObject, u64),
    irq: &IrqsOff,
) -> Option<Outcome> {
    let paged = object.paged().filter(|_| !mutant::is(Mutant::PagesOfNobody))?;
    let stop = Stop { fault: *fault, asked: Asked::Pager(offset) };
    ask(cpu, thread, stop, (&paged.endpoint, paged.badge), irq)
}

/// The current thread stops and calls an endpoint. `None` if nobody can receive there any more.
fn ask(
    cpu: &'static Cpu,
    thread: &Ref<Thread>,
    stop: Stop,
    (endpoint, badge): (&Ref<Endpoint>, u64),
    irq: &IrqsOff,
) -> Option<Outcome> {
    Alarm::set_deadline(thread, FOREVER);
    thread.ipc.stopped.set(Some(stop));
    thread.add_extra(Extra::Stopped);
    match Endpoint::send(endpoint, cpu, thread, Kind::Call, badge, irq) {
        Outcome::Done(_) => {
            go_on(thread);
            None
        }
        sent => Some(sent),
    }
}

/// `client`, which runs here, stops for the page of a paged object at `offset`: its pager, `server`, which this
/// CPU has, is told.
#[inline(always)]
pub(super) fn stop_for_page(client: &Thread, fault: &Fault, offset: u64, server: &Thread, badge: u64) {
    let stop = Stop { fault: *fault, asked: Asked::Pager(offset) };
    client.ipc.stopped.set(Some(stop));
    client.add_extra(Extra::Stopped);
    deliver(&stop, server, badge);
}

/// Maps the page for which `client`, which this CPU has, has stopped, if there is nothing to wait for. Whether
/// it did not: what is still not there the thread finds out.
#[inline(always)]
pub(super) fn try_page_in(cpu: &Cpu, client: &Thread) -> bool {
    let Some(Stop { fault, asked: Asked::Pager(_) }) = client.ipc.stopped.get() else { return false };
    let (FaultCause::Page(access), Some(at)) = (fault.cause, fault.address) else { return false };
    client.process().space.try_page_in(cpu, at, access).is_some()
}

/// `thread`, which this CPU has, is stopped no more. It does not stand where one that is stopped waits: there
/// others look at what has stopped it.
pub(super) fn go_on(thread: &Thread) {
    let waits = |standing: &Standing| matches!(standing, Standing::Sending(_) | Standing::Awaiting(_));
    debug_assert!(!thread.look_at_standing(waits), "looked at while it changes");
    thread.drop_extra(Extra::Stopped);
    thread.ipc.stopped.set(None);
}

/// Stores in the registers of `to` what has stopped a thread. This CPU has `to`.
pub(super) fn deliver(stop: &Stop, to: &Thread, badge: u64) {
    let fault = &stop.fault;
    let address = fault.address.map_or(NO_ADDRESS, |address| address.0);
    let code = if let FaultCause::Other(code) = fault.cause { code.into() } else { 0 };
    // SAFETY: the caller has the thread.
    let target = unsafe { to.frame().as_mut() };
    let mut words = Current::message(target);
    let count = match stop.asked {
        Asked::Handler => {
            // In the order of `abi::exception::Word`.
            words[..3].copy_from_slice(&[address, fault.pc.0, code]);
            3
        }
        Asked::Pager(offset) => {
            words[0] = offset;
            1
        }
    };
    Current::set_message(target, badge, &words);
    Current::set_result(target, 0, Tag::new(kind(fault.cause) as u64, count).0 | Tag::CALL);
}

/// `thread`, which this CPU has claimed, is answered with `tag`: given back if it goes on.
pub(super) fn answered(cpu: &Cpu, thread: Ref<Thread>, tag: Tag) -> Option<Ref<Thread>> {
    let stop = thread.ipc.stopped.get()?;
    if stop.asked != Asked::Handler {
        if tag.label() != Answer::Resume as u64 {
            end(cpu, thread, &stop.fault);
            return None;
        }
        go_on(&thread);
        if let (FaultCause::Page(access), Some(at)) = (stop.fault.cause, stop.fault.address) {
            // What is still not there the thread finds out.
            let _ = thread.process().space.page_in(cpu, at, access);
        }
        return Some(thread);
    }
    let step = match Answer::from_number(tag.label()) {
        Some(Answer::Resume) => Step::Free,
        Some(Answer::Step) if mutant::is(Mutant::NeverSteps) => Step::Free,
        Some(Answer::Step) => Step::One,
        Some(Answer::End) | None => {
            end(cpu, thread, &stop.fault);
            return None;
        }
    };
    go_on(&thread);
    // SAFETY: this CPU has claimed the thread, hence its frame.
    Current::set_step(unsafe { thread.frame().as_mut() }, step);
    Some(thread)
}

/// `thread`, which is stopped and which this CPU has, will hear nothing of who was to answer. What wanted a
/// page wants it again, and finds another pager, or none.
pub(super) fn unanswered(cpu: &Cpu, thread: Ref<Thread>) {
    let Some(stop) = thread.ipc.stopped.get() else { return };
    match stop.asked {
        Asked::Handler => end(cpu, thread, &stop.fault),
        Asked::Pager(_) => {
            // It may still stand in the queue that it was taken out of.
            thread.stand_in_task();
            go_on(&thread);
            cpu.make_ready(Runnable::Thread(thread));
        }
    }
}

/// `fault` of `thread`, which is stopped and which this CPU has, ends its process.
fn end(cpu: &Cpu, thread: Ref<Thread>, fault: &Fault) {
    if mutant::is(Mutant::FaultsForgotten) {
        return;
    }
    fault::report(cpu, &thread, fault);
    if thread.stand(Standing::Condemned) == Fate::Doomed {
        return ending::end_thread(cpu, &thread);
    }
    // From here on it is ended by whoever dooms it.
    let report = ExitReport::new(Ending::Fault, abi::FAULT_STATUS);
    Process::condemn_later(thread.process(), cpu, thread.priority(), report);
}

/// As programs are told.
pub const fn kind(cause: FaultCause) -> FaultKind {
    match cause {
        FaultCause::Page(Access::Read) => FaultKind::PageRead,
        FaultCause::Page(Access::Write) => FaultKind::PageWrite,
        FaultCause::Page(Access::Execute) => FaultKind::PageExecute,
        FaultCause::BadAddress(Access::Read) => FaultKind::BadRead,
        FaultCause::BadAddress(Access::Write) => FaultKind::BadWrite,
        FaultCause::BadAddress(Access::Execute) => FaultKind::BadExecute,
        FaultCause::UndefinedInstruction => FaultKind::Undefined,
        FaultCause::PrivilegedInstruction => FaultKind::Privileged,
        FaultCause::Breakpoint => FaultKind::Breakpoint,
        FaultCause::SingleStep => FaultKind::SingleStep,
        FaultCause::Arithmetic => FaultKind::Arithmetic,
        FaultCause::FloatingPoint => FaultKind::FloatingPoint,
        FaultCause::Alignment => FaultKind::Alignment,
        FaultCause::MachineCheck => FaultKind::MachineCheck,
        FaultCause::Other(_) => FaultKind::Other,
    }
}
