//! Memory contexts: a PID, and its entry in the process table.
//!
//! `mtspr PID; isync` makes the switch: translations are tagged by PID, so nothing is flushed, and
//! quadrant 3 does not depend on it. `ptesync` ends walks under the old one. A CPU that runs no user holds the empty tree.

use crate::cpu::{Cpu, Machine};
use crate::pid::{self, Pid};
use crate::spr::{self, number};
use crate::{Ppc64le, radix, tlb};
use arch_contract::addr::PhysAddr;
use arch_contract::barrier::CoreSync;
use arch_contract::context::{
    ContextId, Contexts, Did, HardwareId, LeftLazy, Loadable, NowUser, Previously, Stale, Switched, Tags,
};
use arch_contract::irq::IrqsOff;

/// The port's part of an address space.
pub struct Mm {
    pub(crate) pid: Pid,
}

/// Makes quadrant 0 of this CPU that of `pid`.
fn load(pid: Pid) {
    // SAFETY: the PID's process-table entry is valid: an address space's by `CTX-11`, or the empty
    // one. `isync`, so that no later access is translated under the old one (Book III §5.7.6).
    unsafe { spr::write::<{ number::PIDR }>(pid.get()) };
    spr::isync();
    // A walk that began under the old PID is over before this CPU says that it holds something else:
    // the old tables may be freed then (Book III §5.10.1). `CTX-5`, `CTX-9`
    spr::ptesync();
}

impl Contexts for Ppc64le {
    type Mm = Mm;

    #[inline]
    fn tags(_machine: &Machine) -> Tags {
        Tags::Global { first: pid::FIRST_USER, count: pid::USERS }
    }

    fn new_mm(_machine: &Machine, root: PhysAddr, _id: ContextId, hardware: HardwareId) -> Mm {
        let pid = Pid::of(hardware);
        radix::set_process_root(pid, Some(root));
        Mm { pid }
    }

    unsafe fn retire_mm(_machine: &Machine, mm: &Mm) {
        // Back to the empty tree rather than to an invalid entry: a walk that is under way on
        // another CPU, for nobody, then ends at an absent entry.
        radix::set_process_root(mm.pid, None);
    }

    #[inline(always)]
    unsafe fn switch_mm(_cpu: &Cpu, _from: Previously, to: &Loadable<'_, Mm>, _irq: &IrqsOff) -> Switched {
        if to.stale() == Stale::Everything {
            tlb::forget_pid(to.mm().pid);
        }
        load(to.mm().pid);
        let flushed = if to.stale() == Stale::Everything { Did::Yes } else { Did::No };
        Switched { core_serialized: Did::Yes, reloaded: Did::Yes, flushed }
    }

    #[inline(always)]
    fn enter_lazy_tlb(_cpu: &Cpu, _held: ContextId, _irq: &IrqsOff) {
        // Flushers ask `loaded`; there is nothing to note.
    }

    #[inline(always)]
    fn exit_lazy_tlb(
        _cpu: &Cpu,
        _left: LeftLazy,
        _now: NowUser<'_, Mm>,
        switched: Switched,
        _irq: &IrqsOff,
    ) -> CoreSync {
        match switched.core_serialized {
            Did::Yes => CoreSync::Done,
            Did::No => CoreSync::NotDone,
        }
    }

    fn drop_lazy(_cpu: &Cpu, _left: LeftLazy, _irq: &IrqsOff) {
        load(Pid::EMPTY);
    }
}
