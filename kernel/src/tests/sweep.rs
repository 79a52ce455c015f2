//! The out-of-memory sweep: fail the n-th allocation of a script, for every n. Each time an error
//! comes back to somebody, nothing leaks, nothing panics.

use super::{Run, User};
use abi::ipc::{FOREVER, Tag};
use abi::{Call, Error, Grant, Handle, Rights, initial};
use arch_model::profile::Profile;

const PROCESS: u64 = initial::PROCESS.0 as u64;
const TIMER: u64 = initial::TIMER.0 as u64;

/// Starts a child, maps a lot in the child, ends it, and lets the teardown finish. Returns whether
/// anything was refused.
fn script(run: &mut Run, page: u64) -> bool {
    let init = run.user();
    let child = match run.spawn(page, u64::MAX) {
        Ok(child) => child,
        Err(error) => {
            assert_eq!(error, Error::NoMemory);
            settle(run);
            return true;
        }
    };
    let mut refused = false;
    run.yield_to_other();
    let large = [PROCESS, 0, 40 * 4096, abi::Protection::ReadWrite as u64];
    let mapper = run.user();
    run.call(Call::MemoryMap, &large);
    while run.user() != mapper {
        run.call(Call::Yield, &[]);
    }
    match run.returned() {
        Ok(at) => {
            run.call(Call::MemoryUnmap, &[PROCESS, at + 4096, 8 * 4096]);
            refused |= run.returned() == Err(Error::NoMemory);
        }
        Err(error) => {
            assert_eq!(error, Error::NoMemory);
            refused = true;
        }
    }
    run.call(Call::Exit, &[0]);
    assert_eq!(run.user(), init);
    assert_eq!(run.result(Call::HandleClose, &[child]), Ok(0));
    settle(run);
    refused
}

/// Lets every kernel task finish: init sleeps until nothing else is left to do.
fn settle(run: &mut Run) {
    let now = run.result(Call::ClockRead, &[initial::TIMER.0.into()]).expect("a clock");
    run.call(Call::SleepUntil, &[initial::TIMER.0.into(), now + 1_000]);
    run.call(Call::SleepUntil, &[initial::TIMER.0.into(), now + 1_000]);
}

#[test]
fn every_allocation_may_fail() {
    let mut run = Run::boot(Profile::Minimal);
    let page = run.page();
    // The first round makes init's own table and lists as large as they get.
    assert!(!script(&mut run, page));
    let kernel = run.cpu().kernel;
    let used = kernel.root.used();
    let mut refusals = 0;
    for n in 1.. {
        kernel.memory.refusal.refuse(n);
        let refused = script(&mut run, page);
        let came = kernel.memory.refusal.came();
        kernel.memory.refusal.refuse(0);
        assert_eq!(kernel.root.used(), used, "failing allocation {n} leaks");
        assert_eq!(run.machine.live_contexts(), 1, "failing allocation {n} leaks a context");
        refusals += refused as u32;
        if !came {
            break;
        }
        assert!(n < 10_000, "the script never ends");
    }
    assert!(refusals > 20, "only {refusals} allocations could fail: the sweep does not bite");
}

/// The calls of one process that may need memory of the kernel, one after the other.
struct Everything<'a> {
    run: &'a mut Run,
    me: User,
    refused: u32,
}

