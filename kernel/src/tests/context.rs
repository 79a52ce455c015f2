//! `CTX-6`, `CTX-7`, `BAR-4`, `BAR-5`, `RET-1`: which hooks run on which step, in which order, for
//! every profile. The expected lists are the table in `sched::context`, written out.

use super::{Run, User};
use abi::{Call, initial};
use arch_contract::barrier::Site;
use arch_contract::context::{ContextId, Did, Previously};
use arch_contract::ret::{CoreSyncOwed, Owed, Reload};
use arch_model::Event;
use arch_model::profile::Profile;
use std::vec::Vec;

fn id(n: u64) -> ContextId {
    ContextId::new(n).expect("not 0")
}

fn returned(reload: Reload) -> Event {
    Event::ReturnToUser { owed: Owed { core_sync: CoreSyncOwed::No }, reload }
}

const LEFT: Event = Event::FullBarrier(Site::LeaveUserMm);
const ENTERED: Event = Event::FullBarrier(Site::EnterUserMm);

/// Boots and makes a child; returns init, the child's handle and a page of init's.
fn pair(profile: Profile) -> (Run, User, u64) {
    let mut run = Run::boot(profile);
    let init = run.user();
    let page = run.page();
    let child = run.spawn(page, u64::MAX).expect("a child");
    (run, init, child)
}

/// Kernel tables → init: a switch, (e), no lazy exit.
#[test]
fn ctx_7_first_entry() {
    for profile in Profile::ALL {
        let run = Run::boot(profile);
        let switch = Event::SwitchMm { from: Previously::Kernel, to: id(1) };
        let expected = [Event::NewMm(id(1)), ENTERED, switch, returned(Reload::Full)];
        let hooks: Vec<_> =
            run.hooks().into_iter().filter(|event| !matches!(event, Event::PublishCode { .. })).collect();
        assert_eq!(hooks, expected, "{profile:?}");
    }
}

/// A call that changes nothing touches no context hook but the last.
#[test]
fn ret_1_every_call_passes_the_return_hook() {
    for profile in Profile::ALL {
        let mut run = Run::boot(profile);
        run.hooks();
        assert_eq!(run.result(Call::Null, &[]), Ok(0));
        assert_eq!(run.hooks(), [returned(Reload::ResultOnly)], "{profile:?}");
    }
}

/// init → idle → init: (d), a lazy episode, (e), its end with the mm that was left, no switch.
#[test]
fn ctx_7_idle_and_back_ends_the_episode_once() {
    for profile in Profile::ALL {
        let mut run = Run::boot(profile);
        run.hooks();
        run.call(Call::SleepUntil, &[initial::TIMER.0.into(), 1 << 30]);
        let expected = [
            Event::UserAccessesComplete,
            LEFT,
            Event::EnterLazy(id(1)),
            Event::Wait,
            ENTERED,
            Event::ExitLazy { left: id(1), now: id(1) },
            returned(Reload::Full),
        ];
        assert_eq!(run.hooks(), expected, "{profile:?}");
    }
}

/// init → child, both users: (d), the switch with the right hint, (e), no lazy hook.
#[test]
fn ctx_6_a_direct_switch_is_not_lazy() {
    for profile in Profile::ALL {
        let (mut run, init, _) = pair(profile);
        while run.yield_to_other() == init {}
        run.hooks();
        assert_eq!(run.yield_to_other(), init);
        let switch = Event::SwitchMm { from: Previously::Mm(id(2)), to: id(1) };
        let expected = [Event::UserAccessesComplete, LEFT, ENTERED, switch, returned(Reload::Full)];
        assert_eq!(run.hooks(), expected, "{profile:?}");
    }
}

