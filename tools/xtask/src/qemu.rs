//! The machines, as QEMU command lines: one table, used by every subcommand.
//!
//! What each switch is for is said where it is set. Nothing is ever chosen by what the host can
//! do: KVM is used when it is asked for, since a host can offer it and still be slow or broken.

use crate::arch::Arch;
use crate::error::{Error, Result};
use clap::ValueEnum;
use serde::Deserialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What runs before the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Firmware {
    /// SeaBIOS on x86_64, VOF on ppc64le.
    #[default]
    Default,
    /// x86_64: small, leaves PCI alone.
    Qboot,
    /// x86_64: the usual one.
    Seabios,
    /// ppc64le: the full Open Firmware; takes 5 to 10 seconds.
    Slof,
    /// ppc64le: QEMU's own minimal Open Firmware.
    Vof,
}

/// What executes the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    #[default]
    Tcg,
    Kvm,
}

/// How many host threads TCG has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Threads {
    /// One for each CPU: they run at the same time, and stores can be seen late.
    #[default]
    Multi,
    /// One for all CPUs in turn.
    Single,
}

/// The interrupt controller that pseries offers the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Interrupts {
    /// The machine's usual choice.
    #[default]
    Default,
    /// ppc64le: XIVE and nothing else.
    Xive,
}

/// A machine to be started.
#[derive(Clone, Debug)]
pub struct Machine {
    pub arch: Arch,
    /// The program; found on the PATH if it has no slash.
    pub qemu: PathBuf,
    pub cpus: u32,
    /// Memory the kernel may use, in MiB.
    pub memory: u32,
    pub firmware: Firmware,
    pub accel: Accel,
    pub threads: Threads,
    pub interrupts: Interrupts,
    /// Settings of it: `,name=value`, or nothing.
    pub accel_settings: &'static str,
    /// The CPU model, if not the machine's usual one.
    pub cpu: Option<String>,
    pub kernel: PathBuf,
    pub initrd: Option<PathBuf>,
    /// An image that a virtio block device has.
    pub disk: Option<PathBuf>,
    /// More devices, as `-device` wants them.
    pub devices: Vec<String>,
    /// The kernel's options, then `--` and what init is told.
    pub options: Vec<String>,
    pub init_arguments: Vec<String>,
    /// More switches, at the end.
    pub extra: Vec<OsString>,
}

/// The QEMU for a machine: what was given with --qemu, the program of that name in it if that is
/// a folder, or the one on the PATH.
pub fn program(given: Option<&Path>, arch: Arch) -> PathBuf {
    match given {
        Some(folder) if folder.is_dir() => folder.join(arch.qemu()),
        Some(program) => program.into(),
        None => arch.qemu().into(),
    }
}

/// pseries takes memory in pieces of this many MiB; the kernel's own `mem=` makes it less.
const PSERIES_PIECE: u32 = 256;
/// With less than this many MiB a PC has no memory where the kernel is loaded, and nobody is there
/// to say so; here too `mem=` makes it less.
const LEAST_PC: u32 = 4;

impl Machine {
    /// A machine with one CPU and 256 MiB.
    pub fn new(arch: Arch, kernel: &Path) -> Self {
        Self {
            arch,
            qemu: PathBuf::from(arch.qemu()),
            cpus: 1,
            memory: 256,
            firmware: Firmware::Default,
            accel: Accel::Tcg,
            threads: Threads::Multi,
            interrupts: Interrupts::Default,
            accel_settings: "",
            cpu: None,
            kernel: kernel.into(),
            initrd: None,
            disk: None,
            devices: Vec::new(),
            options: Vec::new(),
            init_arguments: Vec::new(),
            extra: Vec::new(),
        }
    }

    /// MiB that QEMU is asked for.
    fn installed(&self) -> u32 {
        match self.arch {
            Arch::X86_64 => self.memory.max(LEAST_PC),
            Arch::Ppc64le => self.memory.next_multiple_of(PSERIES_PIECE),
        }
    }

    /// The kernel's command line.
    pub fn command_line(&self) -> String {
        let mut words = self.options.clone();
        if self.installed() != self.memory {
            words.push(format!("mem={}", self.memory));
        }
        if !self.init_arguments.is_empty() {
            words.push("--".into());
            words.extend(
                self.init_arguments.iter().map(|word| boot_image::command_line::Quoted(word).to_string()),
            );
        }
        words.join(" ")
    }

