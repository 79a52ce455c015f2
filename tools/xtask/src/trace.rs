//! `tools/x trace`: run a program on a kernel built for testing, hold its event trace against the
//! invariants, and write it for people to look at.

use crate::arch::Arch;
use crate::build;
use crate::error::{Context, Error, Result};
use crate::guest::{self, Ending, Input, Output};
use crate::pictures;
use crate::qemu::{self, Machine};
use crate::run;
use crate::toolchain::Toolchain;
use crate::ui;
use crate::variant::{Lifetime, Variant};
use ::trace::{Report, Rules, Trace, UserReturn, check, chrome, svg};
use clap::ValueHint;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The trace breaks an invariant.
const BROKEN: u8 = 1;
/// Violations that are printed in full; the rest is counted.
const SHOWN: usize = 10;

/// Run a program and write its event trace.
///
/// Each CPU of a kernel built for testing keeps its last 4095 events: switches of memory contexts,
/// barriers, requests, ways into the kernel and out. They are checked, and written as a file that
/// ui.perfetto.dev and chrome://tracing open. Status 1: the trace breaks an invariant. Other
/// statuses as with `run`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The machine: q35 or pseries.
    #[arg(long, value_enum, default_value = "x86_64")]
    arch: Arch,
    /// CPUs.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    smp: u32,
    /// Memory the kernel may use, in MiB.
    #[arg(long, default_value_t = 256, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    mem: u32,
    /// Who keeps an address space alive that a CPU still has loaded: the kernel's policy.
    #[arg(long, value_enum, default_value = "hazard", value_name = "POLICY")]
    lifetime: Lifetime,
    /// The trace, in the Trace Event Format (JSON).
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: PathBuf,
    /// Also draw a part of it: what lies between the first two marks that the program made, or
    /// around the first request between CPUs.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    svg: Option<PathBuf>,
    /// End the run after this many seconds.
    #[arg(long, default_value_t = 60, value_name = "S")]
    time_limit: u64,
    /// The QEMU to use, if not the one on the PATH: a program, or a folder of them.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    qemu: Option<PathBuf>,
    /// The program of the archive to run.
    #[arg(long, value_name = "NAME", default_value = "hello")]
    program: String,
    /// Arguments for the program, after `--`.
    #[arg(last = true, value_name = "ARGS")]
    program_arguments: Vec<String>,
}

pub fn main(arguments: Arguments) -> Result<ExitCode> {
    let toolchain = Toolchain::find()?;
    let variant = Variant::from(arguments.lifetime).for_testing();
    let built = build::variant(&toolchain, arguments.arch, variant)?;
    let title = format!("{} on {}, {} CPUs", arguments.program, arguments.arch, arguments.smp);
    let machine = Machine {
        cpus: arguments.smp,
        memory: arguments.mem,
        initrd: Some(built.initrd),
        options: vec!["trace=on".into()],
        init_arguments: std::iter::once(arguments.program).chain(arguments.program_arguments).collect(),
        qemu: qemu::program(arguments.qemu.as_deref(), arguments.arch),
        ..Machine::new(arguments.arch, &built.kernel)
    };
    let limit = Some(Duration::from_secs(arguments.time_limit));
    let stop = guest::stop_flag()?;
    let report = guest::run(&machine, Input::None, Output::Also(&mut std::io::stdout()), limit, &stop)?;
    let status = run::conclude(&report, &built.kernel);
    match report.ending {
        Ending::Exited(_) if report.trace.is_empty() => {
            return Err(Error::new("the kernel printed no events"));
        }
        Ending::Exited(_) | Ending::Failed if !report.trace.is_empty() => {}
        // Cut short, perhaps in the middle of the events.
        _ => return Ok(status),
    }
    let trace = Trace::from_lines(report.trace.iter().map(String::as_str))
        .context(|| "the events that the kernel printed".into())?;
    write(&arguments.out, &chrome::write(&trace))?;
    if let Some(file) = &arguments.svg {
        write(file, &svg::draw(&trace, svg::window(&trace), &title))?;
    }
    let violations = check(&trace, &rules(arguments.arch));
    for (number, violation) in violations.iter().take(SHOWN).enumerate() {
        eprintln!("{}", Report { trace: &trace, violation });
        if let Some(file) = pictures::draw(&trace, violation, &format!("{title}/{number}")) {
            eprintln!("  drawn in {}", file.display());
        }
    }
    let lost: u32 = trace.lost.values().sum();
    let (kept, cpus) = (trace.events.len(), trace.cpus());
    ui::note(&format!(
        "{kept} events of {cpus} CPUs ({lost} before them lost), {} violations; {}",
        violations.len(),
        arguments.out.display()
    ));
    Ok(if violations.is_empty() { status } else { ExitCode::from(BROKEN) })
}

/// What the checker has to know of a machine.
pub fn rules(arch: Arch) -> Rules {
    // As `Return::user_return_serializes` says in the ports.
    let user_return = match arch {
        Arch::X86_64 => UserReturn::DoesNotSerialize,
        Arch::Ppc64le => UserReturn::Serializes,
    };
    Rules { user_return }
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).context(|| format!("cannot write {}", file.display()))
}
