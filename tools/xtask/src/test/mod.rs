//! `tools/x test`: the host tests, and the guest cases on both machines.
//!
//! A guest case is a row: what to boot, what to type, how it must end and what must stand on the
//! console. [`cases`] has those of one CPU, [`many`] many CPUs and the kernels that are built in
//! other ways, [`watched`] what the plugin must have seen, [`streams`] what CPUs must have executed,
//! [`foreign`] what of it must be noticed, [`bad_boot`] what must be refused. Beside them stand the
//! conformance suite ([`conformance`], and [`traced`] with events), and what can be read off an
//! [`image`]. Two guests run at a time. Every case ends in one line; the last line counts them.

mod bad_boot;
mod bad_elf;
pub mod cases;
pub mod conformance;
mod disk;
mod foreign;
pub mod glob;
mod host;
mod image;
pub mod known;
mod many;
pub mod report;
pub mod runner;
mod streams;
mod traced;
mod watched;

use self::cases::Case;
use crate::arch::Arch;
use crate::error::Result;
use crate::guest;
use crate::matrix::{self, Matrix};
use crate::qemu::{self, Threads};
use crate::ui;
use crate::variant::Lifetime;
use clap::ValueEnum;
use std::path::PathBuf;
use std::process::ExitCode;

/// What is tested.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Scope {
    #[value(name = "x86_64")]
    X86_64,
    #[value(name = "ppc64le")]
    Ppc64le,
    /// The host tests: the generic kernel over the simulated machine, and the tools.
    #[value(name = "model")]
    Model,
    #[value(name = "all")]
    All,
}

impl Scope {
    fn machines(self) -> &'static [Arch] {
        match self {
            Self::X86_64 => &[Arch::X86_64],
            Self::Ppc64le => &[Arch::Ppc64le],
            Self::Model => &[],
            Self::All => &Arch::ALL,
        }
    }
    fn host(self) -> bool {
        matches!(self, Self::Model | Self::All)
    }
}

/// Run the host tests and the guest cases.
#[derive(clap::Args)]
pub struct Arguments {
    /// One machine, the host tests alone (`model`), or everything.
    #[arg(long, value_enum, default_value = "all")]
    arch: Scope,
    /// Only the cases whose name matches; `*` stands for any characters.
    #[arg(long, value_name = "GLOB")]
    filter: Option<String>,
    /// Give every guest this many CPUs.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    smp: Option<u32>,
    /// With TCG: one host thread for each CPU, or one for all of them.
    #[arg(long, value_enum, default_value = "multi")]
    tcg: Threads,
    /// Boot every guest with this policy of who keeps an address space alive that is still loaded.
    #[arg(long, value_enum, value_name = "POLICY")]
    lifetime: Option<Lifetime>,
    /// The QEMU to use, if not the one on the PATH: a program, or a folder of them.
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,
    /// Boot every guest, and run the host tests, with this promise of the kernel broken; what fails
    /// has noticed. `tools/x mutants --list` has the ids.
    #[arg(long, value_name = "ID", value_parser = mutant)]
    mutant: Option<&'static str>,
    /// Run each case so many times; one that does not come out the same each time is flaky, and fails.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Also write junit.xml and results.tap into this folder.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Print the names of the cases and run nothing.
    #[arg(long)]
    list: bool,
}

/// The guest cases that are rows, of one machine.
pub fn rows(arch: Arch) -> Vec<Case> {
    let all = [cases::all, many::all, watched::all, streams::all, bad_boot::all];
    all.into_iter().flat_map(|all| all(arch)).collect()
}

fn mutant(id: &str) -> std::result::Result<&'static str, &'static str> {
    let row = arch_contract::mutant::ALL.iter().find(|row| row.id == id);
    row.map(|row| row.id).ok_or("there is no such mutant: see `tools/x mutants --list`")
}

