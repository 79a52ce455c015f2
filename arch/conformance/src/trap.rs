//! `TRAP`: into the kernel and out of it, and nobody's registers change.

use crate::outcome::{OrFail, Outcome, ensure, ensure_eq};
use crate::probe::{File, Meanwhile, Touch};
use crate::world::{Faulted, Loaded, Stop, World};
use crate::{ARENA, Not, Os, Word};
use abi::exception::FaultKind;
use abi::testing::{Counter, Point};
use abi::{Call, Ending, Error, Handle, PAGE_BYTES, initial};
use alloc::vec::Vec;

/// Turns of a loop that take some milliseconds.
const fn long<O: Os>() -> u64 {
    if O::SIMULATED { 200 } else { 1_000_000 }
}

const fn rounds<O: Os>(on_a_machine: u64) -> u64 {
    if O::SIMULATED { 3 } else { on_a_machine }
}

/// Holds `file` while each call that lets others run is made. Everything comes back, and what a call
/// may overwrite holds nothing of the kernel's.
pub(crate) fn over_calls<O: Os>(world: &World<O>, file: File) -> Outcome {
    world.flags()?;
    let cpu = world.others().next().unwrap_or(0);
    world.move_to(cpu)?;
    // Somebody to run meanwhile, with other values.
    let rival = world.spawn(1 << cpu, move |world| {
        let mut seed = 1000;
        world.wait_until(|world| {
            seed += 1;
            let _ = world.os.hold(file, seed, Meanwhile::Turns(1));
            world.load(world.flag(0)) == 1
        });
    })?;
    let mut result = Ok(());
    let (before, info) = (world.flag(255), world.flag(256));
    world.own_priority().or_fail("process_info")?;
    let known = world.load(info);
    for seed in 0..rounds::<O>(50) {
        let soon = world.now()? + 200_000;
        world.store(info, seed ^ !0);
        world.store(before, seed);
        let calls = [
            (Call::Null, [0, 0]),
            (Call::Yield, [0, 0]),
            (Call::ClockRead, [initial::TIMER.0.into(), 0]),
            (Call::SleepUntil, [initial::TIMER.0.into(), soon]),
            (Call::ThreadAffinity, [Handle::NONE.0.into(), 1 << cpu]),
            (Call::HandleClose, [u64::MAX, u64::MAX]),
            // A kernel task does it.
            (Call::HandleRevoke, [initial::TIMER.0.into(), 0]),
            // It copies, whatever the flags were.
            (Call::ProcessInfo, [initial::PROCESS.0.into(), info.address()]),
        ];
        for (call, args) in calls {
            let held = world.os.hold(file, seed, Meanwhile::Call(call as u64, args));
            result = result.and(held.map_err(|why| Not::Failed(alloc::format!("over {call:?}: {why}"))));
        }
        let is_right = world.load(info) == known && world.load(before) == seed;
        result = result.and(if is_right { Ok(()) } else { Err(Not::Failed("what was copied".into())) });
    }
    world.store(world.flag(0), 1);
    world.join(rival)?;
    result
}

/// Several threads on one CPU hold `file`, each with other values, for longer than a slice.
pub(crate) fn over_preemption<O: Os>(world: &World<O>, file: File) -> Outcome {
    world.flags()?;
    let cpu = world.others().next().unwrap_or(0);
    let mut threads = Vec::new();
    for number in 0..3 {
        threads.push(world.spawn(1 << cpu, move |world| {
            let mut wrong = 0;
            for round in 0..rounds::<O>(8) {
                let held = world.os.hold(file, number << 32 | round, Meanwhile::Turns(5 * long::<O>()));
                if let Err(why) = held {
                    world.say(format_args!("conformance: thread {number}, round {round}: {why}"));
                    wrong += 1;
                }
            }
            world.store(world.flag(number), wrong);
        })?);
    }
    threads.into_iter().try_for_each(|thread| world.join(thread))?;
    for number in 0..3 {
        ensure_eq!(world.load(world.flag(number)), 0, "how often thread {number} lost registers");
    }
    Ok(())
}

