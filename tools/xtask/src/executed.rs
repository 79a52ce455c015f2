//! Holds what the CPUs of a guest executed against the rules (`tools/stream`).
//!
//! The plugin writes the stream while a case of the conformance suite runs; the image's tables say
//! what its return instructions and barriers are there for. [`run`] is one such run, with a mutant if
//! one is given.

use crate::arch::Arch;
use crate::build::{self, Built};
use crate::check::image::{Place, code_sections, parse};
use crate::check::returns::{Table, To};
use crate::error::{Context, Error, Result};
use crate::guest::{self, Ending, Input, Output, Report};
use crate::oracle::{Oracle, Writes};
use crate::qemu::{self, Machine};
use crate::run::describe as describe_ending;
use crate::sites;
use crate::symbols::Names;
use crate::toolchain::{Toolchain, read, root};
use crate::ui;
use crate::variant::Variant;
use addr2line::Loader;
use clap::ValueHint;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use stream::{Image, Instruction, Violation, check};

/// CPUs of a watched guest: what the most demanding case needs.
const CPUS: u32 = 4;
/// Seconds: the plugin slows a guest down.
const LIMIT: u64 = 120;
/// A rule is broken.
const BROKEN: u8 = 1;
/// The case itself did not pass.
const NOT_PASSED: u8 = 2;
/// Violations that are told in full; the rest is counted.
const SHOWN: usize = 5;

/// Run a conformance case and check what its CPUs executed.
///
/// The case runs on a kernel built for testing, in a QEMU with the plugin. Status 1: a rule is
/// broken. 2: the case did not pass, so nothing can be said.
#[derive(clap::Args)]
pub struct Arguments {
    /// The machine: q35 or pseries.
    #[arg(long, value_enum, default_value = "x86_64")]
    arch: Arch,
    /// A mutant of the kernel, by its id.
    #[arg(long, value_name = "ID")]
    mutant: Option<String>,
    /// The QEMU to use, if not the one on the PATH: a program, or a folder of them.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    qemu: Option<PathBuf>,
    /// Of `tools/x test --list --filter '*/conformance/*'`, without what stands before it.
    case: String,
}

pub fn main(arguments: Arguments) -> Result<ExitCode> {
    let Arguments { arch, mutant, qemu, case } = arguments;
    let built = build::variant(&Toolchain::find()?, arch, Variant::default().for_testing())?;
    let oracle = Oracle::build(qemu::program(qemu.as_deref(), arch))?;
    let machine = Machine {
        qemu: oracle.qemu().into(),
        cpus: CPUS,
        initrd: Some(built.initrd.clone()),
        options: mutant
            .map(|id| format!("mutant={id}"))
            .into_iter()
            .chain(options(arch, &case).map(Into::into))
            .collect(),
        init_arguments: vec!["conformance".into(), case],
        ..Machine::new(arch, &built.kernel)
    };
    let out = root().join(format!("target/stream-{arch}"));
    let stop = guest::stop_flag()?;
    let (report, verdict) = watch(&oracle, &built, machine, &out, Duration::from_secs(LIMIT), &stop)?;
    match verdict {
        Some(Verdict::Broken { why, .. }) => {
            ui::line(format_args!("{why}"));
            Ok(ExitCode::from(BROKEN))
        }
        Some(Verdict::Kept(records)) if report.ending == Ending::Exited(0) => {
            ui::note(&format!("{records} records, every rule was kept"));
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            let why = describe_ending(&report.ending).unwrap_or_default();
            ui::line(format_args!("{}the case did not pass. {why}", report.console));
            Ok(ExitCode::from(NOT_PASSED))
        }
    }
}

/// What the executed instructions say.
#[derive(Debug)]
pub enum Verdict {
    /// Every rule was kept, in so many records.
    Kept(usize),
    /// Rules were broken: the clauses, and what a person wants to know.
    Broken { clauses: BTreeSet<&'static str>, why: String },
}

/// Options of the kernel without which a case does not execute what the rules speak of: an emulator's
/// `tlbie` is not trusted unasked. (Before QEMU 9.1 it may return before other CPUs have obeyed, so
/// that the case itself may fail, with the rules kept.)
pub fn options(arch: Arch, case: &str) -> Option<&'static str> {
    (arch == Arch::Ppc64le && case == "tlb_3_a_remote_unmap_faults").then_some("broadcast=on")
}