    /// What to start QEMU with.
    ///
    /// # Errors
    /// A firmware that the machine does not have.
    pub fn arguments(&self) -> Result<Vec<OsString>> {
        let mut arguments = Vec::<OsString>::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
        let accel = match (self.accel, self.threads) {
            // What is usual is left to QEMU: `-icount` wants one thread, and would refuse.
            (Accel::Tcg, Threads::Multi) => "tcg",
            (Accel::Tcg, Threads::Single) => "tcg,thread=single",
            (Accel::Kvm, _) => "kvm",
        };
        add(&["-accel", &format!("{accel}{}", self.accel_settings)]);
        match self.arch {
            Arch::X86_64 => {
                add(&["-machine", "q35", "-cpu", self.cpu.as_deref().unwrap_or("max")]);
                // Writing v to port 0xf4 ends QEMU with (v << 1) | 1.
                add(&["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
                match self.firmware {
                    Firmware::Default | Firmware::Seabios => {}
                    Firmware::Qboot => add(&["-bios", "qboot.rom"]),
                    other => return Err(wrong_firmware(other, self.arch)),
                }
                add(&["-m", &self.installed().to_string()]);
            }
            Arch::Ppc64le => {
                // Mitigations that TCG does not have would only be warned about.
                let mut machine =
                    String::from("pseries,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off");
                match self.firmware {
                    Firmware::Default | Firmware::Vof => machine.push_str(",x-vof=on"),
                    Firmware::Slof => {}
                    other => return Err(wrong_firmware(other, self.arch)),
                }
                match self.interrupts {
                    Interrupts::Default => {}
                    Interrupts::Xive => machine.push_str(",ic-mode=xive"),
                }
                if self.accel == Accel::Kvm {
                    machine = machine
                        .replace(",cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off", "");
                }
                add(&["-machine", &machine, "-vga", "none"]);
                if let Some(cpu) = &self.cpu {
                    add(&["-cpu", cpu]);
                }
                // "42q" written to this terminal ends QEMU with (42 << 1) | 1, as on x86_64.
                add(&["-chardev", "testdev,id=td", "-device", "spapr-vty,chardev=td,reg=0x30000000"]);
                add(&["-action", "panic=exit-failure"]);
                add(&["-m", &self.installed().to_string()]);
            }
        }
        add(&["-smp", &self.cpus.to_string()]);
        // Nothing that is not asked for; the console is standard input and output; a reset ends.
        add(&["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"]);
        if let Some(disk) = &self.disk {
            // A comma in the name is doubled.
            let file = disk.display().to_string().replace(',', ",,");
            add(&["-drive", &format!("if=none,id=disk,format=raw,readonly=on,file={file}")]);
            // Modern virtio only: no I/O ports. Bus addresses are the bus's: without `iommu_platform` QEMU
            // takes them for physical ones, past the host bridge's translation.
            add(&["-device", "virtio-blk-pci,drive=disk,disable-legacy=on,iommu_platform=on"]);
        }
        for device in &self.devices {
            add(&["-device", device]);
        }
        arguments.extend(["-kernel".into(), self.kernel.clone().into_os_string()]);
        if let Some(initrd) = &self.initrd {
            arguments.extend(["-initrd".into(), initrd.clone().into_os_string()]);
        }
        let command_line = self.command_line();
        if !command_line.is_empty() {
            arguments.extend(["-append".into(), command_line.into()]);
        }
        arguments.extend(self.extra.iter().cloned());
        Ok(arguments)
    }
}

fn wrong_firmware(firmware: Firmware, arch: Arch) -> Error {
    let name = firmware.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let known = match arch {
        Arch::X86_64 => "default, seabios, qboot",
        Arch::Ppc64le => "default, vof, slof",
    };
    Error::new(format!("the {arch} machine has no firmware `{name}`")).hint(format!("It has: {known}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(machine: &Machine) -> String {
        let words = machine.arguments().unwrap();
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn little_memory_on_pseries_is_the_kernels_own_business() {
        let mut machine = Machine::new(Arch::Ppc64le, Path::new("k"));
        machine.memory = 64;
        assert!(text(&machine).contains("-m 256"));
        assert!(text(&machine).contains("-append mem=64"));
        machine.arch = Arch::X86_64;
        assert!(text(&machine).contains("-m 64"));
        assert!(!text(&machine).contains("mem=64"));
        machine.memory = 1;
        assert!(text(&machine).contains("-m 4") && text(&machine).contains("-append mem=1"));
    }

    #[test]
    fn arguments_reach_init_behind_the_options() {
        let mut machine = Machine::new(Arch::X86_64, Path::new("k"));
        machine.options = vec!["log=quiet".into()];
        machine.init_arguments = vec!["args".into(), "two words".into()];
        let line = machine.command_line();
        assert!(line.starts_with("log=quiet -- args "), "{line}");
        assert!(line.contains("two words"), "{line}");
    }

    #[test]
    fn a_folder_of_programs_serves_both_machines() {
        assert_eq!(program(None, Arch::X86_64), Path::new("qemu-system-x86_64"));
        assert_eq!(program(Some(Path::new("/q")), Arch::X86_64), Path::new("/q"));
        let folder = std::env::temp_dir();
        assert_eq!(program(Some(&folder), Arch::Ppc64le), folder.join("qemu-system-ppc64"));
    }

    #[test]
    fn firmware_of_the_other_machine_is_refused() {
        let mut machine = Machine::new(Arch::X86_64, Path::new("k"));
        machine.firmware = Firmware::Slof;
        assert!(machine.arguments().unwrap_err().to_string().contains("slof"));
    }

    #[test]
    fn one_thread_for_all_cpus_when_asked_for() {
        let mut machine = Machine::new(Arch::Ppc64le, Path::new("k"));
        assert!(!text(&machine).contains("thread="));
        machine.threads = Threads::Single;
        machine.interrupts = Interrupts::Xive;
        assert!(text(&machine).contains("-accel tcg,thread=single"));
        assert!(text(&machine).contains(",ic-mode=xive"));
    }

    #[test]
    fn kvm_is_only_there_when_asked_for() {
        let mut machine = Machine::new(Arch::X86_64, Path::new("k"));
        assert!(text(&machine).contains("-accel tcg"));
        machine.accel = Accel::Kvm;
        assert!(text(&machine).contains("-accel kvm"));
    }
}