/// init → kernel task → child: the episode of init's mm ends in a user of another.
#[test]
fn ctx_7_the_episode_ends_with_the_mm_that_was_left() {
    for profile in Profile::ALL {
        let (mut run, init, child) = pair(profile);
        assert_eq!(run.user(), init);
        run.hooks();
        run.call(Call::ProcessWait, &[child]);
        assert_ne!(run.user(), init);
        run.hooks();
        // The child ends: its teardown, a kernel task, comes behind init in the queue.
        run.call(Call::Exit, &[3]);
        assert_eq!(run.user(), init);
        // init has made its wait again when it runs.
        run.hooks();
        run.call(Call::ProcessWait, &[child]);
        assert_eq!(run.returned(), Ok(3));
        run.hooks();
        // init sleeps, so the teardown runs; then idle; then init.
        run.call(Call::SleepUntil, &[initial::TIMER.0.into(), 1 << 30]);
        let lazy: Vec<_> = run
            .hooks()
            .into_iter()
            .filter(|event| {
                !matches!(event, Event::FullBarrier(_) | Event::Wait | Event::UserAccessesComplete)
            })
            .collect();
        assert_eq!(
            lazy,
            [
                Event::EnterLazy(id(1)),
                Event::RetireMm(id(2)),
                Event::ExitLazy { left: id(1), now: id(1) },
                returned(Reload::Full),
            ],
            "{profile:?}"
        );
        assert_eq!(run.machine.live_contexts(), 1, "{profile:?}");
    }
}

/// The last user of an mm ends and nothing else is ready: the teardown finds its own CPU lazy on
/// it and moves it to the kernel's tables before the first table is freed. `CTX-9`
#[test]
fn ctx_9_teardown_drops_what_it_holds_lazily() {
    for profile in Profile::ALL {
        let (mut run, init, _) = pair(profile);
        assert_eq!(run.user(), init);
        run.call(Call::SleepUntil, &[initial::TIMER.0.into(), 1 << 30]);
        run.hooks();
        run.call(Call::Exit, &[0]);
        assert_eq!(run.user(), init);
        let expected = [
            LEFT,
            Event::EnterLazy(id(2)),
            Event::DropLazy(id(2)),
            Event::RetireMm(id(2)),
            Event::Wait,
            ENTERED,
            Event::SwitchMm { from: Previously::Kernel, to: id(1) },
            returned(Reload::Full),
        ];
        assert_eq!(run.hooks(), expected, "{profile:?}");
    }
}

/// What the words say while a hook runs: `current_mm` names the old mm until (d) is through and the
/// new one from then on, `loaded` holds both during a switch, and neither names a user in a lazy
/// episode. `CTX-2`, `CTX-5`, `CTX-6`, `BAR-4`, `BAR-5`
#[test]
fn ctx_5_bar_4_bar_5_the_words_at_every_hook() {
    fn look(cpu: &'static arch_model::Cpu, event: Event) {
        use crate::sched::context::Loaded;
        if <arch_model::Model as arch_contract::Base>::upper(cpu).is_null() {
            return;
        }
        // SAFETY: the kernel has bound it.
        let words = unsafe { &crate::cpu::Cpu::of(cpu).words };
        let (current, loaded) = (words.current_mm().map(|mm| mm.id), words.loaded());
        match event {
            Event::SwitchMm { from, to } => {
                assert_eq!(current, Some(to), "BAR-5: before the switch");
                let from = match from {
                    Previously::Kernel => None,
                    Previously::Mm(id) => Some(id),
                };
                assert_eq!(loaded, Loaded::Switching { from, to }, "CTX-5");
            }
            Event::FullBarrier(Site::LeaveUserMm) => {
                assert_eq!(Some(loaded), current.map(Loaded::Active), "BAR-4: after the store");
            }
            Event::FullBarrier(Site::EnterUserMm) => {
                let to = match loaded {
                    Loaded::Active(to) | Loaded::Switching { to, .. } => Some(to),
                    _ => None,
                };
                assert!(to.is_some() && current == to, "BAR-5, CTX-3: before the stores");
            }
            Event::ReturnToUser { .. } => assert_eq!(Some(loaded), current.map(Loaded::Active)),
            Event::EnterLazy(held) => assert_eq!((current, loaded), (None, Loaded::Lazy(held)), "CTX-6"),
            Event::ExitLazy { now, .. } => {
                assert_eq!((current, loaded), (Some(now), Loaded::Active(now)), "CTX-7");
            }
            Event::DropLazy(held) => assert_eq!((current, loaded), (None, Loaded::Lazy(held)), "CTX-9"),
            Event::RetireMm(id) => {
                let held = [Loaded::Active(id), Loaded::Lazy(id)].contains(&loaded);
                assert!(!held && current != Some(id), "CTX-9");
            }
            Event::Wait => assert_eq!(current, None, "CTX-6"),
            _ => {}
        }
    }
    for profile in Profile::ALL {
        let mut run = Run::boot(profile);
        run.machine.watch(look);
        let page = run.page();
        let init = run.user();
        let child = run.spawn(page, u64::MAX).expect("a child");
        run.yield_to_other();
        run.yield_to_other();
        assert_eq!(run.user(), init);
        run.call(Call::SleepUntil, &[initial::TIMER.0.into(), 1 << 30]);
        run.call(Call::Exit, &[0]);
        assert_eq!(run.user(), init);
        assert_eq!(run.result(Call::HandleClose, &[child]), Ok(0));
    }
}

