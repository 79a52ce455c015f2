//! The kernels that one tree builds: the ordinary one, and those that differ by a `--cfg`.

use clap::ValueEnum;

/// Who keeps an address space alive that a CPU still has loaded, though nobody runs in it there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, ValueEnum)]
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
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Variant {
    pub lifetime: Lifetime,
}

impl From<Lifetime> for Variant {
    fn from(lifetime: Lifetime) -> Self {
        Self { lifetime }
    }
}

impl Variant {
    /// What the compiler is told, with a space before each flag.
    pub fn flags(self) -> String {
        match self.lifetime {
            Lifetime::Hazard => String::new(),
            Lifetime::Refcount => " --cfg spandrel_lifetime=\"refcount\"".into(),
            Lifetime::Shootdown => " --cfg spandrel_lifetime=\"shootdown\"".into(),
        }
    }

    /// What tells its files apart: nothing for the ordinary kernel.
    pub fn suffix(self) -> &'static str {
        match self.lifetime {
            Lifetime::Hazard => "",
            Lifetime::Refcount => "-refcount",
            Lifetime::Shootdown => "-shootdown",
        }
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
        }
    }
}
