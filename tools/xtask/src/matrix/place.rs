//! Which cells of the matrix a test fills: the one mapping from names to clauses and oracles.
//!
//! A test's name says where it ran, and its last part begins with the ids of the clauses that it
//! checks: `x86_64/conformance/bar_4_bar_5_a_round_trip…`. Guest cases that are named after what they
//! boot stand in [`NAMED_OTHERWISE`].

use crate::arch::Arch;
use crate::test::glob;
use arch_contract::clauses::{self, Oracle};
use std::fmt;

/// A column.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Column {
    On(Arch, Seen),
    /// The simulated machine, protocols under loom, explicit states, random schedules.
    Model,
    /// Portable arithmetic.
    Host,
}

/// An oracle of a machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Seen {
    Behaviour,
    Trace,
    Instructions,
    Image,
}

impl Seen {
    pub const ALL: [Self; 4] = [Self::Behaviour, Self::Trace, Self::Instructions, Self::Image];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Behaviour => "behaviour",
            Self::Trace => "trace",
            Self::Instructions => "stream",
            Self::Image => "image",
        }
    }
}

impl Column {
    /// All of them, as they stand in the matrix.
    pub fn all() -> Vec<Self> {
        let on = |arch| Seen::ALL.into_iter().map(move |seen| Self::On(arch, seen));
        Arch::ALL.into_iter().flat_map(on).chain([Self::Model, Self::Host]).collect()
    }

    /// What it is called in the contract.
    pub const fn oracle(self) -> Oracle {
        match self {
            Self::On(_, Seen::Behaviour) => Oracle::Behaviour,
            Self::On(_, Seen::Trace) => Oracle::Trace,
            Self::On(_, Seen::Instructions) => Oracle::Instructions,
            Self::On(_, Seen::Image) => Oracle::Image,
            Self::Model => Oracle::Model,
            Self::Host => Oracle::Host,
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On(arch, seen) => write!(f, "{arch} {}", seen.name()),
            Self::Model => f.write_str("model"),
            Self::Host => f.write_str("host"),
        }
    }
}

/// Guest cases whose names do not begin with clauses.
const NAMED_OTHERWISE: &[(&str, &[&str])] = &[
    ("*/crash-*", &["TRAP-4"]),
    ("*/bad-boot/*without-a-feature*", &["BOOT-4"]),
    ("*/bad-boot/*", &["BOOT-5"]),
    ("*/memory-*", &["BOOT-1", "BOOT-2"]),
    ("*/args", &["BOOT-1"]),
    ("*/firmware-*", &["BOOT-1"]),
    ("*/faults", &["TRAP-6"]),
    ("*/clock", &["TIME-1"]),
    ("*/float", &["FPU-1"]),
    ("*/migrate", &["MIG-1"]),
    ("*/share*", &["CAP-6"]),
    ("*/edu*", &["DEV-1", "DEV-3", "DEV-5"]),
    ("*/barrier", &["BAR-3"]),
    ("*/storm", &["USR-3"]),
    ("*/cpu-*", &["HV-1"]),
    ("*/smp-4-xive/*", &["HV-1"]),
    ("*/watched/switches-idle", &["CTX-7"]),
    ("*/watched/switches-move", &["MIG-2"]),
];

/// The column of a test.
pub fn column(test: &str) -> Option<Column> {
    let mut parts = test.splitn(3, '/');
    let (place, what) = (parts.next()?, parts.next()?);
    let on = |arch| {
        Column::On(
            arch,
            match what {
                "trace" => Seen::Trace,
                "stream" | "watched" => Seen::Instructions,
                "image" => Seen::Image,
                _ => Seen::Behaviour,
            },
        )
    };
    match place {
        "x86_64" => Some(on(Arch::X86_64)),
        "ppc64le" => Some(on(Arch::Ppc64le)),
        "loom" | "schedules" => Some(Column::Model),
        // These run on the simulated machine, are it, or explore what CPUs say to one another.
        "host" if matches!(what, "kernel" | "protocol" | "arch_model" | "loom") => Some(Column::Model),
        "host" => Some(Column::Host),
        _ => None,
    }
}

/// The clauses that a test checks, by their ids.
pub fn clauses(test: &str) -> Vec<&'static str> {
    let last = test.rsplit(['/', ':']).next().unwrap_or(test);
    let named = named(last);
    if !named.is_empty() {
        return named;
    }
    let row = NAMED_OTHERWISE.iter().find(|(pattern, _)| glob::matches(pattern, test));
    row.map_or_else(Vec::new, |(_, ids)| ids.to_vec())
}

/// The clauses that guest cases check whose names do not say so.
pub fn elsewhere() -> impl Iterator<Item = &'static str> {
    NAMED_OTHERWISE.iter().flat_map(|(_, ids)| ids.iter().copied())
}

/// The ids that a name begins with: `bar_4_bar_5_x` names two.
pub fn named(name: &str) -> Vec<&'static str> {
    let mut words = name.split('_');
    let mut ids = Vec::new();
    while let (Some(family), Some(number)) = (words.next(), words.next()) {
        let id = |clause: &&clauses::Text| {
            clause
                .id
                .split_once('-')
                .is_some_and(|(its, at)| its.eq_ignore_ascii_case(family) && at == number)
        };
        match clauses::ALL.iter().find(id) {
            Some(clause) => ids.push(clause.id),
            None => break,
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_its_clauses() {
        assert_eq!(named("bar_4_bar_5_a_round_trip"), ["BAR-4", "BAR-5"]);
        assert_eq!(named("ctx_12_ids"), ["CTX-12"]);
        assert_eq!(named("ctx_99_x"), [""; 0]);
        assert_eq!(named("the_words"), [""; 0]);
        assert_eq!(clauses("host/kernel/tests::trace::ctx_7_a_trip"), ["CTX-7"]);
        assert_eq!(clauses("x86_64/crash-panic"), ["TRAP-4"]);
        assert_eq!(clauses("x86_64/bad-boot/cpu-without-a-feature"), ["BOOT-4"]);
    }

    #[test]
    fn a_place_is_a_column() {
        let name = |test| column(test).map(|column| column.to_string());
        assert_eq!(name("x86_64/conformance/a").unwrap(), "x86_64 behaviour");
        assert_eq!(name("ppc64le/trace/a").unwrap(), "ppc64le trace");
        assert_eq!(name("ppc64le/watched/a").unwrap(), "ppc64le stream");
        assert_eq!(name("x86_64/hello").unwrap(), "x86_64 behaviour");
        assert_eq!(name("host/kernel/a::b").unwrap(), "model");
        assert_eq!(name("host/boot_image/a").unwrap(), "host");
        assert_eq!(name("loom/a").unwrap(), "model");
        assert_eq!(name("ci/kfail.toml"), None);
    }

    #[test]
    fn every_clause_named_here_exists() {
        for id in NAMED_OTHERWISE.iter().flat_map(|(_, ids)| *ids) {
            assert!(clauses::ALL.iter().any(|clause| clause.id == *id), "{id}");
        }
    }
}
