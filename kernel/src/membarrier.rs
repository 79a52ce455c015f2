//! membarrier: making other CPUs execute a full barrier, or serialize, for the caller.
//!
//! One thread pays for all. A thread that does `membarrier` between two accesses is ordered against
//! any other thread of its process as if that one had a full barrier between every two of its own
//! accesses. The kernel interrupts the CPUs that run the process's user code now; those that do not
//! have executed a barrier when they stopped, or will before they start. The argument is that "now"
//! leaves no gap.
//!
//! # The barriers
//! (a) [`Site::MembarrierEnter`], (c) [`Site::MembarrierExit`]: the caller's, around its look at the
//! CPUs. (d) [`Site::LeaveUserMm`], (e) [`Site::EnterUserMm`]: between user code and the store of
//! `current_mm`, in [`crate::sched::context`]. And one in the handler, [`Site::IpiHandler`].
//!
//! # Scenarios
//! In each, T0 calls membarrier, T1 of the same process has only compiler barriers, and the
//! forbidden outcome is the one that a full barrier in T1 would forbid. Names A to E are Linux's
//! (`kernel/sched/membarrier.c`); F to K are ours.
//!
//! **A, the target runs.** T0: `x = 1; membarrier; r0 = y`. T1: `y = 1; r1 = x`. Not both 0. The CPU
//! of T1 is sampled with `current_mm` = M and interrupted; the handler's barrier lies somewhere in
//! T1. If it lies before `r1 = x`, the request, which came after (a), brings `x = 1`. If after, it
//! lies after `y = 1`, and its acknowledgement, then (c), bring `y = 1` to `r0`.
//!
//! **B.** T0: `r0 = y; membarrier; r1 = x`. T1: `x = 1; y = 1`. Not `r0` = 1 and `r1` = 0. As A: the
//! handler's barrier lies before `y = 1`, and then `x = 1` is before the acknowledgement and (c); or
//! after, hence T0 saw `y` before T1's CPU acknowledged, and both stores are before it.
//!
//! **C, the target left for a kernel task or idle and comes back, and is not interrupted.** The
//! sample read `current_mm` = none or another. What T1 did before it left is ordered by (d) before
//! that store, which the sample read, which (c) orders before what T0 does next: B holds. What T1 does
//! after it comes back is after (e), which is after the store of `current_mm` = M; the sample did not
//! read that, so by store buffering (a)-(e) T1 sees all that T0 did before (a): A holds.
//!
//! **D, T1's thread ends.** Its CPU leaves by [`leave`](crate::sched::context::leave) or enters
//! another mm: (d) as in C. The sample reads words of CPUs and follows no pointer, so it cannot meet
//! a thread or process that is gone.
//!
//! **E, a kernel task uses M.** The executor makes M current by the same function as the way to user
//! mode does: (e) lies before the task's accesses, (d) after them. The sample sees the task's CPU as
//! it sees a thread's. If a thread of M is next on that CPU, nothing happens between: `current_mm`
//! named M all the time, so every sample interrupted the CPU.
//!
//! **F, a CPU goes from M to N and back.** Two switches; each has (d) and (e). As C.
//!
//! **G, registration against a switch.** Registering writes the process's registrations, executes
//! [`Site::Register`], and has each CPU that is sampled with M read them anew. A CPU that is not
//! sampled reads them after (e). So when the registration returns, every `current_mm` that names M
//! carries them.
//!
//! **H, sync-core against a switch.** The sync generation is raised before (a); a CPU that enters M
//! compares it after (e). Either the sample sees M and the request arms the debt, or the CPU sees the
//! new generation and arms it itself. Store buffering again. What is armed is settled on the edge to
//! user mode, of whatever kind, and nothing takes it off but that or a serialization that lies after
//! it was armed. `RET-2`
//!
//! **I, the interrupted CPU goes on with another thread of M.** The debt is the CPU's, not the
//! thread's: the next edge to user mode settles it, whoever goes through.
//!
//! **J, the caller is moved to another CPU in the middle.** Its own CPU is armed too, before the
//! sample; a thread of M that goes on there is on an edge to user mode. The caller's new CPU is
//! either sampled or compares.
//!
//! **K, a CPU goes off or comes on.** One that goes off has no user mm, and serves what was asked of
//! it after it said so. One that comes on enters M like any other.
//!
//! A switch between two threads of M executes no barrier, and none is needed: `current_mm` names M
//! before and after, so every sample interrupts the CPU.

