//! What was found at boot, and the end of the run.

use crate::X86_64;
use crate::acpi::{self, Power as PowerPorts};
use crate::apic::LocalApic;
use crate::cpu;
use crate::device::Pci;
use crate::features::Features;
use crate::ioapic::IoApic;
use crate::paging;
use crate::pcid::Pcids;
use crate::time::Rates;
use arch_contract::addr::VirtAddr;
use arch_contract::boot::Boot;
use arch_contract::machine::{EXIT_ENDED, EXIT_FAILED, Power, Verdict};
use core::arch::asm;
use core::fmt;
use core::sync::atomic::AtomicU64;
use x86::controlregs;
use x86::io::{outb, outw};

/// The machine.
pub struct Machine {
    pub(crate) features: Features,
    pub(crate) pcids: Pcids,
    pub(crate) rates: Rates,
    /// The latest reading of the clock, where TSCs are not in step.
    pub(crate) clock_floor: Option<AtomicU64>,
    pub(crate) local_apic: LocalApic,
    pub(crate) io_apic: IoApic,
    pub(crate) pci: Option<Pci>,
    pub(crate) ports: PowerPorts,
    pub(crate) vector: crate::vector::Format,
}

/// QEMU's `isa-debug-exit`: writing v ends QEMU with `v << 1 | 1`.
pub const DEBUG_EXIT: u16 = 0xf4;
const ENDED_CODE: u8 = EXIT_ENDED >> 1;
pub const FAILED_CODE: u8 = EXIT_FAILED >> 1;

/// PM1 control: sleep enable, with sleep type 0, which is soft-off on QEMU's machines. Others name
/// their type in the DSDT only, which this port does not interpret; they halt.
const SOFT_OFF: u16 = 1 << 13;

/// Return addresses shown at most.
const MAX_DEPTH: usize = 64;

impl Boot for X86_64 {
    /// `EM_X86_64` (System V ABI, AMD64 supplement §4.1).
    const ELF_MACHINE: u16 = 62;

    fn describe(machine: &Machine, out: &mut dyn fmt::Write) -> fmt::Result {
        let Machine { features, rates, local_apic, .. } = machine;
        let mhz = |hz: u64| hz / 1_000_000;
        write!(out, "{features}; {local_apic}; tsc {} MHz ({})", mhz(rates.tsc_hz()), rates.source())
    }
}

impl Power for X86_64 {
    fn power_off(machine: Option<&Machine>, verdict: Verdict) -> ! {
        let code = match verdict {
            Verdict::Ended => ENDED_CODE,
            Verdict::Failed => FAILED_CODE,
        };
        // SAFETY: the exit device's port; without the device nobody listens.
        unsafe { outb(DEBUG_EXIT, code) };
        if let Some(acpi::Power { pm1_control: Some(port), .. }) = machine.map(|machine| machine.ports) {
            // SAFETY: the port the firmware named for this.
            unsafe { outw(port, SOFT_OFF) };
        }
        loop {
            // SAFETY: interrupts stay off: only a non-maskable one gets past, and comes back here.
            unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
        }
    }

    #[inline(never)]
    fn print_registers(out: &mut dyn fmt::Write) -> fmt::Result {
        const NAMES: [&str; 16] = [
            "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8 ", "r9 ", "r10", "r11", "r12", "r13",
            "r14", "r15",
        ];
        let mut values = [0u64; 16];
        // SAFETY: stores the registers into the array, whose address is in one of them.
        unsafe {
            asm!(
                "mov [rax], rax", "mov [rax + 8], rcx", "mov [rax + 16], rdx", "mov [rax + 24], rbx",
                "mov [rax + 32], rsp", "mov [rax + 40], rbp", "mov [rax + 48], rsi", "mov [rax + 56], rdi",
                "mov [rax + 64], r8", "mov [rax + 72], r9", "mov [rax + 80], r10", "mov [rax + 88], r11",
                "mov [rax + 96], r12", "mov [rax + 104], r13", "mov [rax + 112], r14", "mov [rax + 120], r15",
                in("rax") values.as_mut_ptr(), options(nostack, preserves_flags)
            );
        }
        for (index, (name, value)) in NAMES.iter().zip(values).enumerate() {
            write!(out, "{name} {value:016x}{}", if index % 4 == 3 { '\n' } else { ' ' })?;
        }
        // SAFETY: reading control registers in ring 0 has no effect.
        let (cr0, cr2, cr3, cr4) =
            unsafe { (controlregs::cr0(), controlregs::cr2(), controlregs::cr3(), controlregs::cr4()) };
        writeln!(out, "cr0 {:016x} cr2 {cr2:016x} cr3 {cr3:016x} cr4 {:016x}", cr0.bits(), cr4.bits())
    }

    fn backtrace(visit: &mut dyn FnMut(VirtAddr)) {
        let mut frame: u64;
        // SAFETY: reads a register.
        unsafe { asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack, preserves_flags)) };
        let text = paging::text();
        let cpu = cpu::current().unwrap_or_else(cpu::boot);
        for _ in 0..MAX_DEPTH {
            // The chain must stay inside this CPU's stacks: both words are then mapped memory.
            let inside = |stack: core::ops::Range<u64>| stack.start <= frame && frame <= stack.end - 16;
            if frame & 7 != 0 || !cpu.stacks().any(inside) {
                return;
            }
            let pointer = core::ptr::with_exposed_provenance::<[u64; 2]>(frame as usize);
            // SAFETY: aligned and inside a stack, checked above. Its words may be anything.
            let [next, ret] = unsafe { pointer.read() };
            if !text.contains(&ret) {
                return;
            }
            visit(VirtAddr(ret));
            if next == frame {
                return;
            }
            frame = next;
        }
    }
}
