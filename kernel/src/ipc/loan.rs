//! What a caller lends: its priority, as it was at the call, and its budget of CPU time, if it has one.
//!
//! The server has both until the call is over, however that comes: it replies, saves the reply or gives the
//! caller up, or the caller gives up, by a deadline or because it is ended. The last comes from elsewhere, so
//! both sides write down what the other must find: the server whose call it runs on ([`Loan`]), the caller who
//! has its call ([`Holder`]). Neither says anything after that call: the number of the wait, which never
//! comes again, is part of both. Where nothing is lent nothing is written, so that most calls pay nothing.
//!
//! A reply that was saved has no loan, but has its caller, and so the memory of a thread that may have ended:
//! the caller finds it by the same way, and takes itself out.
//!
//! Locks: a server's loan and a caller's holder are leaves, and never held together.

use super::reply::{Caller, Reply};
use crate::cpu::{Cpu, Work};
use crate::cpuset::CpuId;
use crate::object::Ref;
use crate::sched::ready::{Priority, Runnable};
use crate::sched::{self, place};
use crate::sync::Leaf;
use crate::thread::{Extra, Standing, Thread};
use arch_contract::mutant::{self, Mutant};

/// Which call: the thread that made it, by its address, and the number of its wait. While the call lasts the
/// thread lives, so nobody else has the address.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Call {
    thread: usize,
    number: u64,
}

impl Call {
    fn new(client: &Ref<Thread>, number: u64) -> Self {
        Self { thread: Ref::address(client), number }
    }
}

/// What a server was lent, beside the priority, which is where the scheduler looks for it.
struct Loan {
    of: Call,
    /// Who pays for it.
    payer: Option<Ref<Thread>>,
}

/// Who has the call of a thread.
enum Holder {
    Server(Ref<Thread>),
    Reply(Ref<Reply>),
}

/// What a thread keeps for this.
pub(super) struct Sides {
    /// As a server. The priority it was lent changes with this, with the lock held.
    loan: Leaf<Option<Loan>>,
    /// As a caller: whose wait has this number.
    holder: Leaf<Option<(u64, Holder)>>,
}

impl Sides {
    pub(super) const fn new() -> Self {
        Self { loan: Leaf::new(None), holder: Leaf::new(None) }
    }

    /// On whose budget the thread runs, if not on its own.
    pub(super) fn payer(&self) -> Option<Ref<Thread>> {
        self.loan.lock().as_ref().and_then(|loan| loan.payer.clone())
    }
}

/// `client` lends `server` what it has; this CPU has both, and the wait with `number` has not begun.
pub(super) fn lend(cpu: &Cpu, server: &Ref<Thread>, client: &Ref<Thread>, number: u64) {
    let priority = client.priority();
    let higher = (priority > server.priority() && !mutant::is(Mutant::NothingLent)).then_some(priority);
    let payer = match client.ipc.payer() {
        Some(payer) => Some(payer),
        None => client.extras().has(Extra::Limit).then(|| client.clone()),
    };
    let payer = payer.filter(|_| !mutant::is(Mutant::ServersPay));
    if higher.is_none() && payer.is_none() {
        return;
    }
    if payer.is_some() {
        // What it has run so far is whose it was.
        charge(cpu, server);
    }
    write_down(server, client, number, higher, payer);
    cpu.add_work(Work::READY);
}

/// As [`lend`], of a priority alone, which is higher than the server's.
#[inline(never)]
pub(super) fn lend_priority(server: &Ref<Thread>, client: &Ref<Thread>, number: u64, priority: Priority) {
    write_down(server, client, number, Some(priority), None);
}

fn write_down(
    server: &Ref<Thread>,
    client: &Ref<Thread>,
    number: u64,
    priority: Option<Priority>,
    payer: Option<Ref<Thread>>,
) {
    let mut loan = server.ipc.sides.loan.lock();
    if let Some(priority) = priority {
        server.store_lent(priority);
    }
    // With the lock held, as it is where this ends: who takes back an earlier loan takes nothing of this one.
    if payer.is_some() {
        server.add_extra(Extra::Payer);
    }
    let before = loan.replace(Loan { of: Call::new(client, number), payer });
    drop(loan);
    drop(before);
    hold(client, number, Holder::Server(server.clone()));
}

/// Unless the client has made another call since.
fn hold(client: &Thread, number: u64, holder: Holder) {
    let mut held = client.ipc.sides.holder.lock();
    let is_later = held.as_ref().is_some_and(|(of, _)| *of > number);
    let left = if is_later { Some((number, holder)) } else { held.replace((number, holder)) };
    drop(held);
    drop(left);
}