impl Everything<'_> {
    /// Makes a call and lets others run until it is done. `None`: it was refused, or what it is about
    /// was before.
    fn call(&mut self, call: Call, args: &[u64]) -> Option<u64> {
        self.run.call(call, args);
        self.to(self.me);
        match self.run.returned() {
            Ok(value) => Some(value),
            Err(Error::NoMemory) => {
                self.refused += 1;
                None
            }
            Err(error) => {
                assert!(self.refused > 0, "{call:?}: {error:?}, and nothing was refused");
                None
            }
        }
    }

    /// Whoever else of the process runs next, up to its first call.
    fn other(&mut self) -> Option<User> {
        (0..20).find_map(|_| {
            self.run.call(Call::Yield, &[]);
            // SAFETY: the kernel has answered with the frame, and nothing runs.
            let made_no_call = unsafe { self.run.frame().as_ref() }.number == 0;
            (self.run.user() != self.me && made_no_call).then(|| self.run.user())
        })
    }

    fn to(&mut self, user: User) {
        for _ in 0..1000 {
            if self.run.user() == user {
                return;
            }
            self.run.call(Call::Yield, &[]);
        }
        panic!("{user:?} never runs");
    }

    /// All calls but those that start a process; the last may be refused by ending it.
    fn all(&mut self) {
        let map = |pages: u64| [PROCESS, 0, pages * 4096, abi::Protection::ReadWrite as u64];
        let endpoint = self.call(Call::EndpointCreate, &[]).unwrap_or(0);
        let notification = self.call(Call::NotificationCreate, &[]).unwrap_or(0);
        // More slots than one frame holds.
        for _ in 0..70 {
            self.call(Call::HandleCopy, &[endpoint, Rights::all().bits().into(), 0]);
        }
        let copy = self.call(Call::HandleCopy, &[endpoint, Rights::all().bits().into(), 0x5a]).unwrap_or(0);
        self.call(Call::HandleMove, &[copy, Handle::NONE.0.into()]);
        let memory = self.call(Call::MemoryCreate, &[20 * 4096]).unwrap_or(0);
        let read = abi::Protection::Read as u64;
        let attached = self.call(Call::MemoryAttach, &[PROCESS, memory, 0, 4096, 19 * 4096, read]);
        // In two pieces, by way of what is cut out of the middle.
        if let Some(at) = self.call(Call::MemoryMap, &map(20)) {
            self.call(Call::MemoryUnmap, &[PROCESS, at + 4096, 8 * 4096]);
        }
        let area = self.call(Call::MemoryMap, &map(1)).unwrap_or(0);
        self.call(Call::RseqRegister, &[area]);
        self.call(Call::NotificationBind, &[notification]);
        self.call(Call::NotificationSignal, &[notification, 1]);
        self.call(Call::NotificationWait, &[notification, 0]);
        if self.converse(endpoint) == Alive::No {
            return;
        }
        self.call(Call::HandleRevoke, &[memory]);
        if let Some(attached) = attached {
            // It was derived from what was revoked.
            self.run.call(Call::HandleClose, &[attached]);
        }
        self.call(Call::HandleClose, &[endpoint]);
    }

    /// A call with a capability, to a thread that saves the reply and gives one back.
    fn converse(&mut self, endpoint: u64) -> Alive {
        let args = [PROCESS, super::ENTRY, crate::program::STACK_TOP.0 - 8192, 0];
        if self.call(Call::ThreadStart, &args).is_none() {
            return Alive::Yes;
        }
        let Some(server) = self.other() else { panic!("a thread that was started never runs") };
        self.run.vector_unit_off();
        if self.run.user() != server {
            // That was refused, which ends the process.
            self.refused += 1;
            return Alive::No;
        }
        self.run.call(Call::EndpointReceive, &[endpoint, FOREVER]);
        if self.run.user() == server {
            // There is no endpoint.
            self.run.call(Call::ThreadExit, &[]);
            self.to(self.me);
            return Alive::Yes;
        }
        self.to(self.me);
        let with_one = Tag::new(1, 0).with_capabilities(1).0;
        let capability = TIMER | u64::from(Rights::READ.bits()) << 32;
        // SAFETY: the kernel has answered with the frame, and nothing runs.
        unsafe { self.run.frame().as_mut() }.words[7] = capability;
        self.run.call(Call::EndpointCall, &[endpoint, FOREVER, with_one]);
        assert_eq!(self.run.user(), server);
        // A capability for which there is no slot arrives as none.
        self.refused += u32::from(self.run.registers().words[7] == 0);
        let me = core::mem::replace(&mut self.me, server);
        let reply = self.call(Call::ReplySave, &[]).unwrap_or(Handle::NONE.0.into());
        // SAFETY: as above.
        unsafe { self.run.frame().as_mut() }.words[7] = capability;
        self.call(Call::Reply, &[reply, 0, with_one]);
        self.run.call(Call::ThreadExit, &[]);
        self.me = me;
        self.to(me);
        self.refused += u32::from(self.run.registers().words[7] == 0);
        Alive::Yes
    }
}

/// Whether the process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Alive {
    Yes,
    No,
}

/// All of them in a child, which then ends. Returns how many were refused.
fn everything(run: &mut Run, page: u64) -> u32 {
    let init = run.user();
    let grants = [initial::CONSOLE, initial::TIMER].map(|handle| Grant { handle, rights: 0x3f });
    let Ok(child) = run.spawn_with(page, u64::MAX, &grants) else {
        settle(run);
        return 1;
    };
    let me = run.yield_to_other();
    let mut script = Everything { run, me, refused: 0 };
    script.all();
    let refused = script.refused;
    if run.user() == me {
        run.call(Call::Exit, &[0]);
    }
    assert_eq!(run.user(), init);
    assert_eq!(run.result(Call::HandleClose, &[child]), Ok(0));
    settle(run);
    refused
}

/// Processes that were made and have ended leave all memory as it was, to the byte and to the frame.
#[test]
fn a_thousand_processes_leave_nothing() {
    let mut run = Run::boot(Profile::Minimal);
    let page = run.page();
    let init = run.user();
    let kernel = run.cpu().kernel;
    let mut before = None;
    for number in 0..1000 {
        let child = run.spawn(page, u64::MAX).expect("a child");
        run.yield_to_other();
        run.call(Call::Exit, &[0]);
        assert_eq!(run.user(), init);
        assert_eq!(run.result(Call::HandleClose, &[child]), Ok(0));
        settle(&mut run);
        let now = (kernel.root.used(), kernel.memory.free_bytes());
        assert_eq!(*before.get_or_insert(now), now, "after {number} processes");
        run.machine.events();
    }
}

/// As [`every_allocation_may_fail`], for all calls that need memory. What was not refused has happened, and does not depend on
/// what was.
#[test]
fn every_allocation_of_every_call_may_fail() {
    let mut run = Run::boot(Profile::Minimal);
    let page = run.page();
    assert_eq!(everything(&mut run, page), 0);
    let kernel = run.cpu().kernel;
    let used = kernel.root.used();
    let free = kernel.memory.free_bytes();
    let mut refusals = 0;
    for n in 1.. {
        kernel.memory.refusal.refuse(n);
        let refused = everything(&mut run, page);
        let came = kernel.memory.refusal.came();
        kernel.memory.refusal.refuse(0);
        assert_eq!(kernel.root.used(), used, "failing allocation {n} leaks");
        assert_eq!(kernel.memory.free_bytes(), free, "failing allocation {n} leaks frames");
        assert_eq!(run.machine.live_contexts(), 1, "failing allocation {n} leaks a context");
        assert_eq!(refused > 0, came, "allocation {n} was refused, and nobody was told");
        refusals += u32::from(refused > 0);
        run.machine.events();
        if !came {
            break;
        }
        assert!(n < 10_000, "the script never ends");
    }
    assert!(refusals > 100, "only {refusals} allocations could fail: the sweep does not bite");
}
