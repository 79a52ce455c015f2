//! Writes the [`stream`]: what CPUs execute, as it happens.
//!
//! The file is written under one lock, so the records of all CPUs have one order, and a CPU that is
//! seen to do something after another did come after it in the file. That makes the CPUs wait for
//! one another: whoever wants to see memory reordered does not record.
//!
//! Of user code only the first instruction since the kernel is recorded. It is the first of a
//! translated block, whatever led to it; so only those are looked at.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use stream::{Event, Record};

/// Where a CPU was when it was last looked at.
#[derive(Default)]
pub struct Place(AtomicU8);

/// Not 0: that is early boot code, where low addresses are no user's.
const KERNEL: u8 = 1;
const USER: u8 = 2;

impl Place {
    /// The CPU executes kernel code. Whether it came from user mode.
    #[inline]
    pub fn enters_kernel(&self) -> bool {
        // Relaxed: only this CPU's thread has it.
        let before = self.0.load(Ordering::Relaxed);
        if before != KERNEL {
            self.0.store(KERNEL, Ordering::Relaxed);
        }
        before == USER
    }

    /// The CPU executes code at a user's address. Whether it came from the kernel.
    #[inline]
    pub fn enters_user(&self) -> bool {
        let from_kernel = self.0.load(Ordering::Relaxed) == KERNEL;
        if from_kernel {
            self.0.store(USER, Ordering::Relaxed);
        }
        from_kernel
    }
}

/// The file.
pub struct Recorder {
    file: Mutex<BufWriter<File>>,
}

impl Recorder {
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: Mutex::new(BufWriter::with_capacity(1 << 20, File::create(path)?)) })
    }

    /// One more record.
    pub fn add(&self, cpu: u8, event: Event, at: u64) {
        if let Ok(mut file) = self.file.lock() {
            // A full disk shows at the end.
            let _ = file.write_all(&Record { cpu, event, at }.bytes());
        }
    }

    /// # Errors
    /// The file could not be written.
    pub fn finish(&self) -> io::Result<()> {
        match self.file.lock() {
            Ok(mut file) => file.flush(),
            Err(_) => Err(io::Error::other("a thread that wrote it panicked")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_in_and_out_are_seen_once() {
        let place = Place::default();
        assert!(!place.enters_user(), "boot code at low addresses");
        assert!(!place.enters_kernel(), "not from user mode");
        assert!(place.enters_user() && !place.enters_user());
        assert!(place.enters_kernel() && !place.enters_kernel());
    }

    #[test]
    fn what_is_written_reads_back() {
        let path = std::env::temp_dir().join(format!("spandrel-recorder-{}", std::process::id()));
        let recorder = Recorder::create(&path).unwrap();
        recorder.add(2, Event::EntersKernel, 0x10);
        recorder.add(1, Event::EntersUser { page: 7 }, 0x20);
        recorder.finish().unwrap();
        let records = stream::read(&std::fs::read(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(records[0], Record { cpu: 2, event: Event::EntersKernel, at: 0x10 });
        assert_eq!(records[1].event, Event::EntersUser { page: 7 });
    }
}
