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
use arch_contract::mutant::{self, Mutant};
use arch_contract::vector::{MAX_VECTOR_WORDS, Vector, VectorWords};
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
    /// Where the upper halves of the AVX registers lie, if there are any.
    upper: Option<usize>,
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

/// The rest of an FXSAVE area: status, tags (one byte), what MXCSR can hold, the two register files.
const FSW_AT: usize = 2;
const TAGS_AT: usize = 4;
const MXCSR_MASK_AT: usize = 28;
const ST_AT: usize = 32;
const XMM_AT: usize = 160;
/// Where an XSAVE area says which components are not in their initial state, by the bits of XCR0.
const IN_USE_AT: usize = LEGACY;
/// MXCSR's bits where FXSAVE does not say (SDM vol. 1 §11.6.6): all but "denormals are zeros".
const MXCSR_BITS: u32 = 0xffbf;

/// Words of `abi::registers::X86_64Vectors`.
const YMM_WORD: usize = 16;
const X87_CONTROL_WORD: usize = 80;
const X87_STATUS_WORD: usize = 81;
const X87_TAGS_WORD: usize = 82;
const MXCSR_WORD: usize = 83;

impl Format {
    /// Chooses one, and switches the components on: x87, SSE, and AVX if there is AVX.
    ///
    /// # Safety
    /// On each CPU; CR4.OSFXSR is set, and CR4.OSXSAVE if there is XSAVE.
    pub unsafe fn enable(features: &Features) -> Self {
        if !features.xsave {
            return Self { way: Way::Fxsave, bytes: LEGACY, components: 0, upper: None };
        }
        let mut components = Xcr0::XCR0_FPU_MMX_STATE | Xcr0::XCR0_SSE_STATE;
        let mut upper = None;
        if features.avx {
            components |= Xcr0::XCR0_AVX_STATE;
            // CPUID.0DH.2:EBX.
            upper = Some(raw_cpuid::native_cpuid::cpuid_count(0xd, 2).ebx as usize);
        }
        // SAFETY: CR4.OSXSAVE is set, and CPUID has each component; x87 and SSE always go along.
        unsafe { xcr0_write(components) };
        // CPUID.0DH.0:EBX is the size for what XCR0 enables now.
        let bytes = raw_cpuid::native_cpuid::cpuid_count(0xd, 0).ebx as usize;
        let way = if features.xsaveopt { Way::Xsaveopt } else { Way::Xsave };
        Self { way, bytes: bytes.max(LEGACY + HEADER), components: components.bits(), upper }
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

    const WORDS: usize = MXCSR_WORD + 1;

    unsafe fn words(machine: &Machine, area: NonNull<u8>) -> VectorWords {
        let Format { way, upper, .. } = machine.vector;
        let mut words = [0; MAX_VECTOR_WORDS];
        // SAFETY: all places lie in the area, which is aligned to 64 and initialized; what is read at a
        // place is aligned as it.
        unsafe {
            let pair = |at: usize| area.add(at).cast::<[u64; 2]>().read();
            // Without a header, all of them are there.
            let in_use = match way {
                Way::Fxsave => Xcr0::all(),
                Way::Xsave | Way::Xsaveopt => {
                    Xcr0::from_bits_truncate(area.add(IN_USE_AT).cast::<u64>().read())
                }
            };
            words[X87_CONTROL_WORD] = FCW.into();
            if in_use.contains(Xcr0::XCR0_FPU_MMX_STATE) {
                for index in 0..8 {
                    let [low, high] = pair(ST_AT + 16 * index);
                    words[2 * index..2 * index + 2].copy_from_slice(&[low, high & 0xffff]);
                }
                words[X87_CONTROL_WORD] = area.add(FCW_AT).cast::<u16>().read().into();
                words[X87_STATUS_WORD] = area.add(FSW_AT).cast::<u16>().read().into();
                words[X87_TAGS_WORD] = area.add(TAGS_AT).read().into();
            }
            for index in 0..16 {
                let at = YMM_WORD + 4 * index;
                if in_use.contains(Xcr0::XCR0_SSE_STATE) {
                    words[at..at + 2].copy_from_slice(&pair(XMM_AT + 16 * index));
                }
                if let Some(upper) = upper
                    && in_use.contains(Xcr0::XCR0_AVX_STATE)
                {
                    words[at + 2..at + 4].copy_from_slice(&pair(upper + 16 * index));
                }
            }
            // Saved and loaded whatever is in use.
            words[MXCSR_WORD] = area.add(MXCSR_AT).cast::<u32>().read().into();
        }
        words
    }

    unsafe fn set_words(machine: &Machine, area: NonNull<u8>, words: &VectorWords) {
        let Format { way, upper, components, .. } = machine.vector;
        // SAFETY: as in `words`. What is stored does not make a load fault (SDM vol. 1 §10.5.2, §13.8.1):
        // MXCSR has no bit that the processor, which has saved here, does not know, and the header none
        // that XCR0 has not.
        unsafe {
            let pair = |at: usize, values: &[u64]| {
                area.add(at).cast::<[u64; 2]>().write([values[0], values[1]]);
            };
            for index in 0..8 {
                pair(ST_AT + 16 * index, &[words[2 * index], words[2 * index + 1] & 0xffff]);
            }
            for index in 0..16 {
                let at = YMM_WORD + 4 * index;
                pair(XMM_AT + 16 * index, &words[at..at + 2]);
                if let Some(upper) = upper {
                    pair(upper + 16 * index, &words[at + 2..at + 4]);
                }
            }
            area.add(FCW_AT).cast::<u16>().write(words[X87_CONTROL_WORD] as u16);
            area.add(FSW_AT).cast::<u16>().write(words[X87_STATUS_WORD] as u16);
            area.add(TAGS_AT).write(words[X87_TAGS_WORD] as u8);
            let known = match area.add(MXCSR_MASK_AT).cast::<u32>().read() {
                _ if mutant::is(Mutant::VectorsUnsanitized) => u32::MAX,
                0 => MXCSR_BITS,
                known => known,
            };
            area.add(MXCSR_AT).cast::<u32>().write(words[MXCSR_WORD] as u32 & known);
            if way != Way::Fxsave {
                area.add(IN_USE_AT).cast::<u64>().write(components);
            }
        }
    }

    fn discard(_: &Cpu, _: &IrqsOff) {
        off();
    }
}
