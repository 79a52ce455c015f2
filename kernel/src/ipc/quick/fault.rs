//! The short ways of a fault to the pager of its page, and of the answer.
//!
//! A fault is a call whose message the kernel writes, and its answer a reply that stores nothing: so all but
//! that is [`give`] and [`answer`]. The page is mapped between the two, before anything else of the answer: its
//! thread is claimed first, so that its address space lasts, and stands where it stood again if the answer
//! cannot be given here.
//!
//! The lock of the address space is only tried for the answer: a CPU that waits for it serves, and what is noted
//! then no short way looks at. The fault looks at the page first and begins after.

use super::{EASY, FEASIBLE, Turn, answer, finish, give, has_given, may_be_gone, meanwhile};
use crate::cpu::Cpu;
use crate::ipc::exception;
use crate::ipc::reply::Caller;
use crate::mm::burial;
use crate::mm::space::PageIn;
use crate::object::Ref;
use crate::sched::ending;
use crate::sched::ready::Runnable;
use crate::thread::{Extra, Fate, Frame, Thread};
use abi::exception::Answer;
use abi::ipc::Tag;
use arch_contract::irq::IrqsOff;
use arch_contract::ret::Resume;
use arch_contract::trap::{Fault, FaultCause};

/// The current thread has touched a page: if its pager has to supply it, and waits, it is asked. Gives the token
/// back if the long way must be gone.
#[inline(always)]
pub fn ask(cpu: &'static Cpu, fault: &Fault, irq: IrqsOff) -> Result<Resume<Frame>, IrqsOff> {
    let turn = try_ask(cpu, fault);
    finish(cpu, turn, |_| {}, irq)
}

#[inline(always)]
fn try_ask(cpu: &Cpu, fault: &Fault) -> Turn {
    let (FaultCause::Page(access), Some(at)) = (fault.cause, fault.address) else { return Turn::Unclear };
    let Some(client) = cpu.take_current() else { return Turn::Unclear };
    let page = client.process().space.page_in(cpu, at, access);
    let asked = match page {
        Ok(PageIn::There) if may_be_gone(cpu) => Ok(Turn::Next(client)),
        Ok(PageIn::Absent(object, offset)) if may_be_gone(cpu) => {
            let asked = match object.paged() {
                Some(paged) => {
                    let write = |server: &Thread| {
                        exception::stop_for_page(&client, fault, offset, server, paged.badge)
                    };
                    let given = give(cpu, &client, &paged.endpoint, EASY, write, |_| {});
                    has_given(cpu, client, given, EASY)
                }
                None => Err(client),
            };
            drop(object);
            asked.map(|turn| after_object(cpu, turn))
        }
        _ => Err(client),
    };
    asked.unwrap_or_else(|client| {
        cpu.set_current(client);
        Turn::Unclear
    })
}

/// `server`, which runs here, answers the fault of its caller as a pager, and receives. Gives it back if nothing
/// was done.
#[inline(always)]
pub(super) fn try_answer(
    cpu: &Cpu,
    server: Ref<Thread>,
    handle: u64,
    tag: Tag,
    save: impl FnOnce(&Thread),
) -> Result<Turn, Ref<Thread>> {
    let Some(caller) = server.ipc.caller.take() else { return Err(server) };
    let client = caller.thread();
    let is_resumed = client.extras().has(Extra::Stopped) && tag.label() == Answer::Resume as u64;
    if !is_resumed || !client.claim_stopped_to_run(caller.number(), cpu.number) {
        server.ipc.caller.set(Some(caller));
        return Err(server);
    }
    // It cannot end from here on: its address space is there.
    if !exception::try_page_in(cpu, client) {
        return Err(stand_back(cpu, server, caller));
    }
    let go_on = |_: &Thread, client: &Thread| exception::go_on(client);
    answer(cpu, server, caller, handle, FEASIBLE.with(Extra::Stopped), |_| true, go_on, save)
        .map(|turn| after_object(cpu, turn))
        .map_err(|(server, caller)| stand_back(cpu, server, caller))
}

/// A reference to a memory object is gone, perhaps the last: then the scheduler looks who goes on, for there is
/// something to bury.
#[inline(always)]
fn after_object(cpu: &Cpu, turn: Turn) -> Turn {
    if !burial::look(cpu) {
        return turn;
    }
    if let Turn::Next(next) = turn {
        cpu.make_ready(Runnable::Thread(next));
    }
    Turn::Leave
}

/// Nothing was done but that the client was claimed: it waits as before.
#[cold]
#[inline(never)]
fn stand_back(cpu: &Cpu, server: Ref<Thread>, caller: Caller) -> Ref<Thread> {
    meanwhile::pass();
    if caller.thread().stand_awaiting(caller.number(), cpu.number) == Fate::Doomed {
        // Who wanted that found it on this CPU. The long way finds that it waits no more.
        ending::end_thread(cpu, caller.thread());
    }
    server.ipc.caller.set(Some(caller));
    server
}
