//! `tools/x run`: build, boot, attach.

use crate::arch::Arch;
use crate::build;
use crate::error::Result;
use crate::guest::{self, Ending, Input, Output, Report};
use crate::qemu::{self, Accel, Firmware, Machine, Threads};
use crate::symbols;
use crate::terminal::Raw;
use crate::toolchain::Toolchain;
use crate::ui;
use crate::variant::Lifetime;
use clap::ValueHint;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The guest said that it failed: a panic, a kernel fault, unusable boot input.
pub const GUEST_FAILED: u8 = 121;
/// The run ended in a way that nothing explains: a reset, a crash of QEMU.
pub const UNEXPLAINED: u8 = 122;
/// The time limit.
pub const TIME_LIMIT: u8 = 124;
/// Nothing ran: a build failed, QEMU is missing or refused.
pub const COULD_NOT_RUN: u8 = 125;
/// Ctrl-C, or Ctrl-A X.
pub const INTERRUPTED: u8 = 130;

/// How long a program may take when nobody said, in seconds.
const PROGRAM_LIMIT: u64 = 60;

/// Build, boot and attach to the console.
///
/// Without --program you get the guest's prompt; Ctrl-A X ends the machine. With it, init runs
/// that one program, and its status is this command's. Other statuses: 121 the guest failed (a
/// panic, unusable boot input), 122 it ended without saying why, 124 the time limit, 125 nothing
/// could be run, 130 interrupted.
#[derive(clap::Args)]
pub struct Arguments {
    /// The machine: q35 or pseries.
    #[arg(long, value_enum, default_value = "x86_64")]
    arch: Arch,
    /// CPUs.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    smp: u32,
    /// Memory the kernel may use, in MiB.
    #[arg(long, default_value_t = 256, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    mem: u32,
    /// What runs before the kernel.
    #[arg(long, value_enum, default_value = "default")]
    firmware: Firmware,
    /// What executes the guest. KVM is never chosen by itself.
    #[arg(long, value_enum, default_value = "tcg")]
    accel: Accel,
    /// With TCG: one host thread for each CPU, or one for all of them.
    #[arg(long, value_enum, default_value = "multi")]
    tcg: Threads,
    /// Who keeps an address space alive that a CPU still has loaded: the kernel's policy.
    #[arg(long, value_enum, default_value = "hazard", value_name = "POLICY")]
    lifetime: Lifetime,
    /// QEMU's name for the CPU model.
    #[arg(long, value_name = "MODEL")]
    cpu: Option<String>,
    /// End the run after this many seconds. Default: 60 with --program, none without.
    #[arg(long, value_name = "S")]
    time_limit: Option<u64>,
    /// Boot this archive instead of the one that was built.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    initrd: Option<PathBuf>,
    /// A disk image, for a virtio block device that only reads.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    disk: Option<PathBuf>,
    /// Another PCI device, as QEMU's -device wants it. May be repeated.
    #[arg(long, value_name = "DEVICE")]
    device: Vec<String>,
    /// An option for the kernel, such as log=quiet. May be repeated.
    #[arg(long, value_name = "OPTION")]
    kernel_option: Vec<String>,
    /// The QEMU to use, if not the one on the PATH: a program, or a folder of them.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    qemu: Option<PathBuf>,
    /// The manifest that `supervisor` starts, instead of boot/user/manifests/main.toml.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "initrd")]
    manifest: Option<PathBuf>,
    /// Run this program of the archive, then power off.
    #[arg(long, value_name = "NAME")]
    program: Option<String>,
    /// Arguments for the program, after `--`.
    #[arg(last = true, requires = "program", value_name = "ARGS")]
    program_arguments: Vec<String>,
}

pub fn main(arguments: Arguments) -> Result<ExitCode> {
    let toolchain = Toolchain::find()?;
    let built = build::variant(&toolchain, arguments.arch, arguments.lifetime.into())?;
    let built = match &arguments.manifest {
        Some(manifest) => built.with_manifest(manifest)?,
        None => built,
    };
    let interactive = arguments.program.is_none();
    let machine = Machine {
        cpus: arguments.smp,
        memory: arguments.mem,
        firmware: arguments.firmware,
        accel: arguments.accel,
        threads: arguments.tcg,
        cpu: arguments.cpu,
        disk: arguments.disk,
        devices: arguments.device,
        initrd: Some(arguments.initrd.unwrap_or(built.initrd)),
        options: arguments.kernel_option,
        init_arguments: arguments.program.into_iter().chain(arguments.program_arguments).collect(),
        qemu: qemu::program(arguments.qemu.as_deref(), arguments.arch),
        ..Machine::new(arguments.arch, &built.kernel)
    };
    let limit = arguments.time_limit.or((!interactive).then_some(PROGRAM_LIMIT)).map(Duration::from_secs);
    let stop = guest::stop_flag()?;
    let terminal = std::io::stdin().is_terminal();
    let input = match (interactive, terminal) {
        (true, true) => Input::Terminal,
        (true, false) => Input::Pipe,
        (false, _) => Input::None,
    };
    if interactive && terminal {
        ui::note("Ctrl-A X ends the machine");
    }
    let raw = if interactive { Raw::enter() } else { None };
    let report = guest::run(&machine, input, Output::Also(&mut std::io::stdout()), limit, &stop);
    drop(raw);
    Ok(conclude(&report?, &built.kernel))
}

/// Says how a run ended, if that was not by its own choice, and with which status this command
/// ends.
pub fn conclude(report: &Report, kernel: &Path) -> ExitCode {
    if !report.console.is_empty() && !report.console.ends_with('\n') {
        println!();
    }
    for line in symbols::backtrace(kernel, &report.frames) {
        eprintln!("{line}");
    }
    let ended_by_choice =
        matches!(report.ending, Ending::Exited(_) | Ending::Interrupted | Ending::DidNotStart(_));
    if !report.warnings.is_empty() && !ended_by_choice {
        ui::note(&format!("QEMU said: {}", report.warnings));
    }
    if let Some(text) = describe(&report.ending) {
        ui::error(&text);
    }
    ExitCode::from(status(&report.ending))
}

/// The command's status for an ending.
pub fn status(ending: &Ending) -> u8 {
    match ending {
        Ending::Exited(status) => *status,
        Ending::Failed => GUEST_FAILED,
        Ending::Unexplained(_) => UNEXPLAINED,
        Ending::TimeLimit(_) => TIME_LIMIT,
        Ending::DidNotStart(_) => COULD_NOT_RUN,
        Ending::Interrupted => INTERRUPTED,
    }
}

/// An ending that needs words.
pub fn describe(ending: &Ending) -> Option<String> {
    match ending {
        Ending::Exited(_) | Ending::Interrupted => None,
        Ending::Failed => Some("the guest failed; its console says why".into()),
        Ending::Unexplained(what) => Some(what.clone()),
        Ending::TimeLimit(limit) => {
            Some(format!("time limit: the guest was still running after {} s", limit.as_secs_f32()))
        }
        Ending::DidNotStart(words) => Some(format!("QEMU did not start: {words}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_guests_own_status_can_be_zero() {
        assert_eq!(status(&Ending::Exited(0)), 0);
        for ending in [
            Ending::Failed,
            Ending::Unexplained(String::new()),
            Ending::TimeLimit(Duration::ZERO),
            Ending::DidNotStart(String::new()),
            Ending::Interrupted,
        ] {
            assert_ne!(status(&ending), 0);
        }
    }
}
