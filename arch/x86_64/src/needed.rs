//! Features without which the kernel cannot run.

use arch_contract::mutant::{self, Mutant};

/// One that this CPU has not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Missing(pub &'static str);

/// Goes through what is needed, and whether it is there, by name. Fails with the first that is
/// missing (`BOOT-4`).
pub fn check(needed: impl IntoIterator<Item = (bool, &'static str)>) -> Result<(), Missing> {
    match needed.into_iter().find(|(there, _)| !there && !mutant::is(Mutant::NeededFeatureIgnored)) {
        None => Ok(()),
        Some((_, name)) => Err(Missing(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `BOOT-4`: what is missing is named, the first of several.
    #[test]
    fn boot_4_the_first_that_is_missing_is_named() {
        assert_eq!(check([(true, "NX"), (true, "SSE2")]), Ok(()));
        assert_eq!(check([(true, "NX"), (false, "SSE2"), (false, "TSC")]), Err(Missing("SSE2")));
    }
}
