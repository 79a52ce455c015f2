//! The short way of a call to a server that waits, and of its reply.
//!
//! The long way ([`Endpoint::send`], [`Endpoint::receive`]) can do all of it, and this does exactly what
//! it would, for the case that matters: only words are sent, nobody has a deadline, a budget or anything
//! else unusual, nothing was noted for this CPU, and who goes on is no better than who stops, so that the
//! CPU passes on at the same priority: what other CPUs read of this one, the timer and the rest of the
//! slice stay as they are. Where anything is different nothing is done, and the long way does it all.
//!
//! No count of references is touched: the client's reference goes from the CPU to the server, as its
//! caller, and back; the server's from the queue to the CPU, and back; and the server keeps that of the
//! endpoint. Where it last received elsewhere, its reply goes the long way.
//!
//! Locks: the table's, then the endpoint's, then the leaves of a loan. The first two are only tried: they are
//! nothing to wait for here. That of a thread's standing is not needed: it changes in one step.

pub mod fault;
pub(crate) mod meanwhile;
pub mod signal;

use super::Endpoint;
use super::endpoint::{Life, Side};
use super::loan;
use super::reply::Caller;
use crate::cpu::{Cpu, Work};
use crate::object::Ref;
use crate::sched::quick::run;
use crate::sched::ready::{Load, Priority, Runnable};
use crate::sched::{self, complete_user_accesses, count_time, ending, load_vectors, save_vectors};
#[cfg(test)]
use crate::sync::Ordering;
use crate::thread::{Extra, Extras, Fate, Frame, Thread};
use abi::Rights;
use abi::ipc::{FOREVER, Tag};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant;
use arch_contract::ret::Resume;
use arch_contract::time::Time;
use arch_contract::trap::{Syscall, Traps};
use arch_current::Current;

/// For the test that compares the two ways.
#[cfg(test)]
#[derive(Default)]
pub struct Watch {
    /// Whether the short way is closed.
    pub closed: crate::sync::AtomicBool,
    /// How often it was gone.
    pub gone: crate::sync::AtomicU64,
}

/// What came of it.
enum Turn {
    /// This one goes on.
    Next(Ref<Thread>),
    /// Nothing was done.
    Unclear,
    /// All was done, and somebody was to end: the scheduler finds out who goes on.
    Leave,
}

/// What is seen to where that costs least.
const EASY: Extras = Extras::NONE.with(Extra::Priority);

/// What can be seen to.
const FEASIBLE: Extras = EASY.with(Extra::Affinity).with(Extra::Vectors);

/// What nobody changes who does not have the thread.
const QUIET: Extras = Extras::NONE.with(Extra::Vectors);

/// The current thread calls. Gives the token back if the long way must be gone.
#[inline(always)]
pub fn call(cpu: &'static Cpu, made: &Syscall, irq: IrqsOff) -> Result<Resume<Frame>, IrqsOff> {
    let turn = begin(cpu, made, |client, handle, tag| try_call(cpu, client, handle, tag, EASY, |_| {}));
    finish(cpu, turn, |_| {}, irq)
}

/// As [`call`], where the threads may have vector registers, or be bound to CPUs.
pub fn call_if_feasible(cpu: &'static Cpu, made: &Syscall, irq: IrqsOff) -> Result<Resume<Frame>, IrqsOff> {
    let turn = begin(cpu, made, |client, handle, tag| {
        try_call(cpu, client, handle, tag, FEASIBLE, |client| save_vectors(cpu, client, &irq))
    });
    // SAFETY: the token is there; this one is used for the time of a hook only.
    let token = unsafe { IrqsOff::assume() };
    finish(cpu, turn, |next| load_vectors(cpu, next, &token), irq)
}

/// The current thread replies and receives. As [`call`].
#[inline(always)]
pub fn reply_receive(cpu: &'static Cpu, made: &Syscall, irq: IrqsOff) -> Result<Resume<Frame>, IrqsOff> {
    let turn = begin(cpu, made, |server, handle, tag| try_reply(cpu, server, handle, tag, EASY, |_| {}));
    finish(cpu, turn, |_| {}, irq)
}

/// As [`reply_receive`], where the threads may have vector registers, or be bound to CPUs; and where it is a
/// fault that is answered.
pub fn reply_receive_if_feasible(
    cpu: &'static Cpu,
    made: &Syscall,
    irq: IrqsOff,
) -> Result<Resume<Frame>, IrqsOff> {
    let turn = begin(cpu, made, |server, handle, tag| {
        let save = |server: &Thread| save_vectors(cpu, server, &irq);
        try_reply(cpu, server, handle, tag, FEASIBLE, save)
            .or_else(|server| fault::try_answer(cpu, server, handle, tag, save))
    });
    // SAFETY: as in `call_if_feasible`.
    let token = unsafe { IrqsOff::assume() };
    finish(cpu, turn, |next| load_vectors(cpu, next, &token), irq)
}

