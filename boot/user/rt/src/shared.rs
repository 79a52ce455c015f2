//! Memory objects: memory that several processes map.

use crate::call::{call, plain, word};
use crate::ipc::Endpoint;
use crate::object::{Kind, Object};
use abi::{Call, Error, Handle, PAGE_BYTES, Protection, initial};
use core::ptr::NonNull;

/// Memory with a handle.
#[derive(Debug)]
pub enum MemoryKind {}
impl Kind for MemoryKind {}
/// A handle on some.
pub type Memory = Object<MemoryKind>;

/// A place where some is mapped.
#[derive(Debug)]
pub enum AttachmentKind {}
impl Kind for AttachmentKind {}

impl Memory {
    /// At least `len` bytes of zeroes, with all rights. Errors: `NoMemory`, `TableFull`, `BadArgument`
    /// for 0 and for more than [`MAX_MEMORY`](abi::MAX_MEMORY).
    pub fn new(len: usize) -> Result<Self, Error> {
        let len = len.checked_next_multiple_of(PAGE_BYTES as usize).ok_or(Error::NoMemory)?;
        let value = plain(Call::MemoryCreate, [len as u64])?;
        Ok(Self::from_handle(Handle(value as u32)))
    }

    /// At least `len` bytes whose pages come from whoever receives at `pager`, when they are first touched.
    /// Needs `WRITE` on that. Errors: as [`new`](Self::new).
    pub fn paged(len: usize, pager: &Endpoint) -> Result<Self, Error> {
        let len = len.checked_next_multiple_of(PAGE_BYTES as usize).ok_or(Error::NoMemory)?;
        let value = plain(Call::MemoryCreatePaged, [len as u64, word(pager.handle())])?;
        Ok(Self::from_handle(Handle(value as u32)))
    }

    /// The page at `offset` is from now on that of `source` at the same offset. Needs `MANAGE`. Errors:
    /// `BadArgument`, `WrongObject`, `NoMemory` (too many sources).
    pub fn supply(&self, offset: u64, source: &Self) -> Result<(), Error> {
        let arguments = [word(self.handle()), offset, word(source.handle()), offset, PAGE_BYTES];
        plain(Call::MemorySupply, arguments).map(|_| ())
    }

    /// Maps all of it where the kernel likes. Needs `READ`, and what the protection says. Errors:
    /// `NoMemory`, `TableFull`.
    pub fn attach(&self, protection: Protection) -> Result<Shared, Error> {
        let length = self.handle_info()?.length;
        let arguments = [word(initial::PROCESS), word(self.handle()), 0, 0, length, protection as u64];
        // SAFETY: the kernel maps where nothing was mapped, so nothing Rust knows of changes.
        let value = unsafe { call(Call::MemoryAttach, arguments) }?;
        let attachment = Object::<AttachmentKind>::from_handle(Handle(value as u32));
        let start = attachment.handle_info()?.address;
        let start = NonNull::new(start as *mut u8).ok_or(Error::NoMemory)?;
        Ok(Shared { start, len: length as usize, _attachment: attachment })
    }
}

/// Mapped memory that others may map too: to be used by atomics. Unmapped when this is dropped, or when
/// what it was mapped by is revoked: then the next access is a fault.
#[derive(Debug)]
pub struct Shared {
    start: NonNull<u8>,
    len: usize,
    _attachment: Object<AttachmentKind>,
}

// SAFETY: a mapping of the process's, which any of its threads can use.
unsafe impl Send for Shared {}

impl Shared {
    /// The first byte.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Bytes, a multiple of the page size.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Keeps it mapped as long as the program runs, unless what it was mapped by is revoked.
    pub fn forever(self) -> NonNull<[u8]> {
        let whole = NonNull::slice_from_raw_parts(self.start, self.len);
        core::mem::forget(self);
        whole
    }

    /// Never: a mapping has at least a page.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The words of it.
    pub fn words(&self) -> &[core::sync::atomic::AtomicU64] {
        // SAFETY: mapped as long as this lives, aligned to a page, and zeroes or what others stored; an
        // atomic may be changed by anybody.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr().cast_const().cast(), self.len / 8) }
    }
}