/// What `server`, which this CPU has, was lent ends. Says whether it was something.
pub(super) fn end(cpu: &Cpu, server: &Thread) {
    let extras = server.extras();
    if !(extras.has(Extra::Payer) || extras.has(Extra::Priority) && server.lent() != 0) {
        return;
    }
    if extras.has(Extra::Payer) {
        charge(cpu, server);
    }
    let loan = take(server, |_| true);
    drop(loan);
    cpu.add_work(Work::READY);
}

/// As [`end`], of a priority alone, by the reply to `client`.
#[inline(never)]
pub(super) fn end_priority(server: &Thread, client: &Thread) {
    let loan = take(server, |_| true);
    drop(loan);
    is_over(client);
}

/// Takes the loan of `server`, if it is one that `may` be taken, and what was lent with it.
fn take(server: &Thread, may: impl FnOnce(&Loan) -> bool) -> Option<Loan> {
    let mut loan = server.ipc.sides.loan.lock();
    let taken = loan.take_if(|loan| may(loan))?;
    if server.lent() != 0 {
        server.store_lent(0);
    }
    server.drop_extra(Extra::Payer);
    Some(taken)
}

/// The time that `server` has run so far is charged, if it runs here.
fn charge(cpu: &Cpu, server: &Thread) {
    if cpu.is_current(server) {
        sched::charge_now(cpu, server);
    }
}

/// The call of `client`, which this CPU has, is over: nobody has it.
pub(super) fn is_over(client: &Thread) {
    let holder = client.ipc.sides.holder.lock().take();
    drop(holder);
}

/// `client`, which this CPU has, waits for its reply no more, though nobody has answered: whoever has its call
/// has nothing of it from now on.
pub(super) fn given_up(cpu: &Cpu, client: &Ref<Thread>) {
    let holder = client.ipc.sides.holder.lock().take();
    if mutant::is(Mutant::LoansKept) {
        return;
    }
    match holder {
        Some((number, Holder::Server(server))) => take_back(cpu, &server, Call::new(client, number)),
        Some((number, Holder::Reply(reply))) => reply.forget(client, number),
        None => {}
    }
}

/// `server`, which anybody may have, loses what it was lent for `call`, if that is still so.
fn take_back(cpu: &Cpu, server: &Ref<Thread>, call: Call) {
    // What it has run since it was last charged is charged to itself.
    let Some(loan) = take(server, |loan| loan.of == call) else { return };
    if loan.payer.is_some()
        && let Standing::Timed(at) = server.standing()
    {
        wake_starving(cpu, server, at);
    }
    drop(loan);
    place::replace(cpu, server);
}

/// `server`, which was in the timers of CPU `at`, may wait there for the next period of who paid. Who sleeps
/// finds out that it was too early. If it has gone on meanwhile and waits elsewhere, what lies there may be the
/// alarm of that: it stays.
fn wake_starving(cpu: &Cpu, server: &Thread, at: CpuId) {
    let timer = cpu.kernel.any_cpu(at).and_then(|at| {
        let mut timers = at.timers.lock();
        if server.ipc.alarm.is_at(at) { None } else { timers.remove(server.entry.node()) }
    });
    if let Some(Runnable::Thread(server)) = timer {
        cpu.make_ready(Runnable::Thread(server));
    }
}

/// `reply` has the duty to answer `caller` from now on. If the caller has given up meanwhile, it has nothing.
pub(super) fn saved(reply: &Ref<Reply>, client: &Ref<Thread>, number: u64) {
    hold(client, number, Holder::Reply(reply.clone()));
    // Who gives up stops waiting first, and then looks who holds its call: it has seen this, or is seen here.
    if !matches!(client.standing(), Standing::Awaiting(now) if now == number) {
        let ours = |(of, _): &mut (u64, Holder)| *of == number;
        let holder = client.ipc.sides.holder.lock().take_if(ours);
        drop(holder);
        reply.forget(client, number);
    }
}

