//! A CPU that goes off.

use crate::cpu::{Cpu, race};
use arch_contract::barrier::Site;
use loom::thread;
use protocol::ThisCpu;
use protocol::inbox::{Kinds, post};
use protocol::offline::{go_off, is_off};

/// Who asks, executes a full barrier and then finds the CPU on, is served. `SMP-3`
#[test]
fn smp_3_going_off_against_a_request() {
    let asker = |cpu: Cpu<'_>| {
        let [_, other] = cpu.machine.cpus();
        post([other.inbox()].into_iter(), Kinds::FLUSH_ALL, || 1);
        cpu.full_barrier(Site::FlushSample);
        cpu.machine.online.load().has(other.number)
    };
    let goes = |cpu: Cpu<'_>| {
        let mut served = false;
        go_off(&cpu, &cpu.machine.online, || {
            if let Some(number) = cpu.inbox().pending() {
                cpu.inbox().serve_up_to(number, |kinds| served = kinds.has(Kinds::FLUSH_ALL));
            }
        });
        served
    };
    let seen = race(|_| (), asker, goes, |_, was_on, served| (was_on, served));
    assert!(seen.contains(&(true, true)) && seen.contains(&(false, false)), "{seen:?}");
    assert!(!seen.contains(&(true, false)), "SMP-3: it was on, and never served");
}

/// What a CPU did before it went off comes before what is done by those that waited for it. `SMP-3`
#[test]
fn smp_3_what_a_cpu_did_comes_before_it_is_off() {
    let waits = |cpu: Cpu<'_>| {
        let [_, other] = cpu.machine.cpus();
        while !is_off(&cpu.machine.online, other.number) {
            thread::yield_now();
        }
        cpu.machine.frame.reuse();
    };
    let goes = |cpu: Cpu<'_>| {
        cpu.machine.frame.touch();
        go_off(&cpu, &cpu.machine.online, || ());
    };
    race(|_| (), waits, goes, |_, (), ()| ());
}
