//! Where pictures of broken invariants go.

use crate::matrix::report_folder;
use crate::toolchain::root;
use ::trace::{Trace, Violation, swimlanes};
use std::path::PathBuf;

/// Where they go.
pub fn folder() -> PathBuf {
    report_folder().join("swimlanes")
}

/// Draws the events around a violation. `name` tells the runs of one folder apart. Gives the file, if
/// it could be written: a picture that is missing changes no verdict.
pub fn draw(trace: &Trace, violation: &Violation, name: &str) -> Option<PathBuf> {
    let folder = folder();
    let file = name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "-");
    let path = folder.join(format!("{file}.svg"));
    std::fs::create_dir_all(&folder).ok()?;
    std::fs::write(&path, swimlanes::draw(trace, violation, name)).ok()?;
    Some(path.strip_prefix(root()).map(PathBuf::from).unwrap_or(path))
}
