//! Every dependency may be used under terms that go with MIT OR Apache-2.0.

use super::Finding;
use crate::error::{Context, Result};
use crate::toolchain::{cargo, root};
use cargo_metadata::MetadataCommand;
use spdx::{Expression, LicenseReq, ParseMode};

/// Terms that ask for no more than a notice.
const PERMISSIVE: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-1-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "CC0-1.0",
    "Unlicense",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "BSL-1.0",
];

/// A file-level copyleft, for this one package: its own files stay as they are.
const EXCEPTIONS: &[(&str, &str)] = &[("fdt", "MPL-2.0")];

pub fn check() -> Result<Finding> {
    let metadata = MetadataCommand::new()
        .cargo_path(cargo())
        .current_dir(root())
        .exec()
        .context(|| "cargo metadata".into())?;
    let complaints: Vec<String> = metadata
        .packages
        .iter()
        .filter_map(|package| {
            let why = objection(&package.name, package.license.as_deref())?;
            Some(format!("Cargo.lock: {} {}: {why}", package.name, package.version))
        })
        .collect();
    Ok(complaints.into())
}

/// What speaks against a package, if anything does.
fn objection(package: &str, licence: Option<&str>) -> Option<String> {
    let Some(licence) = licence else { return Some("names no licence".into()) };
    let Ok(terms) = Expression::parse_mode(licence, ParseMode::LAX) else {
        return Some(format!("`{licence}` is no licence expression"));
    };
    let allowed = |requirement: &LicenseReq| {
        let Some(id) = requirement.license.id() else { return false };
        PERMISSIVE.contains(&id.name) || EXCEPTIONS.contains(&(package, id.name))
    };
    (!terms.evaluate(allowed))
        .then(|| format!("`{licence}` is not among the licences that go with MIT OR Apache-2.0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copyleft_is_refused_and_a_choice_is_taken() {
        assert!(objection("a", Some("GPL-3.0-only")).is_some());
        assert!(objection("a", Some("MIT AND GPL-2.0-only")).is_some());
        assert!(objection("a", None).is_some());
        assert!(objection("a", Some("my own words")).is_some());
        assert!(objection("a", Some("GPL-2.0-only OR MIT")).is_none());
        assert!(objection("a", Some("MIT/Apache-2.0")).is_none());
        assert!(objection("a", Some("Apache-2.0 WITH LLVM-exception")).is_none());
        assert!(objection("a", Some("(MIT OR Apache-2.0) AND Unicode-3.0")).is_none());
    }

    #[test]
    fn the_exception_is_for_one_package() {
        assert!(objection("fdt", Some("MPL-2.0")).is_none());
        assert!(objection("other", Some("MPL-2.0")).is_some());
    }
}
