//! Barriers and core serialization: logged, so that tests can ask where they stood.

use crate::cpu::Fence;
use crate::host::atomic::{Ordering, fence};
use crate::{Cpu, Event, Model};
use arch_contract::barrier::{Barriers, Site};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use core::ptr::NonNull;

impl Barriers for Model {
    fn full_barrier(cpu: &Cpu, site: Site) {
        cpu.wander();
        match () {
            () if mutant::is(Mutant::M44) || mutant::is(Mutant::TraceLiesOfBarriers) => {}
            () if mutant::is(Mutant::M3) => fence(Ordering::AcqRel),
            () => fence(Ordering::SeqCst),
        }
        if site == Site::EnterUserMm {
            cpu.fence.set(Fence::Entered);
        }
        cpu.machine.log(Some(cpu), Event::FullBarrier(site));
    }

    fn complete_user_accesses(cpu: &Cpu) {
        cpu.machine.log(Some(cpu), Event::UserAccessesComplete);
    }

    fn core_sync(cpu: &Cpu, _irq: &IrqsOff) {
        if !mutant::is(Mutant::CoreSyncEmpty) {
            cpu.machine.log(Some(cpu), Event::CoreSync);
            cpu.serialized();
        }
    }

    unsafe fn publish_code(cpu: &Cpu, _start: NonNull<u8>, len: usize) {
        cpu.machine.log(Some(cpu), Event::PublishCode { len });
    }
}
