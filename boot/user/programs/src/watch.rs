//! Windows for whoever watches the machine from outside (`tools/oracle`): what lies between a *begin*
//! and an *end* is counted there, and costs nothing here. Nobody watching, they do nothing.
//!
//! A window is a number below 13. One of this CPU covers what this CPU does, so a thread that begins
//! one should end it where it began it; one of all CPUs covers them all.

use crate::mark::mark;
use conformance::Announcement;

/// Executes the mark that says so. Its window is one of the last, which nothing is counted in.
#[inline(always)]
pub fn announce(what: Announcement) {
    match what {
        Announcement::AsksForCoreSync => mark::<15, 0>(),
        Announcement::WasToldOfCoreSync => mark::<15, 1>(),
        Announcement::WasRefusedCoreSync => mark::<15, 3>(),
        Announcement::AsksForBarrier => mark::<13, 0>(),
        Announcement::WasToldOfBarrier => mark::<13, 1>(),
        Announcement::AsksForUnmapping => mark::<13, 2>(),
        Announcement::WasToldOfUnmapping => mark::<13, 3>(),
    }
}

/// Windows by number.
pub struct Window<const N: u32>;

impl<const N: u32> Window<N> {
    /// What `body` does on this CPU, and whatever else happens there meanwhile.
    #[inline(always)]
    pub fn on_this_cpu<T>(body: impl FnOnce() -> T) -> T {
        Self::begin();
        let result = body();
        Self::end();
        result
    }

    /// Begins it on this CPU.
    #[inline(always)]
    pub fn begin() {
        mark::<N, 0>();
    }
    /// Ends it on this CPU.
    #[inline(always)]
    pub fn end() {
        mark::<N, 1>();
    }
    /// Begins it on all CPUs.
    #[inline(always)]
    pub fn begin_everywhere() {
        mark::<N, 2>();
    }
    /// Ends it on all CPUs.
    #[inline(always)]
    pub fn end_everywhere() {
        mark::<N, 3>();
    }
}
