//! The duty to reply: who waits for it, what it has lent, and the object it can be made into.
//!
//! A thread has at most one caller: the one whose call it received last. While it has it, it runs on what
//! the caller lends ([`super::loan`]). That the caller has given up the server learns when it replies.

use crate::cpu::Cpu;
use crate::ipc::{self, Alarm, exception, loan, message};
use crate::object::Ref;
use crate::sched::ready::Runnable;
use crate::sync::Leaf;
use crate::thread::{Extra, Thread};
use abi::Error;
use abi::ipc::Tag;
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::trap::Traps;
use arch_current::Current;

/// A thread that waits for a reply, if it still does: stale as soon as it waits no more.
pub struct Caller {
    thread: Ref<Thread>,
    number: u64,
}

impl Caller {
    pub(super) fn new(thread: Ref<Thread>, number: u64) -> Self {
        Self { thread, number }
    }

    pub(super) fn thread(&self) -> &Ref<Thread> {
        &self.thread
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn into_thread(self) -> Ref<Thread> {
        self.thread
    }

    /// Ends the wait by the message of `server`, which runs here. `Gone` if it has ended before. The
    /// caller of this lets the thread go, if it is to go on.
    fn answer(self, cpu: &Cpu, server: &Thread, irq: &IrqsOff) -> Result<Option<Ref<Thread>>, Error> {
        if !self.thread.claim(self.number) {
            return Err(Error::Gone);
        }
        loan::is_over(&self.thread);
        if self.thread.extras().has(Extra::Stopped) {
            // SAFETY: the server runs here.
            let tag = Tag(Current::syscall(unsafe { server.frame().as_ref() }).args[2]);
            return Ok(exception::answered(cpu, self.thread, tag));
        }
        Alarm::cancel(cpu, &self.thread);
        message::deliver(cpu, server, &self.thread, 0, 0, irq);
        Ok(Some(self.thread))
    }

    /// There will be no reply.
    fn give_up(self, cpu: &Cpu) {
        if self.thread.claim(self.number) {
            loan::is_over(&self.thread);
            ipc::wake(cpu, self.thread, Err(Error::Gone));
        }
    }
}

/// The duty to reply as an object.
pub struct Reply(Leaf<Saved>);

struct Saved {
    caller: Option<Caller>,
    /// Capabilities of it.
    names: u32,
}

impl Reply {
    pub const fn new() -> Self {
        Self(Leaf::new(Saved { caller: None, names: 0 }))
    }

    /// Replies by the message of `server`, which runs here. `Gone` if that was done before, or the caller
    /// has given up.
    pub fn answer(&self, cpu: &Cpu, server: &Thread, irq: &IrqsOff) -> Result<(), Error> {
        let caller = self.0.lock().caller.take().ok_or(Error::Gone)?;
        let_go(cpu, caller.answer(cpu, server, irq)?);
        Ok(())
    }

    /// There is one more capability.
    pub fn named(&self) {
        self.0.lock().names += 1;
    }

    /// There is one less. After the last nobody can reply.
    pub fn unnamed(&self, cpu: &Cpu) {
        let caller = {
            let mut saved = self.0.lock();
            saved.names -= 1;
            if saved.names == 0 { saved.caller.take() } else { None }
        };
        if let Some(caller) = caller {
            caller.give_up(cpu);
        }
    }

    /// Takes the duty over from `server`, which runs here. `Gone` if nobody can name this any more.
    pub fn save(this: &Ref<Self>, cpu: &Cpu, server: &Thread) -> Result<(), Error> {
        let mut saved = this.0.lock();
        if saved.names == 0 {
            return Err(Error::Gone);
        }
        let caller = server.ipc.caller.take().ok_or(Error::NotFound)?;
        let (client, number) = (caller.thread.clone(), caller.number);
        saved.caller = Some(caller);
        drop(saved);
        loan::end(cpu, server);
        loan::saved(this, &client, number);
        Ok(())
    }

    /// `client` waits no more, if it is the caller.
    pub(super) fn forget(&self, client: &Ref<Thread>, number: u64) {
        if mutant::is(Mutant::AnyWaitAnswered) {
            return;
        }
        let caller = self.0.lock().caller.take_if(|caller| caller.is(client, number));
        drop(caller);
    }

    /// References to its caller: 0 or 1.
    #[cfg(test)]
    pub fn callers(&self) -> usize {
        self.0.lock().caller.iter().count()
    }
}

impl Default for Reply {
    fn default() -> Self {
        Self::new()
    }
}

/// `server`, which runs here, replies to its caller: who that was, to be let go, if it is to go on. `Gone`
/// if there is none that waits.
pub fn answer(cpu: &Cpu, server: &Thread, irq: &IrqsOff) -> Result<Option<Ref<Thread>>, Error> {
    let caller = server.ipc.caller.take().ok_or(Error::Gone)?;
    loan::end(cpu, server);
    caller.answer(cpu, server, irq)
}

/// As [`answer`], and lets it go.
pub fn reply(cpu: &Cpu, server: &Thread, irq: &IrqsOff) -> Result<(), Error> {
    let_go(cpu, answer(cpu, server, irq)?);
    Ok(())
}

fn let_go(cpu: &Cpu, client: Option<Ref<Thread>>) {
    if let Some(client) = client {
        cpu.make_ready(Runnable::Thread(client));
    }
}

/// The thread whose call `thread`, which runs here, received last and has not answered, and the number of the
/// wait that this is. The thread may have given it up, and wait for something else.
pub fn caller_of(thread: &Thread) -> Option<(Ref<Thread>, u64)> {
    let caller = thread.ipc.caller.take();
    let client = caller.as_ref().map(|caller| (caller.thread.clone(), caller.number()));
    thread.ipc.caller.set(caller);
    client
}

/// `server`, which this CPU has, has received the call of `client`, which it has too.
pub(super) fn serve(cpu: &Cpu, server: &Ref<Thread>, client: &Ref<Thread>, number: u64) {
    server.ipc.caller.set(Some(Caller::new(client.clone(), number)));
    loan::lend(cpu, server, client, number);
}

/// `server`, which this CPU has, will not reply to its caller.
pub fn stop_serving(cpu: &Cpu, server: &Thread) {
    if let Some(caller) = server.ipc.caller.take() {
        loan::end(cpu, server);
        if mutant::is(Mutant::ServersDieSilently) {
            return;
        }
        caller.give_up(cpu);
    }
}
