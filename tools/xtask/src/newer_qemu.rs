//! `tools/x qemu`: a newer QEMU beside the installed one, for a second opinion.
//!
//! A Debian release keeps the QEMU it came with; its backports hold a newer one, but are in no
//! fresh machine's package sources. So a private list is made from the mirror that this machine
//! already uses, and checked against the keyring it already trusts; apt downloads from it into a
//! folder of ours, and the packages are unpacked there. Nothing is installed, no system file is
//! written, and nobody has to be root.
//!
//! An unpacked QEMU still looks for its firmware where Debian installs it, and would find the
//! older one's. A small script per machine says better.

use crate::arch::Arch;
use crate::error::{Context, Error, Result};
use crate::oracle::qemu_version;
use crate::toolchain::{output_of, root};
use crate::ui::Progress;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The keys of Debian's archive, from the package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const PACKAGES: [&str; 2] = ["qemu-system-x86", "qemu-system-ppc"];
/// Where the packages keep what QEMU loads into a machine.
const FIRMWARE: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];

/// Fetch a newer QEMU beside the installed one, and print its folder.
///
/// It comes from the backports of this Debian release and lands in target/newer-qemu; nothing is
/// installed. `run`, `test` and `bench` take the folder as --qemu.
#[derive(clap::Args)]
pub struct Arguments {}

pub fn main(_: Arguments) -> Result<ExitCode> {
    let folder = root().join("target/newer-qemu");
    let programs = folder.join("bin");
    if !Arch::ALL.iter().all(|arch| qemu_version(&programs.join(arch.qemu())).is_some()) {
        fetch(&folder)?;
    }
    for arch in Arch::ALL {
        let program = programs.join(arch.qemu());
        let version = output_of(&program, &["--version"])
            .ok_or_else(|| Error::new(format!("{} was unpacked and does not run", program.display())))?;
        eprintln!("{}: {}", arch.qemu(), version.lines().next().unwrap_or(&version));
    }
    println!("{}", programs.display());
    Ok(ExitCode::SUCCESS)
}

/// Downloads and unpacks. What an earlier try left behind is used again or overwritten.
fn fetch(folder: &Path) -> Result<()> {
    let release = codename(&fs::read_to_string("/etc/os-release").unwrap_or_default())
        .ok_or_else(|| no_backports("/etc/os-release names no Debian release"))?;
    let targets = output_of("apt-get", &["indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)"])
        .ok_or_else(|| no_backports("there is no apt-get here"))?;
    let mirror = mirror(&targets, &release)
        .ok_or_else(|| no_backports(&format!("apt has no mirror of {release} configured")))?;
    for part in ["lists/partial", "archives/partial", "root", "bin"] {
        let part = folder.join(part);
        fs::create_dir_all(&part).context(|| format!("cannot make {}", part.display()))?;
    }
    let sources = folder.join("sources.list");
    write(&sources, &source_list(&mirror, &release, Path::new(KEYRING).is_file()))?;

    apt(folder, &["update"], "reading the lists of backports")?;
    let backports = format!("{release}-backports");
    let mut install = vec!["install", "--yes", "--download-only", "--reinstall", "--no-install-recommends"];
    install.extend(["--target-release", &backports]);
    install.extend(PACKAGES);
    apt(folder, &install, "downloading a newer QEMU")?;

    let _progress = Progress::start("unpacking it");
    for package in packages(&folder.join("archives"))? {
        run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(folder.join("root")))?;
    }
    for arch in Arch::ALL {
        let script = folder.join("bin").join(arch.qemu());
        write(&script, &start_script(&folder.join("root"), arch))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
            .context(|| format!("cannot make {} executable", script.display()))?;
    }
    Ok(())
}

/// `VERSION_CODENAME` of /etc/os-release, on Debian.
fn codename(os_release: &str) -> Option<String> {
    let value = |name: &str| {
        os_release
            .lines()
            .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix('=')?.trim_matches('"').to_owned()))
    };
    (value("ID")? == "debian").then(|| value("VERSION_CODENAME")).flatten()
}

/// Where this machine gets the release from: `URI codename component` lines, as apt prints them.
fn mirror(targets: &str, release: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let uri = words.next()?;
        (words.next()? == release && words.next()? == "main").then(|| uri.to_owned())
    })
}

