//! Bad boot input: each row must end in a message and a nonzero status, never in a hang, a reset
//! or a pass (`BOOT-4`, `BOOT-5`).

use super::bad_elf::{self, ALL, READ_EXECUTE, READ_WRITE, Segment};
use super::cases::{Case, Expect, Initrd};
use crate::arch::Arch;
use crate::error::{Error, Result};
use boot_image::archive::Archive;
use boot_image::pack::{Contents, pack_as};

/// Seconds until a refusal is overdue.
const LIMIT: u64 = 30;
/// User addresses that both machines have.
const TEXT: u64 = 0x1000_0000;

/// The rows.
pub fn all(arch: Arch) -> Vec<Case> {
    let refused = |what: &str| {
        Case::new(arch, &format!("bad-boot/{what}"))
            .program(&["hello"])
            .expect(Expect::GuestFails)
            .limit(LIMIT)
    };
    let machine = arch.elf_machine();
    let text = Segment { address: TEXT, len: 16, flags: READ_EXECUTE };
    let data = Segment { address: TEXT + 0x1000, len: 16, flags: READ_WRITE };
    let as_init = move |file: Vec<u8>| {
        Initrd::Made(Box::new(move |_, archive| replace(&archive, "init", file.clone())))
    };
    let kernel_space = match arch {
        Arch::X86_64 => 0xffff_ffff_8010_0000,
        Arch::Ppc64le => 0xc000_0000_0040_0000,
    };
    let mut cases = vec![
        refused("no-initrd").initrd(Initrd::None).prints(&["initrd"]),
        refused("empty-initrd").initrd(made(|_| Vec::new())).prints(&["initrd"]),
        refused("truncated-cpio")
            .initrd(made(|mut archive| {
                archive.truncate(archive.len() / 2);
                archive
            }))
            .prints(&["initrd", "truncated|remain"]),
        refused("corrupt-cpio")
            .initrd(made(|mut archive| {
                // A letter that is no hexadecimal digit in the first entry's size.
                archive[54] = b'z';
                archive
            }))
            .prints(&["initrd"]),
        refused("not-a-cpio").initrd(made(|archive| vec![b'A'; archive.len()])).prints(&["initrd"]),
        refused("no-init")
            .initrd(Initrd::Made(Box::new(|_, archive| without(&archive, "init"))))
            .prints(&["init"]),
        refused("init-by-option-is-missing")
            .machine(|machine| machine.options = vec!["init=nonesuch".into()])
            .prints(&["nonesuch"]),
        refused("elf-of-the-other-machine")
            .initrd(as_init(bad_elf::file(arch.other().elf_machine(), &[text])))
            .prints(&[arch.other().name()]),
        refused("truncated-elf")
            .initrd(as_init({
                let mut file = bad_elf::file(machine, &[text]);
                file.truncate(100);
                file
            }))
            .prints(&["init"]),
        refused("not-an-elf").initrd(as_init(b"#!/bin/sh\necho hello\n".to_vec())).prints(&["init"]),
        refused("writable-and-executable")
            .initrd(as_init(bad_elf::file(machine, &[Segment { flags: ALL, ..text }])))
            .prints(&["writable and executable"]),
        refused("overlapping-segments")
            .initrd(as_init(bad_elf::file(machine, &[text, Segment { address: TEXT, ..data }])))
            .prints(&["overlap"]),
        refused("kernel-space-segment")
            .initrd(as_init(bad_elf::file(machine, &[Segment { address: kernel_space, ..text }])))
            .prints(&["segment"]),
        refused("entry-outside-code").initrd(as_init(bad_elf::file(machine, &[data]))).prints(&["entry"]),
        refused("unknown-option")
            .machine(|machine| machine.options = vec!["colour=red".into()])
            .prints(&["colour"]),
        refused("bad-number")
            .machine(|machine| machine.options = vec!["mem=lots".into()])
            .prints(&["mem", "lots"]),
        refused("no-memory").machine(|machine| machine.memory = 1).prints(&["memory"]),
        Case::new(arch, "bad-boot/corrupt-program")
            .program(&["hello"])
            .initrd(Initrd::Made(Box::new(|_, archive| replace(&archive, "hello", b"junk".to_vec()))))
            .status(126)
            .prints(&["hello"])
            .limit(LIMIT),
    ];
    match arch {
        Arch::X86_64 => {
            cases.push(
                refused("cpu-without-a-feature")
                    .machine(|machine| machine.cpu = Some("qemu64,-nx".into()))
                    .prints(&["NX"]),
            );
        }
        Arch::Ppc64le => {
            cases.push(
                refused("cpu-without-a-feature")
                    .machine(|machine| machine.cpu = Some("power8".into()))
                    .prints(&["radix|POWER9"]),
            );
        }
    }
    cases
}

/// An archive made out of the ordinary one's bytes.
fn made(make: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static) -> Initrd {
    Initrd::Made(Box::new(move |_, archive| Ok(make(archive))))
}

/// The archive with one file's contents replaced.
fn replace(archive: &[u8], name: &str, contents: Vec<u8>) -> Result<Vec<u8>> {
    rebuild(archive, |entry, file| if entry == name { Some(contents.clone()) } else { Some(file.to_vec()) })
}

/// The archive without one file.
fn without(archive: &[u8], name: &str) -> Result<Vec<u8>> {
    rebuild(archive, |entry, file| (entry != name).then(|| file.to_vec()))
}

fn rebuild(archive: &[u8], keep: impl Fn(&str, &[u8]) -> Option<Vec<u8>>) -> Result<Vec<u8>> {
    let archive = Archive::new(archive).map_err(|error| Error::new(format!("the boot archive: {error}")))?;
    let files: Vec<(&str, Vec<u8>)> =
        archive.entries().filter_map(|entry| Some((entry.name, keep(entry.name, entry.file)?))).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, file)| (*name, file.as_slice())).collect();
    pack_as(&files, Contents::Raw).map_err(|error| Error::new(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_changed_in_one_place() {
        let archive = pack_as(&[("init", b"one"), ("hello", b"two")], Contents::Raw).unwrap();
        let changed = replace(&archive, "init", b"three".to_vec()).unwrap();
        assert_eq!(Archive::new(&changed).unwrap().find("init"), Some(&b"three"[..]));
        assert_eq!(Archive::new(&changed).unwrap().find("hello"), Some(&b"two"[..]));
        assert_eq!(Archive::new(&without(&archive, "init").unwrap()).unwrap().find("init"), None);
    }
}
