//! Runs a guest under the plugin that watches it, and reads what that saw.

use crate::arch::Arch;
use crate::build::{self, Built};
use crate::error::{Context, Error, Result};
use crate::guest::{self, Ending, Input, Output};
use crate::observed::{Counts, Observed};
use crate::qemu::Machine;
use crate::run;
use crate::toolchain::{Toolchain, output_of, read, root};
use object::{Object, ObjectSegment, SegmentFlags};
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// The versions of QEMU's plugin interface, as far as the plugin minds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Interface {
    V1,
    /// Another number; what the plugin uses is the same.
    V2,
    /// Instruction bytes are copied out. Later versions only add to it.
    V3,
}

/// The interface of a QEMU, by (major, minor).
fn interface(version: (u32, u32)) -> Interface {
    match version {
        (..=8, _) => Interface::V1,
        (9, 0) => Interface::V2,
        _ => Interface::V3,
    }
}

/// How long a guest may take while it is counted.
const LIMIT: Duration = Duration::from_secs(180);

/// The version a QEMU prints.
pub fn qemu_version(qemu: &Path) -> Option<(u32, u32)> {
    parse_version(&output_of(qemu, &["--version"])?)
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split("version ").nth(1)?.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// What the plugin writes into its file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writes {
    /// At the end, counts: [`read_observed`].
    Counts,
    /// The executed instructions, for [`crate::executed`].
    Stream,
}

impl Writes {
    const fn name(self) -> &'static str {
        match self {
            Self::Counts => "counts",
            Self::Stream => "stream",
        }
    }
}

/// What the plugin has to know of a guest.
#[derive(Clone, Debug)]
pub struct Guest {
    pub arch: Arch,
    /// Where the firmware starts it.
    pub entry: u64,
    /// Where its programs are linked.
    pub user: Range<u64>,
}

/// A QEMU and the plugin built for its interface.
pub struct Oracle {
    qemu: PathBuf,
    version: (u32, u32),
    plugin: PathBuf,
}

impl Oracle {
    /// Builds the plugin for this QEMU.
    pub fn build(qemu: PathBuf) -> Result<Self> {
        let version = qemu_version(&qemu)
            .ok_or_else(|| Error::new(format!("{} does not say its version", qemu.display())))?;
        let mut cargo = Toolchain::host_cargo("build");
        cargo.args(["--release", "-p", "oracle", "--target-dir"]);
        match interface(version) {
            Interface::V1 => cargo.arg(root().join("target/oracle")),
            Interface::V2 => cargo.arg(root().join("target/oracle-2")).args(["--features", "interface2"]),
            Interface::V3 => cargo.arg(root().join("target/oracle-3")).args(["--features", "interface3"]),
        };
        let plugin = build::artifacts(cargo, "building the watching plugin")?
            .into_iter()
            .filter(|artifact| artifact.target.name == "oracle")
            .flat_map(|artifact| artifact.filenames)
            .find(|file| file.extension() == Some("so"))
            .map(|file| file.into_std_path_buf())
            .ok_or_else(|| Error::new("the oracle package builds no shared library"))?;
        Ok(Self { qemu, version, plugin })
    }

    /// The QEMU that it is for.
    pub fn qemu(&self) -> &Path {
        &self.qemu
    }

    /// Boots a program under the plugin and returns its counts.
    pub fn count(&self, built: &Built, program: &[&str], extra: &[&str]) -> Result<Counts> {
        Ok(self.watch(built, program, extra)?.counts)
    }

    /// Boots a program under the plugin and returns all that it saw.
    pub fn watch(&self, built: &Built, program: &[&str], extra: &[&str]) -> Result<Observed> {
        let out = root().join(format!("target/counts-{}", built.arch));
        let plugin = self.argument(built, &out, Writes::Counts)?;
        self.run_to_the_end(built, program, &[extra, &["-plugin", &plugin]].concat(), "")?;
        read_observed(&out)
    }

