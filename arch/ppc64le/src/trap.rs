//! The user frame, and the Rust half of every way into the kernel.
//!
//! Assembly (`trap_entry.rs`) saves registers straight into the thread's [`Frame`] and calls one of
//! the functions here; what they return is the frame to leave with. Interrupts are off throughout.

use crate::cpu::Cpu;
use crate::spr::{self, msr, number};
use crate::{Ppc64le, irq};
use arch_contract::addr::VirtAddr;
use arch_contract::mutant::{self, Mutant};
use arch_contract::ret::{Reload, Resume};
use arch_contract::trap::{
    Access, Fault, FaultCause, MAX_REGISTERS, MESSAGE_WORDS, Registers, Step, Syscall, Trap, Traps, Words,
};
use arch_contract::upcalls::{Upcalls, WAYS};
use core::fmt::Write;
use core::ptr::NonNull;

/// User registers. Entry code knows this layout through `offset_of!`.
#[repr(C, align(16))]
pub struct Frame {
    pub(crate) gpr: [u64; 32],
    pub(crate) pc: u64,
    /// What user mode runs with. User code cannot change it, so a trap does not save it: only the
    /// kernel writes it, when it turns the vector units on and off.
    pub(crate) msr: u64,
    pub(crate) lr: u64,
    pub(crate) ctr: u64,
    pub(crate) xer: u64,
    pub(crate) cr: u64,
    /// The vector, [`BY_SCV`], or something else.
    pub(crate) entered_by: u64,
}

// Entry code tests for zero.
const _: () = assert!(Reload::ResultOnly as u64 == 0);

/// [`Frame::entered_by`] of an `scv 0`: the registers that it may overwrite hold nothing. It is no
/// vector, and the bit of RI, which the first instruction of that vector has in a register.
pub const BY_SCV: u64 = msr::RI;
/// [`Frame::entered_by`] of a frame that holds every register, whoever made it.
const BY_NOTHING: u64 = 0;

/// Bytes below the initial stack pointer's page end that the ABI wants: the minimal frame of
/// ELF V2 (§2.2.2.1), rounded to 16. Its back chain reads zero from the zeroed stack.
const INITIAL_FRAME: u64 = 32;

impl Traps for Ppc64le {
    type Frame = Frame;

    fn new_frame(entry: VirtAddr, stack: VirtAddr, args: [u64; 3]) -> Frame {
        let mut gpr = [0; 32];
        gpr[1] = (stack.0 & !15).wrapping_sub(INITIAL_FRAME);
        gpr[3..6].copy_from_slice(&args);
        // A function's global entry point computes its r2 from its own address in r12.
        gpr[12] = entry.0;
        if mutant::is(Mutant::KernelValueInANewFrame) {
            gpr[9] = crate::cpu::PHYSICAL_MAP;
        }
        Frame { gpr, pc: entry.0, msr: msr::USER, lr: 0, ctr: 0, xer: 0, cr: 0, entered_by: BY_NOTHING }
    }

    fn pc(frame: &Frame) -> VirtAddr {
        VirtAddr(frame.pc)
    }

    fn set_pc(frame: &mut Frame, pc: VirtAddr) {
        frame.pc = pc.0;
    }

    fn sp(frame: &Frame) -> VirtAddr {
        VirtAddr(frame.gpr[1])
    }

    #[inline(always)]
    fn syscall(frame: &Frame) -> Syscall {
        let gpr = &frame.gpr;
        Syscall { number: gpr[0], args: [gpr[3], gpr[4], gpr[5], gpr[6], gpr[7], gpr[8]] }
    }

    #[inline(always)]
    fn set_result(frame: &mut Frame, status: u64, value: u64) {
        frame.gpr[3] = status;
        frame.gpr[4] = value;
    }

    // Nonvolatile registers: the way back from `scv` loads no others.
    #[inline(always)]
    fn message(frame: &Frame) -> Words {
        let mut words = [0; MESSAGE_WORDS];
        words.copy_from_slice(&frame.gpr[15..15 + MESSAGE_WORDS]);
        words
    }

    #[inline(always)]
    fn set_message(frame: &mut Frame, badge: u64, words: &Words) {
        frame.gpr[14] = badge;
        frame.gpr[15..15 + MESSAGE_WORDS].copy_from_slice(words);
    }

