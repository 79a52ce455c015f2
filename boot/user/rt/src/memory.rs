//! Memory by the page.

use crate::call::{call, plain, word};
use abi::{Call, Error, MAX_PUBLISH, PAGE_BYTES, Protection, initial};
use core::ptr::NonNull;

/// Zeroed memory that is given back when this is dropped.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is owned memory, like a boxed slice.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps at least `len` bytes for reading and writing, where the kernel likes. Errors:
    /// `NoMemory`, `BadArgument` for 0.
    pub fn new(len: usize) -> Result<Self, Error> {
        Self::with(len, 0, Protection::ReadWrite)
    }

    /// Maps at least `len` bytes at `address` (0 for anywhere) with `protection`. Errors:
    /// `NoMemory`; `BadAddress` where something is mapped already or that is not a user's;
    /// `BadArgument`.
    pub fn with(len: usize, address: u64, protection: Protection) -> Result<Self, Error> {
        let len = len.checked_next_multiple_of(PAGE_BYTES as usize).ok_or(Error::NoMemory)?;
        let arguments = [word(initial::PROCESS), address, len as u64, protection as u64, 0, 0];
        // SAFETY: the kernel maps what was not mapped, so nothing Rust knows of changes.
        let start = unsafe { call(Call::MemoryMap, arguments) }?;
        let start = NonNull::new(start as *mut u8).ok_or(Error::NoMemory)?;
        Ok(Self { start, len })
    }

    /// The first byte; what may be done with it depends on the protection it was mapped with.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Bytes, a multiple of the page size.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a mapping has at least a page.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Two mappings: the first `len` bytes, a multiple of the page size, and the rest.
    ///
    /// # Panics
    /// If either would be empty or `len` is no multiple.
    pub fn split(self, len: usize) -> (Self, Self) {
        assert!(len > 0 && len < self.len && len.is_multiple_of(PAGE_BYTES as usize));
        let lower = Self { start: self.start, len };
        // SAFETY: inside the mapping.
        let upper = Self { start: unsafe { self.start.add(len) }, len: self.len - len };
        core::mem::forget(self);
        (lower, upper)
    }

    /// Keeps it mapped as long as the program runs.
    pub fn forever(self) -> NonNull<[u8]> {
        let whole = NonNull::slice_from_raw_parts(self.start, self.len);
        core::mem::forget(self);
        whole
    }

    /// Gives it back now, and says whether that worked.
    pub fn unmap(self) -> Result<(), Error> {
        let result = self.give_back();
        core::mem::forget(self);
        result
    }

    fn give_back(&self) -> Result<(), Error> {
        let start = self.start.as_ptr() as u64;
        let arguments = [word(initial::PROCESS), start, self.len as u64, 0, 0, 0];
        // SAFETY: this value owns the memory and is not used after.
        unsafe { call(Call::MemoryUnmap, arguments) }.map(|_| ())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // The range was mapped by `with`, so it can be unmapped.
        let _ = self.give_back();
    }
}

/// The writer's part of code modification: after it, and after the core that executes it has
/// serialized, `len` bytes at `start` are fetched as this thread wrote them. See
/// [`membarrier`](crate::membarrier) for the other part. Errors: `BadAddress` (not wholly mapped).
pub fn publish_code(start: *const u8, len: usize) -> Result<(), Error> {
    let mut at = start as u64;
    let end = at.checked_add(len as u64).ok_or(Error::BadAddress)?;
    while at < end {
        let piece = (end - at).min(MAX_PUBLISH);
        plain(Call::CodePublish, [at, piece])?;
        at += piece;
    }
    Ok(())
}
