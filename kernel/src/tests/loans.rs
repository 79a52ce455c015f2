//! What a caller lends its server, its priority and its budget, and when that ends.

use super::Run;
use super::ipc::{NONE, TIMER};
use crate::sched::ready::Load;
use crate::sync::Ordering;
use abi::ipc::{FOREVER, Tag};
use abi::{Call, Rights, initial};
use arch_model::profile::Profile;

/// Along a chain of calls each runs at the caller's priority, and no longer than until the reply.
#[test]
fn ipc_7_priority_goes_along_a_chain() {
    let mut run = Run::boot(Profile::Minimal);
    let main = run.user();
    let endpoints = [run.endpoint(), run.endpoint(), run.endpoint()];
    let servers = endpoints.map(|endpoint| {
        let (server, handle) = run.thread_with_handle();
        run.to(server);
        run.receive(endpoint);
        run.to(main);
        assert_eq!(run.result(Call::ThreadPriority, &[handle, 90]), Ok(0));
        server
    });
    // In the middle: it would run if a server did at its own.
    let (spinner, handle) = run.thread_with_handle();
    assert_eq!(run.result(Call::ThreadPriority, &[handle, 95]), Ok(0));
    run.send(Call::EndpointCall, endpoints[0], 0, &[1]);
    for (server, next) in [(0, 1), (1, 2)] {
        assert_eq!(run.user(), servers[server]);
        assert_eq!(run.cpu().current_priority(), Some(100));
        run.call(Call::Yield, &[]);
        assert_eq!(run.user(), servers[server]);
        run.send(Call::EndpointCall, endpoints[next], 0, &[1]);
    }
    for server in [2, 1, 0] {
        assert_eq!(run.user(), servers[server]);
        assert_eq!(run.cpu().current_priority(), Some(100));
        run.send(Call::ReplyReceive, endpoints[server], 0, &[server as u64]);
    }
    assert_eq!(run.user(), main);
    assert_eq!(run.received().map(|received| received.words[0]), Ok(0));
    // A server that replies without receiving has its own priority again at once.
    run.send(Call::EndpointCall, endpoints[0], 0, &[1]);
    assert_eq!(run.user(), servers[0]);
    run.call(Call::Reply, &[NONE, 0, 0]);
    assert_eq!(run.user(), main);
    let now = run.clock();
    run.call(Call::SleepUntil, &[TIMER, now + 1_000_000]);
    assert_eq!(run.user(), spinner, "the server keeps what was lent");
}

/// A server runs on the budget of a caller that has one: when that is used up, it waits for the
/// caller's next period.
#[test]
fn ipc_8_a_server_runs_on_its_callers_budget() {
    let mut run = Run::boot(Profile::Minimal);
    let main = run.user();
    let endpoint = run.endpoint();
    let server = run.thread();
    run.to(server);
    run.receive(endpoint);
    let client = run.thread();
    run.to(client);
    assert_eq!(run.result(Call::ThreadBudget, &[NONE, 1_000_000, 100_000_000]), Ok(0));
    run.send(Call::EndpointCall, endpoint, 0, &[]);
    assert_eq!(run.user(), server);
    run.sleep(1_100_000);
    assert_eq!(run.user(), main, "the budget is used up");
    for _ in 0..10 {
        run.call(Call::Yield, &[]);
        assert_eq!(run.user(), main);
    }
    run.sleep(100_000_000);
    run.to(server);
    run.send(Call::ReplyReceive, endpoint, 0, &[]);
    // By itself it has no limit.
    run.to(main);
    run.send(Call::EndpointCall, endpoint, 0, &[]);
    assert_eq!(run.user(), server);
    run.sleep(3_000_000);
    run.to(server);
    run.send(Call::ReplyReceive, endpoint, 0, &[]);
    assert_eq!(run.received().map(|received| received.tag.is_call()), Ok(false));
}

