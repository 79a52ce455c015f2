//! ppc64le: functions as numbers.

/// `li r3, NUMBER`, `blr`: a word of code. Below 0x8000, which is negative.
pub const fn returning(number: u16) -> u64 {
    0x3860_0000 | number as u64 | 0x4e80_0020 << 32
}
