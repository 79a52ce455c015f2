//! Mutants: kernels with one promise broken, each with the test that must notice.
//!
//! A conformance suite is as good as what it catches. So the places where a promise is kept also
//! hold, in kernels built for testing and on the host, the ways of breaking it that were seen in
//! real kernels or that a porter could write: `if mutant::is(Mutant::M2) { … }`. At most one is
//! selected, by the kernel option `mutant=m9` or, on the host, by the environment variable
//! [`VARIABLE`]; `tools/x mutants` runs each against the killers that stand in its row of
//! [`mutants`](crate::mutants). In an ordinary kernel [`is`] is `false` at compile time.
//!
//! The selection is the one global of a test kernel: a mutant stands for another build, chosen
//! late so that one build does for all.

use crate::Clause;
pub use crate::mutants::{ALL, Mutant};
use core::sync::atomic::{AtomicU16, Ordering};

/// Whether this build has mutants: it is for testing, or for the simulated machine.
pub const ENABLED: bool =
    cfg!(any(spandrel_test, not(any(spandrel_arch = "x86_64", spandrel_arch = "ppc64le"))));

/// Selects a mutant in host tests, by its id.
pub const VARIABLE: &str = "SPANDREL_MUTANT";

/// One way of breaking a promise.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Stable: `m1` to `m44` are those of the catalogue, others are named after what they break.
    pub id: &'static str,
    /// What it breaks.
    pub clause: Clause,
    /// What is left out or altered.
    pub change: &'static str,
    /// Each of them must notice.
    pub killers: &'static [Killer],
    /// Why no killer boots a machine, if none does and the clause does not say it for all its mutants.
    pub unseen: Option<&'static str>,
}

impl Row {
    /// Whether some killer boots a machine.
    pub fn seen_on_a_machine(&self) -> bool {
        self.killers
            .iter()
            .any(|killer| !matches!(killer, Killer::Host(..) | Killer::Loom(_) | Killer::Schedules(_)))
    }

    /// Why no machine shows it, if none does and somebody wrote it down.
    pub fn why_unseen(&self) -> Option<&'static str> {
        let why = self.unseen.or(self.clause.text().unseen);
        why.filter(|_| !self.seen_on_a_machine())
    }
}

/// The machines on which a killer must notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum On {
    Both,
    X86_64,
    Ppc64le,
}

/// What must notice a mutant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Killer {
    /// This conformance case fails in a guest.
    Case(On, &'static str),
    /// While this case runs in a guest, the event trace breaks an invariant.
    Trace(On, &'static str),
    /// While this case runs in a guest, the executed instructions break a rule.
    Stream(On, &'static str),
    /// This guest case of `tools/x test`, named without its machine, fails: `Row(Both, "crash-fault")`.
    Row(On, &'static str),
    /// This test of this host package fails: `Host("kernel", "ctx_5_states_read_back")`.
    Host(&'static str, &'static str),
    /// This exhaustive run over the memory model of the language fails.
    Loom(&'static str),
    /// This run over random schedules with weak memory fails.
    Schedules(&'static str),
}

/// The number of the selected mutant, plus 1; [`UNASKED`] or [`NONE`].
static SELECTED: AtomicU16 = AtomicU16::new(if HOST { UNASKED } else { NONE });
const UNASKED: u16 = u16::MAX;
const NONE: u16 = 0;
/// Whether there is an environment to ask.
const HOST: bool = cfg!(not(target_os = "none"));

fn selected() -> u16 {
    match SELECTED.load(Ordering::Relaxed) {
        UNASKED => ask(),
        selected => selected,
    }
}

/// Selects the mutant that the environment names.
///
/// # Panics
/// If there is no such mutant.
#[cfg(not(target_os = "none"))]
#[cold]
fn ask() -> u16 {
    // First, since selecting asks nothing.
    SELECTED.store(NONE, Ordering::Relaxed);
    if let Ok(id) = std::env::var(VARIABLE) {
        assert!(select(&id).is_some(), "{VARIABLE}={id}: no such mutant");
    }
    SELECTED.load(Ordering::Relaxed)
}

#[cfg(target_os = "none")]
fn ask() -> u16 {
    NONE
}

/// Whether `mutant` is selected. `false` at compile time in an ordinary kernel.
#[inline(always)]
pub fn is(mutant: Mutant) -> bool {
    ENABLED && selected() == mutant as u16 + 1
}

/// Whether any is selected. Shortcuts are not taken then, so that a promise is kept, or broken, in one
/// place only: on the long way.
#[inline(always)]
pub fn any() -> bool {
    ENABLED && SELECTED.load(Ordering::Relaxed) != 0
}

/// Selects the mutant with this id, once and early. `None`: there is none, or not in this build.
pub fn select(id: &str) -> Option<&'static Row> {
    let index = ALL.iter().position(|row| row.id == id).filter(|_| ENABLED)?;
    SELECTED.store(index as u16 + 1, Ordering::Relaxed);
    Some(&ALL[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_every_mutant_has_a_killer() {
        for (index, row) in ALL.iter().enumerate() {
            assert!(!row.killers.is_empty(), "{} has no killer", row.id);
            assert!(ALL[..index].iter().all(|other| other.id != row.id), "{} twice", row.id);
        }
    }

    #[test]
    fn the_one_that_was_selected_is_on() {
        assert!(!is(Mutant::M1) && !any());
        assert_eq!(select("m1").map(|row| row.id), Some("m1"));
        assert!(is(Mutant::M1) && !is(Mutant::M2) && any());
        assert!(select("no such").is_none());
    }
}
