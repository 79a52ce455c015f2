//! What the hooks did, in order: the log that tests compare with the contract's tables.

use arch_contract::addr::VirtAddr;
use arch_contract::barrier::Site;
use arch_contract::context::{ContextId, Previously};
use arch_contract::device::Function;
use arch_contract::machine::Verdict;
use arch_contract::ret::{Owed, Reload};
use arch_contract::time::Ticks;
use arch_contract::tlb::Freed;

/// A hook call. The CPU that made it stands beside it in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    NewMm(ContextId),
    RetireMm(ContextId),
    SwitchMm {
        from: Previously,
        to: ContextId,
    },
    EnterLazy(ContextId),
    ExitLazy {
        left: ContextId,
        now: ContextId,
    },
    DropLazy(ContextId),
    FullBarrier(Site),
    UserAccessesComplete,
    CoreSync,
    PublishCode {
        len: usize,
    },
    ReturnToUser {
        owed: Owed,
        reload: Reload,
    },
    Flush {
        id: ContextId,
        start: VirtAddr,
        pages: u64,
        freed: Freed,
    },
    FlushMm(ContextId),
    FlushAll,
    Broadcast {
        id: ContextId,
        start: VirtAddr,
        pages: u64,
        freed: Freed,
    },
    SetDeadline(Option<Ticks>),
    StartCpu {
        target: u32,
    },
    StopCpu,
    SendIpi {
        target: u32,
    },
    ConfigWrite {
        of: Function,
        offset: u16,
        value: u32,
    },
    Window,
    Wait,
    /// A turn of a wait loop: watchers see it, the log does not have it.
    Relax,
    PowerOff(Verdict),
}

/// An event and the number of the CPU where it happened; `None` for hooks that have no CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Logged {
    pub cpu: Option<u32>,
    pub event: Event,
}