/// Boots a machine under the plugin until it ends, and judges what its CPUs executed. Its records are
/// kept in `out` meanwhile. A guest that was cut short leaves a file that ends anywhere, of which
/// nothing is said.
///
/// # Errors
/// QEMU cannot be started, or the plugin's file not be read.
pub fn watch(
    oracle: &Oracle,
    built: &Built,
    mut machine: Machine,
    out: &Path,
    limit: Duration,
    stop: &AtomicBool,
) -> Result<(Report, Option<Verdict>)> {
    let plugin = oracle.argument(built, out, Writes::Stream)?;
    machine.extra.extend(["-plugin".into(), plugin.into()]);
    let report = guest::run(&machine, Input::None, Output::Keep, Some(limit), stop)?;
    let verdict = match report.ending {
        Ending::Exited(_) | Ending::Failed => Some(judge(built.arch, &machine.kernel, out)),
        _ => None,
    };
    let _ = std::fs::remove_file(out);
    Ok((report, verdict.transpose()?))
}

/// Judges what the plugin wrote of a guest that booted `kernel`.
///
/// # Errors
/// The plugin wrote nothing, or what is no stream.
pub fn judge(arch: Arch, kernel: &Path, out: &Path) -> Result<Verdict> {
    let records = stream::read(&read(out)?).context(|| out.display().to_string())?;
    if records.is_empty() {
        return Err(Error::new("the plugin recorded nothing"));
    }
    let violations = check(&image(arch, kernel)?, &records);
    if violations.is_empty() {
        return Ok(Verdict::Kept(records.len()));
    }
    let clauses = violations.iter().map(|violation| violation.rule.clause).collect();
    Ok(Verdict::Broken { clauses, why: describe(&violations, &records, &Names::read(kernel)?) })
}

/// What the rules have to know of an image.
pub fn image(arch: Arch, kernel: &Path) -> Result<Image> {
    let bytes = read(kernel)?;
    let name = kernel.display().to_string();
    let file = parse(&bytes)?;
    let loader = Loader::new(kernel).context(|| name.clone())?;
    let names = Names::read(kernel)?;
    let table = Table::read(arch)?;
    let (mut returns, mut barriers) = (BTreeMap::new(), BTreeSet::new());
    let (mut enables_interrupts, mut interrupts) = (BTreeSet::new(), BTreeSet::new());
    for (code, base) in code_sections(&file, &name)? {
        for site in sites::instructions(arch, code, base) {
            if site.instruction.is_return() {
                let place = Place::of(&loader, site.at);
                if let Some(row) = table.find(site.instruction.name(), &place)
                    && row.to == To::User
                {
                    returns.insert(site.at, row.user_return());
                }
            } else if site.instruction.is_full_barrier() && names.is_in(site.at, "full_barrier") {
                barriers.insert(site.at);
            } else if site.instruction == Instruction::Hcall && names.is_in(site.at, "spandrel_cede") {
                enables_interrupts.insert(site.at);
            } else if matches!(site.instruction, Instruction::Hcall | Instruction::Wrmsr)
                && sites::interrupts(arch, code, (site.at - base) as usize)
            {
                interrupts.insert(site.at);
            }
        }
    }
    let arch = match arch {
        Arch::X86_64 => stream::Arch::X86_64,
        Arch::Ppc64le => stream::Arch::Ppc64le,
    };
    Ok(Image { arch, returns, barriers, enables_interrupts, interrupts })
}

/// Broken rules for a person, each with what its CPU did before.
fn describe(violations: &[Violation], records: &[stream::Record], names: &Names) -> String {
    const BEFORE: usize = 6;
    let mut text = String::new();
    for violation in violations.iter().take(SHOWN) {
        text.push_str(&format!("{violation}\n"));
        let own = records[..=violation.record].iter().rev().filter(|record| record.cpu == violation.cpu);
        let mut last: Vec<_> = own.take(BEFORE).collect();
        last.reverse();
        for record in last {
            text.push_str(&format!("    {:?} in {}\n", record.event, names.place(record.at)));
        }
    }
    if violations.len() > SHOWN {
        text.push_str(&format!("and {} more\n", violations.len() - SHOWN));
    }
    text
}
