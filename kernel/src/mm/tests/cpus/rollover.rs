//! What happens to hardware ids while a CPU has the others forget: `CTX-12`.

use super::*;
use arch_contract::context::HardwareId;
use std::cell::RefCell;
use std::rc::Rc;

type Then = Box<dyn FnOnce()>;

std::thread_local! {
    /// What happens when the test's CPU has forgotten, and the others are about to be asked.
    static NEXT: RefCell<Option<Then>> = const { RefCell::new(None) };
}

/// A machine of two CPUs and three ids, all taken: one is in use, the others are retired.
fn taken() -> (Rc<World>, HardwareId) {
    let w = Rc::new(world(Config { hardware_ids: 3, ..config(Profile::Minimal, 2) }));
    w.cpu.machine().watch(|cpu, event| {
        if event == Event::FlushAll
            && cpu.number() == 0
            && let Some(then) = NEXT.take()
        {
            then();
        }
    });
    let [used, left, right] = [(); 3].map(|()| take(w.cpu).expect("there are three"));
    w.cpu.kernel.ids.retire(left);
    w.cpu.kernel.ids.retire(right);
    (w, used)
}

fn take(cpu: &Cpu) -> Option<HardwareId> {
    cpu.kernel.ids.take(cpu, &irqs_off()).ok()
}

/// An id that is retired while CPUs forget is not clean when they have: some had before.
#[test]
fn ctx_12_what_is_retired_meanwhile_is_not_clean() {
    let (w, used) = taken();
    let ids = &w.cpu.kernel.ids;
    NEXT.set(Some(Box::new(move || ids.retire(used))));
    assert!(take(w.cpu).is_some_and(|id| id != used));
    assert_eq!(ids.clean(), 1);
}

/// Who waited while another CPU had all forget takes what that has gained.
#[test]
fn ctx_12_who_waits_for_a_rollover_shares_it() {
    let (w, _) = taken();
    let (gives, given) = std::sync::mpsc::channel();
    let world = w.clone();
    NEXT.set(Some(Box::new(move || {
        let (begins, began) = std::sync::mpsc::channel();
        let other = world.others[0].1.start(move |cpu| {
            begins.send(()).expect("it is waited for");
            take(cpu)
        });
        // From here on it serves only where it waits for this CPU, so it has looked before.
        began.recv().expect("it begins");
        gives.send(other).expect("it is waited for");
    })));
    assert!(take(w.cpu).is_some());
    let other = given.recv().expect("it has begun");
    assert!(other.recv().expect("it has looked").is_some());
    assert_eq!(w.cpu.kernel.ids.rollovers(), 1);
}
