//! The duty to reply: who waits for it, what it has lent, and the object it can be made into.
//!
//! A thread has at most one caller: the one whose call it received last. While it has it, it runs at
//! least at the caller's priority, as that was at the call, and on the caller's budget if that has one.
//! Both end with the duty, whether it is met, saved or dropped; that the caller has given up the server
//! learns only then.

use crate::cpu::{Cpu, Work};
use crate::ipc::{self, message};
use crate::object::Ref;
use crate::sched;
use crate::sync::Leaf;
use crate::thread::{Extra, Thread};
use abi::Error;

/// A thread that waits for a reply, if it still does: stale as soon as it waits no more.
pub struct Caller {
    thread: Ref<Thread>,
    number: u64,
}

impl Caller {
    pub(super) fn new(thread: Ref<Thread>, number: u64) -> Self {
        Self { thread, number }
    }

    /// Ends the wait by the message of `server`, which runs here. `Gone` if it has ended before. The
    /// caller of this lets the thread go.
    fn answer(self, cpu: &Cpu, server: &Thread) -> Result<Ref<Thread>, Error> {
        if !self.thread.claim(self.number) {
            return Err(Error::Gone);
        }
        message::deliver(cpu, server, &self.thread, 0, 0);
        Ok(self.thread)
    }

    /// There will be no reply.
    fn give_up(self, cpu: &Cpu) {
        if self.thread.claim(self.number) {
            ipc::wake(cpu, self.thread, Err(Error::Gone));
        }
    }
}

/// The duty to reply as an object.
pub struct Reply(Leaf<Option<Caller>>);

impl Reply {
    pub const fn new() -> Self {
        Self(Leaf::new(None))
    }

    /// Replies by the message of `server`, which runs here. `Gone` if that was done before, or the caller
    /// has given up.
    pub fn answer(&self, cpu: &Cpu, server: &Thread) -> Result<(), Error> {
        let caller = self.0.lock().take().ok_or(Error::Gone)?;
        let thread = caller.answer(cpu, server)?;
        ipc::release(cpu, thread);
        Ok(())
    }

    /// Its last capability is gone.
    pub fn end(&self, cpu: &Cpu) {
        let caller = self.0.lock().take();
        if let Some(caller) = caller {
            caller.give_up(cpu);
        }
    }

    /// Takes the duty over from `server`, which runs here.
    pub fn save(&self, cpu: &Cpu, server: &Thread) -> Result<(), Error> {
        let caller = server.ipc.caller.take().ok_or(Error::NotFound)?;
        *self.0.lock() = Some(caller);
        end_loan(cpu, server);
        Ok(())
    }
}

/// `server`, which runs here, replies to its caller: who that was, to be let go. `Gone` if there is none
/// that waits.
pub(super) fn answer(cpu: &Cpu, server: &Thread) -> Result<Ref<Thread>, Error> {
    let caller = server.ipc.caller.take().ok_or(Error::Gone)?;
    end_loan(cpu, server);
    caller.answer(cpu, server)
}

/// `server` waits now; `client`, which it has just replied to and this CPU has, goes on in its place.
pub fn take_over(server: &Thread, client: &Thread) {
    sched::hand_slice_over(server, client);
}

/// As [`answer`], and lets it go.
pub fn reply(cpu: &Cpu, server: &Thread) -> Result<(), Error> {
    ipc::release(cpu, answer(cpu, server)?);
    Ok(())
}

/// `server`, which this CPU has, has received the call of `client`, which it has too.
pub(super) fn serve(cpu: &Cpu, server: &Thread, client: &Ref<Thread>, number: u64) {
    server.ipc.caller.set(Some(Caller::new(client.clone(), number)));
    let priority = client.priority();
    if priority > server.priority() {
        server.store_lent(priority);
        cpu.add_work(Work::READY);
    }
    let payer = match client.ipc.payer() {
        Some(payer) => Some(payer),
        None => client.limit.is_set().then(|| client.clone()),
    };
    if payer.is_some() {
        pay(cpu, server, payer);
    }
}

/// `server`, which this CPU has, will not reply to its caller.
pub(super) fn stop_serving(cpu: &Cpu, server: &Thread) {
    if let Some(caller) = server.ipc.caller.take() {
        end_loan(cpu, server);
        caller.give_up(cpu);
    }
}

/// What the caller of `server`, which this CPU has, has lent it ends.
fn end_loan(cpu: &Cpu, server: &Thread) {
    if server.extras().has(Extra::Priority) && server.lent() != 0 {
        server.store_lent(0);
        cpu.add_work(Work::READY);
    }
    if server.extras().has(Extra::Payer) {
        pay(cpu, server, None);
    }
}

/// From now on `payer` pays for `server`, which this CPU has, or the server itself.
fn pay(cpu: &Cpu, server: &Thread, payer: Option<Ref<Thread>>) {
    if cpu.is_current(server) {
        // What it has run so far is whose it was.
        sched::charge_now(cpu, server);
        cpu.add_work(Work::READY);
    }
    match payer {
        Some(_) => server.add_extra(Extra::Payer),
        None => server.drop_extra(Extra::Payer),
    }
    let before = core::mem::replace(&mut *server.ipc.payer.lock(), payer);
    drop(before);
}
