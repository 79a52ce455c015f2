//! What the short ways of signals, waits and faults do not overlook.

use super::many::{boot, start, thread};
use super::{Run, User};
use crate::cpu::Work;
use crate::ipc::quick::meanwhile;
use crate::object::Ref;
use crate::sched;
use crate::sched::ready::Load;
use crate::sync::Ordering;
use crate::thread::{Standing, Thread};
use abi::ipc::FOREVER;
use abi::{Call, Error, Handle, Rights};
use arch_contract::addr::VirtAddr;
use arch_contract::trap::{Access, Fault, FaultCause};
use arch_model::profile::Profile;

const SELF: u64 = Handle::NONE.0 as u64;

fn wait(run: &mut Run, notification: u64) {
    run.call(Call::NotificationWait, &[notification, FOREVER]);
}

fn signal(run: &mut Run, notification: u64) {
    run.call(Call::NotificationSignal, &[notification, 1]);
}

fn set_priority(run: &mut Run, priority: u64) {
    run.call(Call::ThreadPriority, &[SELF, priority]);
}

fn current(run: &Run) -> Ref<Thread> {
    run.cpu().current().expect("user mode was entered").clone()
}

/// Two CPUs: init at priority 50 on the first, where another waits that is better; it is returned, and the
/// handle of the notification.
fn waiting_here() -> (Run, Ref<Thread>, u64) {
    let (mut run, init) = boot(2);
    let notification = run.notification();
    let handle = start(&mut run);
    let waiter = thread(&run, handle);
    assert_eq!(run.result(Call::ThreadAffinity, &[handle, 1]), Ok(u64::MAX));
    run.on(1).take_interrupts();
    assert!(run.idles());
    set_priority(run.on(0), 50);
    assert_eq!(run.user(), User(waiter.frame()));
    wait(&mut run, notification);
    assert_eq!(run.user(), init);
    (run, waiter, notification)
}

/// Whom a signal wakes that ran elsewhere last goes on there.
#[test]
fn smp_2_who_ran_elsewhere_goes_on_there() {
    let (mut run, _) = boot(2);
    let notification = run.notification();
    start(&mut run);
    run.on(1).take_interrupts();
    let waiter = current(&run);
    wait(&mut run, notification);
    start(run.on(0));
    run.on(1).take_interrupts();
    set_priority(&mut run, 50);
    run.on(0).cpu().balancing.set(true);
    signal(&mut run, notification);
    assert!(matches!(waiter.standing(), Standing::On(at) if at.get() == 1));
}

/// From whom a signal takes the CPU goes on where nothing runs.
#[test]
fn smp_2_who_signals_goes_on_elsewhere() {
    let (mut run, waiter, notification) = waiting_here();
    let init = run.user();
    signal(&mut run, notification);
    assert_eq!(run.user(), User(waiter.frame()));
    run.on(1).take_interrupts();
    assert_eq!(run.user(), init);
}

/// What has become ready here and is better than who is signalled goes first, though this CPU has not looked yet.
#[test]
fn ipc_9_a_better_one_goes_first() {
    let (mut run, init) = boot(2);
    start(&mut run);
    run.on(1).take_interrupts();
    let better = current(&run);
    start(&mut run);
    let notification = run.on(0).notification();
    let handle = start(&mut run);
    run.call(Call::ThreadPriority, &[handle, 60]);
    set_priority(&mut run, 50);
    wait(&mut run, notification);
    assert_eq!(run.user(), init);
    run.on(1).call(Call::ThreadAffinity, &[SELF, 1]);
    assert!(!run.idles() && run.cpus[0].is_pending());
    run.on(0).cpu().balancing.set(true);
    signal(&mut run, notification);
    assert_eq!(run.user(), User(better.frame()));
}

/// Each call needs its right.
#[test]
fn cap_1_signals_and_waits_need_their_rights() {
    let mut run = Run::boot(Profile::Minimal);
    let notification = run.notification();
    let mut copy = |rights: Rights| run.result(Call::HandleCopy, &[notification, rights.bits().into(), 0]);
    let reads = copy(Rights::READ).expect("a copy");
    let writes = copy(Rights::WRITE).expect("a copy");
    assert_eq!(run.result(Call::NotificationSignal, &[reads, 1]), Err(Error::NoRight));
    assert_eq!(run.result(Call::NotificationSignal, &[writes, 1]), Ok(0));
    assert_eq!(run.result(Call::NotificationWait, &[writes, FOREVER]), Err(Error::NoRight));
    assert_eq!(run.result(Call::NotificationWait, &[reads, FOREVER]), Ok(1));
}

/// Who goes on with the rest of a slice for whose end an equal waits has a timer for that, whatever it was
/// armed for meanwhile.
#[test]
fn time_2_the_rest_of_a_slice_is_watched() {
    let mut run = Run::boot(Profile::Minimal);
    let notification = run.notification();
    start(&mut run);
    let waiter = run.yield_to_other();
    wait(&mut run, notification);
    start(&mut run);
    set_priority(&mut run, 50);
    let equal = current(&run);
    set_priority(&mut run, 50);
    drop(equal);
    let signaller = run.user();
    signal(&mut run, notification);
    assert_eq!(run.user(), waiter);
    // The long way: nothing is due.
    run.cpu().add_work(Work::READY);
    assert!(run.result(Call::Null, &[]).is_ok());
    assert_eq!(run.cpu().armed.get(), sched::NEVER);
    wait(&mut run, notification);
    assert_eq!(run.user(), signaller);
    assert!(run.cpu().rival.get() && run.cpu().armed.get() <= run.cpu().slice_end.get());
}