    /// What QEMU is told behind `-plugin`, for a guest whose findings go to `out`. What lay there
    /// is gone.
    pub fn argument(&self, built: &Built, out: &Path, writes: Writes) -> Result<String> {
        let entry = entry_address(built.arch, &built.kernel)?;
        let guest = Guest { arch: built.arch, entry, user: user_range(built)? };
        Ok(self.watching(&guest, out, writes))
    }

    /// The same for any guest.
    pub fn watching(&self, guest: &Guest, out: &Path, writes: Writes) -> String {
        let _ = std::fs::remove_file(out);
        format!(
            "{},entry={:#x},user={:#x}-{:#x},arch={},out={},write={}",
            self.plugin.display(),
            guest.entry,
            guest.user.start,
            guest.user.end,
            guest.arch,
            out.display(),
            writes.name(),
        )
    }

    /// Counts the instructions from the kernel's entry to the first user instruction a second way,
    /// without the plugin: QEMU translates one instruction at a time and logs each as it runs it.
    pub fn count_in_log(&self, built: &Built, program: &[&str], extra: &[&str]) -> Result<u64> {
        let log = root().join(format!("target/steps-{}", built.arch));
        let path = log.display().to_string();
        let log_to = ["-d", "exec,nochain", "-D", &path];
        // It is a setting of the accelerator since then, and a second `-accel` only a fallback.
        if self.version >= (8, 1) {
            self.run_to_the_end(built, program, &[extra, &log_to].concat(), ",one-insn-per-tb=on")?;
        } else {
            self.run_to_the_end(built, program, &[extra, &["-singlestep"], &log_to].concat(), "")?;
        }
        let file = std::fs::File::open(&log).context(|| format!("cannot read {path}"))?;
        let steps = steps_to_user(
            BufReader::new(file).lines().map_while(std::result::Result::ok),
            entry_address(built.arch, &built.kernel)?,
            &user_range(built)?,
        );
        let _ = std::fs::remove_file(&log);
        steps.ok_or_else(|| {
            Error::new(format!("{}: the log of single steps never reaches user mode", built.arch))
        })
    }

    /// Boots a program and makes sure that it ended well.
    fn run_to_the_end(
        &self,
        built: &Built,
        program: &[&str],
        extra: &[&str],
        accel_settings: &'static str,
    ) -> Result<()> {
        let mut machine = Machine::new(built.arch, &built.kernel);
        machine.qemu = self.qemu.clone();
        machine.accel_settings = accel_settings;
        machine.cpu = Some(counted_cpu(built.arch).into());
        machine.initrd = Some(built.initrd.clone());
        machine.init_arguments = program.iter().map(|&word| word.into()).collect();
        machine.extra = extra.iter().map(Into::into).collect();
        let stop = AtomicBool::new(false);
        let report = guest::run(&machine, Input::None, Output::Keep, Some(LIMIT), &stop)?;
        if report.ending == Ending::Exited(0) {
            return Ok(());
        }
        let why = run::describe(&report.ending).unwrap_or_else(|| format!("{:?}", report.ending));
        Err(Error::new(format!("{}: counting `{}`: {why}", built.arch, program.join(" ")))
            .hint(format!("{}\n{}", report.console, report.warnings)))
    }
}

/// The CPU that is counted: one that every QEMU has, so that all count the same.
const fn counted_cpu(arch: Arch) -> &'static str {
    match arch {
        // QEMU's TCG has an x2APIC since 9.0, and with `-icount` ends at the first write to that
        // timer's registers: "Bad icount read".
        Arch::X86_64 => "max,-x2apic",
        // The default is another one since 10.0.
        Arch::Ppc64le => "power9",
    }
}

/// The lines of an execution log from the entry to the first user address. Low addresses are user
/// code once the kernel has run at its own, high ones.
fn steps_to_user(lines: impl Iterator<Item = String>, entry: u64, user: &Range<u64>) -> Option<u64> {
    let mut count = None;
    let mut reached_kernel = false;
    for line in lines {
        let Some(at) = logged_address(&line) else { continue };
        if count.is_some() {
            reached_kernel |= at >> 63 == 1;
            if reached_kernel && user.contains(&at) {
                return count;
            }
        }
        if at == entry && count.is_none() {
            count = Some(0);
        }
        count = count.map(|count| count + 1);
    }
    None
}