pub fn main(arguments: Arguments) -> Result<ExitCode> {
    let stop = guest::stop_flag()?;
    let wanted = |name: &str| arguments.filter.as_deref().is_none_or(|pattern| glob::matches(pattern, name));
    let mut results = report::Results::new(known::Known::read()?, arguments.repeat as usize);
    if arguments.arch.host() && !arguments.list {
        for _ in 0..arguments.repeat {
            host::run(&wanted, arguments.mutant, &stop, &mut results)?;
        }
    }
    for &arch in arguments.arch.machines() {
        let mut rows = rows(arch);
        rows.retain(|case| wanted(&case.name));
        if let Some(lifetime) = arguments.lifetime {
            rows.iter_mut().for_each(|case| case.kernel.lifetime = lifetime);
        }
        if arguments.mutant.is_some() {
            rows = rows.into_iter().map(|case| case.broken(arguments.mutant)).collect();
        }
        if arguments.list {
            rows.iter().for_each(|case| ui::line(format_args!("{}", case.name)));
            traced::wanted(arch, &wanted).iter().for_each(|probe| ui::line(format_args!("{probe}")));
            image::wanted(arch, &wanted).iter().for_each(|name| ui::line(format_args!("{name}")));
            conformance::names(arch, &wanted).for_each(|name| ui::line(format_args!("{name}")));
            foreign::names(arch, &wanted).for_each(|name| ui::line(format_args!("{name}")));
            continue;
        }
        let options = conformance::Options {
            cpus: arguments.smp.unwrap_or(conformance::CPUS),
            threads: arguments.tcg,
            mutant: arguments.mutant,
            qemu: qemu::program(arguments.qemu.as_deref(), arch),
            repeat: arguments.repeat as usize,
        };
        conformance::run(arch, &wanted, options, &stop, &mut results);
        let given = arguments.qemu.as_deref();
        foreign::run(arch, &wanted, given, arguments.repeat, &stop, &mut results);
        let probes = traced::wanted(arch, &wanted);
        let repeat = arguments.repeat as usize;
        traced::run(&probes, repeat, arguments.mutant, arguments.qemu.as_deref(), &stop, &mut results)?;
        image::run(arch, &wanted, &mut results)?;
        if rows.is_empty() {
            continue;
        }
        let qemu = qemu::program(arguments.qemu.as_deref(), arch);
        let common = runner::Common::prepare(arch, qemu, &rows)?;
        let common = runner::Common {
            smp: arguments.smp,
            threads: arguments.tcg,
            repeat: arguments.repeat as usize,
            ..common
        };
        runner::run(rows, common, &stop, &mut results)?;
    }
    if arguments.list {
        return Ok(ExitCode::SUCCESS);
    }
    let interrupted = stop.load(std::sync::atomic::Ordering::Relaxed);
    results.finish();
    if arguments.filter.is_none() && arguments.mutant.is_none() && !interrupted {
        whole(arguments.arch, &mut results)?;
    }
    if let Some(folder) = &arguments.report {
        results.write(folder)?;
        Matrix::of(&results.cases).write(folder)?;
    }
    if interrupted {
        ui::line(format_args!("interrupted"));
        return Ok(ExitCode::from(crate::run::INTERRUPTED));
    }
    ui::line(format_args!("{}", results.summary()));
    Ok(if results.good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a run of everything that a scope has is also held against: the known failures, and the matrix
/// in the tree.
fn whole(scope: Scope, results: &mut report::Results) -> Result<()> {
    let matrix = Matrix::of(&results.cases);
    if scope == Scope::All {
        results.unused();
        matrix.write(&matrix::report_folder())?;
    }
    let ran = |column: &str| match scope {
        Scope::All => true,
        Scope::Model => !Arch::ALL.iter().any(|arch| column.starts_with(arch.name())),
        _ => scope.machines().iter().any(|arch| column.starts_with(arch.name())),
    };
    for complaint in matrix.against_the_tree(&ran)? {
        results.tell(report::Case::failed("ci/matrix.toml".into(), complaint));
    }
    Ok(())
}