use crate::cpu::{Cpu, Work};
use crate::cpuset::{CpuId, CpuSet};
use crate::mm::space::Space;
use crate::pending::Pending;
use crate::rendezvous::{self, Point};
use crate::request::Kinds;
use crate::sched::context::{CurrentMm, Registrations};
use crate::sync::Ordering;
use crate::syscall::Outcome;
use crate::trace;
use abi::Error;
use abi::membarrier::{Command, FLAG_CPU};
use abi::trace::Kind;
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};

/// What this kernel supports: all that can be asked for but QUERY itself.
const SUPPORTED: u64 = {
    let (mut all, mut index) = (0, 0);
    while index < Command::ALL.len() {
        all |= Command::ALL[index] as u64;
        index += 1;
    }
    all
};

/// The whole of what programs do most often, where it is short: the private commands of a process
/// that has run on no other CPU that is on. `false`: nothing was promised; make the [`call`].
#[inline(always)]
pub fn alone(cpu: &Cpu, command: u64, flags: u64) -> bool {
    let Some(space) = cpu.current_space() else { return false };
    if mutant::is(Mutant::M40) {
        return command == Command::PrivateExpeditedSyncCore as u64;
    }
    let command = if command == Command::PrivateExpedited as u64 {
        Command::PrivateExpedited
    } else if command == Command::PrivateExpeditedSyncCore as u64 {
        Command::PrivateExpeditedSyncCore
    } else {
        return false;
    };
    if flags != 0 || !space.shared().may(registration(command)) {
        return false;
    }
    begin(cpu, space, command);
    let others = space.shared().set().and(cpu.kernel.online()).without(cpu.number);
    if others.is_empty() {
        trace::event(cpu, Kind::Sampled, 0, space.id().get());
        protocol::membarrier::finish(cpu, command, space.id());
    }
    others.is_empty()
}

/// The registration that a private command needs.
#[inline(always)]
const fn registration(command: Command) -> Command {
    match command {
        Command::PrivateExpedited => Command::RegisterPrivateExpedited,
        Command::PrivateExpeditedSyncCore => Command::RegisterPrivateExpeditedSyncCore,
        _ => Command::RegisterPrivateExpeditedRseq,
    }
}

/// Does the call for the current thread of `cpu`. The checks come in the order that
/// [`abi::membarrier`] states.
pub fn call(cpu: &Cpu, args: [u64; 6], irq: &IrqsOff) -> Result<Outcome, Error> {
    let [command, flags, target, ..] = args;
    let may_flag = command == Command::PrivateExpeditedRseq as u64;
    if flags != 0 && !(may_flag && flags == FLAG_CPU) && !mutant::is(Mutant::FlagsTakenForNothing) {
        return Err(Error::BadArgument);
    }
    let (Some(command), Some(space)) = (Command::from_number(command), cpu.current_space()) else {
        if mutant::is(Mutant::SuccessForUnknown) {
            return Ok(Outcome::Done(Ok(0)));
        }
        return Err(Error::BadArgument);
    };
    match command {
        Command::Query if mutant::is(Mutant::QueryHidesSyncCore) => {
            Ok(Outcome::Done(Ok(SUPPORTED & !(Command::PrivateExpeditedSyncCore as u64))))
        }
        Command::Query => Ok(Outcome::Done(Ok(SUPPORTED))),
        Command::GetRegistrations => {
            Ok(Outcome::Done(Ok(space.shared().commands().load(Ordering::Relaxed).into())))
        }
        Command::Global | Command::GlobalExpedited => Ok(among(cpu, space, command, CpuSet::ALL, irq)),
        Command::PrivateExpedited | Command::PrivateExpeditedSyncCore | Command::PrivateExpeditedRseq => {
            if !space.shared().may(registration(command)) && !mutant::is(Mutant::RegistrationNotAsked) {
                return Err(Error::NotRegistered);
            }
            let wanted = match flags {
                FLAG_CPU if !mutant::is(Mutant::RseqToAll) => {
                    CpuId::new(target).map_or(CpuSet::NONE, CpuSet::of)
                }
                _ => CpuSet::ALL.without(cpu.number),
            };
            if command == Command::PrivateExpeditedRseq && wanted.has(cpu.number) {
                cpu.add_work(Work::RSEQ);
            }
            Ok(among(cpu, space, command, wanted, irq))
        }
        Command::RegisterGlobalExpedited => Ok(register_global(cpu, space, irq)),
        Command::RegisterPrivateExpedited
        | Command::RegisterPrivateExpeditedSyncCore
        | Command::RegisterPrivateExpeditedRseq => {
            // Nothing on the switching side depends on these: (d) and (e) are always there.
            space.shared().commands().fetch_or(command as u32, Ordering::Relaxed);
            Ok(Outcome::Done(Ok(0)))
        }
    }
}