/// A thread that moves from CPU to CPU holds `file` on the way.
pub(crate) fn over_migration<O: Os>(world: &World<O>, file: File) -> Outcome {
    let cpus: Vec<u32> = (0..64).filter(|cpu| world.cpus() & 1 << cpu != 0).collect();
    for seed in 0..rounds::<O>(25) {
        for cpu in &cpus {
            let there = Meanwhile::Call(Call::ThreadAffinity as u64, [Handle::NONE.0.into(), 1 << cpu]);
            let held = world.os.hold(file, seed, there);
            held.map_err(|why| Not::Failed(alloc::format!("on the way to CPU {cpu}: {why}")))?;
        }
    }
    Ok(())
}

/// Calls. `TRAP-1`, `TRAP-2`
pub fn trap_1_registers_over_calls<O: Os>(world: &World<O>) -> Outcome {
    over_calls(world, File::General)
}

/// The timer's interrupt. `TRAP-1`
pub fn trap_1_registers_over_preemption<O: Os>(world: &World<O>) -> Outcome {
    over_preemption(world, File::General)
}

/// Going from CPU to CPU. `TRAP-1`
pub fn trap_1_registers_over_migration<O: Os>(world: &World<O>) -> Outcome {
    over_migration(world, File::General)
}

/// Interrupts from other CPUs come while registers are held. `TRAP-1`
pub fn trap_1_registers_over_requests<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    world.barrier(abi::membarrier::Command::RegisterPrivateExpedited)?;
    let cpu = world.others().next().unwrap_or(0);
    let before = world.count(cpu, Counter::Interrupts)?;
    let holder = world.spawn(1 << cpu, |world| {
        let mut seed = 0;
        world.store(world.flag(1), 1);
        while world.load(world.flag(0)) == 0 {
            seed += 1;
            if let Err(why) = world.os.hold(File::General, seed, Meanwhile::Turns(long::<O>())) {
                world.say(format_args!("conformance: round {seed}: {why}"));
                world.store(world.flag(2), 1);
            }
        }
    })?;
    world.wait_for(world.flag(1), 1);
    for _ in 0..rounds::<O>(200) {
        world.barrier(abi::membarrier::Command::PrivateExpedited)?;
    }
    world.store(world.flag(0), 1);
    world.join(holder)?;
    ensure!(world.count(cpu, Counter::Interrupts)? > before, "no interrupt came");
    ensure_eq!(world.load(world.flag(2)), 0, "whether registers changed");
    Ok(())
}

/// Calls by numbers that do not exist are refused, and change nothing else. `TRAP-1`
pub fn trap_1_calls_that_do_not_exist<O: Os>(world: &World<O>) -> Outcome {
    let first = Call::ALL.iter().map(|call| *call as u64 + 1).max().unwrap_or(0);
    let numbers = [first, first + 1, 1 << 16, 1 << 32, (1 << 32) + Call::Exit as u64, 1 << 63, u64::MAX];
    for number in numbers {
        // SAFETY: there is no such call.
        let (status, value) = unsafe { world.os.call(number, [u64::MAX; 6]) };
        ensure_eq!((status, value), (Error::BadCall as u64, 0), "call {number:#x}");
        let held = world.os.hold(File::General, number, Meanwhile::Call(number, [u64::MAX; 2]));
        held.map_err(|why| Not::Failed(alloc::format!("over call {number:#x}: {why}")))?;
    }
    Ok(())
}

/// A new thread finds every register as the interface says, on CPUs that others have just used; the
/// first vector instruction, a trap of its own kind, changes no general register. `TRAP-2`
pub fn trap_2_a_new_thread_finds_nothing<O: Os>(world: &World<O>) -> Outcome {
    for cpu in (0..64).filter(|cpu| world.cpus() & 1 << cpu != 0) {
        world.move_to(cpu)?;
        for seed in 0..rounds::<O>(5) {
            for file in [File::General, File::Vector] {
                let held = world.os.hold(file, seed, Meanwhile::Call(Call::Yield as u64, [0; 2]));
                held.map_err(Not::Failed)?;
            }
            world.os.newborn().map_err(|why| Not::Failed(alloc::format!("on CPU {cpu}: {why}")))?;
        }
    }
    Ok(())
}

