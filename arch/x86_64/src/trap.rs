//! The user frame, and what the processor's vectors mean.
//!
//! A trap from user mode pushes straight into the running thread's frame: the task-state segment's
//! stack pointer is the frame's end, the processor pushes the last five words there, and the entry
//! code the rest downwards. A trap from kernel mode makes the same layout on the kernel's stack.

use crate::apic::vector;
use crate::cpu::{self, Cpu};
use crate::device;
use crate::gdt::{USER_CODE, USER_DATA};
use crate::opcode::{self, Kind};
use crate::pte::USER_END;
use crate::{X86_64, operand, user};
use arch_contract::addr::VirtAddr;
use arch_contract::irq::{Interrupt, IrqsOff};
use arch_contract::mutant::{self, Mutant};
use arch_contract::trap::{
    Access, Fault, FaultCause, MAX_REGISTERS, Registers, Step, Syscall, Trap, Traps, Words,
};
use arch_contract::upcalls::Upcalls;
use arch_contract::user::Window;
use core::fmt;
use core::mem::size_of;
use core::ptr::NonNull;
use x86::controlregs::cr2;

/// All general registers, in the order in which the entry code pushes them from the end.
#[repr(C, align(16))]
#[derive(Clone, Debug)]
pub struct Frame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The vector, or [`BY_SYSCALL`].
    pub entered_by: u64,
    /// The processor's error code; 0 where it has none.
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// [`Frame::entered_by`] of a system call: `rcx` and `r11` hold nothing, and `sysretq` may be used.
pub const BY_SYSCALL: u64 = 0x100;
/// [`Frame::entered_by`] of a frame that holds every register, whoever made it.
pub const BY_NOTHING: u64 = 0x101;

/// RFLAGS: interrupts on, and the bit that is always set.
const USER_FLAGS: u64 = 1 << 9 | 1 << 1;
/// RFLAGS.TF: one instruction, then #DB.
const STEP_FLAG: u64 = 1 << 8;
/// RFLAGS that `popfq` changes in user mode and that the kernel relies on nothing of: CF, PF, AF, ZF, SF,
/// DF, OF, AC, ID. Not TF, which is the handler's, and not NT, with which `iretq` faults (SDM vol. 1 §3.4.3).
const FREE_FLAGS: u64 = 1 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 11 | 1 << 18 | 1 << 21;

const _: () = assert!(size_of::<Frame>() == 176 && size_of::<Frame>().is_multiple_of(16));

impl Frame {
    /// Whether it was user mode that was interrupted.
    fn is_user(&self) -> bool {
        self.cs & 3 == 3
    }

    /// The general register with this number in encodings (SDM vol. 2 table 2-2); 0 beyond 15.
    fn general(&self, number: u8) -> u64 {
        match number {
            0 => self.rax,
            1 => self.rcx,
            2 => self.rdx,
            3 => self.rbx,
            4 => self.rsp,
            5 => self.rbp,
            6 => self.rsi,
            7 => self.rdi,
            8 => self.r8,
            9 => self.r9,
            10 => self.r10,
            11 => self.r11,
            12 => self.r12,
            13 => self.r13,
            14 => self.r14,
            15 => self.r15,
            _ => 0,
        }
    }
}

/// What [`Mutant::KernelValueInANewFrame`] leaves.
fn kernel_address() -> u64 {
    kernel_address as fn() -> u64 as usize as u64
}

impl Traps for X86_64 {
    type Frame = Frame;

    fn new_frame(entry: VirtAddr, stack: VirtAddr, args: [u64; 3]) -> Frame {
        Frame {
            r15: 0,
            r14: 0,
            r13: 0,
            r12: 0,
            rbp: 0,
            rbx: 0,
            r11: 0,
            r10: 0,
            r9: 0,
            r8: 0,
            rax: 0,
            rcx: if mutant::is(Mutant::KernelValueInANewFrame) { kernel_address() } else { 0 },
            rdx: args[2],
            rsi: args[1],
            rdi: args[0],
            entered_by: BY_NOTHING,
            error: 0,
            rip: entry.0,
            cs: USER_CODE.into(),
            rflags: USER_FLAGS,
            // At a function's entry the stack is 8 below a multiple of 16, as after a call (System
            // V ABI, AMD64 supplement §3.2.2).
            rsp: (stack.0 & !15).wrapping_sub(8),
            ss: USER_DATA.into(),
        }
    }

