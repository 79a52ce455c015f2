//! Who keeps a lazily loaded address space alive. One of three policies, chosen when the kernel is
//! built (`--cfg spandrel_lifetime="…"`), and the same question for all: is it loaded nowhere, so
//! that its tables may be freed (`CTX-9`)?
//!
//! | policy | lazy CPUs hold | a switch writes to shared lines | teardown |
//! | --- | --- | --- | --- |
//! | `refcount` | a counted reference | at both ends of every lazy episode | waits for the count, and asks after a while |
//! | `shootdown` | nothing | never | asks every CPU that has it loaded, at once |
//! | `hazard` | their `loaded` word is the hazard pointer | never | looks at the words again and again, and asks after a while |
//!
//! Nothing can load the space any more when its teardown starts: its last thread has left its CPU,
//! and what that CPU had stored in `loaded` by then is visible to the teardown through the locks
//! that the end of the thread and the start of the teardown took. So `loaded` words only ever stop
//! naming it, and each says so with a release store that the scan's acquire load pairs with: what
//! the CPU did with the tables comes before they are freed.
//!
//! Asking is an interrupt that a CPU in its kernel serves when it gets there; it lets go of what it
//! holds lazily, at once or when it next becomes lazy. Each CPU is asked at most once per teardown,
//! and a CPU that has moved on by itself is not asked at all.

use crate::cpu::Cpu;
use crate::cpuset::CpuSet;
use crate::mm::space::Space;
use crate::request::Kinds;
use crate::sched::context;
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::time::Nanos;
use core::ptr;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    Hazard,
    Refcount,
    Shootdown,
}

/// The policy of this build. Host tests run under each, as their kernel was made.
#[inline(always)]
pub fn policy(_cpu: &Cpu) -> Policy {
    #[cfg(test)]
    return _cpu.kernel.lifetime.get();
    #[cfg(not(test))]
    if cfg!(spandrel_lifetime = "refcount") {
        Policy::Refcount
    } else if cfg!(spandrel_lifetime = "shootdown") {
        Policy::Shootdown
    } else {
        Policy::Hazard
    }
}

/// How long a teardown waits for CPUs to move on by themselves.
const PATIENCE: u64 = 10_000_000;
/// The first pause between two looks; each is twice as long as the last.
const FIRST_PAUSE: u64 = 500_000;

/// How far a teardown has come with this.
#[derive(Clone, Copy, Debug)]
pub struct Teardown {
    began: Nanos,
    pause: u64,
    /// Who was asked.
    asked: CpuSet,
}

/// Whether the tables may be freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    LoadedNowhere,
    /// Look again at this time.
    Wait(Nanos),
}

/// A lazy episode of `space` begins on this CPU: before `loaded` says so.
#[inline(always)]
pub(super) fn episode_begins(cpu: &Cpu, space: &Space) {
    if policy(cpu) == Policy::Refcount {
        space.shared().take_hold();
        cpu.held.counted.set(space);
    }
}

/// The lazy episode is over: `loaded` says something else.
#[inline(always)]
pub(super) fn episode_ended(cpu: &Cpu) {
    if policy(cpu) == Policy::Refcount {
        let space = cpu.held.counted.replace(ptr::null());
        // SAFETY: the count that `episode_begins` took keeps the space; nothing follows the pointer
        // after it is given back.
        if let Some(space) = unsafe { space.as_ref() } {
            space.shared().give_up();
        }
    }
}

/// One look: whether `space`, which no thread will ever use again, is loaded nowhere. `state` is
/// `None` at the first look, and kept for the next.
pub fn is_loaded_nowhere(cpu: &Cpu, space: &Space, state: &mut Option<Teardown>, irq: &IrqsOff) -> Verdict {
    // This CPU runs the teardown, so it has no user: what it holds, it holds lazily.
    if cpu.words.holds(space.id()) {
        context::drop_when_lazy(cpu, irq);
    }
    let holders = holders(cpu, space);
    let counted = policy(cpu) == Policy::Refcount && space.shared().holders() != 0;
    if holders.is_empty() && !counted {
        return Verdict::LoadedNowhere;
    }
    let now = cpu.now();
    let state = state.get_or_insert(Teardown { began: now, pause: FIRST_PAUSE, asked: CpuSet::NONE });
    let patient = match policy(cpu) {
        Policy::Shootdown => false,
        Policy::Refcount | Policy::Hazard => {
            now.0 < state.began.0.saturating_add(PATIENCE) && !cpu.kernel.is_hurried()
        }
    };
    if !patient {
        for target in
            holders.iter().filter(|target| !state.asked.has(*target) || mutant::is(Mutant::TeardownStorm))
        {
            if let Some(other) = cpu.kernel.cpu(target) {
                cpu.ask(other, Kinds::DROP, irq);
                cpu.kernel.count_teardown_interrupt();
            }
        }
        state.asked = CpuSet(state.asked.0 | holders.0);
    }
    let pause = state.pause;
    state.pause = (pause * 2).min(PATIENCE);
    Verdict::Wait(Nanos(now.0 + pause))
}

/// The CPUs that hold `space` in whatever state. A CPU that is off holds nothing.
fn holders(cpu: &Cpu, space: &Space) -> CpuSet {
    let kernel = cpu.kernel;
    let mut found = CpuSet::NONE;
    for number in space.shared().set().and(kernel.online()).iter() {
        if kernel.cpu(number).is_some_and(|other| other.words.holds(space.id())) {
            found = found.with(number);
        }
    }
    if mutant::is(Mutant::M31) {
        return CpuSet(found.0 & found.0.wrapping_sub(1));
    }
    found
}