/// Interrupts that become pending in a call wait for its end: none is taken in the kernel of a CPU
/// that runs user code. `TRAP-3`
pub fn trap_3_no_interrupt_inside_a_call<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    world.barrier(abi::membarrier::Command::RegisterPrivateExpedited)?;
    let cpu = world.others().next().unwrap_or(0);
    let caller = world.spawn(1 << cpu, |world| {
        world.store(world.flag(1), 1);
        while world.load(world.flag(0)) == 0 {
            world.yield_now();
            let _ = world.now();
            // On a simulated machine, time passes in it.
            world.os.pause();
        }
    })?;
    world.wait_for(world.flag(1), 1);
    for _ in 0..rounds::<O>(1000) {
        world.barrier(abi::membarrier::Command::PrivateExpedited)?;
    }
    world.store(world.flag(0), 1);
    world.join(caller)?;
    ensure_eq!(world.count(cpu, Counter::StrayInterrupts)?, 0, "interrupts taken outside of windows");
    Ok(())
}

/// A non-maskable interrupt comes while user code holds its registers, and while its CPU is between the
/// store that says it switches and the load of the tables: it changes neither, and notes nothing.
/// `TRAP-5`
pub fn trap_5_a_non_maskable_interrupt<O: Os>(world: &World<O>) -> Outcome {
    world.flags()?;
    world.move_to(0)?;
    let cpu = world.others().next().unwrap_or(0);
    let before = world.count(cpu, Counter::StrayInterrupts)?;
    let some = |world: &World<O>| {
        (0..10).try_for_each(|_| {
            world.non_maskable(cpu)?;
            // Time to arrive.
            (0..1000).for_each(|_| world.os.pause());
            Ok(())
        })
    };
    // Another process has that CPU, so that a switch to this one lies before its thread.
    let child = world.child("trap_5_a_non_maskable_interrupt", cpu.into())?;
    let mine = world.context()?;
    world.wait_until(|world| {
        world.loaded(cpu).is_ok_and(|loaded| matches!(loaded, Loaded::Active(id) if id != mine))
    });
    world.arm(Point::Switching, cpu, Stop::Deaf)?;
    let holder = world.spawn(1 << cpu, |world| {
        let mut wrong = 0;
        world.store(world.flag(1), 1);
        while world.load(world.flag(0)) == 0 {
            wrong += u64::from(world.os.hold(File::General, wrong, Meanwhile::Turns(long::<O>())).is_err());
        }
        world.store(world.flag(2), wrong);
    })?;
    world.wait_stopped(cpu)?;
    let sent = some(world);
    let stands = world.loaded(cpu)?;
    world.release(cpu)?;
    world.wait_until(|world| world.load(world.flag(1)) == 1);
    let sent = sent.and_then(|()| some(world));
    world.store(world.flag(0), 1);
    world.join(holder)?;
    world.kill(child)?;
    world.wait(child)?;
    sent?;
    ensure_eq!(stands, Loaded::Switching, "what a CPU that was interrupted in a switch holds");
    ensure_eq!(world.load(world.flag(2)), 0, "how often registers changed");
    ensure_eq!(world.count(cpu, Counter::StrayInterrupts)?, before, "what such interrupts noted");
    Ok(())
}

/// Runs on one CPU for ever.
pub fn occupies<O: Os>(world: &World<O>, cpu: u64) -> u8 {
    if world.move_to(cpu as u32).is_ok() {
        world.wait_until(|_| false);
    }
    SURVIVED
}

/// A page that is not mapped, with a neighbour that is.
const HOLE: Word = Word::new(ARENA + (96 << 20));