    fn pc(frame: &Frame) -> VirtAddr {
        VirtAddr(frame.rip)
    }

    fn set_pc(frame: &mut Frame, pc: VirtAddr) {
        frame.rip = pc.0;
    }

    fn sp(frame: &Frame) -> VirtAddr {
        VirtAddr(frame.rsp)
    }

    #[inline(always)]
    fn syscall(frame: &Frame) -> Syscall {
        Syscall { number: frame.rax, args: [frame.rdi, frame.rsi, frame.rdx, frame.r10, frame.r8, frame.r9] }
    }

    #[inline(always)]
    fn set_result(frame: &mut Frame, status: u64, value: u64) {
        frame.rax = status;
        frame.rdx = value;
    }

    #[inline(always)]
    fn message(frame: &Frame) -> Words {
        let Frame { r10, r8, r9, r12, r13, r14, r15, rbx, .. } = *frame;
        [r10, r8, r9, r12, r13, r14, r15, rbx]
    }

    #[inline(always)]
    fn set_message(frame: &mut Frame, badge: u64, words: &Words) {
        frame.rsi = badge;
        [frame.r10, frame.r8, frame.r9, frame.r12, frame.r13, frame.r14, frame.r15, frame.rbx] = *words;
    }

    #[inline(always)]
    fn copy_message(from: &Frame, to: &mut Frame, badge: u64, count: usize) {
        to.rsi = badge;
        macro_rules! copy {
            ($($index:literal $register:ident)*) => {
                $(if count == $index {
                    return;
                }
                to.$register = from.$register;)*
            };
        }
        copy!(0 r10 1 r8 2 r9 3 r12 4 r13 5 r14 6 r15 7 rbx);
    }

    #[inline(always)]
    fn set_badge(frame: &mut Frame, badge: u64) {
        frame.rsi = badge;
    }

    fn restart_syscall(frame: &mut Frame) {
        /// Bytes of the `syscall` instruction.
        const SYSCALL: u64 = 2;
        frame.rip = frame.rip.wrapping_sub(SYSCALL);
    }

    const REGISTERS: usize = 18;

    fn registers(frame: &Frame) -> Registers {
        let Frame { rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15, .. } =
            *frame;
        let (rip, rflags) = (frame.rip, frame.rflags & !STEP_FLAG);
        let all = [rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags];
        let mut registers = [0; MAX_REGISTERS];
        registers[..Self::REGISTERS].copy_from_slice(&all);
        registers
    }

    fn set_registers(frame: &mut Frame, registers: &Registers) {
        let rflags;
        [
            frame.rax,
            frame.rbx,
            frame.rcx,
            frame.rdx,
            frame.rsi,
            frame.rdi,
            frame.rbp,
            frame.rsp,
            frame.r8,
            frame.r9,
            frame.r10,
            frame.r11,
            frame.r12,
            frame.r13,
            frame.r14,
            frame.r15,
            frame.rip,
            rflags,
            ..,
        ] = *registers;
        let free = if mutant::is(Mutant::FramesUnsanitized) { !STEP_FLAG } else { FREE_FLAGS };
        frame.rflags = frame.rflags & !free | rflags & free;
        // `sysretq` would lose rcx and r11.
        frame.entered_by = BY_NOTHING;
    }

    fn set_step(frame: &mut Frame, step: Step) {
        match step {
            Step::Free => frame.rflags &= !STEP_FLAG,
            Step::One => frame.rflags |= STEP_FLAG,
        }
    }

