//! What things may cost: `ci/budgets.toml`, `row = limit` per machine.

use crate::arch::Arch;
use crate::error::{Context, Result};
use crate::toolchain::root;
use std::collections::BTreeMap;

/// Limits by machine, then by row.
#[derive(serde::Deserialize, Debug)]
#[serde(transparent)]
pub struct Budgets(BTreeMap<String, BTreeMap<String, u64>>);

impl Budgets {
    pub fn read() -> Result<Self> {
        let path = root().join("ci/budgets.toml");
        let text = std::fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).context(|| path.display().to_string())
    }

    /// The limit of a row, if it has one.
    pub fn limit(&self, arch: Arch, row: &str) -> Option<u64> {
        self.0.get(arch.name())?.get(row).copied()
    }

    /// The rows that have a limit on this machine.
    pub fn rows(&self, arch: Arch) -> impl Iterator<Item = &str> {
        self.0.get(arch.name()).into_iter().flat_map(|rows| rows.keys().map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_the_same_rows() {
        let budgets = Budgets::read().unwrap();
        let rows = |arch| budgets.rows(arch).map(str::to_owned).collect::<Vec<_>>();
        assert!(rows(Arch::X86_64).contains(&"null_call".into()));
        assert_eq!(rows(Arch::X86_64), rows(Arch::Ppc64le));
    }
}
