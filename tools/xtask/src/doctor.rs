//! `tools/x doctor`: what this machine has, what is missing and how to get it, and what its QEMU
//! cannot do.

use crate::arch::Arch;
use crate::error::Result;
use crate::oracle::qemu_version;
use crate::toolchain::{Toolchain, cargo, output_of};
use crate::ui::{self, Colour};
use std::path::Path;
use std::process::ExitCode;

/// Say what was found, what is missing, and what this QEMU cannot do.
#[derive(clap::Args)]
pub struct Arguments {}

/// Something a QEMU up to some version gets wrong or lacks.
struct Limit {
    arch: Arch,
    /// The first version without it, if there is one.
    fixed_in: Option<(u32, u32)>,
    what: &'static str,
}

const LIMITS: &[Limit] = &[
    Limit { arch: Arch::X86_64, fixed_in: Some((9, 0)), what: "TCG has no x2APIC; xAPIC is used" },
    Limit {
        arch: Arch::X86_64,
        fixed_in: None,
        what: "TCG has no PCID, INVPCID, SERIALIZE, TSC-deadline timer",
    },
    Limit {
        arch: Arch::Ppc64le,
        fixed_in: Some((9, 1)),
        what: "a broadcast tlbie is not synchronous with other CPUs",
    },
    Limit { arch: Arch::Ppc64le, fixed_in: Some((9, 1)), what: "PIR reads 0 on every CPU" },
    Limit { arch: Arch::Ppc64le, fixed_in: None, what: "no H_RPT_INVALIDATE" },
];

pub fn main(_: Arguments) -> Result<ExitCode> {
    let mut healthy = true;
    let mut missing = |what: &str, how: &str| {
        ui::line(format_args!("{} {what}\n        {how}", ui::on_stdout(Colour::Red, "missing")));
        healthy = false;
    };
    match output_of(cargo(), &["--version"]) {
        Some(version) => found("cargo", &version),
        None => missing("cargo", "https://rustup.rs, or on Debian: sudo apt-get install cargo-web"),
    }
    match Toolchain::find() {
        Ok(toolchain) => {
            found("compiler", &format!("{} ({})", toolchain.version, toolchain.rustc.display()));
            found("its source", &toolchain.sysroot.join("lib/rustlib/src/rust").display().to_string());
            match toolchain.clippy() {
                Some(clippy) => found("its clippy", &clippy.display().to_string()),
                None => {
                    note("no clippy for the bare targets: `check` skips that part (Debian: rust-web-clippy)")
                }
            }
        }
        Err(error) => missing("a compiler for the bare targets", &error.to_string()),
    }
    match output_of(cargo(), &["fmt", "--version"]) {
        Some(version) => found("rustfmt", &version),
        None => {
            missing("rustfmt", "rustup component add rustfmt, or on Debian: sudo apt-get install rustfmt-web")
        }
    }
    match output_of("ld.lld", &["--version"]) {
        Some(version) => found("linker", &version),
        None => missing("ld.lld", "Debian: sudo apt-get install lld"),
    }
    for arch in Arch::ALL {
        let package = match arch {
            Arch::X86_64 => "qemu-system-x86",
            Arch::Ppc64le => "qemu-system-ppc",
        };
        let Some(version) = output_of(arch.qemu(), &["--version"]) else {
            missing(arch.qemu(), &format!("Debian: sudo apt-get install {package}"));
            continue;
        };
        found(arch.qemu(), version.lines().next().unwrap_or(&version));
        if let Some(accelerators) = output_of(arch.qemu(), &["-accel", "help"]) {
            let names: Vec<_> = accelerators.lines().skip(1).collect();
            found("  runs by", &names.join(", "));
        }
        let version = qemu_version(Path::new(arch.qemu()));
        for limit in LIMITS.iter().filter(|limit| applies(limit, arch, version)) {
            note(&format!("  {arch}: {}", limit.what));
        }
    }
    if Path::new("/dev/kvm").exists() {
        note("/dev/kvm exists; Spandrel uses it only when asked to (--accel kvm)");
    } else {
        note("no /dev/kvm: --accel kvm will not work here");
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn applies(limit: &Limit, arch: Arch, version: Option<(u32, u32)>) -> bool {
    limit.arch == arch
        && match (limit.fixed_in, version) {
            (Some(fixed), Some(version)) => version < fixed,
            _ => true,
        }
}

fn found(what: &str, which: &str) {
    ui::line(format_args!("{}   {what}: {which}", ui::on_stdout(Colour::Green, "found")));
}

fn note(what: &str) {
    ui::line(format_args!("{}    {what}", ui::on_stdout(Colour::Yellow, "note")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_end_where_they_were_fixed() {
        let limit = Limit { arch: Arch::X86_64, fixed_in: Some((9, 0)), what: "" };
        assert!(applies(&limit, Arch::X86_64, Some((7, 2))));
        assert!(!applies(&limit, Arch::X86_64, Some((9, 0))));
        assert!(!applies(&limit, Arch::Ppc64le, Some((7, 2))));
        assert!(applies(&limit, Arch::X86_64, None));
    }
}
