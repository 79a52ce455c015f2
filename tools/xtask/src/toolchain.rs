//! Which compiler builds what boots, and in which environment.
//!
//! Bare targets need `core` built from source, and the source must be exactly the compiler's. So a
//! compiler is usable if its sysroot holds its own source: the active `rustc` of a rustup user who
//! has the `rust-src` component, or Debian's `rustc-web` with `rust-web-src`. Whichever cargo runs
//! the host tools then drives it, with `-Z` flags on the command line only and an environment in
//! which no flag of the user's can reach the kernel.

use crate::arch::Arch;
use crate::error::{Context, Error, Result};
use crate::variant::Variant;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where Debian's packages put their compiler.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// The version of cargo from which a target file needs a flag of its own.
const JSON_TARGET_FLAG_SINCE: (u32, u32) = (1, 95);

/// A compiler that can build for a bare target.
#[derive(Clone, Debug)]
pub struct Toolchain {
    pub rustc: PathBuf,
    /// What `rustc --version` says.
    pub version: String,
    pub sysroot: PathBuf,
    /// Whether this cargo wants to be told that target files are meant.
    json_target_flag: bool,
}

/// What a build is for, which decides its flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Image {
    Kernel(Variant),
    User,
}

/// The top of the tree: where `tools/x` was started for, or where this was built.
pub fn root() -> PathBuf {
    std::env::var_os("SPANDREL_ROOT").map(PathBuf::from).unwrap_or_else(|| {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .expect("tools/xtask is two levels down")
            .into()
    })
}

