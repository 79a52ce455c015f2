//! The kernels that one tree builds: the one that is used, and those that differ by a `--cfg`.

use clap::ValueEnum;

/// What a kernel is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Purpose {
    #[default]
    Use,
    /// It also records events and counts, stops at rendezvous points and knows the `test` call.
    Test,
}

/// Who keeps an address space alive that a CPU still has loaded, though nobody runs in it there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, ValueEnum)]
pub enum Lifetime {
    /// What each CPU says it has loaded is looked at before the tables are freed.
    #[default]
    Hazard,
    /// Each CPU that has it loaded holds a reference.
    Refcount,
    /// The CPUs that may have it loaded are interrupted.
    Shootdown,
}

/// A kernel. The default is what a user boots.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Variant {
    pub purpose: Purpose,
    pub lifetime: Lifetime,
}

impl From<Lifetime> for Variant {
    fn from(lifetime: Lifetime) -> Self {
        Self { lifetime, ..Self::default() }
    }
}

impl Variant {
    /// The same, with everything that tests ask for.
    pub fn for_testing(self) -> Self {
        Self { purpose: Purpose::Test, ..self }
    }

    /// What the compiler is told, with a space before each flag.
    pub fn flags(self) -> String {
        let purpose = match self.purpose {
            Purpose::Use => "",
            Purpose::Test => " --cfg spandrel_test",
        };
        let lifetime = match self.lifetime {
            Lifetime::Hazard => "",
            Lifetime::Refcount => " --cfg spandrel_lifetime=\"refcount\"",
            Lifetime::Shootdown => " --cfg spandrel_lifetime=\"shootdown\"",
        };
        format!("{purpose}{lifetime}")
    }

    /// What tells its files apart: nothing for the one that is used.
    pub fn suffix(self) -> String {
        let purpose = match self.purpose {
            Purpose::Use => "",
            Purpose::Test => "-test",
        };
        let lifetime = match self.lifetime {
            Lifetime::Hazard => "",
            Lifetime::Refcount => "-refcount",
            Lifetime::Shootdown => "-shootdown",
        };
        format!("{purpose}{lifetime}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_in_flags_differs_in_files() {
        let all: Vec<Variant> = [Purpose::Use, Purpose::Test]
            .into_iter()
            .flat_map(|purpose| {
                let each = [Lifetime::Hazard, Lifetime::Refcount, Lifetime::Shootdown];
                each.map(|lifetime| Variant { purpose, lifetime })
            })
            .collect();
        for one in &all {
            for other in &all {
                assert_eq!(one.flags() == other.flags(), one.suffix() == other.suffix());
            }
        }
        assert_eq!(Variant::default().flags() + &Variant::default().suffix(), "");
        assert_ne!(Variant::default().for_testing().flags(), "");
    }
}
