//! The short ways of messages, signals and faults do what the long ones do: the same random run on both, compared
//! step by step.

use super::ipc::{NONE, PROCESS, TIMER};
use super::many::thread;
use super::{Run, User};
use crate::sync::Ordering;
use abi::ipc::{FOREVER, Tag, WORDS};
use abi::{Call, PAGE_BYTES, Protection};
use arch_contract::addr::VirtAddr;
use arch_contract::trap::{Access, Fault, FaultCause};
use arch_model::profile::Profile;

/// Paged memory, and where it is mapped.
const PAGES: u64 = 64;
const HERE: u64 = 1 << 40;

/// Memory of the current process whose pages come from who receives at `endpoint`, and its source.
fn paged(run: &mut Run, endpoint: u64) -> [u64; 2] {
    let length = PAGES * PAGE_BYTES;
    let memory = run.result(Call::MemoryCreatePaged, &[length, endpoint]).expect("memory");
    let attach = [PROCESS, memory, HERE, 0, length, Protection::ReadWrite as u64];
    run.result(Call::MemoryAttach, &attach).expect("a mapping");
    run.call(Call::MemoryCreate, &[length]);
    [memory, run.returned().expect("memory")]
}

/// What each of a run's users sees, step by step, as a text.
fn history(seed: u64, closed: bool) -> (std::vec::Vec<std::string::String>, u64) {
    let mut run = Run::boot(Profile::ALL[seed as usize % Profile::ALL.len()]);
    run.cpu().kernel.short_ways.closed.store(closed, Ordering::Relaxed);
    let main = run.user();
    let endpoints = [run.endpoint(), run.endpoint()];
    let notifications = [run.notification(), run.notification()];
    let [memory, source] = paged(&mut run, endpoints[0]);
    let threads: std::vec::Vec<(User, u64)> = (0..5).map(|_| run.thread_with_handle()).collect();
    let (mut state, mut replies) = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, std::vec![NONE]);
    let mut random = |end: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) % end
    };
    let mut history = std::vec::Vec::new();
    for step in 0..400 {
        if run.user() == main {
            // It never waits, and nobody waits for it.
            let (_, handle) = threads[random(5) as usize];
            let notification = notifications[random(2) as usize];
            match random(24) {
                0..3 => run.sleep([1_000, 3_000_000, 20_000_000][random(3) as usize]),
                3..6 => run.call(Call::NotificationSignal, &[notification, 1 << random(3)]),
                6 => run.call(Call::ThreadPriority, &[handle, 98 + random(3)]),
                7 => run.call(Call::ThreadPriority, &[handle, 100]),
                8 => {
                    let (budget, period) = [(0, 0), (0, 0), (50_000, 1_000_000)][random(3) as usize];
                    run.call(Call::ThreadBudget, &[handle, budget, period]);
                }
                _ => run.call(Call::Yield, &[]),
            }
        } else {
            let endpoint = endpoints[random(2) as usize];
            let soon = run.cpu().now().0 + 5_000;
            let deadline = [0, soon].get(random(20) as usize).copied().unwrap_or(FOREVER);
            // Two serve an endpoint each, most of the time, and the others call them.
            let who = threads.iter().position(|(thread, _)| *thread == run.user()).expect("one of them");
            let choice = random(110);
            // No answer ends who has faulted.
            let label = if who < 2 || matches!(choice, 5..10 | 15) { 0 } else { step };
            let tag = Tag::new(label, random(9) as usize);
            let tag = if random(12) == 0 { Tag::new(label, 2).with_capabilities(2) } else { tag };
            let mut words = [0; WORDS].map(|_: u64| random(1 << 40));
            (words[6], words[7]) = (TIMER, endpoint | 7 << 32);
            let page = random(PAGES) * PAGE_BYTES;
            let usual = |run: &mut Run, handle| match who {
                0 if choice < 60 => run.call(Call::MemorySupply, &[memory, page, source, page, PAGE_BYTES]),
                0 | 1 => run.message(Call::ReplyReceive, endpoints[who], deadline, tag, words),
                _ => run.message(Call::EndpointCall, handle, deadline, tag, words),
            };
            let notification = notifications[random(2) as usize];
            match choice {
                0..5 => run.message(Call::EndpointCall, endpoint, deadline, tag, words),
                5..10 => run.message(Call::ReplyReceive, endpoint, deadline, tag, words),
                10 => run.message(Call::EndpointReceive, endpoint, deadline, tag, words),
                11 => run.message(Call::EndpointSend, endpoint, deadline, tag, words),
                12 => run.call(Call::NotificationWait, &[notification, deadline]),
                13 => run.call(Call::NotificationBind, &[[NONE, notification][random(2) as usize]]),
                80..90 => run.call(Call::NotificationSignal, &[notification, random(4)]),
                90..100 => run.call(Call::NotificationWait, &[notification, FOREVER]),
                100.. if who > 1 => {
                    let cause = FaultCause::Page([Access::Read, Access::Write][random(2) as usize]);
                    let (pc, address) = (VirtAddr(0x2_0000), Some(VirtAddr(HERE + page + 5)));
                    run.fault(Fault { cause, pc, address });
                }
                14 => {
                    let saver = run.user();
                    run.call(Call::ReplySave, &[]);
                    if let (true, Ok(handle)) = (run.user() == saver, run.returned()) {
                        replies.push(handle);
                    }
                }
                16.. => usual(&mut run, endpoint),
                _ => {
                    let reply = replies[random(replies.len() as u64) as usize];
                    run.message(Call::Reply, reply, 0, tag, words);
                }
            }
            // Vector registers take the second short way.
            if random(40) == 0 && run.user() != main && run.arch.vectors().is_none() {
                run.vector_unit_off();
            }
        }
        // SAFETY: nothing runs, and the threads live.
        let frames: std::vec::Vec<_> = threads.iter().map(|(thread, _)| unsafe { thread.0.read() }).collect();
        let cpu = run.cpu();
        let current = cpu.current().expect("main waits for nothing");
        let of = |handle| {
            let thread = thread(&run, handle);
            (thread.priority(), thread.slice_left.load(Ordering::Relaxed))
        };
        let states: std::vec::Vec<_> = threads.iter().map(|(_, handle)| of(*handle)).collect();
        let there = (0..PAGES)
            .filter(|page| current.process().space.is_mapped(cpu, VirtAddr(HERE + page * PAGE_BYTES)));
        let there = there.count();
        history.push(std::format!(
            "{step}: {:?} at {:?}, seen at {:?} of {states:?}, {there} there, rival {}, for {}, until {:?}, {:?}, {frames:x?}",
            threads.iter().position(|(thread, _)| *thread == run.user()),
            current.priority(),
            cpu.running.load(),
            cpu.rival.get(),
            current.cpu_time.load(Ordering::Relaxed),
            cpu.slice_end.get(),
            run.arch.vectors().is_some(),
        ));
    }
    (history, run.cpu().kernel.short_ways.gone.load(Ordering::Relaxed))
}

/// The short way does what the long one does: whatever a few threads do with endpoints, each step leaves
/// every register, who runs, what others see of the CPU, what is lent to whom, how long it has run and may
/// run, the same.
#[test]
fn ipc_1_the_short_way_is_the_long_way() {
    let mut gone = 0;
    for seed in 0..40 {
        let ((short, often), (long, never)) = (history(seed, false), history(seed, true));
        assert_eq!(never, 0);
        gone += often;
        for (a, b) in short.iter().zip(&long) {
            assert_eq!(a, b, "seed {seed}");
        }
    }
    assert!(gone > 400, "the short way was gone {gone} times only");
}