/// The program counter of a line `Trace 0: 0x7f… [cs_base/pc/flags/cflags] symbol`.
fn logged_address(line: &str) -> Option<u64> {
    let fields = line.strip_prefix("Trace ")?.split_once('[')?.1;
    u64::from_str_radix(fields.split('/').nth(1)?, 16).ok()
}

/// What the plugin wrote.
pub fn read_observed(out: &Path) -> Result<Observed> {
    String::from_utf8_lossy(&read(out)?).parse()
}

/// Where the machine's firmware starts the kernel.
fn entry_address(arch: Arch, kernel: &Path) -> Result<u64> {
    match arch {
        // The 32-bit entry stands in a note; its owner is `Xen` and its type 18.
        Arch::X86_64 => {
            let bytes = read(kernel)?;
            let file = object::read::elf::ElfFile64::<object::Endianness>::parse(&*bytes)
                .context(|| kernel.display().to_string())?;
            pvh_entry(&file).ok_or_else(|| Error::new(format!("{}: no PVH entry note", kernel.display())))
        }
        // QEMU loads the image there and starts at its first byte.
        Arch::Ppc64le => Ok(0x40_0000),
    }
}

fn pvh_entry(file: &object::read::elf::ElfFile64<'_>) -> Option<u64> {
    use object::read::elf::ProgramHeader;
    const XEN_ELFNOTE_PHYS32_ENTRY: object::elf::NoteType = object::elf::NoteType(18);
    let endian = file.endian();
    for header in file.elf_program_headers() {
        let Ok(Some(mut notes)) = header.notes(endian, file.data()) else { continue };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == b"Xen" && note.n_type(endian) == XEN_ELFNOTE_PHYS32_ENTRY {
                let bytes = note.desc().get(..4)?;
                return Some(u64::from(u32::from_le_bytes(bytes.try_into().ok()?)));
            }
        }
    }
    None
}

/// The addresses at which the user programs' code is linked.
fn user_range(built: &Built) -> Result<Range<u64>> {
    let mut range: Option<Range<u64>> = None;
    for program in &built.programs {
        let bytes = read(&program.file)?;
        let file = object::File::parse(&*bytes).context(|| program.file.display().to_string())?;
        for segment in file.segments() {
            if matches!(segment.flags(), SegmentFlags::Elf { p_flags, .. } if p_flags.contains(object::elf::PF_X))
            {
                let segment = segment.address()..segment.address() + segment.size();
                range = Some(match range {
                    Some(known) => known.start.min(segment.start)..known.end.max(segment.end),
                    None => segment,
                });
            }
        }
    }
    range.ok_or_else(|| Error::new(format!("{}: no program has code", built.arch)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(
            parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"),
            Some((7, 2))
        );
        assert_eq!(parse_version("QEMU emulator version 10.0.2"), Some((10, 0)));
        assert_eq!(parse_version("qemu"), None);
    }

    #[test]
    fn the_interface_goes_by_the_version() {
        assert_eq!(interface((7, 2)), Interface::V1);
        assert_eq!(interface((8, 2)), Interface::V1);
        assert_eq!(interface((9, 0)), Interface::V2);
        assert_eq!(interface((10, 0)), Interface::V3);
    }

    #[test]
    fn single_steps_are_counted_from_the_entry_to_user_code() {
        let line = |at: u64| format!("Trace 0: 0x7f00 [0000000000000000/{at:016x}/00000000/ff000201] f");
        let high = 0xffff_ffff_8010_0000;
        let walk = [0xfff0, 0x10_0000, 0x40_0000, high, high + 4, 0x40_0000, high];
        let mut lines: Vec<String> = walk.into_iter().map(line).collect();
        lines.insert(2, "Stopped execution of TB chain".into());
        assert_eq!(steps_to_user(lines.clone().into_iter(), 0x10_0000, &(0x40_0000..0x50_0000)), Some(4));
        lines.truncate(5);
        assert_eq!(steps_to_user(lines.into_iter(), 0x10_0000, &(0x40_0000..0x50_0000)), None);
    }
}
