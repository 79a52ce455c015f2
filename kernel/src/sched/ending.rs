//! The end of threads, wherever they are.
//!
//! A process ends when its last thread is off every CPU and out of every queue. Who ends a process
//! dooms its threads one by one (`doom`): those that are in a queue are taken out and ended here,
//! those that run are dropped by their CPU on its way out, those that a kernel task works for when
//! the task is through. The protocol is that of [`crate::thread`].

use crate::cpu::Cpu;
use crate::ipc;
use crate::object::Ref;
use crate::process::Process;
use crate::rseq;
use crate::sched::ready::Runnable;
use crate::sched::{place, take_current};
use crate::thread::{Standing, Thread};
use abi::{Ending, ExitReport};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::vector::Vector;
use arch_current::Current;

/// Ends a process. Its teardown has at least the caller's priority: the caller may be short of just
/// that memory.
pub fn kill(cpu: &Cpu, process: &Ref<Process>) {
    if let Some(priority) = cpu.current_priority() {
        process.hurry_teardown(priority);
    }
    Process::condemn(process, cpu, ExitReport::new(Ending::Killed, abi::KILL_STATUS));
}

/// Ends the current thread and its process.
pub fn end_current(cpu: &Cpu, report: ExitReport, irq: &IrqsOff) {
    let Some(thread) = drop_current(cpu, irq) else { return };
    Process::condemn(thread.process(), cpu, report);
    end_thread(cpu, &thread);
}

/// Ends the current thread. If it is its process's last, the process has exited with status 0.
pub fn end_current_thread(cpu: &Cpu, irq: &IrqsOff) {
    if let Some(thread) = drop_current(cpu, irq) {
        end_thread(cpu, &thread);
    }
}

/// Takes the current thread off this CPU for good.
fn drop_current(cpu: &Cpu, irq: &IrqsOff) -> Option<Ref<Thread>> {
    let thread = take_current(cpu)?;
    if !mutant::is(Mutant::VectorsLeftOn) {
        Current::discard(cpu.arch(), irq);
    }
    Some(thread)
}

/// Ends a thread that is on no CPU and in no queue: nobody moves it any more.
pub fn end_thread(cpu: &Cpu, thread: &Ref<Thread>) {
    if let Standing::Pending(_, pending) = thread.stand_anyway(Standing::Ended) {
        pending.give_up(cpu);
    }
    ipc::ended(cpu, thread);
    rseq::forget(cpu, thread);
    cpu.kernel.affinities.forget(cpu, thread);
    loop {
        let joiner = thread.joiners.lock().pop();
        match joiner {
            Some(joiner) => cpu.make_ready(joiner),
            None => break,
        }
    }
    Process::thread_ended(thread.process(), cpu, thread);
}

/// Dooms `thread`, and ends it here if it is not in somebody's hands.
pub(crate) fn doom(cpu: &Cpu, thread: &Ref<Thread>) {
    let kernel = cpu.kernel;
    let taken = match thread.doom() {
        Standing::On(at) => place::take_or_poke(cpu, thread, at),
        Standing::Reading => kernel.console.readers(cpu).remove(thread.entry.link()),
        Standing::WaitingFor(process) => process.forget_waiter(cpu, thread),
        Standing::Joining(other) => other.joiners.lock().remove(thread.entry.link()),
        Standing::Timed(at) | Standing::Pending(at, _) => {
            kernel.any_cpu(at).and_then(|at| at.timers.lock().remove(thread.entry.node()))
        }
        Standing::New | Standing::Condemned => return end_thread(cpu, thread),
        Standing::InTask | Standing::Ended => None,
        waits => ipc::take(thread, &waits).map(Runnable::Thread),
    };
    if taken.is_some() {
        end_thread(cpu, thread);
    }
}