/// `RET-2`: a switch that serialized settles the debt; one that did not, and the end of a lazy
/// episode without a switch, leave it to the return hook.
#[test]
fn ret_2_a_switch_settles_only_if_it_serialized() {
    let owed = |run: &Run| {
        let last = run.hooks().into_iter().rev().find_map(|event| match event {
            Event::ReturnToUser { owed, .. } => Some(owed.core_sync),
            _ => None,
        });
        last.expect("user mode was entered")
    };
    for profile in Profile::ALL {
        let (mut run, ..) = pair(profile);
        run.cpu().add_work(crate::cpu::Work::CORE_SYNC);
        run.yield_to_other();
        let expected = match profile.switch_serializes() {
            Did::Yes => CoreSyncOwed::No,
            Did::No => CoreSyncOwed::Yes,
        };
        assert_eq!(owed(&run), expected, "{profile:?}");

        let mut run = Run::boot(profile);
        run.cpu().add_work(crate::cpu::Work::CORE_SYNC);
        run.call(Call::SleepUntil, &[initial::TIMER.0.into(), 1 << 30]);
        assert_eq!(owed(&run), CoreSyncOwed::Yes, "{profile:?}");
    }
}

/// `RET-2`: what is armed on a CPU reaches the return hook on the next edge to user mode, once,
/// whether the call would have gone straight back or not, unless a switch has serialized already.
#[test]
fn ret_2_an_armed_core_sync_reaches_the_return_hook_once() {
    for profile in Profile::ALL {
        let mut run = Run::boot(profile);
        for call in [Call::Null, Call::Yield] {
            run.hooks();
            run.cpu().add_work(crate::cpu::Work::CORE_SYNC);
            assert_eq!(run.result(call, &[]), Ok(0));
            let owed = Owed { core_sync: CoreSyncOwed::Yes };
            let hooks = run.hooks();
            let settles = |event: &Event| matches!(event, Event::ReturnToUser { owed: o, .. } if *o == owed);
            assert_eq!(hooks.iter().filter(|event| settles(event)).count(), 1, "{profile:?} {hooks:?}");
            let synced = hooks.contains(&Event::CoreSync);
            assert_eq!(synced, !profile.user_return_serializes(), "{profile:?} {hooks:?}");
            assert_eq!(run.result(Call::Null, &[]), Ok(0));
            assert_eq!(run.hooks(), [returned(Reload::ResultOnly)], "{profile:?}: once");
        }
    }
}
