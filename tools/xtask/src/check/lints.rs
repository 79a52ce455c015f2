//! rustfmt and clippy, on the host crates and on what boots.

use super::Finding;
use crate::arch::Arch;
use crate::error::{Context, Result};
use crate::toolchain::{Image, Toolchain};
use crate::variant::Variant;
use std::process::{Command, Stdio};

/// Everything is as rustfmt writes it.
pub fn format() -> Result<Finding> {
    let mut cargo = Toolchain::host_cargo("fmt");
    cargo.args(["--all", "--check", "--", "--files-with-diff"]);
    let (ok, text, errors) = run(cargo)?;
    if ok {
        return Ok(Finding::Clean);
    }
    let mut lines: Vec<String> =
        text.lines().map(|file| format!("{file}: not as `cargo fmt` writes it")).collect();
    if lines.is_empty() {
        lines.push(errors);
    }
    Ok(lines.into())
}

/// Clippy with every warning an error, on what runs on the host, tests included.
pub fn clippy_host() -> Result<Finding> {
    let mut cargo = Toolchain::host_cargo("clippy");
    cargo.args(["--quiet", "--all-targets", "--", "-Dwarnings"]);
    let (ok, _, errors) = run(cargo)?;
    Ok(if ok { Finding::Clean } else { Finding::Complaints(vec![errors]) })
}

/// The same on a kernel and its user programs, by the clippy of the compiler that builds them.
pub fn clippy_guest(arch: Arch) -> Result<Finding> {
    let toolchain = Toolchain::find()?;
    let Some(clippy) = toolchain.clippy() else {
        return Ok(Finding::Skipped(format!("no clippy belongs to {}", toolchain.rustc.display())));
    };
    let kernel = Image::Kernel(Variant::default());
    let builds = [(kernel, &[arch.kernel_package()][..]), (Image::User, &["user_init", "user_programs"][..])];
    for (image, packages) in builds {
        let mut cargo = toolchain.cargo("check", arch, image);
        cargo.arg("--quiet");
        cargo.env("RUSTC_WORKSPACE_WRAPPER", &clippy).env("CLIPPY_ARGS", "-Dwarnings");
        for package in packages {
            cargo.args(["-p", package]);
        }
        let (ok, _, errors) = run(cargo)?;
        if !ok {
            return Ok(Finding::Complaints(vec![errors]));
        }
    }
    Ok(Finding::Clean)
}

/// Runs to the end; says whether it went well, and what it said on both streams.
fn run(mut command: Command) -> Result<(bool, String, String)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().context(|| format!("cannot start {name}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
}
