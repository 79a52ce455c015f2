//! Full barriers and core serialization.

use crate::X86_64;
use crate::cpu::Cpu;
use crate::gdt::KERNEL_CODE;
use arch_contract::barrier::{Barriers, Site};
use arch_contract::irq::IrqsOff;
use arch_contract::mutant::{self, Mutant};
use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, compiler_fence};

/// The serializing return that every processor has: `iretq` to the next instruction (SDM vol. 3
/// §9.3). Not from a non-maskable handler: it would let the next one in.
///
/// Never inlined: the image has it once, as `returns.toml` does.
#[inline(never)]
fn serialize_by_iret() {
    // SAFETY: returns to the next instruction with the same stack, flags and segments. Interrupts
    // are as off as before.
    unsafe {
        asm!(
            "mov {scratch}, rsp",
            "mov {segment:e}, ss",
            "push {segment}",
            "push {scratch}",
            "pushfq",
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "iretq",
            "2:",
            scratch = out(reg) _,
            segment = out(reg) _,
            code = const KERNEL_CODE,
        );
    }
}

impl Barriers for X86_64 {
    #[inline(always)]
    fn full_barrier(_: &Cpu, _: Site) {
        if mutant::is(Mutant::M44) {
            return compiler_fence(Ordering::SeqCst);
        }
        // A locked operation on the top of the stack: the only reordering x86 has, a store with a
        // later load, does not cross it (SDM vol. 3 §9.2.2), and it is cheaper than `mfence`.
        // SAFETY: adds nothing to a word of this stack.
        unsafe { asm!("lock or dword ptr [rsp], 0") };
    }

    #[inline(always)]
    fn complete_user_accesses(_: &Cpu) {
        // The lock of the thread's next queue is taken by a locked operation.
    }

    fn core_sync(cpu: &Cpu, _: &IrqsOff) {
        if mutant::is(Mutant::CoreSyncEmpty) {
            return;
        }
        let found = cpu.try_machine().is_some_and(|machine| machine.features.serialize);
        if found || mutant::is(Mutant::SerializeAssumed) {
            // SAFETY: CPUID has SERIALIZE; it changes no register and no memory. `0f 01 e8` for
            // assemblers that do not know it.
            unsafe { asm!(".byte 0x0f, 0x01, 0xe8", options(nostack)) };
        } else {
            serialize_by_iret();
        }
    }

    unsafe fn publish_code(_: &Cpu, _: NonNull<u8>, _: usize) {
        // Instruction fetch is coherent with data here: what is stored is what a core fetches once
        // it has serialized (SDM vol. 3 §9.1.3). Only the compiler could keep the stores back.
        compiler_fence(Ordering::SeqCst);
    }
}