    #[inline(always)]
    fn copy_message(from: &Frame, to: &mut Frame, badge: u64, count: usize) {
        to.gpr[14] = badge;
        macro_rules! copy {
            ($($index:literal)*) => {
                $(if count == $index {
                    return;
                }
                to.gpr[15 + $index] = from.gpr[15 + $index];)*
            };
        }
        copy!(0 1 2 3 4 5 6 7);
    }

    #[inline(always)]
    fn set_badge(frame: &mut Frame, badge: u64) {
        frame.gpr[14] = badge;
    }

    fn restart_syscall(frame: &mut Frame) {
        // Both `sc` and `scv` leave the address of the next instruction, and are 4 bytes long.
        frame.pc = frame.pc.wrapping_sub(4);
        // The arguments are needed once more.
        frame.entered_by = BY_NOTHING;
    }

    const REGISTERS: usize = 37;

    fn registers(frame: &Frame) -> Registers {
        let mut registers = [0; MAX_REGISTERS];
        registers[..32].copy_from_slice(&frame.gpr);
        registers[32..Self::REGISTERS].copy_from_slice(&[
            frame.pc, frame.lr, frame.ctr, frame.xer, frame.cr,
        ]);
        registers
    }

    // The machine state register is not among them.
    fn set_registers(frame: &mut Frame, registers: &Registers) {
        frame.gpr.copy_from_slice(&registers[..32]);
        [frame.pc, frame.lr, frame.ctr, frame.xer, frame.cr] =
            [registers[32], registers[33], registers[34], registers[35], registers[36]];
        if mutant::is(Mutant::FramesUnsanitized) {
            frame.msr = registers[35];
        }
        // `rfscv` would lose the volatile ones.
        frame.entered_by = BY_NOTHING;
    }

    fn set_step(frame: &mut Frame, step: Step) {
        match step {
            Step::Free => frame.msr &= !msr::SE,
            Step::One => {
                frame.msr |= msr::SE;
                // `rfscv` of a call that is made again would lose its arguments.
                frame.entered_by = BY_NOTHING;
            }
        }
    }

    fn print_frame(frame: &Frame, out: &mut dyn Write) -> core::fmt::Result {
        writeln!(
            out,
            "pc {:016x} msr {:016x} lr {:016x} ctr {:016x}",
            frame.pc, frame.msr, frame.lr, frame.ctr
        )?;
        writeln!(out, "cr {:08x} xer {:016x}", frame.cr, frame.xer)?;
        print_registers(&frame.gpr, out)
    }
}