/// What is touched, how, and what kind of fault that is. `None`: no such address here.
fn touches<O: Os>(world: &World<O>) -> Vec<(u64, Touch, &'static [FaultKind])> {
    let places = world.os.addresses();
    let mut touches = Vec::new();
    use FaultKind::{BadExecute, BadRead, BadWrite, PageExecute, PageRead, PageWrite};
    for at in [0, PAGE_BYTES - 8, HOLE.address(), HOLE.address() + PAGE_BYTES - 8] {
        touches.push((at, Touch::Read, &[PageRead][..]));
        touches.push((at, Touch::Write, &[PageWrite]));
        touches.push((at, Touch::Execute, &[PageExecute]));
    }
    touches.push((places.code, Touch::Write, &[PageWrite]));
    for at in places.read_only {
        touches.push((at, Touch::Write, &[PageWrite]));
        touches.push((at, Touch::Execute, &[PageExecute]));
    }
    touches.extend(places.writable.into_iter().map(|at| (at, Touch::Execute, &[PageExecute][..])));
    // A machine may not tell a write to what is no address from a read.
    let impossible = places.impossible.into_iter().chain([u64::MAX - 7]);
    for at in impossible.chain([places.kernel, places.user.end]) {
        touches.push((at, Touch::Read, &[PageRead, BadRead]));
        touches.push((at, Touch::Write, &[PageWrite, BadWrite, BadRead]));
        touches.push((at, Touch::Execute, &[PageExecute, BadExecute]));
    }
    touches
}

/// Every bad access ends its process alone, and the kernel names its kind, the address and the
/// instruction. `TRAP-1`
pub fn trap_1_faults_name_kind_and_address<O: Os>(world: &World<O>) -> Outcome {
    for (number, (at, how, kinds)) in touches(world).into_iter().enumerate() {
        let found = world.fault_of("trap_1_faults_name_kind_and_address", number as u64)?;
        let Faulted { kind, pc, address } = found;
        let what = alloc::format!("{how:?} at {at:#x}");
        ensure!(kind.is_some_and(|kind| kinds.contains(&kind)), "{what} is reported as {found:x?}");
        // Addresses of instructions are multiples of four on some machines.
        let same = |is: u64| is == at || how == Touch::Execute && is == at & !3;
        ensure!(address.is_none_or(same), "{what} is reported at {found:x?}");
        ensure!(how != Touch::Execute || same(pc), "{what} is reported of an instruction at {pc:#x}");
    }
    Ok(())
}

/// Touches what must not be touched.
pub fn touches_badly<O: Os>(world: &World<O>, number: u64) -> u8 {
    let neighbour = world.map(HOLE.plus(PAGE_BYTES), 1);
    if let (Ok(()), Some(&(at, how, _))) = (neighbour, touches(world).get(number as usize)) {
        // SAFETY: this process is there for nothing else.
        unsafe { world.os.touch(at, how) };
    }
    SURVIVED
}

/// What a process ends with that should not have come so far.
const SURVIVED: u8 = 99;

/// Instructions that only the kernel may execute, or nobody, end their process alone, whatever the
/// registers hold. `TRAP-6`
pub fn trap_6_deadly_instructions<O: Os>(world: &World<O>) -> Outcome {
    let deeds = world.os.deeds();
    if deeds.is_empty() {
        return Err(Not::Skipped("no machine, no instructions"));
    }
    // The first CPU, and one that was set up by other code.
    let cpus = [0, world.others().next().unwrap_or(0)];
    for (number, (name, _)) in deeds.iter().enumerate() {
        for cpu in cpus {
            let child = world.child("trap_6_deadly_instructions", (number as u64) << 8 | u64::from(cpu))?;
            let report = world.wait(child)?;
            ensure_eq!(report.ending(), Some(Ending::Fault), "how a process ended by `{name}` on CPU {cpu}");
        }
    }
    Ok(())
}

pub fn does_a_deed<O: Os>(world: &World<O>, role: u64) -> u8 {
    let deeds = world.os.deeds();
    let (number, cpu) = (role >> 8, role as u8);
    if world.move_to(cpu.into()).is_err() {
        return SURVIVED;
    }
    // A program that cannot name anything any more is a program all the same.
    if number.is_multiple_of(2) {
        (1..64).for_each(|slot| _ = world.call(Call::HandleClose, [slot]));
    }
    if let Some((_, deed)) = deeds.get(number as usize) {
        deed();
    }
    SURVIVED
}

