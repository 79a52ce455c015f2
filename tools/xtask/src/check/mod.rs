//! `tools/x check`: formatting, lints on every target, and the gates.
//!
//! A gate is a rule the compiler does not know. Each is a function from text or bytes to
//! complaints, so that a test can show it a bad sample and see it bite; each complaint says where.

mod barriers;
mod calls;
mod clauses;
pub mod image;
pub mod ledger;
mod licences;
mod lints;
mod ppc_opcodes;
pub mod returns;
mod source;
mod suite;
mod vector;

use crate::arch::Arch;
use crate::build;
use crate::error::Result;
use crate::reference;
use crate::toolchain::Toolchain;
use crate::ui::{self, Colour};
use std::process::ExitCode;

/// Formatting, lints on every target, and the gates.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only the checks whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// What a check found.
pub enum Finding {
    Clean,
    /// One line each: `file:line: what`.
    Complaints(Vec<String>),
    Skipped(String),
}

impl From<Vec<String>> for Finding {
    fn from(complaints: Vec<String>) -> Self {
        if complaints.is_empty() { Self::Clean } else { Self::Complaints(complaints) }
    }
}

/// A check by name.
type Check = (&'static str, fn() -> Result<Finding>);

const CHECKS: &[Check] = &[
    ("format", lints::format),
    ("clippy host", lints::clippy_host),
    ("clippy x86_64", || lints::clippy_guest(Arch::X86_64)),
    ("clippy ppc64le", || lints::clippy_guest(Arch::Ppc64le)),
    ("no cfg(target_arch) outside arch/ and boot/", || source::gate(source::asks_for_machine)),
    ("SAFETY comments", || source::gate(source::safety)),
    ("no infallible allocation in kernel/", || source::gate(source::allocation)),
    ("no unfinished work", || source::gate(source::unfinished)),
    ("no paths of one machine", || source::gate(source::machine_paths)),
    ("clause ids", || source::gate(clauses::ids)),
    ("the reference is what the ABI crate says", reference::gate),
    ("licences", licences::check),
    ("image x86_64", || kernel_image(Arch::X86_64)),
    ("image ppc64le", || kernel_image(Arch::Ppc64le)),
    ("suite: clauses are tested and broken", suite::clauses_are_held),
    ("suite: mutants are used, killers exist", suite::mutants_are_held),
    ("suite: the catalogue is complete", suite::catalogue),
];

fn kernel_image(arch: Arch) -> Result<Finding> {
    let built = build::everything(&Toolchain::find()?, arch)?;
    image::check(&built)
}

pub fn main(arguments: Arguments) -> Result<ExitCode> {
    let mut failed = 0;
    let mut skipped = 0;
    let mut passed = 0;
    let named = |name: &str| arguments.only.as_ref().is_some_and(|only| name.contains(only.as_str()));
    for (name, check) in CHECKS.iter().filter(|(name, _)| arguments.only.is_none() || named(name)) {
        let progress = ui::Progress::start(format!("checking {name}"));
        // One check that cannot run does not keep the others from running.
        let finding = check().unwrap_or_else(|error| Finding::Complaints(vec![error.to_string()]));
        drop(progress);
        match finding {
            Finding::Clean => {
                passed += 1;
                ui::line(format_args!("{}   {name}", ui::on_stdout(Colour::Green, "ok")));
            }
            Finding::Skipped(why) => {
                skipped += 1;
                ui::line(format_args!("{} {name}: {why}", ui::on_stdout(Colour::Yellow, "skip")));
            }
            Finding::Complaints(lines) => {
                failed += 1;
                ui::line(format_args!("{} {name}", ui::on_stdout(Colour::Red, "FAIL")));
                for line in lines {
                    ui::line(format_args!("     {}", line.replace('\n', "\n     ")));
                }
            }
        }
    }
    ui::line(format_args!("{passed} passed, {failed} failed, {skipped} skipped"));
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
