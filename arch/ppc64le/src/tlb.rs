//! Invalidation on this CPU, by `tlbiel` (Power ISA 3.0B Book III §5.9.3.2); that on all CPUs at once
//! is `broadcast.rs`.
//!
//! The local form needs no leave of the hypervisor. RIC says what goes: 0 translations, 1 the
//! page-walk cache, 2 both and what is cached of the process table. An invalidation by PID works on
//! one congruence class at a time; ISA 3.0 has 128 of them, and later processors take the first for
//! all.

use crate::cpu::{Cpu, Machine};
use crate::pid::Pid;
use crate::context::Mm;
use crate::{Ppc64le, broadcast, covers, spr};
use arch_contract::addr::VirtAddr;
use arch_contract::context::Cached;
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use arch_contract::tlb::{Broadcasts, Freed, Tlb};
use core::arch::asm;

/// Congruence classes of a POWER9's TLB.
const SETS: u64 = 128;
/// RB[IS] = 1: by process.
pub(crate) const BY_PID: u64 = 1 << 10;
const SET_SHIFT: u32 = 12;

/// Local invalidation of process-scoped radix translations: PRS=1, R=1. As a word, since assemblers
/// for processors older than ISA 3.0 know another form.
///
/// RB and RS must make a valid form with `RIC` (§5.9.3.2): by address with 0 only, by PID with 2
/// only in class 0. An invalid one is a program interrupt of the kernel.
#[inline(always)]
fn tlbiel<const RIC: u32>(rb: u64, rs: u64) {
    const TLBIEL: u32 = 31 << 26 | 274 << 1;
    // SAFETY: forgetting translations is sound at any time; the callers' forms are valid.
    unsafe {
        asm!(".long {}", const TLBIEL | 4 << 21 | RIC << 18 | 1 << 17 | 1 << 16 | 3 << 11,
            in("r3") rb, in("r4") rs, options(nostack, preserves_flags));
    }
}

/// Forgets everything of `pid` on this CPU, cached process-table entry included.
///
/// Never inlined: the image has the sequence once and whole, as `instructions.toml` does.
#[inline(never)]
pub(crate) fn forget_pid(pid: Pid) {
    let rs = pid.get() << 32;
    spr::ptesync();
    tlbiel::<2>(BY_PID, rs);
    for set in 1..SETS {
        tlbiel::<0>(BY_PID | set << SET_SHIFT, rs);
    }
    spr::ptesync();
    spr::isync();
}

/// Forgets everything of every process on this CPU. Never inlined, as above.
#[inline(never)]
pub(crate) fn forget_all() {
    // RB[IS] = 3: every process of this partition. Class 0 with RIC 2 takes the process-table
    // cache and the page-walk cache along.
    const ALL: u64 = 3 << 10;
    spr::ptesync();
    tlbiel::<2>(ALL, 0);
    for set in 1..SETS {
        tlbiel::<0>(ALL | set << SET_SHIFT, 0);
    }
    spr::ptesync();
    spr::isync();
}

impl Tlb for Ppc64le {
    const FLUSH_CEILING: u64 = covers::FLUSH_CEILING;

    fn flush_local(
        cpu: &Cpu,
        target: Cached<'_, Mm>,
        start: VirtAddr,
        pages: u64,
        freed: Freed,
        irq: &IrqsOff,
    ) {
        let Some(pages) = covers::pages(start, pages, freed) else {
            return Self::flush_local_mm(cpu, target, irq);
        };
        if mutant::is(Mutant::LocalFlushDoesNothing) {
            return;
        }
        let rs = target.mm.pid.get() << 32;
        spr::ptesync();
        for page in pages.skip(usize::from(mutant::is(Mutant::LocalFlushOnePageFewer))) {
            // IS = 0, AP = 0 (4 KiB), effective page number.
            tlbiel::<0>(page, rs);
        }
        spr::ptesync();
        spr::isync();
    }

    fn flush_local_mm(_cpu: &Cpu, target: Cached<'_, Mm>, _irq: &IrqsOff) {
        forget_pid(target.mm.pid);
    }

    fn flush_local_all(_cpu: &Cpu, _irq: &IrqsOff) {
        forget_all();
    }

    fn set_broadcasts(machine: &Machine, broadcasts: Broadcasts) {
        machine.broadcast.set(broadcasts);
    }

    fn broadcast_from(machine: &Machine) -> Option<u32> {
        machine.broadcast.from()
    }

    fn broadcast(cpu: &Cpu, mm: &Mm, start: VirtAddr, pages: u64, freed: Freed, _irq: &IrqsOff) {
        broadcast::forget(cpu.machine, mm.pid, start, pages, freed);
    }
}