/// Up to (a).
#[inline(always)]
fn begin(cpu: &Cpu, space: &Space, command: Command) {
    let owe = || {
        if !mutant::is(Mutant::M7) {
            cpu.owe_core_sync();
        }
    };
    protocol::membarrier::begin(cpu, space.shared(), space.id(), command, owe);
    rendezvous::point(cpu, Point::MembarrierBeforeSample);
}

/// (a), the sample among `wanted`, the requests, and (c) when they are served: at once if there are
/// none, else when the call is completed ([`Pending`]).
fn among(cpu: &Cpu, space: &Space, command: Command, wanted: CpuSet, irq: &IrqsOff) -> Outcome {
    begin(cpu, space, command);
    let online = cpu.kernel.online().without(cpu.number);
    let targets = match command {
        _ if mutant::is(Mutant::AsksNobody) => CpuSet::NONE,
        Command::Global => online,
        Command::GlobalExpedited => {
            sample(cpu, online, |mm| mm.registrations.has(Registrations::GLOBAL_EXPEDITED))
        }
        // A CPU that runs the process has joined its set before (e), so the set may be read for it.
        _ => sample(cpu, online.and(space.shared().set()).and(wanted), |mm| mm.id == space.id()),
    };
    trace::event(cpu, Kind::Sampled, targets.0, space.id().get());
    rendezvous::point(cpu, Point::MembarrierSampled);
    if mutant::is(Mutant::M17) && command == Command::PrivateExpeditedSyncCore {
        space.shared().raise_sync_generation();
    }
    if targets.is_empty() {
        protocol::membarrier::finish(cpu, command, space.id());
        return Outcome::Done(Ok(0));
    }
    let kinds = match command {
        Command::PrivateExpeditedSyncCore => Kinds::BARRIER.with(Kinds::CORE_SYNC),
        Command::PrivateExpeditedRseq => Kinds::BARRIER.with(Kinds::RSEQ),
        _ => Kinds::BARRIER,
    };
    let ticket = cpu.ask_and_tell(targets, kinds, irq);
    Outcome::Pending(Pending::Membarrier { ticket, command, mm: space.id() })
}

/// Which of `among` run user code of an mm that `concerned` wants. Between two barriers.
fn sample(cpu: &Cpu, among: CpuSet, concerned: impl Fn(CurrentMm) -> bool) -> CpuSet {
    let words = |number| cpu.kernel.cpu(number).map(|other| (number, &other.words));
    protocol::membarrier::sample(among.iter().filter_map(words), concerned)
}

/// Scenario G.
fn register_global(cpu: &Cpu, space: &Space, irq: &IrqsOff) -> Outcome {
    if space.shared().may(Command::RegisterGlobalExpedited) {
        return Outcome::Done(Ok(0));
    }
    space.shared().register(cpu, Registrations::GLOBAL_EXPEDITED);
    let mut others = space.shared().set().and(cpu.kernel.online());
    if mutant::is(Mutant::RegistrationSkipsSelf) {
        others = others.without(cpu.number);
    }
    let targets = sample(cpu, others, |mm| mm.id == space.id());
    let ticket = cpu.ask_and_tell(targets, Kinds::REGISTRATIONS.with(Kinds::BARRIER), irq);
    let command = Command::RegisterGlobalExpedited;
    Outcome::Pending(Pending::Registration { ticket, command })
}
