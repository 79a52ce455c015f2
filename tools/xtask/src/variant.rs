//! The kernels that one tree builds: the ordinary one, and those that differ by a `--cfg`.

use clap::ValueEnum;

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

/// What a kernel is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Purpose {
    #[default]
    Use,
    /// It has the event trace, the counters, the rendezvous points and the `test` call.
    Testing,
}

/// A kernel. The default is what a user boots.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Variant {
    pub lifetime: Lifetime,
    pub purpose: Purpose,
}

impl From<Lifetime> for Variant {
    fn from(lifetime: Lifetime) -> Self {
        Self { lifetime, ..Self::default() }
    }
}

impl Variant {
    /// The same kernel, with what tests need.
    pub fn for_testing(self) -> Self {
        Self { purpose: Purpose::Testing, ..self }
    }

    /// What the compiler is told, with a space before each flag.
    pub fn flags(self) -> String {
        let lifetime = match self.lifetime {
            Lifetime::Hazard => "",
            Lifetime::Refcount => " --cfg spandrel_lifetime=\"refcount\"",
            Lifetime::Shootdown => " --cfg spandrel_lifetime=\"shootdown\"",
        };
        let purpose = match self.purpose {
            Purpose::Use => "",
            Purpose::Testing => " --cfg spandrel_test",
        };
        format!("{lifetime}{purpose}")
    }

    /// What tells its files apart: nothing for the ordinary kernel.
    pub fn suffix(self) -> String {
        let lifetime = match self.lifetime {
            Lifetime::Hazard => "",
            Lifetime::Refcount => "-refcount",
            Lifetime::Shootdown => "-shootdown",
        };
        let purpose = match self.purpose {
            Purpose::Use => "",
            Purpose::Testing => "-test",
        };
        format!("{lifetime}{purpose}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_ordinary_kernel_has_no_flag_and_no_suffix() {
        assert_eq!(Variant::default().flags(), "");
        assert_eq!(Variant::default().suffix(), "");
        for lifetime in [Lifetime::Refcount, Lifetime::Shootdown] {
            let variant = Variant::from(lifetime);
            assert!(variant.flags().contains(&variant.suffix()[1..]));
            let testing = variant.for_testing();
            assert_eq!(testing.suffix(), format!("{}-test", variant.suffix()));
            assert_eq!(testing.flags(), format!("{} --cfg spandrel_test", variant.flags()));
        }
    }
}