    fn print_frame(frame: &Frame, out: &mut dyn fmt::Write) -> fmt::Result {
        let Frame { rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15, .. } =
            frame;
        writeln!(
            out,
            "rip {:016x}  rsp {rsp:016x}  rflags {:08x}  cs {:02x}",
            frame.rip, frame.rflags, frame.cs
        )?;
        writeln!(out, "rax {rax:016x}  rbx {rbx:016x}  rcx {rcx:016x}  rdx {rdx:016x}")?;
        writeln!(out, "rsi {rsi:016x}  rdi {rdi:016x}  rbp {rbp:016x}  r8  {r8:016x}")?;
        writeln!(out, "r9  {r9:016x}  r10 {r10:016x}  r11 {r11:016x}  r12 {r12:016x}")?;
        writeln!(out, "r13 {r13:016x}  r14 {r14:016x}  r15 {r15:016x}")
    }
}

/// Page-fault error code (SDM vol. 3 figure 4-12).
const ERROR_WRITE: u64 = 1 << 1;
const ERROR_FETCH: u64 = 1 << 4;

/// Exception vectors (SDM vol. 3 table 6-1).
mod exception {
    pub const DIVIDE: u64 = 0;
    pub const DEBUG: u64 = 1;
    pub const NON_MASKABLE: u64 = 2;
    pub const BREAKPOINT: u64 = 3;
    pub const OVERFLOW: u64 = 4;
    pub const INVALID_OPCODE: u64 = 6;
    pub const DEVICE_NOT_AVAILABLE: u64 = 7;
    pub const DOUBLE_FAULT: u64 = 8;
    pub const STACK: u64 = 12;
    pub const GENERAL_PROTECTION: u64 = 13;
    pub const PAGE_FAULT: u64 = 14;
    pub const X87: u64 = 16;
    pub const ALIGNMENT: u64 = 17;
    pub const MACHINE_CHECK: u64 = 18;
    pub const SIMD: u64 = 19;
}

/// A trap from user mode, its registers saved in `frame`.
pub unsafe extern "C" fn from_user<U: Upcalls<X86_64>>(cpu: &'static Cpu, frame: *mut Frame) -> *mut Frame {
    // SAFETY: the entry code passes the frame it has just filled.
    let saved = unsafe { &*frame };
    // CR2 is good until the next page fault, and nothing here takes one before this line.
    // SAFETY: ring 0.
    let touched = VirtAddr(unsafe { cr2() } as u64);
    // Hardware leaves the user's AC flag set, which would keep SMAP's door open (USR-1).
    if !mutant::is(Mutant::InterruptedsAccess) {
        user::forbid_user_access(cpu);
    }
    let trap = match saved.entered_by {
        exception::DEVICE_NOT_AVAILABLE => Trap::VectorUnitOff,
        number @ 0..32 => Trap::Fault(fault(cpu, saved, number, touched)),
        number => Trap::Interrupt(acknowledge(cpu, number)),
    };
    if mutant::is(Mutant::FlagsOfTheInterrupted) {
        // SAFETY: `saved` is used no more.
        unsafe { (*frame).rflags &= !1 };
    }
    // SAFETY: `frame` is not null: the entry code found its CPU and pushed into it.
    let resume = U::trap(cpu, unsafe { NonNull::new_unchecked(frame) }, trap);
    // Whatever generic code changed, the caller-saved registers of an interrupted program are
    // only in the frame: the entry code loads all of it.
    resume.frame().as_ptr()
}

/// A frame whose program counter cannot be returned to: a fault of its thread, not of the kernel.
pub unsafe extern "C" fn bad_return<U: Upcalls<X86_64>>(cpu: &'static Cpu, frame: *mut Frame) -> *mut Frame {
    if mutant::is(Mutant::BadReturnCutShort) {
        // SAFETY: as below.
        unsafe { (*frame).rip &= USER_END.0 - 1 };
        return frame;
    }
    // SAFETY: the return path passes the frame of the `Resume` it holds.
    let rip = VirtAddr(unsafe { (*frame).rip });
    let fault = Fault { cause: FaultCause::BadAddress(Access::Execute), pc: rip, address: Some(rip) };
    // SAFETY: a frame of a `Resume` is not null.
    let resume = U::trap(cpu, unsafe { NonNull::new_unchecked(frame) }, Trap::Fault(fault));
    resume.frame().as_ptr()
}

