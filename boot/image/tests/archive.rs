//! The archive reader against the packer, against `cpio`, and against damage.

use boot_image::archive::{Archive, Problem};
use boot_image::pack::{Contents, Machine, PackError, pack, pack_as};
use boot_image::program::ProgramError;
use proptest::prelude::*;
use std::io::Write;
use std::process::{Command, Stdio};

fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
    pack_as(files, Contents::Raw).unwrap()
}

fn text(bytes: &[u8]) -> String {
    Archive::new(bytes).unwrap_err().to_string()
}

#[test]
fn what_is_packed_is_found() {
    let bytes = packed(&[("init", b"first"), ("bin/empty", b""), ("c", &[7; 1001])]);
    let archive = Archive::new(&bytes).unwrap();
    assert_eq!(archive.len(), 3);
    assert_eq!(archive.find("init"), Some(&b"first"[..]));
    assert_eq!(archive.find("bin/empty"), Some(&b""[..]));
    assert_eq!(archive.find("c"), Some(&[7; 1001][..]));
    assert_eq!(archive.find("d"), None);
    assert_eq!(archive.name(1), Some("bin/empty"));
    assert_eq!(archive.name(3), None);
    assert!(Archive::new(&packed(&[])).unwrap().is_empty());
}

#[test]
fn packing_is_deterministic() {
    assert_eq!(packed(&[("a", b"1"), ("b", b"2")]), packed(&[("a", b"1"), ("b", b"2")]));
}

#[test]
fn every_truncation_is_refused() {
    let bytes = packed(&[("init", b"first file"), ("second", b"another file")]);
    let end = bytes.windows(10).position(|w| w == b"TRAILER!!!").unwrap() + 11;
    for len in 0..end {
        assert!(Archive::new(&bytes[..len]).is_err(), "cut to {len} bytes");
    }
    assert!(Archive::new(&bytes[..end]).is_ok());
}

#[test]
fn errors_say_where_and_what() {
    let bytes = packed(&[("init", &[1; 100]), ("httpd", &[2; 5120])]);
    let cut = bytes.iter().position(|&byte| byte == 2).unwrap() + 812;
    assert_eq!(text(&bytes[..cut]), "truncated: entry 2 (`httpd`) says 5120 bytes, 812 remain");
    assert_eq!(text(b""), "empty: a cpio archive in `newc` format is wanted");
    assert!(text(b"\x1f\x8b\x08").starts_with("not a cpio archive"));
    assert!(text(b"070707000").contains("pack with `cpio -o -H newc`"));
    assert!(text(&bytes[..50]).starts_with("truncated: the header of entry 1"));

    let mut corrupt = bytes.clone();
    corrupt[6 + 8 * 6] = b'+';
    assert!(text(&corrupt).contains("no hexadecimal number at offset 0x36"));
    let mut corrupt = bytes.clone();
    let second = bytes.windows(6).rposition(|w| w == b"070701").unwrap();
    corrupt[second] = b'x';
    assert!(text(&corrupt).contains("no header"));
    let mut trailing = bytes.clone();
    trailing.push(1);
    assert!(text(&trailing).starts_with("data after the trailer"));
}

#[test]
fn names_are_checked() {
    let twice = packed(&[("a", b""), ("b", b"")]);
    let twice = String::from_utf8(twice).unwrap().replace("b\0", "a\0").into_bytes();
    assert_eq!(text(&twice), "entry 2 (`a`) has the name of an earlier entry");
    for name in ["", "/a", "./a", "a\0b", "TRAILER!!!", &"x".repeat(65)] {
        assert!(matches!(pack_as(&[(name, b"")], Contents::Raw), Err(PackError::BadName { .. })), "{name:?}");
    }
    let mut unterminated = packed(&[("ab", b"")]);
    unterminated[112] = b'c';
    assert_eq!(Archive::new(&unterminated).unwrap_err().problem, Problem::NameNotTerminated);
}

#[test]
fn only_files_and_directories() {
    let plain = String::from_utf8(packed(&[("a", b"x")])).unwrap();
    let directory = plain.replace("000081ed", "000041ed").into_bytes();
    assert!(Archive::new(&directory).unwrap().is_empty());
    let link = plain.replace("000081ed", "0000a1ed").into_bytes();
    assert!(text(&link).contains("neither a file nor a directory"));
}

#[test]
fn programs_are_checked_at_pack_time() {
    let error = pack(&[("hello", b"#!/bin/sh")], Machine::X86_64).unwrap_err();
    assert_eq!(error, PackError::BadProgram { name: "hello".into(), why: ProgramError::NotElf });
    assert_eq!(error.to_string(), "initrd: program `hello`: not an ELF file");
}

/// `cpio -it` lists what we pack, and we read what `cpio -o -H newc` packs. Where the machine
/// has no cpio there is nothing to compare with.
#[test]
fn agrees_with_cpio() {
    let run = |arguments: &[&str], input: &[u8], directory: &std::path::Path| {
        let mut child = Command::new("cpio")
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        child.stdin.take()?.write_all(input).ok()?;
        Some(child.wait_with_output().unwrap())
    };
    let directory = std::env::temp_dir().join(format!("spandrel-cpio-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("bin")).unwrap();
    std::fs::write(directory.join("init"), b"1234567").unwrap();
    std::fs::write(directory.join("bin/x"), b"").unwrap();

    let ours = packed(&[("init", b"1234567"), ("bin/x", b"")]);
    if let Some(listed) = run(&["-it"], &ours, &directory) {
        assert!(listed.status.success());
        assert_eq!(String::from_utf8(listed.stdout).unwrap(), "init\nbin/x\n");
        let theirs = run(&["-o", "-H", "newc"], b"./init\n.\nbin\nbin/x\n", &directory).unwrap();
        let archive = Archive::new(&theirs.stdout).unwrap();
        assert_eq!(archive.find("init"), Some(&b"1234567"[..]));
        assert_eq!(archive.find("bin/x"), Some(&b""[..]));
        assert_eq!(archive.len(), 2);
    } else {
        println!("cpio is not installed: not compared");
    }
    std::fs::remove_dir_all(directory).unwrap();
}

proptest! {
    /// Whatever a few bytes are changed to, the reader answers, and what it accepts is in bounds
    /// and consistent with itself.
    #[test]
    fn damage_is_survived(changes in proptest::collection::vec((0usize..1024, any::<u8>()), 1..8), len in 0usize..1024) {
        let mut bytes = packed(&[("init", b"first file"), ("bin/second", b"another"), ("c", b"")]);
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(len.max(500));
        match Archive::new(&bytes) {
            Ok(archive) => {
                prop_assert_eq!(archive.entries().count(), archive.len());
                for (index, entry) in archive.entries().enumerate() {
                    prop_assert_eq!(archive.name(index), Some(entry.name));
                    prop_assert_eq!(archive.find(entry.name), Some(entry.file));
                }
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn noise_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Archive::new(&bytes);
        let _ = Archive::new(&[b"070701", &bytes[..]].concat());
    }
}