/// What both need: the current thread, and a message of words only with no deadline.
#[inline(always)]
fn begin(
    cpu: &Cpu,
    made: &Syscall,
    attempt: impl FnOnce(Ref<Thread>, u64, Tag) -> Result<Turn, Ref<Thread>>,
) -> Turn {
    let tag = Tag(made.args[2]);
    if !may_be_gone(cpu) || made.args[1] != FOREVER || !tag.is_of_words() {
        return Turn::Unclear;
    }
    let Some(current) = cpu.take_current() else { return Turn::Unclear };
    attempt(current, made.args[0], tag).unwrap_or_else(|current| {
        cpu.set_current(current);
        Turn::Unclear
    })
}

/// Whether there is nothing for a short way to overlook. Mutants are placed on the long ways.
#[inline(always)]
fn may_be_gone(cpu: &Cpu) -> bool {
    cpu.work() == Work::NONE && !mutant::any() && is_open(cpu)
}

/// Whether the short ways may be gone: always, but where a test compares them with the long ones.
#[inline(always)]
pub(crate) fn is_open(_cpu: &Cpu) -> bool {
    #[cfg(test)]
    return !_cpu.kernel.short_ways.closed.load(Ordering::Relaxed);
    #[cfg(not(test))]
    true
}

/// A short way was gone.
#[inline(always)]
pub(crate) fn count(_cpu: &Cpu) {
    #[cfg(test)]
    _cpu.kernel.short_ways.gone.fetch_add(1, Ordering::Relaxed);
}

#[inline(always)]
fn finish(
    cpu: &'static Cpu,
    turn: Turn,
    load: impl FnOnce(&Thread),
    irq: IrqsOff,
) -> Result<Resume<Frame>, IrqsOff> {
    match turn {
        Turn::Next(next) => {
            count(cpu);
            next.entry.set_last(cpu.number);
            load(&next);
            Ok(run(cpu, next, &irq))
        }
        Turn::Unclear => Err(irq),
        Turn::Leave => Ok(sched::leave(cpu, irq)),
    }
}

/// The priorities of both, if `next` can go on here in the place of `current` as far as they
/// allow it.
#[inline(always)]
fn may_follow(cpu: &Cpu, current: &Thread, next: &Thread, easy: Extras) -> Option<[Priority; 2]> {
    let extras = current.extras().or(next.extras());
    let may = extras.within(easy)
        && (!extras.has(Extra::Affinity) || current.affinity().and(next.affinity()).has(cpu.number));
    match extras.has(Extra::Priority) {
        _ if !may => None,
        true => Some([current.priority(), next.priority()]),
        false => Some([current.process().priority(), next.process().priority()]),
    }
}

/// Copies the words of `from` to `to`. This CPU has both.
#[inline(always)]
fn copy(from: &Thread, to: &Thread, tag: Tag, said: u64, badge: u64) {
    // SAFETY: the caller of this has both threads, which are two.
    let (source, target) = unsafe { (from.frame().as_ref(), to.frame().as_mut()) };
    Current::copy_message(source, target, badge, tag.words());
    Current::set_result(target, 0, tag.0 | said);
}

/// Gives `client` back if nothing was done.
#[inline(always)]
fn try_call(
    cpu: &Cpu,
    client: Ref<Thread>,
    handle: u64,
    tag: Tag,
    easy: Extras,
    save: impl FnOnce(&Thread),
) -> Result<Turn, Ref<Thread>> {
    let given = 'given: {
        let Some(slots) = client.process().table.try_lock() else { break 'given Given::Unclear };
        let Some((endpoint, badge)) = slots.endpoint(handle, Rights::WRITE) else {
            break 'given Given::Unclear;
        };
        give(cpu, &client, endpoint, easy, |server| copy(&client, server, tag, Tag::CALL, badge), save)
    };
    has_given(cpu, client, given, easy)
}

/// What became of a call.
enum Given {
    /// Nothing was done.
    Unclear,
    /// The server has it, which this CPU has; and the number of the client's wait.
    To(Ref<Thread>, u64),
    /// The client is to end.
    Doomed,
}