/// Deals with the controller of an interrupt and says what it was.
fn acknowledge(cpu: &Cpu, number: u64) -> Interrupt {
    let Some(machine) = cpu.try_machine() else { return Interrupt::Spurious };
    let (interrupt, in_service) = match number as u8 {
        vector::TIMER => (Interrupt::Timer, true),
        vector::IPI => (Interrupt::Ipi, true),
        vector::CONSOLE => (Interrupt::Console, true),
        vector @ vector::DEVICES..vector::TIMER => (Interrupt::Device(device::source(vector)), true),
        // Neither the spurious vector nor the legacy controllers' are in service anywhere.
        vector::SPURIOUS | vector::LEGACY..vector::LEGACY_END => (Interrupt::Spurious, false),
        _ => (Interrupt::Spurious, true),
    };
    if in_service {
        machine.local_apic.end_of_interrupt();
    }
    interrupt
}

/// Whether `address` is sign-extended from bit 47 (SDM vol. 1 §3.3.7.1).
fn is_canonical(address: u64) -> bool {
    matches!((address as i64) >> 47, 0 | -1)
}

fn fault(cpu: &'static Cpu, frame: &Frame, number: u64, touched: VirtAddr) -> Fault {
    let mut pc = VirtAddr(frame.rip);
    let mut address = None;
    let cause = match number {
        exception::PAGE_FAULT => {
            address = Some(touched);
            FaultCause::Page(match frame.error {
                error if error & ERROR_FETCH != 0 => Access::Execute,
                error if error & ERROR_WRITE != 0 => Access::Write,
                _ => Access::Read,
            })
        }
        // #SS is #GP for operands that count from the stack pointer or rbp.
        exception::STACK | exception::GENERAL_PROTECTION => {
            general_protection(cpu, frame, &mut pc, &mut address)
        }
        exception::INVALID_OPCODE => FaultCause::UndefinedInstruction,
        exception::DIVIDE | exception::OVERFLOW => FaultCause::Arithmetic,
        exception::X87 | exception::SIMD => FaultCause::FloatingPoint,
        exception::BREAKPOINT => {
            // A trap: the counter is behind the one-byte instruction.
            pc = VirtAddr(frame.rip.wrapping_sub(1));
            FaultCause::Breakpoint
        }
        exception::DEBUG => FaultCause::SingleStep,
        exception::ALIGNMENT => FaultCause::Alignment,
        exception::MACHINE_CHECK => FaultCause::MachineCheck,
        other => FaultCause::Other(other as u16),
    };
    Fault { cause, pc, address }
}

/// #GP has one vector for many causes. What the registers and the instruction show is told; the
/// rest stays [`FaultCause::Other`].
fn general_protection(
    cpu: &'static Cpu,
    frame: &Frame,
    pc: &mut VirtAddr,
    address: &mut Option<VirtAddr>,
) -> FaultCause {
    let bad_target = |target: u64, pc: &mut VirtAddr, address: &mut Option<VirtAddr>| {
        (*pc, *address) = (VirtAddr(target), Some(VirtAddr(target)));
        FaultCause::BadAddress(Access::Execute)
    };
    if !is_canonical(frame.rip) {
        // Some processors jump first and fault at the target.
        return bad_target(frame.rip, pc, address);
    }
    if frame.error != 0 {
        // A selector: an `int` or a far transfer that user mode has no right to.
        return FaultCause::PrivilegedInstruction;
    }
    // SAFETY: 1. interrupts are off from the trap on. 2. `Upcalls::trap` is not called yet, so
    // nobody else holds a token.
    let irq = unsafe { IrqsOff::assume() };
    // SAFETY: the loaded context is that of the thread that trapped, and nothing switches here.
    let window: Window<'_, X86_64> = unsafe { Window::open(cpu, &irq) };
    let mut bytes = [0; 15];
    // The instruction may end just before a page that is not there.
    let len = (1..=bytes.len()).rev().find(|&len| window.read(&mut bytes[..len], *pc).is_ok()).unwrap_or(0);
    let bytes = &bytes[..len];
    let unknown = FaultCause::Other(frame.entered_by as u16);
    let register = |number| frame.general(number);
    match opcode::classify(bytes) {
        Kind::Privileged => return FaultCause::PrivilegedInstruction,
        Kind::JumpTo(number) if !is_canonical(register(number)) => {
            return bad_target(register(number), pc, address);
        }
        Kind::Return => {
            let mut target = [0; 8];
            let target = window.read(&mut target, VirtAddr(frame.rsp)).map(|()| u64::from_le_bytes(target));
            if let Some(target) = target.ok().filter(|&target| !is_canonical(target)) {
                return bad_target(target, pc, address);
            }
        }
        _ => {}
    }
    match operand::decode(bytes, register) {
        Some(operand) if !is_canonical(operand.address) => {
            *address = Some(VirtAddr(operand.address));
            FaultCause::BadAddress(operand.access)
        }
        Some(operand) if operand.kind == operand::Kind::Vector && !operand.address.is_multiple_of(16) => {
            *address = Some(VirtAddr(operand.address));
            FaultCause::Alignment
        }
        _ => unknown,
    }
}