/// The cargo for everything.
pub fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// What a program prints, trimmed; nothing if it is not there or fails.
pub fn output_of(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(root()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `major.minor` of a `cargo 1.95.0 (…)` line.
fn version_pair(line: &str) -> Option<(u32, u32)> {
    let mut numbers = line.split_whitespace().nth(1)?.split(['.', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether the compiler with this sysroot has its own source.
fn has_source(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/Cargo.lock").is_file()
}

impl Toolchain {
    /// The first usable compiler: `$RUSTC`, the active one, Debian's.
    pub fn find() -> Result<Self> {
        let first = std::env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
        Self::among(&[first, PathBuf::from(DEBIAN_RUSTC)])
    }

    /// The first of these compilers that has its own source.
    fn among(candidates: &[PathBuf]) -> Result<Self> {
        let json_target_flag = output_of(cargo(), &["--version"])
            .and_then(|line| version_pair(&line))
            .is_none_or(|version| version >= JSON_TARGET_FLAG_SINCE);
        let mut seen = Vec::new();
        for rustc in candidates {
            let Some(sysroot) = output_of(rustc, &["--print", "sysroot"]).map(PathBuf::from) else {
                seen.push(format!("{}: not found", rustc.display()));
                continue;
            };
            if !has_source(&sysroot) {
                seen.push(format!("{}: no source under {}", rustc.display(), sysroot.display()));
                continue;
            }
            let version = output_of(rustc, &["--version"]).unwrap_or_default();
            return Ok(Self { rustc: rustc.clone(), version, sysroot, json_target_flag });
        }
        Err(Error::new(format!("no Rust compiler has its own source ({})", seen.join("; "))).hint(
            "with rustup:           rustup component add rust-src\n\
             on Debian 12 or later: sudo apt-get install rustc-web rust-web-src rust-web-clippy",
        ))
    }

    /// The clippy that belongs to this compiler, if it is installed.
    pub fn clippy(&self) -> Option<PathBuf> {
        let beside = self.sysroot.join("bin/clippy-driver");
        beside.is_file().then_some(beside)
    }

    /// A cargo command for something that boots, without its subcommand's own arguments:
    /// `subcommand` is `build` or `check`. The caller adds `-p`.
    pub fn cargo(&self, subcommand: &str, arch: Arch, image: Image) -> Command {
        let mut command = Command::new(cargo());
        scrub(&mut command);
        let target = match image {
            Image::Kernel(_) => arch.kernel_target(),
            Image::User => arch.user_target(),
        };
        command
            .current_dir(root())
            .env("RUSTC", &self.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", rust_flags(arch, image))
            .args([subcommand, "--release", "--target", target])
            .arg("--target-dir")
            .arg(target_dir(image))
            .args(["-Zbuild-std=core,alloc,compiler_builtins"])
            .args(["-Zbuild-std-features=compiler-builtins-mem"]);
        if target.ends_with(".json") && self.json_target_flag {
            command.arg("-Zjson-target-spec");
        }
        command
    }

    /// A cargo command for host code: the user's own toolchain, without the user's flags.
    pub fn host_cargo(subcommand: &str) -> Command {
        let mut command = Command::new(cargo());
        scrub(&mut command);
        command.current_dir(root()).arg(subcommand);
        command
    }

    /// The tests that run the protocols of CPUs against loom's atomics. Other flags build everything
    /// anew, so they have a folder of their own; optimized, since they run often and are small.
    pub fn loom_tests() -> Command {
        let mut command = Self::host_cargo("test");
        command.env("RUSTFLAGS", "--cfg loom");
        command.args(["-p", "protocol", "--test", "loom", "--profile", "fuzz", "--target-dir"]);
        command.arg(root().join("target/loom"));
        command
    }

    /// The tests that run the whole kernel under random schedules on weak memory, and what else its
    /// package has.
    pub fn schedule_tests() -> Command {
        let mut command = Self::host_cargo("test");
        command.env("RUSTFLAGS", "--cfg spandrel_schedule");
        command.args(["-p", "kernel", "--lib", "--profile", "schedules", "--target-dir"]);
        command.arg(root().join("target/schedules"));
        command
    }
}

/// What boots is built apart from the host tools: another compiler, other flags.
pub fn guest_target_dir() -> PathBuf {
    root().join("target/guest")
}

/// Other flags build everything anew, so each variant of the kernel has its own folder.
fn target_dir(image: Image) -> PathBuf {
    match image {
        Image::Kernel(variant) => {
            let mut folder = guest_target_dir().into_os_string();
            folder.push(variant.suffix());
            folder.into()
        }
        Image::User => guest_target_dir(),
    }
}

/// The flags of everything that boots; the same on every machine that builds, so that nothing is
/// built twice. What else a link needs stands in the packages' build scripts.
fn rust_flags(arch: Arch, image: Image) -> String {
    let mut flags = format!(
        "--cfg spandrel_arch=\"{arch}\" -Clinker=ld.lld -Crelocation-model=static -Zunstable-options"
    );
    match image {
        Image::Kernel(variant) => {
            flags.push_str(" -Cforce-frame-pointers=yes");
            flags.push_str(&variant.flags());
        }
        Image::User => {}
    }
    flags
}

/// Takes everything out of the environment by which a user's settings would change the code.
/// Where cargo looks (proxies, registries, its home) stays.
fn scrub(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(changes_code) {
            command.env_remove(name);
        }
    }
    // An empty wrapper also overrides one from the user's cargo configuration.
    command.env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "");
}

/// Whether a variable would change what cargo builds.
fn changes_code(name: &str) -> bool {
    const EXACT: &[&str] = &[
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTDOCFLAGS",
        "CARGO_ENCODED_RUSTDOCFLAGS",
        "RUSTC",
        "RUSTC_BOOTSTRAP",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_LINKER",
        "CARGO_INCREMENTAL",
        "CARGO_MANIFEST_DIR",
    ];
    const PREFIXES: &[&str] =
        &["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "CARGO_UNSTABLE_", "CARGO_PKG_"];
    EXACT.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Reads a file, and says which when that fails.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(version_pair("cargo 1.95.0 (f2d3ce0bd 2026-03-21)"), Some((1, 95)));
        assert_eq!(version_pair("cargo 1.97.0-nightly (x)"), Some((1, 97)));
        assert_eq!(version_pair("cargo"), None);
    }

    #[test]
    fn settings_that_change_code_are_scrubbed_and_others_stay() {
        for name in ["RUSTFLAGS", "CARGO_PROFILE_RELEASE_LTO", "CARGO_BUILD_TARGET", "RUSTC_WRAPPER"] {
            assert!(changes_code(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_HTTP_PROXY", "CARGO_NET_OFFLINE", "PATH", "RUSTUP_TOOLCHAIN"] {
            assert!(!changes_code(name), "{name}");
        }
    }

    /// A compiler that says only where its sysroot is.
    fn fake(name: &str, source: bool) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let sysroot = std::env::temp_dir().join(format!("xtask-test-{}-{name}", std::process::id()));
        let library = sysroot.join("lib/rustlib/src/rust/library");
        std::fs::create_dir_all(&library).unwrap();
        if source {
            std::fs::write(library.join("Cargo.lock"), "").unwrap();
        }
        let rustc = sysroot.join("rustc");
        std::fs::write(&rustc, format!("#!/bin/sh\necho '{}'\n", sysroot.display())).unwrap();
        std::fs::set_permissions(&rustc, std::fs::Permissions::from_mode(0o755)).unwrap();
        rustc
    }

    #[test]
    fn the_first_compiler_with_its_own_source_is_taken() {
        let [bare, own, other] = [fake("bare", false), fake("own", true), fake("other", true)];
        let missing = PathBuf::from("/nonexistent/rustc");
        let chosen = |candidates: &[&PathBuf]| {
            let candidates: Vec<_> = candidates.iter().map(|&path| path.clone()).collect();
            Toolchain::among(&candidates).map(|toolchain| toolchain.rustc)
        };
        assert_eq!(chosen(&[&own, &other]).unwrap(), own);
        assert_eq!(chosen(&[&bare, &other]).unwrap(), other);
        assert_eq!(chosen(&[&missing, &other]).unwrap(), other);
        let error = chosen(&[&missing, &bare]).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/rustc: not found"), "{error}");
        assert!(error.contains("no source under") && error.contains("rustup component add"), "{error}");
        for rustc in [bare, own, other] {
            std::fs::remove_dir_all(rustc.parent().unwrap()).unwrap();
        }
    }

    #[test]
    fn the_machine_is_chosen_by_cfg() {
        let kernel = Image::Kernel(Variant::default());
        assert!(rust_flags(Arch::Ppc64le, kernel).contains("spandrel_arch=\"ppc64le\""));
        assert!(!rust_flags(Arch::X86_64, Image::User).contains("frame-pointers"));
    }
}