impl Caller {
    /// Whether it is this call.
    pub(super) fn is(&self, client: &Ref<Thread>, number: u64) -> bool {
        Call::new(self.thread(), self.number()) == Call::new(client, number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Run;
    use crate::tests::many::thread;
    use abi::Error;
    use arch_model::profile::Profile;
    use std::thread::{spawn, yield_now};

    /// A run with two threads beside the one that is current.
    fn two() -> (Run, [Ref<Thread>; 2]) {
        let mut run = Run::boot(Profile::Minimal);
        let two = [(); 2].map(|()| {
            let (_, handle) = run.thread_with_handle();
            thread(&run, handle)
        });
        (run, two)
    }

    fn thread_of(run: &Run) -> Ref<Thread> {
        run.cpu().current().expect("it runs")
    }

    /// While a thread has the lock of the loan of `server`, `change` is made as far as it gets; then whether
    /// the server has a payer.
    fn has_payer_halfway(server: &Ref<Thread>, change: impl FnOnce() + Send + 'static) -> bool {
        let held = server.ipc.sides.loan.lock();
        let changing = spawn(change);
        let before = server.extras().has(Extra::Payer);
        let changes = (0..10_000).any(|_| {
            yield_now();
            server.extras().has(Extra::Payer) != before
        });
        drop(held);
        changing.join().expect("it gets the lock");
        before != changes
    }

    /// That somebody pays is written down with the lock held, as it is taken back: so who takes back an earlier
    /// loan takes nothing of a later one.
    #[test]
    fn ipc_8_a_payer_comes_and_goes_with_the_loan() {
        let (run, [server, client]) = two();
        let (to, of) = (server.clone(), client.clone());
        assert!(!has_payer_halfway(&server, move || write_down(&to, &of, 1, None, Some(of.clone()))));
        assert!(server.extras().has(Extra::Payer));
        let (from, call) = (server.clone(), Call::new(&client, 1));
        assert!(has_payer_halfway(&server, move || drop(take(&from, |loan| loan.of == call))));
        assert!(!server.extras().has(Extra::Payer));
        is_over(&client);
        drop(run);
    }

    /// Who takes back what was lent for one call leaves what was lent for another.
    #[test]
    fn ipc_7_only_what_was_lent_for_the_call_is_taken_back() {
        let (run, [server, client]) = two();
        let priority = client.priority();
        write_down(&server, &client, 8, Some(priority), None);
        take_back(run.cpu(), &server, Call::new(&client, 7));
        take_back(run.cpu(), &server, Call::new(&server, 8));
        assert_eq!(server.lent(), priority);
        take_back(run.cpu(), &server, Call::new(&client, 8));
        assert_eq!(server.lent(), 0);
        is_over(&client);
    }

    /// A call that is over keeps no memory of its server.
    #[test]
    fn ipc_7_a_call_that_is_over_holds_nobody() {
        let (run, [server, client]) = two();
        write_down(&server, &client, 8, Some(client.priority()), None);
        end_priority(&server, &client);
        assert!(client.ipc.sides.holder.lock().is_none() && server.ipc.sides.loan.lock().is_none());
        drop(run);
    }

    /// A reply that is saved for a caller who has given up meanwhile is nobody's.
    #[test]
    fn ipc_7_a_caller_that_is_gone_when_its_reply_is_saved() {
        let mut run = Run::boot(Profile::Minimal);
        let (main, endpoint) = (run.user(), run.endpoint());
        let (client, handle) = run.thread_with_handle();
        run.to(client);
        run.send(abi::Call::EndpointCall, endpoint, 1, &[]);
        run.to(main);
        run.receive(endpoint);
        let client = thread(&run, handle);
        let (_, number) = super::super::reply::caller_of(&thread_of(&run)).expect("it has a caller");
        let cpu = run.cpu();
        // It gives up, and nobody knows yet where the duty went.
        assert!(client.claim(number));
        let reply = Ref::try_new(cpu.kernel.memory, None, Reply::new()).expect("memory");
        reply.named();
        assert_eq!(Reply::save(&reply, cpu, &thread_of(&run)), Ok(()));
        assert_eq!(reply.callers(), 0);
        assert!(client.ipc.sides.holder.lock().is_none());
        cpu.make_ready(Runnable::Thread(client));
    }

    /// Who says late who has a call says nothing of a call that came after it.
    #[test]
    fn ipc_7_a_holder_of_an_earlier_call() {
        let (run, [server, client]) = two();
        hold(&client, 7, Holder::Server(server.clone()));
        hold(&client, 6, Holder::Server(client.clone()));
        let held = client.ipc.sides.holder.lock().take();
        assert!(matches!(held, Some((7, Holder::Server(holder))) if Ref::ptr_eq(&holder, &server)));
        drop(run);
    }

    /// A server that starved when it was looked at and now waits with a deadline keeps that.
    #[test]
    fn ipc_7_an_alarm_is_no_sleep() {
        let mut run = Run::boot(Profile::Minimal);
        let (main, endpoint) = (run.user(), run.endpoint());
        let (server, handle) = run.thread_with_handle();
        run.to(server);
        let soon = run.clock() + 1_000_000;
        run.call(abi::Call::EndpointReceive, &[endpoint, soon]);
        run.to(main);
        let cpu = run.cpu();
        wake_starving(cpu, &thread(&run, handle), cpu.number);
        run.call(abi::Call::Yield, &[]);
        assert_eq!(run.user(), main, "it waits");
        run.sleep(2_000_000);
        run.to(server);
        assert_eq!(run.returned(), Err(Error::TimedOut));
    }
}