/// What was noted for a CPU is looked at by each of these.
#[test]
fn smp_2_what_is_noted_is_looked_at() {
    let mut run = Run::boot(Profile::Minimal);
    let notification = run.notification();
    run.cpu().add_work(Work::READY);
    signal(&mut run, notification);
    assert_eq!(run.cpu().work(), Work::NONE);
    run.cpu().add_work(Work::READY);
    wait(&mut run, notification);
    assert_eq!(run.cpu().work(), Work::NONE);
    let endpoint = run.endpoint();
    let length = 2 * abi::PAGE_BYTES;
    let memory = run.result(Call::MemoryCreatePaged, &[length, endpoint]).expect("memory");
    let source = run.result(Call::MemoryCreate, &[length]).expect("memory");
    let here = 1 << 40;
    let attach = [abi::initial::PROCESS.0.into(), memory, here, 0, length, abi::Protection::Read as u64];
    run.result(Call::MemoryAttach, &attach).expect("a mapping");
    let supply = [memory, 0, source, 0, abi::PAGE_BYTES];
    assert_eq!(run.result(Call::MemorySupply, &supply), Ok(0));
    let fault = |page| Fault {
        cause: FaultCause::Page(Access::Read),
        pc: VirtAddr(0x2_0000),
        address: Some(VirtAddr(here + page * abi::PAGE_BYTES)),
    };
    // One that is there, and one for which the pager is asked.
    run.cpu().add_work(Work::READY);
    run.fault(fault(0));
    assert_eq!(run.cpu().work(), Work::NONE);
    start(&mut run);
    run.yield_to_other();
    run.receive(endpoint);
    run.cpu().add_work(Work::READY);
    run.fault(fault(1));
    assert_eq!(run.cpu().work(), Work::NONE);
}

/// As [`waiting_here`], on a machine that has no other CPU.
fn waiting_alone() -> (Run, Ref<Thread>, u64) {
    let mut run = Run::boot(Profile::Minimal);
    let init = run.user();
    let notification = run.notification();
    let handle = start(&mut run);
    let waiter = thread(&run, handle);
    set_priority(&mut run, 50);
    assert_eq!(run.user(), User(waiter.frame()));
    wait(&mut run, notification);
    assert_eq!(run.user(), init);
    (run, waiter, notification)
}

/// A thread that is doomed while it is signalled, and was in no queue when that was found, ends; who has signalled
/// goes on.
#[test]
fn ipc_9_who_is_doomed_while_it_is_signalled_ends() {
    let (mut run, waiter, notification) = waiting_alone();
    let init = run.user();
    let doomed = waiter.clone();
    meanwhile::once(move || drop(doomed.doom()));
    assert_eq!(run.result(Call::NotificationSignal, &[notification, 1]), Ok(0));
    assert_eq!(run.user(), init);
    assert!(matches!(waiter.standing(), Standing::Ended));
}

/// One that became worse goes behind who has signalled, with its signal.
#[test]
fn ipc_9_who_becomes_worse_while_it_is_signalled_goes_behind() {
    let (mut run, waiter, notification) = waiting_alone();
    let init = run.user();
    let worse = waiter.clone();
    meanwhile::once(move || worse.store_priority(20));
    assert_eq!(run.result(Call::NotificationSignal, &[notification, 4]), Ok(0));
    assert_eq!((run.user(), run.cpu().running.load()), (init, Load::of(50)));
    wait(&mut run, notification);
    assert_eq!((run.user(), run.returned()), (User(waiter.frame()), Ok(4)));
}

/// From whom a signal takes the CPU keeps the rest of its slice; who has it then has no equal, though that one had.
#[test]
fn time_2_the_rest_of_a_slice_is_kept() {
    let mut run = Run::boot(Profile::Minimal);
    let (init, notification) = (current(&run), run.notification());
    let [waiter, equal] = [(); 2].map(|()| start(&mut run));
    let waiter = thread(&run, waiter);
    assert_eq!(run.result(Call::ThreadPriority, &[equal, 50]), Ok(0));
    set_priority(&mut run, 50);
    assert_eq!(run.user(), User(waiter.frame()));
    wait(&mut run, notification);
    run.to(User(init.frame()));
    assert!(run.cpu().rival.get());
    let end = run.cpu().slice_end.get().0;
    run.machine.advance(sched::SLICE / 4);
    signal(&mut run, notification);
    assert_eq!(run.user(), User(waiter.frame()));
    let rest = end - run.cpu().chosen_at.get().0;
    assert!(rest > 0 && init.slice_left.load(Ordering::Relaxed) == rest);
    assert!(!run.cpu().rival.get());
}

/// Who waits again where it waited before waits for nothing if nobody is left who could signal.
#[test]
fn ipc_9_nobody_waits_again_for_nobody() {
    let mut run = Run::boot(Profile::Minimal);
    let init = run.user();
    let notification = run.notification();
    let weak = [notification, Rights::READ.bits().into(), 0];
    let weak = run.result(Call::HandleCopy, &weak).expect("a copy");
    start(&mut run);
    wait(&mut run, weak);
    assert_ne!(run.user(), init);
    signal(&mut run, notification);
    assert_eq!(run.eventually(Call::HandleClose, &[notification]), Ok(0));
    run.to(init);
    assert_eq!(run.returned(), Ok(1));
    wait(&mut run, weak);
    assert_eq!((run.user(), run.returned()), (init, Err(Error::Gone)));
}