/// A caller that gives up, by its deadline or because it is ended, has lent nothing from then on: neither
/// its priority nor its budget.
#[test]
fn ipc_7_a_loan_ends_with_its_call() {
    for short_ways in [true, false] {
        for killed in [true, false] {
            for budget in [true, false] {
                let mut run = Run::boot(Profile::Minimal);
                run.cpu().kernel.short_ways.closed.store(!short_ways, Ordering::Relaxed);
                let main = run.user();
                let endpoint = run.endpoint();
                let (server, handle) = run.thread_with_handle();
                let (client, process) = run.process(&[(endpoint, Rights::WRITE), (TIMER, Rights::all())]);
                run.to(server);
                run.receive(endpoint);
                run.to(main);
                assert_eq!(run.result(Call::ThreadPriority, &[handle, 90]), Ok(0));
                run.to(client);
                if budget {
                    assert_eq!(run.result(Call::ThreadBudget, &[NONE, 1_000_000, 100_000_000]), Ok(0));
                }
                let soon =
                    run.result(Call::ClockRead, &[initial::TIMER.0.into()]).expect("a clock") + 100_000;
                let deadline = if killed { FOREVER } else { soon };
                run.message(Call::EndpointCall, initial::CONSOLE.0.into(), deadline, Tag::new(0, 0), [0; 8]);
                assert_eq!((run.user(), run.cpu().current_priority()), (server, Some(100)));
                if budget {
                    run.sleep(1_100_000);
                    assert_eq!(run.user(), main, "the budget is used up");
                } else {
                    run.to(main);
                }
                match killed {
                    true => assert_eq!(run.result(Call::ProcessKill, &[process]), Ok(0)),
                    false => run.sleep(200_000),
                }
                for _ in 0..20 {
                    run.call(Call::Yield, &[]);
                    assert_ne!(run.user(), server, "it keeps the priority");
                }
                // It is ready, at its own.
                run.to(main);
                let own = run.cpu().now().0 + 1_000_000;
                run.call(Call::SleepUntil, &[TIMER, own]);
                for _ in 0..5 {
                    if run.user() == server {
                        break;
                    }
                    let own = run.cpu().now().0 + 1_000_000;
                    run.call(Call::SleepUntil, &[initial::TIMER.0.into(), own]);
                }
                assert_eq!((run.user(), run.cpu().current_priority()), (server, Some(90)));
            }
        }
    }
}

/// What was lent ends with the duty, also where that is saved: who is better than the server itself goes
/// before it.
#[test]
fn ipc_7_a_loan_ends_with_the_duty() {
    let mut run = Run::boot(Profile::Minimal);
    let endpoint = run.endpoint();
    let client = run.user();
    let (server, of_server) = run.thread_with_handle();
    let (better, of_better) = run.thread_with_handle();
    run.to(server);
    run.receive(endpoint);
    run.to(client);
    for (handle, priority) in [(of_server, 50), (of_better, 70)] {
        assert!(run.result(Call::ThreadPriority, &[handle, priority]).is_ok());
    }
    run.send(Call::EndpointCall, endpoint, 1, &[]);
    assert_eq!(run.user(), server, "at the priority of its client");
    run.call(Call::ReplySave, &[]);
    assert_eq!(run.user(), better);
}

/// A server that is better than its client runs, and is seen by others, at its own priority.
#[test]
fn ipc_7_a_better_server_is_seen_as_such() {
    let mut run = Run::boot(Profile::Minimal);
    let endpoint = run.endpoint();
    let server = run.user();
    let (client, of_client) = run.thread_with_handle();
    assert!(run.result(Call::ThreadPriority, &[of_client, 50]).is_ok());
    run.receive(endpoint);
    assert_eq!((run.user(), run.cpu().running.load()), (client, Load::of(50)));
    run.send(Call::EndpointCall, endpoint, 1, &[]);
    let own = run.cpu().current_priority().expect("it runs");
    assert_eq!((run.user(), run.cpu().running.load()), (server, Load::of(own)));
    assert!(own > 50);
}

/// Who is called by a server that runs on its caller's budget runs on that as well.
#[test]
fn ipc_8_a_budget_goes_along_a_chain() {
    let mut run = Run::boot(Profile::Minimal);
    let main = run.user();
    let (first, second) = (run.endpoint(), run.endpoint());
    let last = run.thread();
    run.to(last);
    run.receive(second);
    let middle = run.thread();
    run.to(middle);
    run.receive(first);
    let client = run.thread();
    run.to(client);
    assert_eq!(run.result(Call::ThreadBudget, &[NONE, 1_000_000, 100_000_000]), Ok(0));
    run.send(Call::EndpointCall, first, 0, &[]);
    assert_eq!(run.user(), middle);
    run.send(Call::EndpointCall, second, 0, &[]);
    assert_eq!(run.user(), last);
    run.sleep(1_100_000);
    assert_eq!(run.user(), main, "the budget is used up");
}

/// What a server has run before it takes a call is its own time, and what it has run until its reply is the
/// caller's.
#[test]
fn ipc_8_each_pays_for_its_time() {
    let mut run = Run::boot(Profile::Minimal);
    let main = run.user();
    let endpoint = run.endpoint();
    let (server, client) = (run.thread(), run.thread());
    run.to(client);
    assert_eq!(run.result(Call::ThreadBudget, &[NONE, 1_000_000, 100_000_000]), Ok(0));
    run.send(Call::EndpointCall, endpoint, 0, &[]);
    run.to(server);
    run.machine.advance(1_500_000);
    run.receive(endpoint);
    assert_eq!(run.user(), server, "nothing of the caller's is used up");
    run.machine.advance(800_000);
    run.send(Call::ReplyReceive, endpoint, 0, &[]);
    run.to(client);
    run.send(Call::EndpointCall, endpoint, 0, &[]);
    assert_eq!(run.user(), server);
    run.sleep(500_000);
    assert_eq!(run.user(), main, "it is now");
}
