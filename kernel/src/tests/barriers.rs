//! Orders of steps that only the kernel's inside shows, and only while it runs: `BAR-3`, `BAR-6`,
//! `RET-3`, `SMP-2`, `CODE-2`.

use super::{ENTRY, Run};
use crate::cpu::{Cpu, Work};
use crate::pending::PAUSE;
use abi::membarrier::Command;
use abi::{Call, Protection, initial};
use arch_contract::Base;
use arch_contract::barrier::Site;
use arch_model::profile::Profile;
use arch_model::{Event, Model};
use std::vec::Vec;

const PROCESS: u64 = initial::PROCESS.0 as u64;
const STACK: u64 = 0x10_0000;

/// init runs on CPU 0, where it has given `command`, and another thread of it on CPU 1, which has not
/// noticed yet.
fn asked(profile: Profile, registration: Command, command: Command) -> Run {
    let mut run = Run::boot_many(profile, 2);
    run.on(1).come_up();
    run.on(0).result(Call::ThreadStart, &[PROCESS, ENTRY, STACK, 0]).expect("a thread");
    run.on(1).take_interrupts();
    assert!(!run.idles(), "the thread runs on CPU 1");
    assert_eq!(run.on(0).result(Call::Membarrier, &[registration as u64]), Ok(0));
    run.call(Call::Membarrier, &[command as u64]);
    run
}

/// `BAR-6`: the handler executes its barrier before the asker can see that it has.
#[test]
fn bar_6_the_barrier_comes_before_the_acknowledgement() {
    fn look(cpu: &'static arch_model::Cpu, event: Event) {
        if event == Event::FullBarrier(Site::IpiHandler) && !Model::upper(cpu).is_null() {
            // SAFETY: the kernel has bound it.
            let inbox = unsafe { &Cpu::of(cpu).inbox };
            assert!(inbox.pending().is_some(), "acknowledged before the barrier");
        }
    }
    for profile in Profile::ALL {
        let mut run = asked(profile, Command::RegisterPrivateExpedited, Command::PrivateExpedited);
        run.machine.watch(look);
        run.hooks();
        run.on(1).take_interrupts();
        let barriers = |event: &&Event| **event == Event::FullBarrier(Site::IpiHandler);
        assert_eq!(run.hooks().iter().filter(barriers).count(), 1, "{profile:?}");
        assert_eq!(run.cpu().inbox.pending(), None, "{profile:?}");
    }
}

/// `BAR-3`: a command ends with its barrier (c), whether nobody is asked, or somebody and the caller waits.
#[test]
fn bar_3_a_command_ends_with_its_barrier() {
    let (registration, command) = (Command::RegisterPrivateExpedited, Command::PrivateExpedited);
    let ends = |run: &Run| {
        let is_end = |event: &&Event| **event == Event::FullBarrier(Site::MembarrierExit);
        run.hooks().iter().filter(is_end).count()
    };
    for profile in Profile::ALL {
        let mut run = Run::boot(profile);
        assert_eq!(run.result(Call::Membarrier, &[registration as u64]), Ok(0));
        ends(&run);
        assert_eq!(run.result(Call::Membarrier, &[command as u64]), Ok(0));
        assert_eq!(ends(&run), 1, "{profile:?}: alone");

        let mut run = asked(profile, registration, command);
        assert!(run.idles(), "the caller waits");
        assert_eq!(ends(&run), 0, "{profile:?}: nobody has answered");
        run.on(1).take_interrupts();
        run.machine.advance(PAUSE);
        run.on(0).take_interrupts();
        assert!(!run.idles() && run.returned() == Ok(0));
        assert_eq!(ends(&run), 1, "{profile:?}: answered");
    }
}

/// `BAR-3`: the command for all asks every CPU, whichever process runs there.
#[test]
fn bar_3_all_are_those_of_other_processes_too() {
    for profile in Profile::ALL {
        let mut run = Run::boot_many(profile, 2);
        let init = run.user();
        run.on(1).come_up();
        let page = run.on(0).page();
        run.spawn(page, u64::MAX).expect("a child");
        run.on(1).take_interrupts();
        assert!(!run.idles() && run.user() != init, "the child runs on CPU 1");
        run.on(0).call(Call::Membarrier, &[Command::Global as u64]);
        assert!(run.cpus[1].is_pending(), "{profile:?}");
        assert!(run.idles(), "{profile:?}: the caller waits");
    }
}

/// `SMP-2`: what is noted on the way to user mode, as whoever serves while it waits does, is looked at
/// before that is entered: there is no interrupt any more that would tell of it.
#[test]
fn smp_2_what_is_noted_on_the_way_out_is_looked_at() {
    fn note(cpu: &'static arch_model::Cpu, event: Event) {
        if event == Event::FullBarrier(Site::EnterUserMm) && !Model::upper(cpu).is_null() {
            // SAFETY: the kernel has bound it.
            unsafe { Cpu::of(cpu) }.add_work(Work::READY);
        }
    }
    for profile in Profile::ALL {
        let mut run = Run::boot(profile);
        let page = run.page();
        run.spawn(page, u64::MAX).expect("a child");
        // The long way out.
        run.cpu().add_work(Work::READY);
        run.machine.watch(note);
        run.yield_to_other();
        assert_eq!(run.cpu().work(), Work::NONE, "{profile:?}: in user mode, and not looked at");
    }
}

/// `RET-3`: what is asked after the last look at what is owed is not taken before user mode, where the
/// interrupt that came with it finds it: else it would be acknowledged and not done.
#[test]
fn ret_3_nothing_is_served_after_the_last_look() {
    for profile in Profile::ALL {
        let sync_core = Command::PrivateExpeditedSyncCore;
        let mut run = asked(profile, Command::RegisterPrivateExpeditedSyncCore, sync_core);
        // A call of the other thread on the long way out.
        run.on(1).cpu().add_work(Work::READY);
        assert_eq!(run.result(Call::Null, &[]), Ok(0));
        assert!(!run.cpu().work().has(Work::CORE_SYNC), "{profile:?}: taken on the way out");
        assert!(run.cpu().inbox.pending().is_some(), "{profile:?}: acknowledged on the way out");
    }
}

/// `CODE-2`: a page that can be executed is published when it is mapped, and code when it is asked.
#[test]
fn code_2_what_can_be_executed_is_published() {
    fn published(run: &Run) -> Vec<usize> {
        let length = |event| match event {
            Event::PublishCode { len } => Some(len),
            _ => None,
        };
        run.hooks().into_iter().filter_map(length).collect()
    }
    for profile in Profile::ALL {
        let mut run = Run::boot(profile);
        published(&run);
        for (protection, wanted) in [
            (Protection::Read, [].as_slice()),
            (Protection::ReadWrite, &[]),
            (Protection::ReadExecute, &[4096, 4096]),
        ] {
            let map = [PROCESS, 0, 8192, protection as u64];
            let at = run.result(Call::MemoryMap, &map).expect("two pages");
            assert_eq!(published(&run), wanted, "{profile:?}: mapping {protection:?}");
            // Across the boundary of two pages.
            assert_eq!(run.result(Call::CodePublish, &[at + 4000, 200]), Ok(0));
            assert_eq!(published(&run), [96, 104], "{profile:?}: asked, {protection:?}");
        }
    }
}
