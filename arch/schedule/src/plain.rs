//! What is accessed without atomics, or by a machine behind its program's back: a page, a
//! page-table page, the registers of a thread, a hardware id.
//!
//! Who makes a thing its own ([`own`]), to free it or to write it, comes after every use that others
//! made of it, and who uses it ([`touch`]) comes after it was last made anybody's own. *After* is
//! what barriers say, not what this schedule happened to do: it is asked of the views of
//! [`memory`](crate::memory). So a missing release is found though the accesses lie far apart. This is
//! the happens-before race detection of FastTrack (Flanagan and Freund, PLDI 2009), with the clocks
//! that are there anyway.

use crate::memory::{ACTORS, Mixer};
use crate::run::memory;
use core::ptr::NonNull;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;

/// One thing: of which kind, for messages, and a number that no other of that kind has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thing {
    pub kind: &'static str,
    pub number: usize,
}

impl Thing {
    /// The page of `size` bytes, a power of two, that `at` lies in.
    pub fn page(at: NonNull<u8>, size: u64) -> Self {
        Self { kind: "the page at", number: at.addr().get() & !(size as usize - 1) }
    }
}

#[derive(Default)]
struct Accesses {
    /// For each actor, its last use; 0: none.
    uses: [u32; ACTORS],
    /// Who made it its own last, and when.
    owned: Option<(usize, u32)>,
}

/// All things of a run.
#[derive(Default)]
pub(crate) struct Things(HashMap<(&'static str, usize), Accesses, BuildHasherDefault<Mixer>>);

impl Things {
    fn of(&mut self, thing: Thing) -> &mut Accesses {
        self.0.entry((thing.kind, thing.number)).or_default()
    }
}

/// The calling actor uses `thing`; others may at the same time.
///
/// # Panics
/// If somebody has made it its own, and that does not come before.
pub fn touch(thing: Thing) {
    let race = memory(|memory, actor, _| {
        let now = memory.tick(actor);
        let known = memory.view(actor).and(&memory.besides);
        let accesses = memory.things.of(thing);
        accesses.uses[actor] = now;
        accesses.owned.filter(|(owner, when)| !known.knows(*owner, *when))
    });
    if let Some(Some((owner, _))) = race {
        report(thing, "is used", owner, "freed or wrote it");
    }
}

/// The calling actor alone has `thing` from now on, until others learn that they may use it.
///
/// # Panics
/// If another has used it, or made it its own, and that does not come before.
pub fn own(thing: Thing) {
    let race = memory(|memory, actor, _| {
        let now = memory.tick(actor);
        let known = memory.view(actor);
        let accesses = memory.things.of(thing);
        let uses = accesses.uses.iter().copied().enumerate();
        let race = uses.chain(accesses.owned).find(|(other, when)| !known.knows(*other, *when));
        *accesses = Accesses { owned: Some((actor, now)), ..Accesses::default() };
        race
    });
    if let Some(Some((other, _))) = race {
        report(thing, "is freed or written", other, "used it");
    }
}

/// The machine has waited until every use under way is over, everywhere.
pub fn all_uses_are_over() {
    memory(|memory, _, _| memory.things.0.values_mut().for_each(|accesses| accesses.uses = [0; ACTORS]));
}

/// Not while a test fails already: a second panic would end all tests.
fn report(thing: Thing, what: &str, other: usize, did: &str) {
    if !std::thread::panicking() {
        let Thing { kind, number } = thing;
        panic!("a race: {kind} {number:#x} {what}, and nothing orders that after CPU {other} {did}");
    }
}