/// A trap from kernel mode, on the stack it interrupted: an interrupt in a window, a fault that a
/// recovery table covers, or the end.
pub unsafe extern "C" fn from_kernel<U: Upcalls<X86_64>>(frame: &mut Frame) {
    let number = frame.entered_by;
    if let (32.., Some(cpu)) = (number, cpu::current()) {
        let interrupt = acknowledge(cpu, number);
        U::interrupt(cpu, interrupt);
        return;
    }
    // SAFETY: ring 0.
    let touched = VirtAddr(unsafe { cr2() } as u64);
    // Only the user's side of a copy may fault, and only for its page: a window has checked the
    // range, so an address that is not user's, or not even canonical, is the kernel's own mistake.
    if number == exception::PAGE_FAULT
        && touched < USER_END
        && let Some(resume_at) = user::recovery(frame.rip)
    {
        frame.rip = resume_at;
        return;
    }
    kernel_fault::<U>(frame)
}

/// An exception on a stack of its own, from any state: `cpu` comes from the top of that stack.
pub unsafe extern "C" fn from_anywhere<U: Upcalls<X86_64>>(cpu: &'static Cpu, frame: &mut Frame) {
    if frame.entered_by == exception::NON_MASKABLE {
        // Counted, nothing else: it may have come in the middle of a switch (TRAP-5).
        cpu.nmis.set(cpu.nmis.get() + 1);
        if mutant::is(Mutant::NonMaskableNoted) {
            U::interrupt(cpu, Interrupt::Timer);
        }
        return;
    }
    kernel_fault::<U>(frame)
}

fn name(number: u64) -> &'static str {
    match number {
        exception::DIVIDE => "division error",
        exception::DEBUG => "debug exception",
        exception::BREAKPOINT => "breakpoint",
        exception::INVALID_OPCODE => "undefined instruction",
        exception::DEVICE_NOT_AVAILABLE => "vector instruction",
        exception::DOUBLE_FAULT => "double fault",
        exception::STACK => "stack-segment fault",
        exception::GENERAL_PROTECTION => "general-protection fault",
        exception::PAGE_FAULT => "page fault",
        exception::MACHINE_CHECK => "machine check",
        _ => "unexpected exception",
    }
}

/// Whether `touched` lies below one of this CPU's stacks.
fn is_guard(touched: VirtAddr) -> bool {
    cpu::current().is_some_and(|cpu| cpu.guards().any(|guard| guard == touched.page()))
}

fn kernel_fault<U: Upcalls<X86_64>>(frame: &Frame) -> ! {
    // SAFETY: ring 0.
    let touched = VirtAddr(unsafe { cr2() } as u64);
    let mode = if frame.is_user() { "user" } else { "kernel" };
    U::kernel_fault(cpu::current(), &|out| {
        write!(
            out,
            "{} (vector {}, error {:#x}) in {mode} mode",
            name(frame.entered_by),
            frame.entered_by,
            frame.error
        )?;
        match frame.entered_by {
            exception::DOUBLE_FAULT if is_guard(touched) => {
                write!(out, ": stack overflow, the guard page at {touched} was touched")?;
            }
            exception::PAGE_FAULT => write!(out, " at address {touched}")?,
            _ => {}
        }
        writeln!(out)?;
        X86_64::print_frame(frame, out)
    })
}