/// The private list: the release, for libraries the newer QEMU may need, and its backports.
fn source_list(mirror: &str, release: &str, keyring: bool) -> String {
    let options = if keyring { format!("[signed-by={KEYRING}] ") } else { String::new() };
    format!("deb {options}{mirror} {release} main\ndeb {options}{mirror} {release}-backports main\n")
}

/// What starts the unpacked QEMU with its own firmware and libraries.
fn start_script(unpacked: &Path, arch: Arch) -> String {
    let at = |path: &str| format!("'{}'", unpacked.join(path).display().to_string().replace('\'', r"'\''"));
    let libraries = format!("{}:{}", at("usr/lib/x86_64-linux-gnu"), at("lib/x86_64-linux-gnu"));
    let firmware: String = FIRMWARE.iter().map(|folder| format!(" -L {}", at(folder))).collect();
    format!(
        "#!/bin/sh\n\
         LD_LIBRARY_PATH={libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\n\
         QEMU_MODULE_DIR={}\n\
         export LD_LIBRARY_PATH QEMU_MODULE_DIR\n\
         exec {}{firmware} \"$@\"\n",
        at("usr/lib/x86_64-linux-gnu/qemu"),
        at(&format!("usr/bin/{}", arch.qemu()))
    )
}

/// apt-get, with its lists and downloads in `folder` and the machine's own left alone.
fn apt(folder: &Path, arguments: &[&str], doing: &str) -> Result<()> {
    let _progress = Progress::start(doing);
    let at = |name: &str| folder.join(name).display().to_string();
    let mut command = Command::new("apt-get");
    command.env("LC_ALL", "C").args(["-qq", "-o", "Debug::NoLocking=1", "-o", "APT::Update::Error-Mode=any"]);
    for option in [
        format!("Dir::Etc::SourceList={}", at("sources.list")),
        "Dir::Etc::SourceParts=-".into(),
        format!("Dir::State::Lists={}", at("lists")),
        format!("Dir::Cache={}", folder.display()),
        format!("Dir::Cache::Archives={}", at("archives")),
        // The downloader's own user may not be able to write here.
        format!("APT::Sandbox::User={}", std::env::var("USER").unwrap_or_else(|_| "root".into())),
    ] {
        command.args(["-o", &option]);
    }
    // Hooks that tidy up after an update are for the machine's own lists.
    command.args(["-o", "APT::Update::Post-Invoke::=true", "-o", "APT::Update::Post-Invoke-Success::=true"]);
    run(command.args(arguments)).map_err(|error| no_backports(&format!("{doing} failed: {error}")))
}

/// Runs a command that is quiet when all is well.
fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().display().to_string();
    let output = command.output().context(|| format!("cannot start {name}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!("{name}: {}", words.trim().lines().last().unwrap_or("it said nothing"))))
}

/// The downloaded packages, dependencies included.
fn packages(archives: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(archives).context(|| format!("cannot read {}", archives.display()))?;
    let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    found.sort();
    Ok(found)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).context(|| format!("cannot write {}", path.display()))
}

fn no_backports(why: &str) -> Error {
    Error::new(format!("no newer QEMU: {why}"))
        .hint("Any QEMU will do: unpack or build one, and give its folder of programs as --qemu.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debian_has_backports_of_this_kind() {
        let text = "PRETTY_NAME=\"Debian\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(codename(text).as_deref(), Some("bookworm"));
        assert_eq!(codename("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
        assert_eq!(codename(""), None);
    }

    #[test]
    fn the_mirror_is_the_one_of_the_release_itself() {
        let targets = "http://s.example/ bookworm-security main\n\
                       http://m.example/debian/ bookworm contrib\n\
                       http://m.example/debian/ bookworm main\n";
        assert_eq!(mirror(targets, "bookworm").as_deref(), Some("http://m.example/debian/"));
        assert_eq!(mirror(targets, "trixie"), None);
        let list = source_list("http://m.example/debian/", "bookworm", false);
        assert_eq!(list.lines().nth(1), Some("deb http://m.example/debian/ bookworm-backports main"));
    }

    #[test]
    fn a_path_with_a_quote_stays_one_word() {
        let script = start_script(Path::new("/it's"), Arch::Ppc64le);
        assert!(script.contains(r"exec '/it'\''s/usr/bin/qemu-system-ppc64' -L "), "{script}");
    }
}
