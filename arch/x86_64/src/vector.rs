//! Vector and floating-point state: XSAVE where the CPU has it, FXSAVE where not.
//!
//! The units are off while CR0.TS is set: the first such instruction of a thread raises #NM. This
//! is the one file whose instructions touch vector registers.

use crate::X86_64;
use crate::cpu::Cpu;
use crate::features::Features;
use crate::machine::Machine;
use crate::trap::Frame;
use arch_contract::Base;
use arch_contract::irq::IrqsOff;
use arch_contract::vector::Vector;
use core::alloc::Layout;
use core::arch::asm;
use core::ptr::NonNull;
use x86::controlregs::{Cr0, Xcr0, cr0, cr0_write, xcr0_write};

/// How state lies in an area on this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    way: Way,
    bytes: usize,
    components: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Fxsave,
    Xsave,
    Xsaveopt,
}

/// Bytes of an FXSAVE area (SDM vol. 1 §10.5.1), and of the XSAVE header after it (§13.4.2).
const LEGACY: usize = 512;
const HEADER: usize = 64;
/// XSAVE wants 64; FXSAVE 16.
const ALIGN: usize = 64;

/// Initial values: all exceptions masked, extended precision (SDM vol. 1 §8.1.5, §10.2.3).
const FCW_AT: usize = 0;
const FCW: u16 = 0x037f;
const MXCSR_AT: usize = 24;
const MXCSR: u32 = 0x1f80;

impl Format {
    /// Chooses one, and switches the components on: x87, SSE, and AVX if there is AVX.
    ///
    /// # Safety
    /// On each CPU; CR4.OSFXSR is set, and CR4.OSXSAVE if there is XSAVE.
    pub unsafe fn enable(features: &Features) -> Self {
        if !features.xsave {
            return Self { way: Way::Fxsave, bytes: LEGACY, components: 0 };
        }
        let mut components = Xcr0::XCR0_FPU_MMX_STATE | Xcr0::XCR0_SSE_STATE;
        if features.avx {
            components |= Xcr0::XCR0_AVX_STATE;
        }
        // SAFETY: CR4.OSXSAVE is set, and CPUID has each component; x87 and SSE always go along.
        unsafe { xcr0_write(components) };
        // CPUID.0DH.0:EBX is the size for what XCR0 enables now.
        let bytes = raw_cpuid::native_cpuid::cpuid_count(0xd, 0).ebx as usize;
        let way = if features.xsaveopt { Way::Xsaveopt } else { Way::Xsave };
        Self { way, bytes: bytes.max(LEGACY + HEADER), components: components.bits() }
    }
}

/// Turns the units off: the next use traps.
pub fn off() {
    // SAFETY: ring 0. The kernel uses no vector instruction that TS would stop.
    unsafe {
        let now = cr0();
        if !now.contains(Cr0::CR0_TASK_SWITCHED) {
            cr0_write(now | Cr0::CR0_TASK_SWITCHED);
        }
    }
}

impl Vector for X86_64 {
    fn area_layout(machine: &Machine) -> Layout {
        let bytes = machine.vector.bytes.next_multiple_of(ALIGN);
        // A size of a few thousand bytes at most and a constant power of two make a layout.
        Layout::from_size_align(bytes, ALIGN).unwrap_or(Layout::new::<[u8; 4096]>())
    }

    unsafe fn init_area(machine: &Machine, area: NonNull<u8>) {
        // All zero is the initial configuration of every component (XSTATE_BV 0: SDM vol. 1
        // §13.6), but for the two control words, which are loaded from the area as they stand.
        // SAFETY: the caller's obligation: as many bytes as the layout says, aligned.
        unsafe {
            area.write_bytes(0, Self::area_layout(machine).size());
            area.add(FCW_AT).cast::<u16>().write(FCW);
            area.add(MXCSR_AT).cast::<u32>().write(MXCSR);
        }
    }

    unsafe fn load(cpu: &Cpu, _: &mut Frame, area: NonNull<u8>, _: &IrqsOff) {
        let Format { way, components, .. } = Self::machine(cpu).vector;
        // SAFETY: `clts` lets the next instructions and the thread use the units. The area is
        // aligned and holds what `init_area` or `save` put there, which never faults a restore;
        // it is the thread's own, and the units hold nobody's state (obligations 1 and 2).
        unsafe {
            asm!("clts", options(nomem, nostack));
            match way {
                Way::Fxsave => asm!("fxrstor64 [{}]", in(reg) area.as_ptr(), options(nostack)),
                Way::Xsave | Way::Xsaveopt => asm!(
                    "xrstor64 [{}]", in(reg) area.as_ptr(),
                    in("eax") components as u32, in("edx") (components >> 32) as u32,
                    options(nostack),
                ),
            }
        }
    }

    unsafe fn save(cpu: &Cpu, _: &mut Frame, area: NonNull<u8>, _: &IrqsOff) {
        let Format { way, components, .. } = Self::machine(cpu).vector;
        // SAFETY: the units are on and hold this thread's state, and the area is as large and
        // aligned as the layout says. XSAVEOPT may leave out what has not changed since `load`
        // restored this same area, which nobody has written since.
        unsafe {
            match way {
                Way::Fxsave => asm!("fxsave64 [{}]", in(reg) area.as_ptr(), options(nostack)),
                Way::Xsave => asm!(
                    "xsave64 [{}]", in(reg) area.as_ptr(),
                    in("eax") components as u32, in("edx") (components >> 32) as u32,
                    options(nostack),
                ),
                Way::Xsaveopt => asm!(
                    "xsaveopt64 [{}]", in(reg) area.as_ptr(),
                    in("eax") components as u32, in("edx") (components >> 32) as u32,
                    options(nostack),
                ),
            }
        }
        off();
    }

    fn discard(_: &Cpu, _: &IrqsOff) {
        off();
    }
}