/// The general registers, four to a line.
pub(crate) fn print_registers(gpr: &[u64; 32], out: &mut dyn Write) -> core::fmt::Result {
    for (row, four) in gpr.chunks_exact(4).enumerate() {
        write!(out, "r{:<2}", row * 4)?;
        for value in four {
            write!(out, " {value:016x}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// A way of system calls, as entry code calls it.
pub(crate) type Entered = extern "C" fn(&'static Cpu, NonNull<Frame>) -> Resume<Frame>;

/// The calls with this number.
extern "C" fn way<U: Upcalls<Ppc64le>, const NUMBER: usize>(
    cpu: &'static Cpu,
    frame: NonNull<Frame>,
) -> Resume<Frame> {
    if mutant::is(Mutant::InterruptsInCalls) {
        // EE on and off again. An interrupt between is one that no stack is made for.
        // SAFETY: what it breaks is the point.
        unsafe {
            core::arch::asm!("mtmsrd {}, 1", "nop", "mtmsrd {}, 1", in(reg) 0x8002u64, in(reg) 2u64);
        }
    }
    U::WAYS[NUMBER](cpu, frame)
}

/// Those of all numbers.
pub(crate) const fn ways<U: Upcalls<Ppc64le>>() -> &'static [Entered; WAYS] {
    const { &arch_contract::ways!(way, U) }
}

/// Anything else from user mode. `vector` is the interrupt's offset in the architecture's table.
/// Entry code always reloads everything after it.
pub extern "C" fn on_trap<U: Upcalls<Ppc64le>>(
    cpu: &'static Cpu,
    frame: NonNull<Frame>,
    vector: u64,
    srr1: u64,
) -> *mut Frame {
    // SAFETY: entry code passes the frame it has just saved into, which nothing else refers to now.
    let pc = VirtAddr(unsafe { frame.as_ref() }.pc);
    if mutant::is(Mutant::FlagsOfTheInterrupted) {
        // SAFETY: as above.
        unsafe { (*frame.as_ptr()).cr = 0 };
    }
    U::trap(cpu, frame, decode(cpu, vector, pc, srr1)).frame().as_ptr()
}

/// An `scv` of a level other than 0: there is nothing behind it.
pub extern "C" fn on_bad_scv<U: Upcalls<Ppc64le>>(cpu: &'static Cpu, mut frame: NonNull<Frame>) -> *mut Frame {
    // SAFETY: as in `on_trap`.
    let frame_now = unsafe { frame.as_mut() };
    // Unlike an interrupt, the instruction has completed: the fault is at it, not after it.
    frame_now.pc = frame_now.pc.wrapping_sub(4);
    let fault =
        Fault { cause: FaultCause::UndefinedInstruction, pc: VirtAddr(frame_now.pc), address: None };
    U::trap(cpu, frame, Trap::Fault(fault)).frame().as_ptr()
}

/// Names what happened (Power ISA 3.0B Book III §6.5, by offset).
fn decode(cpu: &'static Cpu, vector: u64, pc: VirtAddr, srr1: u64) -> Trap {
    let (cause, address) = match vector {
        0x500 | 0xea0 => return Trap::Interrupt(irq::take_external(cpu)),
        0x900 => return Trap::Interrupt(irq::take_decrementer(cpu)),
        // Directed privileged doorbell: taking it clears it, and nobody sends it.
        0xa00 => return Trap::Interrupt(arch_contract::irq::Interrupt::Spurious),
        // Floating point, vector, VSX unavailable.
        0x800 | 0xf20 | 0xf40 => return Trap::VectorUnitOff,
        0x300 => {
            const STORE: u64 = 1 << 25;
            let store = spr::read::<{ number::DSISR }>() & STORE != 0;
            let access = if store { Access::Write } else { Access::Read };
            (FaultCause::Page(access), Some(VirtAddr(spr::read::<{ number::DAR }>())))
        }
        // The segment interrupts of radix: an address outside the tree. They do not say whether
        // the access was a store.
        0x380 => (FaultCause::BadAddress(Access::Read), Some(VirtAddr(spr::read::<{ number::DAR }>()))),
        0x400 => (FaultCause::Page(Access::Execute), Some(pc)),
        0x480 => (FaultCause::BadAddress(Access::Execute), Some(pc)),
        0x200 => (FaultCause::MachineCheck, checked_address(srr1)),
        0x600 => (FaultCause::Alignment, Some(VirtAddr(spr::read::<{ number::DAR }>()))),
        0x700 => (program(srr1), None),
        0xd00 => (FaultCause::SingleStep, None),
        // Emulation assistance; facility unavailable, for user mode and for the hypervisor.
        0xe40 | 0xf60 | 0xf80 => (FaultCause::UndefinedInstruction, None),
        other => (FaultCause::Other(other as u16), None),
    };
    Trap::Fault(Fault { cause, pc, address })
}

/// What a machine check was about, where it says so. That is the implementation's to say (Power ISA Book III
/// §6.5.2): POWER8 and later set SRR1 bit 42 for accesses of data, and with bit 36 it was a store, which
/// sets no DAR.
fn checked_address(srr1: u64) -> Option<VirtAddr> {
    const ACCESS: u64 = 1 << 21;
    const STORE: u64 = 1 << 27;
    (srr1 & (ACCESS | STORE) == ACCESS).then(|| VirtAddr(spr::read::<{ number::DAR }>()))
}

/// SRR1 bits 43 to 46 say which program interrupt it is (§6.5.9).
fn program(srr1: u64) -> FaultCause {
    match srr1 {
        bits if bits & 1 << 20 != 0 => FaultCause::FloatingPoint,
        bits if bits & 1 << 18 != 0 => FaultCause::PrivilegedInstruction,
        bits if bits & 1 << 17 != 0 => FaultCause::Breakpoint,
        _ => FaultCause::UndefinedInstruction,
    }
}