/// The call of `client`, which runs here, goes to the server that waits at `endpoint`: `write` stores it in
/// the registers of that.
#[inline(always)]
fn give(
    cpu: &Cpu,
    client: &Ref<Thread>,
    endpoint: &Endpoint,
    easy: Extras,
    write: impl FnOnce(&Thread),
    save: impl FnOnce(&Thread),
) -> Given {
    let Some(mut state) = endpoint.state.try_lock() else { return Given::Unclear };
    if state.life == Life::Ended {
        return Given::Unclear;
    }
    let Some(server) = state.first(Side::Receivers) else { return Given::Unclear };
    let Some([priority, of_server]) = may_follow(cpu, client, server, easy) else { return Given::Unclear };
    if of_server > priority {
        return Given::Unclear;
    }
    // From here on it is done, or the client is to end. While the endpoint is held nobody takes the
    // server out of its queue, and nothing but the queue has it.
    write(server);
    complete_user_accesses(cpu);
    count_time(cpu, client, Current::now(cpu.arch()));
    save(client);
    let number = client.ipc.next_wait();
    // First: who ends the client's wait looks for what it has lent.
    if of_server < priority {
        loan::lend_priority(server, client, number, priority);
    }
    if client.stand_awaiting(number, cpu.number) == Fate::Doomed {
        return Given::Doomed;
    }
    state.waiters.pop().map_or(Given::Unclear, |server| Given::To(server, number))
}

/// What follows when the endpoint is let go.
#[inline(always)]
fn has_given(cpu: &Cpu, client: Ref<Thread>, given: Given, easy: Extras) -> Result<Turn, Ref<Thread>> {
    match given {
        Given::Unclear => Err(client),
        Given::Doomed => {
            // Not before: the server is put into its place there anew.
            gives_up(cpu, client);
            Ok(Turn::Leave)
        }
        Given::To(server, number) => {
            let none = server.ipc.caller.replace(Some(Caller::new(client, number)));
            debug_assert!(none.is_none(), "a thread with a caller receives");
            // Nothing to drop: that is known.
            core::mem::forget(none);
            meanwhile::pass();
            if server.stand_called(cpu.number) == Fate::Doomed {
                ends(cpu, server);
                return Ok(Turn::Leave);
            }
            Ok(goes_on(cpu, server, easy))
        }
    }
}

/// `client`, which runs here and is to end, has lent something already.
#[cold]
#[inline(never)]
fn gives_up(cpu: &Cpu, client: Ref<Thread>) {
    loan::given_up(cpu, &client);
    cpu.set_current(client);
}

/// `server`, which this CPU has, is to end: its caller hears of that.
#[cold]
#[inline(never)]
fn ends(cpu: &Cpu, server: Ref<Thread>) {
    ending::end_thread(cpu, &server);
}

/// Gives `server` back if nothing was done.
#[inline(always)]
fn try_reply(
    cpu: &Cpu,
    server: Ref<Thread>,
    handle: u64,
    tag: Tag,
    easy: Extras,
    save: impl FnOnce(&Thread),
) -> Result<Turn, Ref<Thread>> {
    let Some(caller) = server.ipc.caller.take() else { return Err(server) };
    let claim = |caller: &Caller| caller.thread().claim_to_run(caller.number(), cpu.number);
    let write = |server: &Thread, client: &Thread| copy(server, client, tag, 0, 0);
    answer(cpu, server, caller, handle, easy, claim, write, save).map_err(|(server, caller)| {
        server.ipc.caller.set(Some(caller));
        server
    })
}

