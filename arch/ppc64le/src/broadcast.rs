//! Invalidation on all CPUs at once: which way this machine has, and whether it can be relied on.
//!
//! A guest that was granted GTSE (guest translation shootdown enable) broadcasts `tlbie` itself;
//! one that was not asks the hypervisor. TCG does neither well: its `tlbie` may return before other
//! virtual CPUs have obeyed (up to QEMU 9.0), and the tree does not tell the version. So `tlbie` is
//! trusted where the tree names KVM, and elsewhere on request only.

use crate::covers;
use crate::cpu::Machine;
use crate::hcall::{self, Call, Status};
use crate::pid::Pid;
use crate::rpt_invalidate;
use crate::spr::{self, number};
use crate::tlb::BY_PID;
use crate::tree::{Grant, Hypervisor, Invalidation};
use arch_contract::addr::{PAGE_SIZE, VirtAddr};
use arch_contract::tlb::{Broadcasts, Freed};
use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

/// How this machine reaches all CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// `tlbie`.
    Instruction,
    /// H_RPT_INVALIDATE.
    Hypercall,
    None,
}

/// The way, and whether it is taken.
pub struct Broadcast {
    way: Way,
    trusted: AtomicBool,
}

impl Broadcast {
    /// What the tree offers. The hypercall is tried once, on the process that is empty.
    pub(crate) fn find(offer: Invalidation) -> Self {
        let way = match offer.gtse {
            Grant::Given => Way::Instruction,
            _ if offer.hypercall == Grant::Given && ask(rpt_invalidate::process(Pid::EMPTY.get())) == Status::SUCCESS => {
                Way::Hypercall
            }
            _ => Way::None,
        };
        let trusted = way == Way::Hypercall || offer.hypervisor == Hypervisor::Kvm;
        Self { way, trusted: AtomicBool::new(trusted) }
    }

    pub(crate) fn set(&self, broadcasts: Broadcasts) {
        self.trusted.store(broadcasts == Broadcasts::Use, Ordering::Relaxed);
    }

    /// See [`broadcast_from`](arch_contract::tlb::Tlb::broadcast_from).
    ///
    /// One CPU is enough: a broadcast is one instruction sequence or one hypervisor call for any
    /// number of CPUs, while each CPU that is interrupted costs a call (H_IPI) and its own way into
    /// the kernel and back.
    pub(crate) fn from(&self) -> Option<u32> {
        (self.way != Way::None && self.trusted.load(Ordering::Relaxed)).then_some(1)
    }
}

/// See [`broadcast`](arch_contract::tlb::Tlb::broadcast).
pub(crate) fn forget(machine: &Machine, pid: Pid, start: VirtAddr, pages: u64, freed: Freed) {
    let one_by_one = covers::pages(start, pages, freed);
    match machine.broadcast.way {
        Way::Instruction => by_instruction(pid, start, one_by_one),
        Way::Hypercall => {
            let of_process = rpt_invalidate::process(pid.get());
            let request = match one_by_one {
                Some(_) => rpt_invalidate::pages(pid.get(), start.0, pages),
                None => of_process,
            };
            spr::ptesync();
            // What was taken at boot for one process is taken for another.
            if ask(request) != Status::SUCCESS && ask(of_process) != Status::SUCCESS {
                panic!("the hypervisor no longer invalidates translations (H_RPT_INVALIDATE)");
            }
        }
        Way::None => unreachable!("`broadcast_from` says that there is none"),
    }
}

/// Asks until the hypervisor has time.
fn ask(request: [u64; 6]) -> Status {
    loop {
        // SAFETY: forgetting translations is sound at any time; no memory is touched.
        let (status, _) = unsafe { hcall::call(Call::RptInvalidate, request) };
        if !status.is_busy() {
            return status;
        }
        spr::pause();
    }
}

/// Broadcast invalidation of process-scoped radix translations: PRS=1, R=1 (Book III §5.9.3.1). RB
/// and RS must make a valid form with `RIC`: by address with 0 only, by PID with 0 or 2.
#[inline(always)]
fn tlbie<const RIC: u32>(rb: u64, rs: u64) {
    const TLBIE: u32 = 31 << 26 | 306 << 1;
    // SAFETY: forgetting translations is sound at any time; the callers' forms are valid.
    unsafe {
        asm!(".long {}", const TLBIE | 4 << 21 | RIC << 18 | 1 << 17 | 1 << 16 | 3 << 11,
            in("r3") rb, in("r4") rs, options(nostack, preserves_flags));
    }
}

/// `pages`: those from `start`; `None` for everything of `pid`.
fn by_instruction(pid: Pid, start: VirtAddr, pages: Option<impl Iterator<Item = u64>>) {
    let rs = pid.get() << 32;
    let page = start.0 & !(PAGE_SIZE - 1);
    spr::ptesync();
    match pages {
        None => tlbie::<2>(BY_PID, rs),
        Some(pages) => pages.for_each(|page| tlbie::<0>(page, rs)),
    }
    again_on_power9(page, rs);
    complete();
}

/// All CPUs have obeyed, before anything later here (Book III §5.9.3.3).
fn complete() {
    // SAFETY: orders, and changes nothing.
    unsafe { asm!("eieio", "tlbsync", "ptesync", options(nostack, preserves_flags)) };
    spr::isync();
}

/// A POWER9 may order an invalidation wrongly with stores, and may leave an entry of its
/// first-level cache: another one behind it, of anything, mends the first, and one of PID 0 the
/// second (POWER9 processor errata).
fn again_on_power9(page: u64, rs: u64) {
    const POWER9: u64 = 0x4e;
    if spr::read::<{ number::PVR }>() >> 16 == POWER9 {
        spr::ptesync();
        tlbie::<0>(page, 0);
        spr::ptesync();
        tlbie::<0>(page, rs);
    }
}
