//! That a CPU is off.
//!
//! Who asks it something looks at the set of CPUs that are on after having asked, with a full
//! barrier between; the CPU executes one between the store that takes it out of the set and its
//! last look. So either the asker sees that it is off, or it sees the request (`SMP-3`).

use crate::ThisCpu;
use crate::cpuset::{CpuId, SharedSet};
use crate::sync::{Ordering, atomic};
use abi::trace::Kind;
use arch_contract::barrier::Site;

/// This CPU, which has let go of everything, is off: nobody asks it anything any more. `serve` is
/// its last look at what was asked.
#[inline(always)]
pub fn go_off(cpu: &impl ThisCpu, online: &SharedSet, serve: impl FnOnce()) {
    cpu.event(Kind::Offline, 0, 0);
    online.leave(cpu.number());
    // That this CPU is off, before the last look at the requests. Pairs with the asker's barrier
    // before it looks at who is on. `SMP-3`
    cpu.full_barrier(Site::Offline);
    serve();
}

/// Whether `number` is off. If it is, all that it did before comes before what the caller does next.
#[inline(always)]
pub fn is_off(online: &SharedSet, number: CpuId) -> bool {
    if online.load().has(number) {
        return false;
    }
    // Acquire: pairs with the release in [`SharedSet::leave`].
    atomic::fence(Ordering::Acquire);
    true
}