/// `server`, which runs here, answers `caller`, whose thread this CPU has after `claim`, and into whose
/// registers `write` stores what it is told. Gives both back if nothing was done but that.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "it is one function twice, for messages and for faults")]
fn answer(
    cpu: &Cpu,
    server: Ref<Thread>,
    caller: Caller,
    handle: u64,
    easy: Extras,
    claim: impl FnOnce(&Caller) -> bool,
    write: impl FnOnce(&Thread, &Thread),
    save: impl FnOnce(&Thread),
) -> Result<Turn, (Ref<Thread>, Caller)> {
    let taken = 'taken: {
        let client = caller.thread();
        let Some([priority, of_client]) = may_follow(cpu, &server, client, easy) else { break 'taken None };
        if of_client != priority {
            break 'taken None;
        }
        let Some(slots) = server.process().table.try_lock() else { break 'taken None };
        let Some((endpoint, _)) = slots.endpoint(handle, Rights::READ) else { break 'taken None };
        let Some(held) = server.received_at().filter(|held| Ref::ptr_eq(held, endpoint)) else {
            break 'taken None;
        };
        // SAFETY: that reference of the server's stays until the server is out of the endpoint's queue
        // again, which nobody takes it out of before the endpoint is let go.
        let held: &Endpoint = unsafe { &*core::ptr::from_ref::<Endpoint>(held) };
        let Some(state) = held.state.try_lock() else { break 'taken None };
        meanwhile::pass();
        if state.life == Life::Ended || state.first(Side::Senders).is_some() || !claim(&caller) {
            break 'taken None;
        }
        Some(state)
    };
    let Some(mut state) = taken else { return Err((server, caller)) };
    let client = caller.into_thread();
    write(&server, &client);
    complete_user_accesses(cpu);
    count_time(cpu, &server, Current::now(cpu.arch()));
    save(&server);
    if server.extras().has(Extra::Priority) && server.lent() != 0 {
        loan::end_priority(&server, &client);
    }
    if server.stand_receiving_again(cpu.number) == Fate::Doomed {
        drop(state);
        // The reply was made; the server is ended on the way out.
        cpu.make_ready(Runnable::Thread(client));
        cpu.set_current(server);
        return Ok(Turn::Leave);
    }
    state.side = Side::Receivers;
    state.waiters.push(server);
    drop(state);
    Ok(goes_on(cpu, client, easy))
}

/// `next`, which stands on this CPU since a moment ago, goes on here, unless somebody wanted something of
/// it before it stood here, and interrupted nobody: then the scheduler sees to that.
#[inline(always)]
fn goes_on(cpu: &Cpu, next: Ref<Thread>, easy: Extras) -> Turn {
    if next.extras().within(QUIET.and(easy)) || is_as_it_was(cpu, &next, easy) {
        return Turn::Next(next);
    }
    cpu.make_ready(Runnable::Thread(next));
    Turn::Leave
}

/// Whether `next` may go on at the priority that this CPU says it works at: it had that when it was looked at, but
/// may have been given another, or lost what it was lent.
#[inline(never)]
fn is_as_it_was(cpu: &Cpu, next: &Thread, easy: Extras) -> bool {
    may_go_on(cpu, next, easy) && Load::of(next.priority()) == cpu.running.load()
}

/// Whether nobody wanted of `next` before it stood here that it go elsewhere or be looked at.
#[inline(always)]
fn may_go_on(cpu: &Cpu, next: &Thread, easy: Extras) -> bool {
    let extras = next.extras();
    extras.within(easy) && (!extras.has(Extra::Affinity) || next.affinity().has(cpu.number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::quick::FEASIBLE;
    use crate::tests::many::{boot, thread};
    use crate::thread::Standing;
    use abi::{Call, Error, Handle};

    /// A thread that may no longer run here, by what somebody wanted of it while it waited and was taken, goes
    /// on elsewhere.
    #[test]
    fn mig_1_who_is_moved_while_it_is_called_goes_on_elsewhere() {
        for (set, here) in [(0b01, true), (0b11, true), (0b10, false)] {
            let (mut run, main) = boot(2);
            let endpoint = run.endpoint();
            let alone = run.result(Call::ThreadAffinity, &[Handle::NONE.0.into(), 0b01]);
            assert!(alone.is_ok());
            let (server, handle) = run.thread_with_handle();
            run.to(server);
            run.receive(endpoint);
            run.to(main);
            let waiting = thread(&run, handle);
            let Standing::Receiving(endpoint) = waiting.standing() else { panic!("it does not wait") };
            assert!(run.result(Call::ThreadAffinity, &[handle, set]).is_ok());
            let taken = endpoint.take(&waiting).expect("it waits");
            let cpu = run.cpu();
            assert_eq!(taken.stand_called(cpu.number), Fate::Lives);
            if let Turn::Next(next) = goes_on(cpu, taken, FEASIBLE) {
                assert!(here, "{set:#b}");
                cpu.make_ready(Runnable::Thread(next));
            } else {
                assert!(!here, "{set:#b}");
                run.on(1).take_interrupts();
                assert_eq!(run.user(), server);
            }
        }
    }

    /// An endpoint that has ended gives a call to nobody, though those who received there still wait: that they
    /// do not is a kernel task's work.
    #[test]
    fn ipc_1_nobody_is_called_at_an_ended_endpoint() {
        let (mut run, main) = boot(1);
        let endpoint = run.endpoint();
        let (server, handle) = run.thread_with_handle();
        run.to(server);
        run.receive(endpoint);
        run.to(main);
        let Standing::Receiving(waits_at) = thread(&run, handle).standing() else {
            panic!("it does not wait")
        };
        waits_at.state.lock().life = Life::Ended;
        run.send(Call::EndpointCall, endpoint, 1, &[]);
        assert_eq!((run.user(), run.returned()), (main, Err(Error::Gone)));
        waits_at.state.lock().life = Life::Open;
        run.send(Call::EndpointCall, endpoint, 1, &[]);
        assert_eq!(run.user(), server);
    }
}
