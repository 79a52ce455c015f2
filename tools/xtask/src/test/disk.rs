//! The disk that guests read: its contents follow from the place, and so does what their sum must be.

use crate::toolchain::guest_target_dir;
use std::path::PathBuf;
use std::sync::OnceLock;

const MIB: u64 = 64;
/// Of 8 bytes.
const WORDS: u64 = MIB << 17;
const BLOCK: u64 = 512;

/// The disk, which is the same for every case.
#[derive(Clone, Copy)]
pub struct Disk;

impl Disk {
    pub fn new() -> Self {
        Self
    }

    pub fn blocks(self) -> u64 {
        WORDS * 8 / BLOCK
    }

    /// What a guest must print: FNV-1a, by words of 8 bytes.
    pub fn checksum(self) -> u64 {
        static SUM: OnceLock<u64> = OnceLock::new();
        *SUM.get_or_init(|| {
            (0..WORDS)
                .fold(0xcbf2_9ce4_8422_2325, |sum: u64, at| (sum ^ word(at)).wrapping_mul(0x100_0000_01b3))
        })
    }

    /// The file; made if it is not there.
    pub fn file(self) -> PathBuf {
        static FILE: OnceLock<PathBuf> = OnceLock::new();
        let make = || {
            let path = guest_target_dir().join(format!("disk-{MIB}-mib"));
            if std::fs::metadata(&path).is_ok_and(|file| file.len() == WORDS * 8) {
                return path;
            }
            let bytes: Vec<u8> = (0..WORDS).flat_map(|at| word(at).to_le_bytes()).collect();
            // Under another name until it is whole. What goes wrong QEMU says, which finds no file.
            let partly = path.with_extension(format!("partly-{}", std::process::id()));
            let _ = std::fs::write(&partly, bytes).and_then(|()| std::fs::rename(&partly, &path));
            path
        };
        FILE.get_or_init(make).clone()
    }
}

/// The word at a place: no two are alike, so a block out of place is seen.
fn word(at: u64) -> u64 {
    let mixed = (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}
