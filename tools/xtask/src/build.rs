//! Makes the files that boot: the kernel, the user programs, the boot archive.

use crate::arch::Arch;
use crate::error::{Context, Error, Result};
use crate::manifests;
use crate::toolchain::{Image, Toolchain, guest_target_dir, read};
use crate::ui::Progress;
use crate::variant::Variant;
use cargo_metadata::Message;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The packages whose binaries go into the boot archive.
const USER_PACKAGES: [&str; 4] = ["user_init", "user_supervisor", "user_block", "user_programs"];

/// A program as it goes into the archive.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name there.
    pub name: String,
    pub file: PathBuf,
}

/// Everything one machine boots from.
#[derive(Clone, Debug)]
pub struct Built {
    pub arch: Arch,
    /// The linked kernel, with symbols and line tables.
    pub kernel: PathBuf,
    pub programs: Vec<Program>,
    /// The packed archive.
    pub initrd: PathBuf,
}

/// Builds all of it, with the ordinary kernel.
pub fn everything(toolchain: &Toolchain, arch: Arch) -> Result<Built> {
    variant(toolchain, arch, Variant::default())
}

/// Builds all of it, with this kernel.
pub fn variant(toolchain: &Toolchain, arch: Arch, variant: Variant) -> Result<Built> {
    let kernel = kernel(toolchain, arch, variant)?;
    let programs = programs(toolchain, arch)?;
    let initrd = pack(arch, &programs, None)?;
    Ok(Built { arch, kernel, programs, initrd })
}

impl Built {
    /// The same with this manifest in the place of the main one.
    pub fn with_manifest(self, manifest: &Path) -> Result<Self> {
        let initrd = pack(self.arch, &self.programs, Some(manifest))?;
        Ok(Self { initrd, ..self })
    }
}

/// Builds the kernel.
pub fn kernel(toolchain: &Toolchain, arch: Arch, variant: Variant) -> Result<PathBuf> {
    let mut cargo = toolchain.cargo("build", arch, Image::Kernel(variant));
    cargo.args(["-p", arch.kernel_package()]);
    let made = executables(cargo, &format!("building the {arch} kernel{}", variant.suffix()))?;
    match made.into_iter().next() {
        Some((_, file)) => Ok(file),
        None => Err(Error::new(format!("{} builds no binary", arch.kernel_package()))),
    }
}

/// Builds the user programs, in the order of their names.
pub fn programs(toolchain: &Toolchain, arch: Arch) -> Result<Vec<Program>> {
    let mut cargo = toolchain.cargo("build", arch, Image::User);
    for package in USER_PACKAGES {
        cargo.args(["-p", package]);
    }
    let made = executables(cargo, &format!("building the {arch} programs"))?;
    let mut programs: Vec<_> =
        made.into_iter().map(|(target, file)| Program { name: archive_name(&target).into(), file }).collect();
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(programs)
}

/// The binary `user_init` is the program `init`; others keep their names.
fn archive_name(target: &str) -> &str {
    target.strip_prefix("user_").unwrap_or(target)
}

/// Packs the archive: the programs, and the manifests, of which the main one may be another; rewrites
/// it only if it changed.
fn pack(arch: Arch, programs: &[Program], main: Option<&Path>) -> Result<PathBuf> {
    let mut files = programs
        .iter()
        .map(|program| Ok((program.name.clone(), read(&program.file)?)))
        .collect::<Result<Vec<_>>>()?;
    let names: Vec<&str> = programs.iter().map(|program| program.name.as_str()).collect();
    files.extend(manifests::packed(&names, main)?);
    let entries: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let machine = match arch {
        Arch::X86_64 => boot_image::pack::Machine::X86_64,
        Arch::Ppc64le => boot_image::pack::Machine::Ppc64le,
    };
    let bytes = boot_image::pack::pack(&entries, machine)
        .map_err(|error| Error::new(format!("the {arch} boot archive: {error}")))?;
    let which = if main.is_some() { "-other-manifest" } else { "" };
    let path = guest_target_dir().join(format!("initrd-{arch}{which}.cpio"));
    if std::fs::read(&path).is_ok_and(|old| old == bytes) {
        return Ok(path);
    }
    std::fs::write(&path, bytes).context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Runs a cargo build; says which binaries it made, by target name. Quiet unless it fails.
pub fn executables(cargo: Command, doing: &str) -> Result<Vec<(String, PathBuf)>> {
    let artifacts = artifacts(cargo, doing)?;
    Ok(artifacts
        .into_iter()
        .filter_map(|artifact| Some((artifact.target.name, artifact.executable?.into_std_path_buf())))
        .collect())
}

/// Runs a cargo build; says what it made. Quiet unless it fails: then cargo's own words follow.
pub fn artifacts(mut cargo: Command, doing: &str) -> Result<Vec<cargo_metadata::Artifact>> {
    let progress = Progress::start(doing);
    let mut child = cargo
        .arg("--message-format=json-render-diagnostics")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            Error::new(format!("{doing}: cannot start {}: {error}", cargo.get_program().display()))
                .hint("Is cargo on the PATH? `tools/x` finds or installs it.")
        })?;
    let mut errors = child.stderr.take().expect("it is piped");
    let words = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.read_to_string(&mut text);
        text
    });
    let mut made = Vec::new();
    for message in Message::parse_stream(BufReader::new(child.stdout.take().expect("it is piped"))) {
        if let Message::CompilerArtifact(artifact) = message.context(|| format!("{doing}: cargo's output"))? {
            made.push(artifact);
        }
    }
    let status = child.wait().context(|| doing.into())?;
    let words = words.join().unwrap_or_default();
    drop(progress);
    if !status.success() {
        let command = shown(&cargo);
        return Err(Error::new(format!("{doing} failed\n{}", words.trim_end()))
            .hint(format!("while running: {command}")));
    }
    Ok(made)
}

/// A command as one could type it, without the build's own output switches.
fn shown(command: &Command) -> String {
    let mut text = String::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            text.push_str(&format!("{}={:?} ", name.display(), value.to_string_lossy()));
        }
    }
    text.push_str(&command.get_program().to_string_lossy());
    for argument in command.get_args().filter(|a| !a.to_string_lossy().starts_with("--message-format")) {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_loses_its_prefix() {
        assert_eq!(archive_name("user_init"), "init");
        assert_eq!(archive_name("hello"), "hello");
    }

    #[test]
    fn a_failed_build_says_what_cargo_said() {
        let mut cargo = Toolchain::host_cargo("build");
        cargo.args(["-p", "no_such_package_here"]);
        let error = artifacts(cargo, "building nothing").unwrap_err().to_string();
        assert!(error.contains("building nothing failed"), "{error}");
        assert!(error.contains("no_such_package_here"), "{error}");
    }
}
