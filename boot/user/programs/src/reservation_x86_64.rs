//! x86_64: it has no reservations.

/// As on a machine that has them: `None`.
///
/// # Safety
/// None here.
pub unsafe fn held_across(_: Option<u64>, _: *mut u64) -> Option<bool> {
    None
}
