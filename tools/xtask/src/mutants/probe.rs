//! A killer in one place: what is run to see whether a mutant is noticed there.

use crate::arch::Arch;
use arch_contract::mutant::{Killer, On};
use std::fmt;

/// Tests of the host, by how they are built.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Suite {
    /// The ordinary tests of a package.
    Host(&'static str),
    /// Protocols under every interleaving the language's memory model allows.
    Loom,
    /// The whole kernel under random schedules.
    Schedules,
}

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Probe {
    Case(Arch, &'static str),
    Trace(Arch, &'static str),
    Stream(Arch, &'static str),
    Row(Arch, &'static str),
    Test(Suite, &'static str),
}

impl Probe {
    /// The places of a killer.
    pub fn all(killer: Killer) -> Vec<Self> {
        let on = |on: On, make: &dyn Fn(Arch) -> Self| match on {
            On::Both => Arch::ALL.into_iter().map(make).collect(),
            On::X86_64 => vec![make(Arch::X86_64)],
            On::Ppc64le => vec![make(Arch::Ppc64le)],
        };
        match killer {
            Killer::Case(machines, id) => on(machines, &|arch| Self::Case(arch, id)),
            Killer::Trace(machines, id) => on(machines, &|arch| Self::Trace(arch, id)),
            Killer::Stream(machines, id) => on(machines, &|arch| Self::Stream(arch, id)),
            Killer::Row(machines, name) => on(machines, &|arch| Self::Row(arch, name)),
            Killer::Host(package, test) => vec![Self::Test(Suite::Host(package), test)],
            Killer::Loom(test) => vec![Self::Test(Suite::Loom, test)],
            Killer::Schedules(test) => vec![Self::Test(Suite::Schedules, test)],
        }
    }

    /// The machine it boots, if it does.
    pub fn arch(self) -> Option<Arch> {
        match self {
            Self::Case(arch, _) | Self::Trace(arch, _) | Self::Stream(arch, _) | Self::Row(arch, _) => {
                Some(arch)
            }
            Self::Test(..) => None,
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Case(arch, id) => write!(f, "{arch}/conformance/{id}"),
            Self::Trace(arch, id) => write!(f, "{arch}/trace/{id}"),
            Self::Stream(arch, id) => write!(f, "{arch}/stream/{id}"),
            Self::Row(arch, name) => write!(f, "{arch}/{name}"),
            Self::Test(Suite::Host(package), test) => write!(f, "host/{package}/{test}"),
            Self::Test(Suite::Loom, test) => write!(f, "loom/{test}"),
            Self::Test(Suite::Schedules, test) => write!(f, "schedules/{test}"),
        }
    }
}

/// What a probe found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// Nothing is wrong.
    Green,
    /// Something is: how it shows, in a word or two that are the same each time, and for a person.
    Red { how: String, why: String },
    /// Its positive control did not fire.
    Inconclusive(String),
    /// It could not be run at all.
    Unable(String),
}

impl Finding {
    pub fn red(how: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Red { how: how.into(), why: why.into() }
    }

    /// What it comes to, for a person.
    pub fn says(&self) -> String {
        match self {
            Self::Green => "nothing is noticed".into(),
            Self::Red { how, why } if why.is_empty() => how.clone(),
            Self::Red { how, why } => format!("{how}: {why}"),
            Self::Inconclusive(why) => format!("inconclusive: {why}"),
            Self::Unable(why) => format!("cannot be run: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killer_on_both_machines_is_two_probes() {
        let names = |killer| Probe::all(killer).iter().map(Probe::to_string).collect::<Vec<_>>();
        assert_eq!(names(Killer::Case(On::Both, "a")), ["x86_64/conformance/a", "ppc64le/conformance/a"]);
        assert_eq!(names(Killer::Trace(On::Ppc64le, "a")), ["ppc64le/trace/a"]);
        assert_eq!(names(Killer::Host("kernel", "a")), ["host/kernel/a"]);
        assert_eq!(names(Killer::Loom("a")), ["loom/a"]);
    }
}
