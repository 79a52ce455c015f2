//! Reading structures that firmware left in memory, without trusting one byte of them.
//!
//! Parsers take a [`Source`] instead of pointers: on the machine it is the window of physical
//! memory that the entry code mapped, in tests a slice. Every read is checked, fields may be
//! misaligned, and nothing is kept by reference.

/// Physical memory, as far as it can be read.
pub trait Source {
    /// The bytes `at..at + len`, or `None` where that is not all readable memory.
    fn bytes(&self, at: u64, len: usize) -> Option<&[u8]>;
}

/// The little-endian `u16` at `offset`.
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().map(|&chunk| u16::from_le_bytes(chunk))
}

/// The little-endian `u32` at `offset`.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|&chunk| u32::from_le_bytes(chunk))
}

/// The little-endian `u64` at `offset`.
pub fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|&chunk| u64::from_le_bytes(chunk))
}

/// A slice of physical memory that starts at `base`, for tests.
#[cfg(test)]
pub struct Slice<'a> {
    pub base: u64,
    pub data: &'a [u8],
}

#[cfg(test)]
impl Source for Slice<'_> {
    fn bytes(&self, at: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(at.checked_sub(self.base)?).ok()?;
        self.data.get(start..start.checked_add(len)?)
    }
}
