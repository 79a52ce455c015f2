//! What can be read off a linked kernel, clause by clause. `tools/x check` looks at more.

use super::report::{Case, Results, Verdict};
use crate::arch::Arch;
use crate::build;
use crate::check::image;
use crate::error::Result;
use crate::toolchain::Toolchain;
use std::time::Instant;

fn name(arch: Arch, what: &str) -> String {
    format!("{arch}/image/{what}")
}

/// The names of those that are wanted.
pub fn wanted(arch: Arch, wanted: &dyn Fn(&str) -> bool) -> Vec<String> {
    image::CLAUSES.iter().map(|(what, _)| name(arch, what)).filter(|name| wanted(name)).collect()
}

/// Looks at the kernel that a user boots.
pub fn run(arch: Arch, wanted: &dyn Fn(&str) -> bool, results: &mut Results) -> Result<()> {
    let chosen: Vec<_> = image::CLAUSES.iter().filter(|(what, _)| wanted(&name(arch, what))).collect();
    if chosen.is_empty() {
        return Ok(());
    }
    let built = build::everything(&Toolchain::find()?, arch)?;
    for (what, check) in chosen {
        let begin = Instant::now();
        let verdict = match check(&built)? {
            complaints if complaints.is_empty() => Verdict::Passed,
            complaints => Verdict::Failed(complaints.join("\n")),
        };
        // A file does not change from one look to the next.
        results.tell(Case { name: name(arch, what), verdict, took: begin.elapsed() });
    }
    Ok(())
}