/// A thread cannot be started where no user code can be, nor with a stack that is none; where it
/// may, it faults in user mode. `TRAP-6`
pub fn trap_6_threads_started_anywhere<O: Os>(world: &World<O>) -> Outcome {
    let places = world.os.addresses();
    let stack = places.code & !15;
    let never = [places.kernel, places.user.end, places.user.end + PAGE_BYTES, u64::MAX, 1 << 63, 0, 8];
    for at in never.into_iter().chain(places.impossible) {
        ensure_eq!(world.thread_start(at, stack), Err(Error::BadAddress), "a thread that begins at {at:#x}");
    }
    for sp in [places.kernel, places.user.end + 16, !15, stack + 8, stack + 1, 0] {
        let code = places.code;
        ensure_eq!(world.thread_start(code, sp), Err(Error::BadAddress), "a thread with the stack {sp:#x}");
    }
    if O::SIMULATED {
        return Ok(());
    }
    for number in 0..entries(world).len() {
        let Faulted { kind, pc, .. } = world.fault_of("trap_6_threads_started_anywhere", number as u64)?;
        let at = entries(world)[number];
        let kinds = [FaultKind::PageExecute, FaultKind::BadExecute];
        ensure!(kind.is_some_and(|kind| kinds.contains(&kind)), "a thread at {at:#x} ended by {kind:?}");
        ensure!(pc == at || pc == at & !3, "a thread at {at:#x} ended at {pc:#x}");
    }
    Ok(())
}

/// Where a thread may be started but is not long.
fn entries<O: Os>(world: &World<O>) -> Vec<u64> {
    let end = world.os.addresses().user.end;
    alloc::vec![HOLE.address(), HOLE.address() + 3, end - 1, end - PAGE_BYTES]
}

pub fn starts_a_thread<O: Os>(world: &World<O>, number: u64) -> u8 {
    let places = world.os.addresses();
    if world.thread_start(entries(world)[number as usize], places.user.end).is_ok() {
        world.sleep_for_ever();
    }
    SURVIVED
}

/// Where a sequence is restarted that gives such an address.
fn aborts<O: Os>(world: &World<O>) -> Vec<u64> {
    let places = world.os.addresses();
    let user = [0, HOLE.address(), places.user.end];
    let other = [places.kernel, places.kernel + 2, 1 << 47, 1 << 63, u64::MAX, u64::MAX - 3];
    user.into_iter().chain(other).chain(places.impossible).collect()
}

/// A restartable sequence may name any address to go on at: what is no user code faults in user mode,
/// there. `TRAP-6`
pub fn trap_6_restarted_anywhere<O: Os>(world: &World<O>) -> Outcome {
    for (number, at) in aborts(world).into_iter().enumerate() {
        let found = world.fault_of("trap_6_restarted_anywhere", number as u64)?;
        let Faulted { kind, pc, .. } = found;
        let kinds = [FaultKind::PageExecute, FaultKind::BadExecute];
        ensure!(kind.is_some_and(|kind| kinds.contains(&kind)), "going on at {at:#x} ended by {found:x?}");
        ensure!(pc == at || pc == at & !3, "going on at {at:#x} ended at {pc:#x}");
    }
    Ok(())
}

pub fn restarts<O: Os>(world: &World<O>, number: u64) -> u8 {
    let run = || -> Outcome {
        world.flags()?;
        let area = world.flag(32);
        world.register_area(area)?;
        // The sequence is all of the program: from 8 on, wherever that ends.
        world.store(area.plus(16), world.os.addresses().user.end);
        world.store(area.plus(24), aborts(world)[number as usize]);
        world.store(area.plus(8), 8);
        loop {
            world.sleep(50_000)?;
        }
    };
    run().map_or_else(|not| not.status(), |()| SURVIVED)
}
